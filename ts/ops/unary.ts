/**
 * Elementwise functions of one tensor, each with its derivative beside it. Activations have a file of their own, since
 * `linear` fuses them. Like all elementwise operations they are fused with their neighbours by the device.
 */

import { track } from '../autograd/tape.ts'
import { type Dtype, checkDtype } from '../dtype.ts'
import { expected } from '../errors.ts'
import type { Tensor } from '../tensor.ts'
import { checkTensor, unary } from './apply.ts'
import { add, div, mul } from './arithmetic.ts'
import { nothing } from './binary.ts'
import { greaterEqual, lessEqual, logicalAnd, where } from './compare.ts'
import { zerosLike } from './creation.ts'

const TWO_OVER_SQRT_PI = 2 / Math.sqrt(Math.PI)

/**
 * −x.
 *
 * @example
 * ```ts
 * import { tensor, neg } from 'tilegrad'
 * console.log(await neg(tensor([1, -2])).array()) // [-1, 2]
 * ```
 */
export function neg(x: Tensor): Tensor {
  return unary('neg', x, {}, [], nothing, (dy) => [neg(dy)])
}

/**
 * |x|. The gradient at 0 is 0.
 *
 * @example
 * ```ts
 * import { abs, tensor } from 'tilegrad'
 * console.log(await abs(tensor([1, -2])).array()) // [1, 2]
 * ```
 */
export function abs(x: Tensor): Tensor {
  return unary(
    'abs',
    x,
    {},
    [],
    () => [x],
    (dy, [x]) => [mul(dy, sign(x!))],
  )
}

/**
 * −1, 0 or 1; NaN stays. Gradient 0.
 *
 * @example
 * ```ts
 * import { sign, tensor } from 'tilegrad'
 * console.log(await sign(tensor([-3, 0, 2])).array()) // [-1, 0, 1]
 * ```
 */
export function sign(x: Tensor): Tensor {
  return unary('sign', x, {}, [], nothing, (dy) => [zerosLike(dy)])
}

/**
 * x².
 *
 * @example
 * ```ts
 * import { square, tensor } from 'tilegrad'
 * console.log(await square(tensor([1, -2])).array()) // [1, 4]
 * ```
 */
export function square(x: Tensor): Tensor {
  return unary(
    'square',
    x,
    {},
    [],
    () => [x],
    (dy, [x]) => [mul(mul(dy, x!), 2)],
  )
}

/**
 * √x; NaN below 0.
 *
 * @example
 * ```ts
 * import { sqrt, tensor } from 'tilegrad'
 * console.log(await sqrt(tensor([4, 2])).array()) // [2, 1.414214]
 * ```
 */
export function sqrt(x: Tensor): Tensor {
  return unary(
    'sqrt',
    x,
    {},
    [],
    (y) => [y],
    (dy, [y]) => [div(mul(dy, 0.5), y!)],
  )
}

/**
 * 1/√x.
 *
 * @example
 * ```ts
 * import { rsqrt, tensor } from 'tilegrad'
 * console.log(await rsqrt(tensor([4, 1])).array()) // [0.5, 1]
 * ```
 */
export function rsqrt(x: Tensor): Tensor {
  return unary(
    'rsqrt',
    x,
    {},
    [],
    (y) => [y],
    (dy, [y]) => [mul(mul(dy, -0.5), mul(square(y!), y!))],
  )
}

/**
 * 1/x.
 *
 * @example
 * ```ts
 * import { reciprocal, tensor } from 'tilegrad'
 * console.log(await reciprocal(tensor([4, -1])).array()) // [0.25, -1]
 * ```
 */
export function reciprocal(x: Tensor): Tensor {
  return unary(
    'reciprocal',
    x,
    {},
    [],
    (y) => [y],
    (dy, [y]) => [neg(mul(dy, square(y!)))],
  )
}

/**
 * eˣ.
 *
 * @example
 * ```ts
 * import { exp, tensor } from 'tilegrad'
 * console.log(await exp(tensor([0, 1])).array()) // [1, 2.718282]
 * ```
 */
export function exp(x: Tensor): Tensor {
  return unary(
    'exp',
    x,
    {},
    [],
    (y) => [y],
    (dy, [y]) => [mul(dy, y!)],
  )
}

/**
 * eˣ − 1, exact near 0.
 *
 * @example
 * ```ts
 * import { expm1, tensor } from 'tilegrad'
 * console.log(await expm1(tensor([0, 1])).array()) // [0, 1.718282]
 * ```
 */
export function expm1(x: Tensor): Tensor {
  return unary(
    'expm1',
    x,
    {},
    [],
    (y) => [y],
    (dy, [y]) => [mul(dy, add(y!, 1))],
  )
}

/**
 * Natural logarithm.
 *
 * @example
 * ```ts
 * import { log, tensor } from 'tilegrad'
 * console.log(await log(tensor([1, 10])).array()) // [0, 2.302585]
 * ```
 */
export function log(x: Tensor): Tensor {
  return unary(
    'log',
    x,
    {},
    [],
    () => [x],
    (dy, [x]) => [div(dy, x!)],
  )
}

/**
 * log(1 + x), exact near 0.
 *
 * @example
 * ```ts
 * import { log1p, tensor } from 'tilegrad'
 * console.log(await log1p(tensor([0, 1])).array()) // [0, 0.693147]
 * ```
 */
export function log1p(x: Tensor): Tensor {
  return unary(
    'log1p',
    x,
    {},
    [],
    () => [x],
    (dy, [x]) => [div(dy, add(x!, 1))],
  )
}

/**
 * The error function 2/√π ∫₀ˣ e^(−t²) dt.
 *
 * @example
 * ```ts
 * import { erf, tensor } from 'tilegrad'
 * console.log(await erf(tensor([0, 1])).array()) // [0, 0.842701]
 * ```
 */
export function erf(x: Tensor): Tensor {
  return unary(
    'erf',
    x,
    {},
    [],
    () => [x],
    (dy, [x]) => [mul(dy, mul(exp(neg(square(x!))), TWO_OVER_SQRT_PI))],
  )
}

/**
 * The largest whole number ≤ x. Gradient 0.
 *
 * @example
 * ```ts
 * import { floor, tensor } from 'tilegrad'
 * console.log(await floor(tensor([1.5, -1.5])).array()) // [1, -2]
 * ```
 */
export function floor(x: Tensor): Tensor {
  return unary('floor', x, {}, [], nothing, (dy) => [zerosLike(dy)])
}

/**
 * The smallest whole number ≥ x. Gradient 0.
 *
 * @example
 * ```ts
 * import { ceil, tensor } from 'tilegrad'
 * console.log(await ceil(tensor([1.5, -1.5])).array()) // [2, -1]
 * ```
 */
export function ceil(x: Tensor): Tensor {
  return unary('ceil', x, {}, [], nothing, (dy) => [zerosLike(dy)])
}

/**
 * Bool: not x.
 *
 * @example
 * ```ts
 * import { logicalNot, tensor } from 'tilegrad'
 * console.log(await logicalNot(tensor([true, false])).array()) // [false, true]
 * ```
 */
export function logicalNot(x: Tensor): Tensor {
  return unary('logicalNot', x, {}, [], nothing, null)
}

/**
 * Bool: neither infinite nor NaN.
 *
 * @example
 * ```ts
 * import { isFinite, tensor } from 'tilegrad'
 * console.log(await isFinite(tensor([1, Infinity, NaN])).array()) // [true, false, false]
 * ```
 */
export function isFinite(x: Tensor): Tensor {
  return unary('isFinite', x, { dtype: 'bool' }, [], nothing, null)
}

/**
 * x limited to [low, high]; NaN stays. The gradient is 1 inside, the ends included, and 0 outside.
 *
 * @param low lower end; default −Infinity
 * @param high upper end; default Infinity
 * @throws `ERR_ARGUMENT` when low > high or either is NaN, or no value of the dtype lies between them
 *
 * @example
 * ```ts
 * import { clip, tensor } from 'tilegrad'
 * console.log(await clip(tensor([-2, 0.5, 3]), 0, 1).array()) // [0, 0.5, 1]
 * ```
 */
export function clip(x: Tensor, low = -Infinity, high = Infinity): Tensor {
  if (typeof low !== 'number' || typeof high !== 'number' || !(low <= high)) {
    throw expected('clip: low and high', 'ordered numbers', [low, high])
  }
  checkTensor('clip', 'x', x)
  const [lo, hi] =
    x.dtype === 'i32' ? [Math.max(Math.ceil(low), -(2 ** 31)), Math.min(Math.floor(high), 2 ** 31 - 1)] : [low, high]
  if (lo > hi) throw expected('clip: low and high', 'ends with a 32-bit whole number between them', [low, high])
  return unary(
    'clip',
    x,
    {},
    [lo, hi],
    () => [x],
    (dy, [x]) => [where(logicalAnd(greaterEqual(x!, low), lessEqual(x!, high)), dy, 0)],
  )
}

/**
 * The same numbers in another dtype. float → i32 truncates and saturates, NaN gives 0; → bool is ≠ 0.
 *
 * @example
 * ```ts
 * import { cast, tensor } from 'tilegrad'
 * console.log(await cast(tensor([1.9, -1.9, NaN]), 'i32').array()) // [1, -1, 0]
 * ```
 */
export function cast(x: Tensor, dtype: Dtype): Tensor {
  checkTensor('cast', 'x', x)
  checkDtype('cast', dtype)
  if (dtype === x.dtype) return track(x.detach(), 'cast', [x], [], (dy) => [dy])
  x.device.checkDtype('cast', dtype)
  const differentiable = dtype === 'f32' || dtype === 'f64'
  return unary('cast', x, { dtype }, [], nothing, differentiable ? (dy) => [cast(dy, x.dtype)] : null)
}
