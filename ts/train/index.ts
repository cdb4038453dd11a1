/** Training helpers. */

import '../ops/methods.ts'

export {
  type AccumulationMode,
  type AccumulatorOptions,
  GradientAccumulator,
  type StepResult,
  type Window,
} from './accumulator.ts'
export { type UpdateBatchNormOptions, updateBatchNorm } from './update-batch-norm.ts'
