/** Optimisers, learning rates, clipping and averages of weights. */

import '../ops/methods.ts'

export { Adam, type AdamOptions } from './adam.ts'
export { AdamW, type AdamWOptions } from './adamw.ts'
export { type ClipGradNormOptions, clipGradNorm, clipGradValue } from './clip.ts'
export { type NoDecayOptions, noDecayOnBiasAndNorm } from './decay.ts'
export { EMA, type EMAOptions, type EMAState, type Weights } from './ema.ts'
export type { GroupOptions, GroupState, ParameterGroup, ParameterGroupOptions, ParametersOrGroups } from './group.ts'
export { Optimizer, type OptimizerState, type StepGate } from './optimizer.ts'
export { RMSprop, type RMSpropOptions } from './rmsprop.ts'
export {
  type Schedule,
  constant,
  exponential,
  linearWarmup,
  scaleLearningRate,
  sequential,
  step,
  warmupCosine,
} from './schedule.ts'
export { SGD, type SGDOptions } from './sgd.ts'
export type { ParameterState } from './slab.ts'
