/** Training helpers. */

export { GradientAccumulator, type StepResult } from './accumulator.ts'
