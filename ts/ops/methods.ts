/**
 * Every operation whose first operand is a tensor, as a method of `Tensor`: `x.add(y)` is `add(x, y)`. One list gives
 * the types, the documentation and the methods; the functions themselves are where they are defined. Importing this file
 * adds them. Every entry of the package does, because any one may be the only one that a program imports.
 */

import { Tensor } from '../tensor.ts'
import * as activation from './activation.ts'
import * as aggregate from './aggregate.ts'
import * as arrange from './arrange.ts'
import * as batchNorm from './batch-norm.ts'
import * as dropout from './dropout.ts'
import * as elementwise from './elementwise.ts'
import * as gather from './gather.ts'
import * as linear from './linear.ts'
import * as matmul from './matmul.ts'
import * as norm from './norm.ts'
import * as reduce from './reduce.ts'
import * as scan from './scan.ts'
import * as shape from './shape.ts'
import * as softmax from './softmax.ts'
import * as topK from './top-k.ts'

// Types of whole modules, and not of an object made here: the methods then keep the functions' documentation.
type Operations = typeof activation &
  typeof aggregate &
  typeof arrange &
  Pick<typeof batchNorm, 'batchNorm'> &
  Pick<typeof dropout, 'dropout'> &
  typeof elementwise &
  typeof gather &
  typeof linear &
  typeof matmul &
  typeof norm &
  typeof reduce &
  typeof scan &
  typeof shape &
  typeof softmax &
  typeof topK

const METHODS = [
  'abs',
  'add',
  'argmax',
  'argmin',
  'batchNorm',
  'cast',
  'ceil',
  'clip',
  'cumprod',
  'cumsum',
  'div',
  'dropout',
  'elu',
  'equal',
  'erf',
  'exp',
  'expand',
  'expm1',
  'floor',
  'gather',
  'gelu',
  'greater',
  'greaterEqual',
  'groupNorm',
  'heaviside',
  'isFinite',
  'layerNorm',
  'leakyRelu',
  'less',
  'lessEqual',
  'linear',
  'log',
  'log1p',
  'logSoftmax',
  'logSumExp',
  'logicalAnd',
  'logicalNot',
  'logicalOr',
  'matmul',
  'max',
  'maximum',
  'mean',
  'min',
  'minimum',
  'mul',
  'neg',
  'norm',
  'notEqual',
  'oneHot',
  'pad',
  'pow',
  'prod',
  'reciprocal',
  'relu',
  'reshape',
  'rmsNorm',
  'rsqrt',
  'sigmoid',
  'sign',
  'silu',
  'slice',
  'softmax',
  'softplus',
  'split',
  'sqrt',
  'square',
  'squeeze',
  'sub',
  'sum',
  'tanh',
  'topK',
  'transpose',
  'unsqueeze',
  'variance',
] as const satisfies readonly (keyof Operations)[]

type Chosen = Pick<Operations, (typeof METHODS)[number]>

type Method<F> = F extends (first: never, ...rest: infer Rest) => infer Result ? (...rest: Rest) => Result : never

/** The operations as methods. */
export type TensorMethods = { [Name in keyof Chosen]: Method<Chosen[Name]> }

const operations: Operations = {
  ...activation,
  ...aggregate,
  ...arrange,
  ...batchNorm,
  ...dropout,
  ...elementwise,
  ...gather,
  ...linear,
  ...matmul,
  ...norm,
  ...reduce,
  ...scan,
  ...shape,
  ...softmax,
  ...topK,
}

for (const name of METHODS) {
  const apply = operations[name] as (...operands: unknown[]) => unknown
  Object.defineProperty(Tensor.prototype, name, {
    value(this: Tensor, ...rest: unknown[]) {
      return apply(this, ...rest)
    },
    writable: true,
    configurable: true,
  })
}
