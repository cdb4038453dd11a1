/** Adam with decoupled weight decay (Loshchilov & Hutter, 2019), as PyTorch defines it. */

import { adamRule } from './adam.ts'
import type { ParametersOrGroups } from './group.ts'
import { Optimizer } from './optimizer.ts'
import type { Schedule } from './schedule.ts'

/** Options of {@link AdamW}. */
export interface AdamWOptions {
  /** Learning rate, or a function of the step. Default 1e-3. */
  readonly lr?: number | Schedule
  /** Decay of the two moments. Default [0.9, 0.999]. */
  readonly betas?: readonly [number, number]
  /** Added to the root after bias correction. Default 1e-8. */
  readonly eps?: number
  /** Parameters shrink by lr · weightDecay before each update. Default 0.01. */
  readonly weightDecay?: number
  /** Divide by the largest second moment so far instead of the current one. Default false. */
  readonly amsgrad?: boolean
}

const RULE = adamRule('AdamW', true, 1e-2)

/**
 * p ·= 1 − lr·wd; m = β₁m + (1 − β₁)g; v = β₂v + (1 − β₂)g²; p −= lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + eps), with
 * `amsgrad` the largest v so far in place of v. t counts the steps each parameter has received; it lives on the device.
 *
 * @example
 * ```ts
 * import { nn, optim, randn } from 'tilegrad'
 * const model = new nn.Linear(4, 1)
 * const optimizer = new optim.AdamW(model.parameters(), { lr: 1e-2 })
 * model.forward(randn([8, 4])).square().mean().backward()
 * optimizer.step()
 * ```
 */
export class AdamW extends Optimizer<AdamWOptions> {
  /** @param parameters a list of parameters, or groups with options of their own */
  constructor(parameters: ParametersOrGroups<AdamWOptions>, options: AdamWOptions = {}) {
    super(RULE, parameters, options)
  }
}
