/** Layers, models and losses. */

import '../ops/methods.ts'

export {
  ELU,
  GELU,
  Heaviside,
  LeakyReLU,
  LogSoftmax,
  ReLU,
  Sigmoid,
  SiLU,
  Softmax,
  Softplus,
  Tanh,
} from './activation.ts'
export { Linear, type LinearLayerOptions } from './linear.ts'
export { Module, type StateDict, type StateEntry } from './module.ts'
export { Parameter } from './parameter.ts'
export { type LearnOptions, Perceptron } from './perceptron.ts'
export { Sequential } from './sequential.ts'
export { type CrossEntropyOptions, type Parts, type Reduced, type Reduction, crossEntropy, mse } from '../ops/loss.ts'
