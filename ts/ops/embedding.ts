/** Looking up rows of a table by index. Forward it is `gather`; the gradient leaves out the row of the padding. */

import { noGrad, track } from '../autograd/tape.ts'
import { type Names, TilegradError, checkOptions, expected } from '../errors.ts'
import { showShape } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { checkTensor } from './apply.ts'
import { equal, where } from './elementwise.ts'
import { checkIndices, gatherOf, scatterAddOf } from './gather.ts'
import { reshape } from './shape.ts'

/** What an index is called that is no row. */
const INDEX = 'embedding: index'

/** Options of {@link embedding}. */
export interface EmbeddingOptions {
  /** The row that stands for padding: its gradient is 0. Negative numbers count from the end. Default: none. */
  readonly paddingIdx?: number
}

/**
 * The rows of `weight` `[num, dim]` with these indices: the result has the shape of `indices`, and `dim` behind it. The
 * gradient adds up in ascending order of position, so it is the same every time.
 *
 * @param indices i32, any shape, each in [0, num)
 * @throws `ERR_ARGUMENT` when the result is read and an index was out of range; `ERR_SHAPE` unless `weight` has two dimensions
 *
 * @example
 * ```ts
 * import { embedding, tensor } from 'tilegrad'
 * const weight = tensor([[0, 0], [1, 2], [3, 4]])
 * console.log(await embedding(tensor([2, 1], { dtype: 'i32' }), weight).array()) // [[3, 4], [1, 2]]
 * ```
 */
export function embedding(indices: Tensor, weight: Tensor, options: EmbeddingOptions = {}): Tensor {
  checkTensor('embedding', 'indices', indices)
  checkTensor('embedding', 'weight', weight)
  checkIndices('embedding', weight, indices)
  checkOptions('embedding', options, { paddingIdx: true } satisfies Names<EmbeddingOptions>)
  if (weight.shape.length !== 2)
    throw new TilegradError('ERR_SHAPE', `embedding: weight should be [num, dim], not ${showShape(weight.shape)}`)
  const padding = paddingRow('embedding', options.paddingIdx, weight.shape[0]!)
  if (padding === null) return gatherOf(INDEX, weight, indices)
  const out = noGrad(() => gatherOf(INDEX, weight, indices))
  return track(out, 'embedding', [weight], [indices], (dy, [indices]) => {
    const padded = reshape(equal(indices!, padding), [...indices!.shape, 1])
    return [scatterAddOf(INDEX, where(padded, 0, dy), indices!, weight.shape)]
  })
}

/** @internal The row of the padding, counted from the begin; `null` for none. */
export function paddingRow(op: string, index: number | undefined, rows: number): number | null {
  if (index === undefined) return null
  if (!Number.isInteger(index) || index < -rows || index >= rows)
    throw expected(`${op}: paddingIdx`, `a row of ${rows}: a whole number from ${-rows} to ${rows - 1}`, index)
  return index < 0 ? index + rows : index
}
