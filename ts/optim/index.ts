/** Optimisers. */

import '../ops/methods.ts'

export { AdamW, type AdamWOptions } from './adamw.ts'
export { Optimizer, type OptimizerState, type Schedule, type StepGate } from './optimizer.ts'
export { SGD, type SGDOptions } from './sgd.ts'
