/**
 * Every operation whose first operand is a tensor, as a method of `Tensor`: `x.add(y)` is `add(x, y)`. One table gives
 * the types and the methods; the functions themselves are documented where they are defined. Importing this file adds
 * them. Every entry of the package does, because any one may be the only one that a program imports.
 */

import { Tensor } from '../tensor.ts'
import { elu, gelu, heaviside, leakyRelu, relu, sigmoid, silu, softplus, tanh } from './activation.ts'
import {
  abs,
  add,
  cast,
  ceil,
  clip,
  div,
  equal,
  erf,
  exp,
  expm1,
  floor,
  greater,
  greaterEqual,
  isFinite,
  less,
  lessEqual,
  log,
  log1p,
  logicalAnd,
  logicalNot,
  logicalOr,
  maximum,
  minimum,
  mul,
  neg,
  notEqual,
  pow,
  reciprocal,
  rsqrt,
  sign,
  sqrt,
  square,
  sub,
} from './elementwise.ts'
import { gather } from './gather.ts'
import { linear } from './linear.ts'
import { matmul } from './matmul.ts'
import { argmax, argmin, max, mean, min, sum, variance } from './reduce.ts'
import { expand, pad, reshape, slice, transpose } from './shape.ts'
import { logSoftmax, softmax } from './softmax.ts'

const METHODS = {
  abs,
  add,
  argmax,
  argmin,
  cast,
  ceil,
  clip,
  div,
  elu,
  equal,
  erf,
  exp,
  expand,
  expm1,
  floor,
  gather,
  gelu,
  greater,
  greaterEqual,
  heaviside,
  isFinite,
  leakyRelu,
  less,
  lessEqual,
  linear,
  log,
  log1p,
  logSoftmax,
  logicalAnd,
  logicalNot,
  logicalOr,
  matmul,
  max,
  maximum,
  mean,
  min,
  minimum,
  mul,
  neg,
  notEqual,
  pad,
  pow,
  reciprocal,
  relu,
  reshape,
  rsqrt,
  sigmoid,
  sign,
  silu,
  slice,
  softmax,
  softplus,
  sqrt,
  square,
  sub,
  sum,
  tanh,
  transpose,
  variance,
} as const

type Method<F> = F extends (first: never, ...rest: infer Rest) => infer Result ? (...rest: Rest) => Result : never

/** The operations as methods. */
export type TensorMethods = { [Name in keyof typeof METHODS]: Method<(typeof METHODS)[Name]> }

for (const [name, operation] of Object.entries(METHODS)) {
  const apply = operation as (...operands: unknown[]) => unknown
  Object.defineProperty(Tensor.prototype, name, {
    value(this: Tensor, ...rest: unknown[]) {
      return apply(this, ...rest)
    },
    writable: true,
    configurable: true,
  })
}
