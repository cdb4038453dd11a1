/** Comparisons, logic and selection: what gives bools, and what is chosen by them. No gradient flows through a bool. */

import { track } from '../autograd/tape.ts'
import { expected, TilegradError } from '../errors.ts'
import { Scalar } from '../scalar.ts'
import { broadcastShapes } from '../shape.ts'
import { Tensor } from '../tensor.ts'
import { type Operand, checkSameDtype, checkTensor, scalarValue, sharedDevice } from './apply.ts'
import { binary, nothing, reduceTo, withTensors } from './binary.ts'

/**
 * Bool: a = b.
 *
 * @example
 * ```ts
 * import { equal, tensor } from 'tilegrad'
 * console.log(await equal(tensor([1, 2, NaN]), tensor([1, 3, NaN])).array()) // [true, false, false]
 * ```
 */
export function equal(a: Operand, b: Operand): Tensor {
  return binary('equal', a, b, nothing, null, 'bool')
}

/**
 * Bool: a ≠ b.
 *
 * @example
 * ```ts
 * import { notEqual, tensor } from 'tilegrad'
 * console.log(await notEqual(tensor([1, 2]), 1).array()) // [false, true]
 * ```
 */
export function notEqual(a: Operand, b: Operand): Tensor {
  return binary('notEqual', a, b, nothing, null, 'bool')
}

/**
 * Bool: a > b.
 *
 * @example
 * ```ts
 * import { greater, tensor } from 'tilegrad'
 * console.log(await greater(tensor([1, 2, 3]), 2).array()) // [false, false, true]
 * ```
 */
export function greater(a: Operand, b: Operand): Tensor {
  return binary('greater', a, b, nothing, null, 'bool')
}

/**
 * Bool: a ≥ b.
 *
 * @example
 * ```ts
 * import { greaterEqual, tensor } from 'tilegrad'
 * console.log(await greaterEqual(tensor([1, 2, 3]), 2).array()) // [false, true, true]
 * ```
 */
export function greaterEqual(a: Operand, b: Operand): Tensor {
  return binary('greaterEqual', a, b, nothing, null, 'bool')
}

/**
 * Bool: a < b.
 *
 * @example
 * ```ts
 * import { less, tensor } from 'tilegrad'
 * console.log(await less(tensor([1, 2, 3]), 2).array()) // [true, false, false]
 * ```
 */
export function less(a: Operand, b: Operand): Tensor {
  return binary('less', a, b, nothing, null, 'bool')
}

/**
 * Bool: a ≤ b.
 *
 * @example
 * ```ts
 * import { lessEqual, tensor } from 'tilegrad'
 * console.log(await lessEqual(tensor([1, 2, 3]), 2).array()) // [true, true, false]
 * ```
 */
export function lessEqual(a: Operand, b: Operand): Tensor {
  return binary('lessEqual', a, b, nothing, null, 'bool')
}

/**
 * Bool: both.
 *
 * @example
 * ```ts
 * import { logicalAnd, tensor } from 'tilegrad'
 * console.log(await logicalAnd(tensor([true, true]), tensor([true, false])).array()) // [true, false]
 * ```
 */
export function logicalAnd(a: Tensor, b: Tensor): Tensor {
  return binary('logicalAnd', a, b, nothing, null)
}

/**
 * Bool: either.
 *
 * @example
 * ```ts
 * import { logicalOr, tensor } from 'tilegrad'
 * console.log(await logicalOr(tensor([true, false]), tensor([false, false])).array()) // [true, false]
 * ```
 */
export function logicalOr(a: Tensor, b: Tensor): Tensor {
  return binary('logicalOr', a, b, nothing, null)
}

/**
 * `a` where the condition holds, else `b`. A select: what is not chosen leaves no trace, NaN included.
 *
 * @param condition bool tensor
 * @param a tensor, number or scalar, where it holds; one of `a` and `b` has to be a tensor
 * @param b the same, where it does not
 *
 * @example
 * ```ts
 * import { tensor, where } from 'tilegrad'
 * console.log(await where(tensor([true, false]), tensor([1, NaN]), 0).array()) // [1, 0]
 * ```
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
