/**
 * What operations share: checking operands, turning numbers into rank-0 values, and recording one instruction with its
 * gradient. No operation lives here.
 */

import { track, type Vjp } from '../autograd/tape.ts'
import type { Device } from '../device.ts'
import { type Dtype, isFloat } from '../dtype.ts'
import { TilegradError, expected } from '../errors.ts'
import type { DtypeClass, OpcodeName } from '../program/opcodes.ts'
import { OPCODES } from '../program/opcodes.ts'
import type { Attribute } from '../program/code.ts'
import { checkEach } from '../program/tracing.ts'
import type { Value } from '../program/value.ts'
import { Scalar } from '../scalar.ts'
import type { Shape } from '../shape.ts'
import { Tensor } from '../tensor.ts'

/** A tensor, or a number that takes its partner's dtype. */
export type Operand = Tensor | Scalar | number

/** Throws `ERR_ARGUMENT` unless `x` is a tensor. */
export function checkTensor(op: string, name: string, x: unknown): asserts x is Tensor {
  if (!(x instanceof Tensor)) throw expected(`${op}: ${name}`, 'a tensor', x)
}

/** The device all operands live on. */
export function sharedDevice(op: string, first: Tensor, ...others: readonly (Tensor | null)[]): Device {
  for (const other of others) {
    if (other !== null && other.device !== first.device) {
      throw new TilegradError(
        'ERR_DEVICE_MISMATCH',
        `${op}: operands live on different devices (${first.device.kind} and ${other.device.kind}); move one with await x.to(device)`,
      )
    }
  }
  return first.device
}

const ALLOWED: Readonly<Record<DtypeClass, string>> = {
  float: 'f32 or f64',
  number: 'f32, f64 or i32',
  bool: 'bool',
  any: 'any dtype',
}

/** Throws `ERR_DTYPE` unless an operation of this class computes on `dtype`. */
export function checkDtypeClass(op: string, wanted: DtypeClass, dtype: Dtype): void {
  const fits =
    wanted === 'any' ||
    (wanted === 'bool' ? dtype === 'bool' : isFloat(dtype) || (wanted === 'number' && dtype === 'i32'))
  if (!fits) throw new TilegradError('ERR_DTYPE', `${op}: takes ${ALLOWED[wanted]}, not ${dtype}; use cast()`)
}

/** Throws `ERR_DTYPE` unless all tensors have one dtype. */
export function checkSameDtype(op: string, a: Tensor, b: Tensor): void {
  if (a.dtype !== b.dtype) {
    throw new TilegradError(
      'ERR_DTYPE',
      `${op}: operands are ${a.dtype} and ${b.dtype}; cast() one of them, dtypes are never promoted`,
    )
  }
}

/** Throws `ERR_DTYPE` for a number that an i32 tensor cannot hold. */
export function checkNumber(op: string, x: number, dtype: Dtype): void {
  if (dtype === 'i32' && !(Number.isInteger(x) && x >= -(2 ** 31) && x < 2 ** 31)) {
    throw new TilegradError('ERR_DTYPE', `${op}: ${x} does not fit the i32 operand; cast('f32') it first`)
  }
}

/** A rank-0 value of the partner's dtype. The caller releases it once it has been used. */
export function scalarValue(op: string, x: number, like: Tensor): Value {
  if (typeof x !== 'number') throw expected(`${op}: operand`, 'a tensor or a number', x)
  checkNumber(op, x, like.dtype)
  checkMixes(op, like)
  return like.device.recorder.emit('full', [], { dtype: like.dtype, shape: [] }, [x])
}

/** A scalar as a rank-0 tensor beside its partner: it keeps its value of now for the gradient. Anything else stays. */
export function withoutScalar(op: string, x: Operand, partner: Operand): Tensor | number {
  if (!(x instanceof Scalar)) return x
  if (!(partner instanceof Tensor)) throw expected(`${op}: one of the operands`, 'a tensor', partner)
  const { device, dtype } = partner
  checkMixes(op, partner)
  const read = (): number => {
    const value = x.read()
    checkNumber(op, value, dtype)
    return value
  }
  checkEach(read)
  return new Tensor(device, device.recorder.emit('full', [], { dtype, shape: [] }, [read]))
}

function checkMixes(op: string, partner: Tensor): void {
  if (partner.dtype === 'bool')
    throw new TilegradError('ERR_DTYPE', `${op}: a number and a bool tensor do not mix; cast() the tensor first`)
}

/** Records an instruction of one tensor and puts the result on the tape. `saved` gets the result: some rules need it. */
export function unary(
  op: OpcodeName,
  x: Tensor,
  output: { dtype?: Dtype; shape?: Shape },
  attributes: readonly Attribute[],
  saved: (out: Tensor) => readonly Tensor[],
  vjp: Vjp | null,
): Tensor {
  checkTensor(op, 'x', x)
  checkDtypeClass(op, OPCODES[op].dtypes, x.dtype)
  const value = x.device.recorder.emit(
    op,
    [x.value],
    { dtype: output.dtype ?? x.dtype, shape: output.shape ?? x.shape },
    attributes,
  )
  const out = new Tensor(x.device, value)
  return vjp === null || !x.requiresGrad ? out : track(out, op, [x], saved(out), vjp)
}
