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
export { MultiHeadAttention, type MultiHeadAttentionOptions, type MultiHeadMasks } from './attention.ts'
export { BatchNorm, type BatchNormLayerOptions } from './batch-norm.ts'
export { Dropout } from './dropout.ts'
export { Embedding, type EmbeddingLayerOptions } from './embedding.ts'
export { Linear, type LinearLayerOptions } from './linear.ts'
export { Module, type StateDict, type StateEntry } from './module.ts'
export {
  GroupNorm,
  type GroupNormLayerOptions,
  LayerNorm,
  type LayerNormLayerOptions,
  RMSNorm,
  type RMSNormLayerOptions,
} from './norm.ts'
export { Parameter } from './parameter.ts'
export { type LearnOptions, Perceptron } from './perceptron.ts'
export { Sequential } from './sequential.ts'
export { bceWithLogits } from '../ops/loss/bce-with-logits.ts'
export { type ClassLossOptions } from '../ops/loss/class-targets.ts'
export { type CrossEntropyOptions, crossEntropy } from '../ops/loss/cross-entropy.ts'
export { nll } from '../ops/loss/nll.ts'
export { type EmptyMask, type LossOptions, type Parts, type Reduced, type Reduction } from '../ops/loss/reduction.ts'
export { type HuberOptions, huber, mae, mse } from '../ops/loss/regression.ts'
