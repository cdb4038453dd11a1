/**
 * Reductions that are made of others: the norm of a vector, and the logarithm of a sum of exponentials. What is their own
 * is the gradient where the chain rule would give 0 · ∞: at 0, and for what has no finite logarithm. Normalising layers
 * are elsewhere.
 */

import { noGrad, track } from '../autograd/tape.ts'
import { type Names, TilegradError, checkOptions, expected } from '../errors.ts'
import { scope } from '../scope.ts'
import { normalizeAxes, numel, showShape } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { checkDtypeClass, checkTensor } from './apply.ts'
import {
  abs,
  add,
  div,
  equal,
  exp,
  isFinite,
  log,
  maximum,
  mul,
  pow,
  sign,
  sqrt,
  square,
  sub,
  where,
} from './elementwise.ts'
import { type Axis, REDUCE_OPTIONS, type ReduceOptions, max, min, sum } from './reduce.ts'
import { reshape } from './shape.ts'

/** Options of {@link norm}. */
export interface NormOptions extends ReduceOptions {
  /** Which norm: (Σ|x|ᵖ)^(1/p). Default 2. 0 counts what is not 0; `Infinity` takes the largest |x|, `-Infinity` the smallest. */
  readonly p?: number
  /** Over which axes; default all. */
  readonly axis?: Axis
}

const NORM: Names<NormOptions> = { ...REDUCE_OPTIONS, p: true, axis: true }

/**
 * (Σ|x|ᵖ)^(1/p) of the elements along some axes. A matrix is one long vector, so with p = 2 this is its Frobenius norm.
 *
 * The gradient of a vector of zeros is 0. The norm of nothing is 0.
 *
 * @throws `ERR_ARGUMENT` for p < 0 other than −Infinity; `ERR_SHAPE` where the extreme of nothing is asked for
 *
 * @example
 * ```ts
 * import { norm, tensor } from 'tilegrad'
 * const x = tensor([[3, -4], [0, 5]])
 * console.log(await norm(x, { axis: 1 }).array(), await x.norm({ p: 1 }).item()) // [5, 5] 12
 * ```
 */
export function norm(x: Tensor, options: NormOptions = {}): Tensor {
  checkTensor('norm', 'x', x)
  checkOptions('norm', options, NORM)
  checkDtypeClass('norm', 'float', x.dtype)
  const { p = 2, axis, keepDims = false } = options
  if (typeof p !== 'number' || !(p >= 0 || p === -Infinity))
    throw expected('norm: p', 'a number ≥ 0, Infinity or -Infinity', p)
  const { axes, kept, count } = shapes('norm', x, axis)
  if (Math.abs(p) === Infinity && count === 0 && numel(kept) > 0)
    throw new TilegradError(
      'ERR_SHAPE',
      `norm: an empty axis of ${showShape(x.shape)} has no ${p > 0 ? 'max' : 'min'}imum`,
    )
  if (p === 0) return scope(() => sum(abs(sign(x)), axes, { keepDims }))
  if (p === 1) return scope(() => sum(abs(x), axes, { keepDims }))
  if (p === Infinity) return scope(() => max(abs(x), axes, { keepDims }))
  if (p === -Infinity) return scope(() => min(abs(x), axes, { keepDims }))
  const y = noGrad(() =>
    scope(() =>
      p === 2 ? sqrt(sum(square(x), axes, { keepDims })) : pow(sum(pow(abs(x), p), axes, { keepDims }), 1 / p),
    ),
  )
  return track(y, 'norm', [x], [x, y], (dy, [x, y]) => [
    scope(() => {
      const length = reshape(y!, kept)
      const ratio = div(x!, where(equal(length, 0), 1, length))
      const slope = p === 2 ? ratio : powered(ratio, p - 1)
      return mul(reshape(dy, kept), where(equal(length, 0), 0, slope))
    }),
  ])
}

/** sign(r)·|r|ᵉ, and 0 at 0 where e < 0 would make it infinite. */
function powered(ratio: Tensor, exponent: number): Tensor {
  const zero = equal(ratio, 0)
  // Chosen before the power as well: what is not chosen still meets a derivative.
  return where(zero, 0, mul(sign(ratio), pow(where(zero, 1, abs(ratio)), exponent)))
}

/**
 * log Σ eˣ over `axis` (default: all), without overflow. Of nothing, or of −∞ alone, it is −∞, with gradient 0.
 *
 * @example
 * ```ts
 * import { logSumExp, tensor } from 'tilegrad'
 * const x = tensor([[1000, 1000], [-Infinity, 0]])
 * console.log(await logSumExp(x, 1).array()) // [1000.693, 0]
 * ```
 */
export function logSumExp(x: Tensor, axis?: Axis, options: ReduceOptions = {}): Tensor {
  checkTensor('logSumExp', 'x', x)
  checkOptions('logSumExp', options, REDUCE_OPTIONS)
  checkDtypeClass('logSumExp', 'float', x.dtype)
  const { axes, kept, shape, count } = shapes('logSumExp', x, axis)
  const y = noGrad(() =>
    scope(() => {
      if (count === 0) return log(sum(exp(x), axes, { keepDims: options.keepDims ?? false }))
      const largest = max(x, axes, { keepDims: true })
      // ∞ − ∞ would be NaN.
      const shift = where(isFinite(largest), largest, 0)
      const whole = add(log(sum(exp(sub(x, shift)), axes, { keepDims: true })), shift)
      return reshape(whole, options.keepDims ? kept : shape)
    }),
  )
  return track(y, 'logSumExp', [x], [x, y], (dy, [x, y]) => [
    scope(() => {
      const whole = reshape(y!, kept)
      // A row of −∞ has no share to give: e^(−∞ − 0) is 0.
      return mul(reshape(dy, kept), exp(sub(x!, where(isFinite(whole), whole, maximum(whole, 0)))))
    }),
  ])
}

function shapes(
  op: string,
  x: Tensor,
  axis: Axis | undefined,
): { axes: number[]; kept: number[]; shape: number[]; count: number } {
  const axes = normalizeAxes(op, axis, x.shape.length)
  return {
    axes,
    kept: x.shape.map((d, i) => (axes.includes(i) ? 1 : d)),
    shape: x.shape.filter((_, i) => !axes.includes(i)),
    count: axes.reduce((n, a) => n * x.shape[a]!, 1),
  }
}
