/**
 * How an elementwise operation of two operands is recorded: one dtype, broadcast shapes, numbers and scalars as tensors of
 * their partner's dtype; and how its gradient finds its operands again. No operation lives here.
 */

import { type Vjp, track } from '../autograd/tape.ts'
import type { Dtype } from '../dtype.ts'
import { expected } from '../errors.ts'
import { type OpcodeName, OPCODES } from '../program/opcodes.ts'
import { Scalar } from '../scalar.ts'
import { broadcastShapes, sameShape } from '../shape.ts'
import { Tensor } from '../tensor.ts'
import { type Operand, checkDtypeClass, checkSameDtype, scalarValue, sharedDevice, withoutScalar } from './apply.ts'
import { sumTo } from './reduce.ts'

/** Of operations whose gradient needs nothing that the operands or the result hold. */
export const nothing = (): readonly Tensor[] => []

export function binary(
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
export function both(a: Operand, b: Operand): () => Tensor[] {
  return () => [a, b].filter((t) => t instanceof Tensor)
}

/** Does something with scalars as tensors of their value now, which the tape may keep and nobody else has. */
export function withTensors(
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
export function restore(
  a: Tensor | number,
  b: Tensor | number,
  saved: readonly Tensor[],
): [Tensor | number, Tensor | number] {
  const x = a instanceof Tensor ? saved[0]! : a
  const y = b instanceof Tensor ? saved[a instanceof Tensor ? 1 : 0]! : b
  return [x, y]
}

export function reduceTo(dx: Tensor, operand: Operand): Tensor {
  return sameShape(dx.shape, (operand as Tensor).shape) ? dx : sumTo(dx, (operand as Tensor).shape)
}

export function give(needs: readonly boolean[], i: number, operand: Operand, dy: Tensor): Tensor | null {
  return needs[i] ? reduceTo(dy, operand) : null
}
