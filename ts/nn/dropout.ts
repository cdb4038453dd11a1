/** Dropout as a layer: its own random numbers, and off outside training. */

import { checkProbability, dropout } from '../ops/dropout.ts'
import { RandomSite } from '../random-site.ts'
import type { Tensor } from '../tensor.ts'
import { Module } from './module.ts'

/**
 * In training each element becomes 0 with probability `p`, and is multiplied by 1/(1 − p) otherwise; after `eval()` the
 * input is handed on. See {@link dropout} for what the masks depend on.
 *
 * @example
 * ```ts
 * import { nn, ones } from 'tilegrad'
 * const layer = new nn.Dropout(0.1)
 * console.log(layer.eval().forward(ones([2, 3])).shape) // [2, 3]
 * ```
 */
export class Dropout extends Module {
  readonly p: number
  readonly #site = new RandomSite()

  /** @param p default 0.5 */
  constructor(p = 0.5) {
    super()
    checkProbability('Dropout: p', p)
    this.p = p
  }

  /** Any shape → the same shape. Each pass in training draws anew. */
  forward(x: Tensor): Tensor {
    return dropout(x, { p: this.p, training: this.training, site: this.#site })
  }
}
