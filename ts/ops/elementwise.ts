/**
 * All elementwise operations, with NumPy broadcasting: functions of one tensor, arithmetic, comparisons, logic and selection.
 * Operands have one dtype; a plain number takes its partner's. Consecutive elementwise instructions are fused by the device.
 * Activations have a file of their own.
 */

export { add, div, maximum, minimum, mul, pow, sub } from './arithmetic.ts'
export { equal, greater, greaterEqual, less, lessEqual, logicalAnd, logicalOr, notEqual, where } from './compare.ts'
export {
  abs,
  cast,
  ceil,
  clip,
  erf,
  exp,
  expm1,
  floor,
  isFinite,
  log,
  log1p,
  logicalNot,
  neg,
  reciprocal,
  rsqrt,
  sign,
  sqrt,
  square,
} from './unary.ts'
