/**
 * Dropout: leaving out elements at random. The mask is a function of a counter (`random-site.ts`) and is never stored: the
 * gradient is the same instruction with the same counter, applied to dy.
 */

import { track } from '../autograd/tape.ts'
import { type Names, checkOptions, expected } from '../errors.ts'
import { OPCODES } from '../program/opcodes.ts'
import { type Drawn, RandomSite, SHARED_SITE, drawEach } from '../random-site.ts'
import { numel } from '../shape.ts'
import { Tensor } from '../tensor.ts'
import { checkDtypeClass, checkTensor } from './apply.ts'

/** Options of {@link dropout}. */
export interface DropoutOptions {
  /** Probability of leaving an element out. Default 0.5. */
  readonly p?: number
  /** Whether anything is left out. Default true. */
  readonly training?: boolean
  /** Whose random numbers are used: one for each layer. Default: that of all calls that name none. */
  readonly site?: RandomSite
}

/**
 * Each element becomes 0 with probability `p`, and is multiplied by 1/(1 − p) otherwise, so that the mean stays. With p 0,
 * or outside training, x is handed on.
 *
 * Dimension 0 is the batch (a tensor of one dimension is one row): the mask of an element depends on its row, counted
 * through the micro-batches of a window, and on its place in the row; so any split of a batch gives the masks of the whole,
 * on every device. What is left out contributes nothing, whatever it is.
 *
 * @throws `ERR_ARGUMENT` unless p is a number from 0 to 1; `ERR_DTYPE` unless x is f32 or f64
 *
 * @example
 * ```ts
 * import { dropout, manualSeed, ones } from 'tilegrad'
 * manualSeed(7)
 * const y = await dropout(ones([1000]), { p: 0.25 }).data()
 * console.log(new Set(y)) // Set(2) { 1.3333333730697632, 0 }
 * console.log(Math.abs(y.filter((v) => v === 0).length / 1000 - 0.25) < 0.05) // true
 * ```
 */
export function dropout(x: Tensor, options: DropoutOptions = {}): Tensor {
  checkTensor('dropout', 'x', x)
  checkOptions('dropout', options, { p: true, training: true, site: true } satisfies Names<DropoutOptions>)
  const { p = 0.5, training = true, site = SHARED_SITE } = options
  checkProbability('dropout: p', p)
  if (!(site instanceof RandomSite)) throw expected('dropout: site', 'a RandomSite', site)
  checkDtypeClass('dropout', OPCODES.dropout.dtypes, x.dtype)
  if (!training || p === 0) return track(x.detach(), 'dropout', [x], [], (dy) => [dy])
  return masked(x, p, drawEach(site, x.shape.length < 2 ? null : x.shape[0]!))
}

/** @internal Throws `ERR_ARGUMENT` unless `p` is a probability. */
export function checkProbability(what: string, p: unknown): asserts p is number {
  if (typeof p !== 'number' || !(p >= 0 && p <= 1)) throw expected(what, 'a number from 0 to 1', p)
}

function masked(x: Tensor, p: number, drawn: Drawn): Tensor {
  const { device, dtype, shape } = x
  const value = device.recorder.emit('dropout', [x.value], { dtype, shape }, [
    numel(shape.length < 2 ? shape : shape.slice(1)),
    Math.ceil(p * 2 ** 24),
    p === 1 ? 0 : 1 / (1 - p),
    () => drawn.seed[0],
    () => drawn.seed[1],
    () => drawn.site,
    () => drawn.draw,
    () => drawn.rowBase,
  ])
  return track(new Tensor(device, value), 'dropout', [x], [], (dy) => [masked(dy, p, drawn)])
}
