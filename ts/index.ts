/** The public surface of tilegrad: re-exports, and the import that gives tensors their methods. */

import './ops/methods.ts'

export { customGrad, grad, valueAndGrad } from './autograd/functional.ts'
export { noGrad } from './autograd/tape.ts'
export type { BackendStats, DeviceKind, ProgramInfo } from './backend/backend.ts'
export type { AdapterInfo, AdapterLimits, DeviceInfo } from './backend/select.ts'
export {
  Device,
  type DeviceOptions,
  type DeviceStats,
  defaultDevice,
  devices,
  openDevice,
  setDefaultDevice,
} from './device.ts'
export type { AbortSignalLike, WaitOptions } from './deadline.ts'
export type { DataTypes, Dtype, TypedArray } from './dtype.ts'
export { type ErrorCode, TilegradError } from './errors.ts'
export {
  type ActivationName,
  elu,
  gelu,
  heaviside,
  leakyRelu,
  relu,
  sigmoid,
  silu,
  softplus,
  tanh,
} from './ops/activation.ts'
export { type NormOptions, logSumExp, norm } from './ops/aggregate.ts'
export type { Operand } from './ops/apply.ts'
export { split, squeeze, stack, unsqueeze } from './ops/arrange.ts'
export { type BatchNormOptions, batchNorm } from './ops/batch-norm.ts'
export type { Estimate } from './ops/batch-statistics.ts'
export { type AttentionMasks, type AttentionOptions, scaledDotProductAttention } from './ops/attention.ts'
export {
  type CreationOptions,
  type TensorData,
  arange,
  eye,
  full,
  ones,
  onesLike,
  rand,
  randn,
  tensor,
  zeros,
  zerosLike,
} from './ops/creation.ts'
export {
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
  where,
} from './ops/elementwise.ts'
export { type DropoutOptions, dropout } from './ops/dropout.ts'
export { type EmbeddingOptions, embedding } from './ops/embedding.ts'
export { type OneHotOptions, gather, oneHot, scatterAdd } from './ops/gather.ts'
export { type LinearOptions, linear } from './ops/linear.ts'
export { type MatmulOptions, matmul } from './ops/matmul.ts'
export {
  type GroupNormOptions,
  type LayerNormOptions,
  type RMSNormOptions,
  groupNorm,
  layerNorm,
  rmsNorm,
} from './ops/norm.ts'
export { type Axis, type ReduceOptions, argmax, argmin, max, mean, min, sum, variance } from './ops/reduce.ts'
export { type ScanOptions, cumprod, cumsum, prod } from './ops/scan.ts'
export { concat, expand, pad, reshape, slice, transpose } from './ops/shape.ts'
export { type SoftmaxOptions, logSoftmax, softmax } from './ops/softmax.ts'
export { type TopK, topK } from './ops/top-k.ts'
export {
  type CompileOptions,
  type CompileStats,
  type Compiled,
  type SignatureStats,
  compile,
} from './program/compile.ts'
export type { ChromeEvent, ChromeTrace } from './profile/chrome.ts'
export { type DeviceTime, type PickOptions, type PickedDevice, pickDevice } from './profile/pick.ts'
export { Profile, type ProfileEvent, type ProfileOptions, profile } from './profile/profile.ts'
export { manualSeed } from './random.ts'
export { RandomSite, type RandomState, type SiteState, randomState, setRandomState } from './random-site.ts'
export { Scalar, scalar } from './scalar.ts'
export { keep, scope } from './scope.ts'
export type { Shape } from './shape.ts'
export { type NestedArray, Tensor } from './tensor.ts'
export { Parameter } from './nn/parameter.ts'
export * as data from './data/index.ts'
export * as nn from './nn/index.ts'
export * as optim from './optim/index.ts'
export * as train from './train/index.ts'
