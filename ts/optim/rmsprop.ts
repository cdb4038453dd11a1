/** RMSprop (Hinton, 2012), plain, centered (Graves, 2013) and with momentum, as PyTorch defines it. */

import { expected } from '../errors.ts'
import type { ParametersOrGroups, Rule } from './group.ts'
import { Optimizer, fraction } from './optimizer.ts'
import { type Schedule, atLeastZero } from './schedule.ts'

/** Options of {@link RMSprop}. */
export interface RMSpropOptions {
  /** Learning rate, or a function of the step. Default 1e-2. */
  readonly lr?: number | Schedule
  /** Decay of the averages. Default 0.99. */
  readonly alpha?: number
  /** Added to the root. Default 1e-8. */
  readonly eps?: number
  /** Added to the gradient as weightDecay · p. Default 0. */
  readonly weightDecay?: number
  /** Default 0. */
  readonly momentum?: number
  /** Divide by the deviation from the mean gradient instead of its size. Default false. */
  readonly centered?: boolean
}

type Settings = Required<Omit<RMSpropOptions, 'lr'>>

const RULE: Rule<RMSpropOptions, Settings> = {
  name: 'RMSprop',
  op: 'rmsprop',
  options: { lr: true, alpha: true, eps: true, weightDecay: true, momentum: true, centered: true },
  lr: 1e-2,
  settings({ alpha = 0.99, eps = 1e-8, weightDecay = 0, momentum = 0, centered = false }) {
    fraction('RMSprop: alpha', alpha)
    atLeastZero('RMSprop: eps', eps)
    atLeastZero('RMSprop: weightDecay', weightDecay)
    atLeastZero('RMSprop: momentum', momentum)
    if (typeof centered !== 'boolean') throw expected('RMSprop: centered', 'a boolean', centered)
    return { alpha, eps, weightDecay, momentum, centered }
  },
  state: ({ momentum, centered }) => [
    ['v', true],
    ['mean', centered],
    ['momentum', momentum > 0],
  ],
  attributes: ({ alpha, eps, weightDecay, momentum }, lr) => [lr, alpha, eps, weightDecay, momentum],
}

/**
 * g += wd·p; v = αv + (1 − α)g²; d = g / (√v + eps), `centered` with a = αa + (1 − α)g and v − a² (at least 0) in place of
 * v; with momentum b = μb + d and p −= lr·b, else p −= lr·d.
 *
 * @example
 * ```ts
 * import { nn, optim, randn } from 'tilegrad'
 * const model = new nn.Linear(4, 1)
 * const optimizer = new optim.RMSprop(model.parameters(), { lr: 1e-3, momentum: 0.9, centered: true })
 * model.forward(randn([8, 4])).square().mean().backward()
 * optimizer.step()
 * ```
 */
export class RMSprop extends Optimizer<RMSpropOptions> {
  /** @param parameters a list of parameters, or groups with options of their own */
  constructor(parameters: ParametersOrGroups<RMSpropOptions>, options: RMSpropOptions = {}) {
    super(RULE, parameters, options)
  }
}
