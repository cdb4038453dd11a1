/** Data sets: something of a known length that gives batches by index. */

import { TilegradError, expected } from '../errors.ts'
import { gather } from '../ops/gather.ts'
import { Tensor } from '../tensor.ts'

/** What a {@link DataLoader} reads from. */
export interface Dataset<Batch> {
  /** Number of examples. */
  readonly length: number
  /**
   * The examples at these positions as one batch.
   *
   * @param indices each in [0, length)
   */
  batch(indices: Int32Array<ArrayBuffer>): Batch | Promise<Batch>
}

/** A tensor for each of a list. */
export type Rows<Tensors extends readonly Tensor[]> = { -readonly [I in keyof Tensors]: Tensor }

/**
 * Examples in tensors whose first axes have the same size; a batch is a tuple of their rows, taken on the device.
 *
 * @example
 * ```ts
 * import { data, randn } from 'tilegrad'
 * const set = new data.TensorDataset(randn([100, 8]), randn([100, 1]))
 * const [x, y] = set.batch(new Int32Array([3, 1, 4]))
 * console.log(set.length, x.shape, y.shape) // 100 [3, 8] [3, 1]
 * ```
 */
export class TensorDataset<Tensors extends Tensor[] = Tensor[]> implements Dataset<Rows<Tensors>> {
  readonly tensors: Readonly<Tensors>
  readonly length: number

  constructor(...tensors: Tensors) {
    if (tensors.length === 0) throw expected('TensorDataset: tensors', 'at least one tensor', tensors)
    for (const t of tensors) {
      if (!(t instanceof Tensor)) throw expected('TensorDataset: tensors', 'tensors', t)
      if (t.shape.length === 0 || t.shape[0] !== tensors[0]!.shape[0]) {
        throw new TilegradError(
          'ERR_SHAPE',
          `TensorDataset: first axes differ: ${tensors.map((s) => `[${s.shape.join(', ')}]`).join(' and ')}`,
        )
      }
    }
    this.tensors = tensors
    this.length = tensors[0]!.shape[0]!
  }

  /** Rows of every tensor. */
  batch(indices: Int32Array<ArrayBuffer>): Rows<Tensors> {
    if (!(indices instanceof Int32Array)) throw expected('TensorDataset.batch: indices', 'an Int32Array', indices)
    return this.tensors.map((t) => {
      const { recorder } = t.device
      const at = new Tensor(t.device, recorder.upload('i32', [indices.length], indices))
      const rows = gather(t, at)
      at.dispose()
      return rows
    }) as Rows<Tensors>
  }
}
