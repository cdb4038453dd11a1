/** Training helpers. */

import '../ops/methods.ts'

export { GradientAccumulator, type StepResult } from './accumulator.ts'
