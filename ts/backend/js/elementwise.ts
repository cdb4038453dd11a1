/**
 * Elementwise instructions: which loop serves which opcode and dtype, and the walk over operands that broadcast.
 * Everything here is one pass without scratch memory.
 */

import type { TypedArray } from '../../dtype.ts'
import { ACTIVATION, ACTIVATION_GRAD } from './activation.ts'
import { type BinaryLoop, FLOAT_BINARY, INT_BINARY, LOGIC } from './binary.ts'
import type { Call, Kernel, Kernels, Operand } from './kernel.ts'
import { Walk, broadcastTrack } from './strides.ts'
import { toInt32 } from './structure.ts'
import { FLOAT_UNARY, INT_UNARY, type UnaryLoop, logicalNot } from './unary.ts'

/** One operand, one result of the same shape. `int` serves i32 where integers need a loop of their own. */
function unary(float: UnaryLoop, int: UnaryLoop = float): Kernel {
  return ({ inputs, outputs, attributes }) => {
    const x = inputs[0]!
    const loop = x.dtype === 'i32' ? int : float
    loop(x.data, 0, outputs[0]!.data, 0, x.size, attributes[0] ?? 0, attributes[1] ?? 0)
  }
}

/** Two operands that broadcast to the result. */
function binary(float: BinaryLoop, int: BinaryLoop = float): Kernel {
  return ({ inputs, outputs, attributes }) => {
    const a = inputs[0]!
    const b = inputs[1]!
    const out = outputs[0]!
    const loop = a.dtype === 'i32' ? int : float
    const p = attributes[0] ?? 0
    const q = attributes[1] ?? 0
    const [x, y, z] = [a.data, b.data, out.data]
    // Equal sizes mean equal shapes here, up to ones; a single element needs no walk either.
    const aStep = a.size === out.size ? 1 : a.size === 1 ? 0 : -1
    const bStep = b.size === out.size ? 1 : b.size === 1 ? 0 : -1
    if (aStep >= 0 && bStep >= 0) {
      loop(x, 0, aStep, y, 0, bStep, z, 0, out.size, p, q)
      return
    }
    const walk = new Walk(out.shape, [broadcastTrack(a.shape, out.shape), broadcastTrack(b.shape, out.shape)])
    const { length: n, offsets, steps } = walk
    if (n === 0) return
    let oi = 0
    do {
      loop(x, offsets[0]!, steps[0]!, y, offsets[1]!, steps[1]!, z, oi, n, p, q)
      oi += n
    } while (walk.next())
  }
}

/** [condition, a, b]: a where the condition holds, else b; all three broadcast. */
function where({ inputs, outputs }: Call): void {
  const out = outputs[0]!
  const operands = inputs as readonly Operand[]
  const walk = new Walk(
    out.shape,
    operands.map((x) => broadcastTrack(x.shape, out.shape)),
  )
  const { length: n, offsets, steps } = walk
  if (n === 0) return
  const [condition, a, b] = operands.map((x) => x.data) as [TypedArray, TypedArray, TypedArray]
  const [cs, as, bs] = steps as [number, number, number]
  const data = out.data
  let oi = 0
  do {
    let [ci, ai, bi] = offsets as [number, number, number]
    for (const end = oi + n; oi < end; oi++, ci += cs, ai += as, bi += bs) {
      data[oi] = condition[ci]! !== 0 ? a[ai]! : b[bi]!
    }
  } while (walk.next())
}

/** Between two scalars, which become integers as in a cast when the operand is i32. NaN passes. */
function clip({ inputs, outputs, attributes }: Call): void {
  const x = inputs[0]!
  const { data } = x
  const out = outputs[0]!.data
  const isInt = x.dtype === 'i32'
  const lowest = isInt ? toInt32(attributes[0]!) : attributes[0]!
  const highest = isInt ? toInt32(attributes[1]!) : attributes[1]!
  for (let i = 0; i < x.size; i++) out[i] = Math.min(Math.max(data[i]!, lowest), highest)
}

type Elementwise = keyof typeof FLOAT_UNARY | keyof typeof FLOAT_BINARY | keyof typeof LOGIC
type Activations = keyof typeof ACTIVATION | keyof typeof ACTIVATION_GRAD

/** Kernels of the elementwise instructions. */
export const ELEMENTWISE: Pick<Kernels, Elementwise | Activations | 'logicalNot' | 'where' | 'clip'> = {
  neg: unary(FLOAT_UNARY.neg, INT_UNARY.neg),
  abs: unary(FLOAT_UNARY.abs, INT_UNARY.abs),
  sign: unary(FLOAT_UNARY.sign, INT_UNARY.sign),
  square: unary(FLOAT_UNARY.square, INT_UNARY.square),
  sqrt: unary(FLOAT_UNARY.sqrt),
  rsqrt: unary(FLOAT_UNARY.rsqrt),
  reciprocal: unary(FLOAT_UNARY.reciprocal),
  exp: unary(FLOAT_UNARY.exp),
  expm1: unary(FLOAT_UNARY.expm1),
  log: unary(FLOAT_UNARY.log),
  log1p: unary(FLOAT_UNARY.log1p),
  erf: unary(FLOAT_UNARY.erf),
  floor: unary(FLOAT_UNARY.floor),
  ceil: unary(FLOAT_UNARY.ceil),
  isFinite: unary(FLOAT_UNARY.isFinite),
  logicalNot: unary(logicalNot),

  relu: unary(ACTIVATION.relu),
  leakyRelu: unary(ACTIVATION.leakyRelu),
  elu: unary(ACTIVATION.elu),
  sigmoid: unary(ACTIVATION.sigmoid),
  tanh: unary(ACTIVATION.tanh),
  silu: unary(ACTIVATION.silu),
  softplus: unary(ACTIVATION.softplus),
  heaviside: unary(ACTIVATION.heaviside),
  gelu: unary(ACTIVATION.gelu),
  geluTanh: unary(ACTIVATION.geluTanh),

  reluGrad: binary(ACTIVATION_GRAD.reluGrad),
  leakyReluGrad: binary(ACTIVATION_GRAD.leakyReluGrad),
  eluGrad: binary(ACTIVATION_GRAD.eluGrad),
  sigmoidGrad: binary(ACTIVATION_GRAD.sigmoidGrad),
  tanhGrad: binary(ACTIVATION_GRAD.tanhGrad),
  siluGrad: binary(ACTIVATION_GRAD.siluGrad),
  softplusGrad: binary(ACTIVATION_GRAD.softplusGrad),
  geluGrad: binary(ACTIVATION_GRAD.geluGrad),
  geluTanhGrad: binary(ACTIVATION_GRAD.geluTanhGrad),

  add: binary(FLOAT_BINARY.add, INT_BINARY.add),
  sub: binary(FLOAT_BINARY.sub, INT_BINARY.sub),
  mul: binary(FLOAT_BINARY.mul, INT_BINARY.mul),
  div: binary(FLOAT_BINARY.div),
  pow: binary(FLOAT_BINARY.pow),
  maximum: binary(FLOAT_BINARY.maximum, INT_BINARY.maximum),
  minimum: binary(FLOAT_BINARY.minimum, INT_BINARY.minimum),
  equal: binary(LOGIC.equal),
  notEqual: binary(LOGIC.notEqual),
  greater: binary(LOGIC.greater),
  greaterEqual: binary(LOGIC.greaterEqual),
  less: binary(LOGIC.less),
  lessEqual: binary(LOGIC.lessEqual),
  logicalAnd: binary(LOGIC.logicalAnd),
  logicalOr: binary(LOGIC.logicalOr),

  where,
  clip,
}
