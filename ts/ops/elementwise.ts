/**
 * Elementwise operations with NumPy broadcasting: arithmetic, comparisons, logic, selection. Activations have a file of
 * their own. Operands have one dtype; a plain number takes its partner's. Consecutive elementwise instructions are fused
 * by the device.
 */

import { track, type Vjp } from '../autograd/tape.ts'
import { type Dtype, checkDtype } from '../dtype.ts'
import { TilegradError, expected } from '../errors.ts'
import { OPCODES, type OpcodeName } from '../program/opcodes.ts'
import { Scalar } from '../scalar.ts'
import { broadcastShapes, sameShape } from '../shape.ts'
import { Tensor } from '../tensor.ts'
import {
  type Operand,
  checkDtypeClass,
  checkSameDtype,
  checkTensor,
  scalarValue,
  sharedDevice,
  unary,
  withoutScalar,
} from './apply.ts'
import { zerosLike } from './creation.ts'
import { sumTo } from './reduce.ts'

const TWO_OVER_SQRT_PI = 2 / Math.sqrt(Math.PI)

const nothing = (): readonly Tensor[] => []

/** −x. */
export function neg(x: Tensor): Tensor {
  return unary('neg', x, {}, [], nothing, (dy) => [neg(dy)])
}

/** |x|. The gradient at 0 is 0. */
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

/** −1, 0 or 1; NaN stays. Gradient 0. */
export function sign(x: Tensor): Tensor {
  return unary('sign', x, {}, [], nothing, (dy) => [zerosLike(dy)])
}

/** x². */
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

/** √x; NaN below 0. */
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

/** 1/√x. */
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

/** 1/x. */
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

/** eˣ. */
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

/** eˣ − 1, exact near 0. */
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

/** Natural logarithm. */
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

/** log(1 + x), exact near 0. */
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

/** The error function 2/√π ∫₀ˣ e^(−t²) dt. */
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

/** The largest whole number ≤ x. Gradient 0. */
export function floor(x: Tensor): Tensor {
  return unary('floor', x, {}, [], nothing, (dy) => [zerosLike(dy)])
}

/** The smallest whole number ≥ x. Gradient 0. */
export function ceil(x: Tensor): Tensor {
  return unary('ceil', x, {}, [], nothing, (dy) => [zerosLike(dy)])
}

/** Bool: not x. */
export function logicalNot(x: Tensor): Tensor {
  return unary('logicalNot', x, {}, [], nothing, null)
}

/** Bool: neither infinite nor NaN. */
export function isFinite(x: Tensor): Tensor {
  return unary('isFinite', x, { dtype: 'bool' }, [], nothing, null)
}

/** a + b. */
export function add(a: Operand, b: Operand): Tensor {
  if (a instanceof Scalar || b instanceof Scalar) return withTensors('add', a, b, add)
  return binary('add', a, b, nothing, (dy, _, needs) => [give(needs, 0, a, dy), give(needs, 1, b, dy)])
}

/** a − b. */
export function sub(a: Operand, b: Operand): Tensor {
  if (a instanceof Scalar || b instanceof Scalar) return withTensors('sub', a, b, sub)
  return binary('sub', a, b, nothing, (dy, _, needs) => [give(needs, 0, a, dy), needs[1] ? reduceTo(neg(dy), b) : null])
}

/** a · b, element by element. */
export function mul(a: Operand, b: Operand): Tensor {
  if (a instanceof Scalar || b instanceof Scalar) return withTensors('mul', a, b, mul)
  return binary('mul', a, b, both(a, b), (dy, saved, needs) => {
    const [x, y] = restore(a, b, saved)
    return [needs[0] ? reduceTo(mul(dy, y), a) : null, needs[1] ? reduceTo(mul(dy, x), b) : null]
  })
}

/** a / b. Float only: cast integers first. */
export function div(a: Operand, b: Operand): Tensor {
  if (a instanceof Scalar || b instanceof Scalar) return withTensors('div', a, b, div)
  return binary('div', a, b, both(a, b), (dy, saved, needs) => {
    const [x, y] = restore(a, b, saved)
    return [needs[0] ? reduceTo(div(dy, y), a) : null, needs[1] ? reduceTo(neg(mul(div(dy, y), div(x, y))), b) : null]
  })
}

/** aᵇ. A negative base with a fraction as exponent is NaN; x⁰ is 1. */
export function pow(a: Operand, b: Operand): Tensor {
  if (a instanceof Scalar || b instanceof Scalar) return withTensors('pow', a, b, pow)
  return binary('pow', a, b, both(a, b), (dy, saved, needs) => {
    const [x, y] = restore(a, b, saved)
    return [
      needs[0] ? reduceTo(powBaseGrad(dy, x, y), a) : null,
      needs[1] ? reduceTo(powExponentGrad(dy, x, y), b) : null,
    ]
  })
}

function powBaseGrad(dy: Tensor, x: Tensor | number, y: Tensor | number): Tensor {
  if (typeof y === 'number') return y === 0 ? zerosLike(dy) : mul(dy, mul(pow(x, y - 1), y))
  // x⁰ is constant, but 0 · 0⁻¹ is NaN.
  return where(equal(y, 0), 0, mul(dy, mul(pow(x, sub(y, 1)), y)))
}

function powExponentGrad(dy: Tensor, x: Tensor | number, y: Tensor | number): Tensor {
  if (typeof x === 'number') return x === 0 ? zerosLike(dy) : mul(dy, mul(pow(x, y), Math.log(x)))
  // 0ʸ is constant where it is defined, but 0 · log 0 is NaN.
  return mul(dy, where(equal(x, 0), 0, mul(pow(x, y), log(x))))
}

/** The larger one; NaN if either is. Equal operands share the gradient. */
export function maximum(a: Operand, b: Operand): Tensor {
  if (a instanceof Scalar || b instanceof Scalar) return withTensors('maximum', a, b, maximum)
  return binary('maximum', a, b, both(a, b), (dy, saved, needs) =>
    extremumGrad(dy, ...restore(a, b, saved), needs, a, b, less),
  )
}

/** The smaller one; NaN if either is. Equal operands share the gradient. */
export function minimum(a: Operand, b: Operand): Tensor {
  if (a instanceof Scalar || b instanceof Scalar) return withTensors('minimum', a, b, minimum)
  return binary('minimum', a, b, both(a, b), (dy, saved, needs) =>
    extremumGrad(dy, ...restore(a, b, saved), needs, a, b, greater),
  )
}

function extremumGrad(
  dy: Tensor,
  x: Operand,
  y: Operand,
  needs: readonly boolean[],
  a: Operand,
  b: Operand,
  loses: (a: Operand, b: Operand) => Tensor,
): (Tensor | null)[] {
  const shared = where(equal(x, y), mul(dy, 0.5), dy)
  return [
    needs[0] ? reduceTo(where(loses(x, y), 0, shared), a) : null,
    needs[1] ? reduceTo(where(loses(y, x), 0, shared), b) : null,
  ]
}

/** Bool: a = b. */
export function equal(a: Operand, b: Operand): Tensor {
  return binary('equal', a, b, nothing, null, 'bool')
}

/** Bool: a ≠ b. */
export function notEqual(a: Operand, b: Operand): Tensor {
  return binary('notEqual', a, b, nothing, null, 'bool')
}

/** Bool: a > b. */
export function greater(a: Operand, b: Operand): Tensor {
  return binary('greater', a, b, nothing, null, 'bool')
}

/** Bool: a ≥ b. */
export function greaterEqual(a: Operand, b: Operand): Tensor {
  return binary('greaterEqual', a, b, nothing, null, 'bool')
}

/** Bool: a < b. */
export function less(a: Operand, b: Operand): Tensor {
  return binary('less', a, b, nothing, null, 'bool')
}

/** Bool: a ≤ b. */
export function lessEqual(a: Operand, b: Operand): Tensor {
  return binary('lessEqual', a, b, nothing, null, 'bool')
}

/** Bool: both. */
export function logicalAnd(a: Tensor, b: Tensor): Tensor {
  return binary('logicalAnd', a, b, nothing, null)
}

/** Bool: either. */
export function logicalOr(a: Tensor, b: Tensor): Tensor {
  return binary('logicalOr', a, b, nothing, null)
}

/**
 * `a` where the condition holds, else `b`. A select: what is not chosen leaves no trace, NaN included.
 *
 * @param condition bool tensor
 * @param a tensor, number or scalar, where it holds; one of `a` and `b` has to be a tensor
 * @param b the same, where it does not
 */
export function where(condition: Tensor, a: Operand, b: Operand): Tensor {
  checkTensor('where', 'condition', condition)
  if (a instanceof Scalar || b instanceof Scalar) return withTensors('where', a, b, (x, y) => where(condition, x, y))
  if (condition.dtype !== 'bool') {
    throw new TilegradError(
      'ERR_DTYPE',
      `where: the condition is bool, not ${condition.dtype}; compare it with something first`,
    )
  }
  const like = a instanceof Tensor ? a : b
  if (!(like instanceof Tensor)) throw expected('where: one of a and b', 'a tensor', a)
  if (a instanceof Tensor && b instanceof Tensor) checkSameDtype('where', a, b)
  const [ta, tb] = [a instanceof Tensor ? a : null, b instanceof Tensor ? b : null]
  const device = sharedDevice('where', condition, ta, tb)
  const shape = broadcastShapes('where', broadcastShapes('where', condition.shape, ta?.shape ?? []), tb?.shape ?? [])
  // Tensors first: a disposed one throws before there is a number to release.
  const [vc, xa, xb] = [condition.value, ta?.value, tb?.value]
  const va = xa ?? scalarValue('where', a as number, like)
  const vb = xb ?? scalarValue('where', b as number, like)
  const out = new Tensor(device, device.recorder.emit('where', [vc, va, vb], { dtype: like.dtype, shape }))
  if (ta === null) va.release()
  if (tb === null) vb.release()
  return track(out, 'where', [ta, tb], [condition], (dy, [c], needs) => [
    needs[0] ? reduceTo(where(c!, dy, 0), a) : null,
    needs[1] ? reduceTo(where(c!, 0, dy), b) : null,
  ])
}

/**
 * x limited to [low, high]; NaN stays. The gradient is 1 inside, the ends included, and 0 outside.
 *
 * @param low lower end; default −Infinity
 * @param high upper end; default Infinity
 * @throws `ERR_ARGUMENT` when low > high or either is NaN, or no value of the dtype lies between them
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

/** The same numbers in another dtype. float → i32 truncates and saturates, NaN gives 0; → bool is ≠ 0. */
export function cast(x: Tensor, dtype: Dtype): Tensor {
  checkTensor('cast', 'x', x)
  checkDtype('cast', dtype)
  if (dtype === x.dtype) return track(x.detach(), 'cast', [x], [], (dy) => [dy])
  x.device.checkDtype('cast', dtype)
  const differentiable = dtype === 'f32' || dtype === 'f64'
  return unary('cast', x, { dtype }, [], nothing, differentiable ? (dy) => [cast(dy, x.dtype)] : null)
}

function binary(
  op: OpcodeName,
  a: Operand,
  b: Operand,
  saved: () => readonly Tensor[],
  vjp: Vjp | null,
  result?: Dtype,
): Tensor {
  if (a instanceof Scalar || b instanceof Scalar)
    return withTensors(op, a, b, (x, y) => binary(op, x, y, saved, vjp, result))
  const ta = a instanceof Tensor ? a : null
  const tb = b instanceof Tensor ? b : null
  const like = ta ?? tb
  if (like === null) throw expected(`${op}: one of the operands`, 'a tensor', a)
  checkDtypeClass(op, OPCODES[op].dtypes, like.dtype)
  if (ta !== null && tb !== null) {
    checkSameDtype(op, ta, tb)
    sharedDevice(op, ta, tb)
  }
  const { device } = like
  const shape = ta !== null && tb !== null ? broadcastShapes(op, ta.shape, tb.shape) : like.shape
  // Tensors first: a disposed one throws before there is a number to release.
  const [xa, xb] = [ta?.value, tb?.value]
  const va = xa ?? scalarValue(op, a as number, like)
  const vb = xb ?? scalarValue(op, b as number, like)
  const out = new Tensor(device, device.recorder.emit(op, [va, vb], { dtype: result ?? like.dtype, shape }))
  if (ta === null) va.release()
  if (tb === null) vb.release()
  if (vjp === null || !(ta?.requiresGrad || tb?.requiresGrad)) return out
  return track(out, op, [ta, tb], saved(), vjp)
}

/** What a product saves: the operands that are tensors. */
function both(a: Operand, b: Operand): () => Tensor[] {
  return () => [a, b].filter((t) => t instanceof Tensor)
}

/** Does something with scalars as tensors of their value now, which the tape may keep and nobody else has. */
function withTensors(
  op: OpcodeName,
  a: Operand,
  b: Operand,
  body: (a: Tensor | number, b: Tensor | number) => Tensor,
): Tensor {
  const [x, y] = [withoutScalar(op, a, b), withoutScalar(op, b, a)]
  try {
    return body(x, y)
  } finally {
    if (x !== a) (x as Tensor).dispose()
    if (y !== b) (y as Tensor).dispose()
  }
}

/** The operands again, tensors from what was saved. */
function restore(a: Tensor | number, b: Tensor | number, saved: readonly Tensor[]): [Tensor | number, Tensor | number] {
  const x = a instanceof Tensor ? saved[0]! : a
  const y = b instanceof Tensor ? saved[a instanceof Tensor ? 1 : 0]! : b
  return [x, y]
}

function reduceTo(dx: Tensor, operand: Operand): Tensor {
  return sameShape(dx.shape, (operand as Tensor).shape) ? dx : sumTo(dx, (operand as Tensor).shape)
}

function give(needs: readonly boolean[], i: number, operand: Operand, dy: Tensor): Tensor | null {
  return needs[i] ? reduceTo(dy, operand) : null
}
