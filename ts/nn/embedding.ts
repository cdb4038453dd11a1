/** A table of learned rows, looked up by index. */

import { type Names, checkOptions, expected } from '../errors.ts'
import { type CreationOptions, initNormal } from '../ops/creation.ts'
import { type EmbeddingOptions, embedding, paddingRow } from '../ops/embedding.ts'
import type { Tensor } from '../tensor.ts'
import { Module } from './module.ts'
import { Parameter } from './parameter.ts'

/** Options of {@link Embedding}. */
export interface EmbeddingLayerOptions extends EmbeddingOptions, Omit<CreationOptions, 'requiresGrad'> {}

const OPTIONS: Names<EmbeddingLayerOptions> = { paddingIdx: true, dtype: true, device: true }

/**
 * Rows of `weight` `[num, dim]` by index: i32 `[…]` → `[…, dim]`. The rows are drawn from N(0, 1); that of the padding is 0
 * and stays what it is.
 *
 * @example
 * ```ts
 * import { nn, tensor } from 'tilegrad'
 * const layer = new nn.Embedding(100, 16, { paddingIdx: 0 })
 * const tokens = tensor([[5, 7, 0], [9, 0, 0]], { dtype: 'i32' })
 * console.log(layer.forward(tokens).shape) // [2, 3, 16]
 * ```
 */
export class Embedding extends Module {
  readonly weight: Parameter
  readonly paddingIdx: number | null

  /**
   * @param num number of rows
   * @param dim numbers in a row
   * @throws `ERR_ARGUMENT` for sizes that are no whole numbers, or a `paddingIdx` that is no row
   */
  constructor(num: number, dim: number, options: EmbeddingLayerOptions = {}) {
    super()
    checkOptions('Embedding', options, OPTIONS)
    for (const [name, size] of Object.entries({ num, dim })) {
      if (!Number.isInteger(size) || size < 0) throw expected(`Embedding: ${name}`, 'a whole number ≥ 0', size)
    }
    const { paddingIdx, ...creation } = options
    const padding = paddingRow('Embedding', paddingIdx, num)
    this.weight = new Parameter(initNormal([num, dim], creation, (row) => row === padding))
    this.paddingIdx = padding
  }

  /**
   * i32 `[…]` → `[…, dim]`.
   *
   * @throws `ERR_DTYPE`; `ERR_ARGUMENT` when a result is read and an index was out of range; see {@link embedding}
   */
  forward(indices: Tensor): Tensor {
    return embedding(indices, this.weight, this.paddingIdx === null ? {} : { paddingIdx: this.paddingIdx })
  }
}
