/** Stochastic gradient descent, with momentum as PyTorch defines it: the velocity does not contain the learning rate. */

import { TilegradError, expected } from '../errors.ts'
import type { ParametersOrGroups, Rule } from './group.ts'
import { Optimizer } from './optimizer.ts'
import { type Schedule, atLeastZero } from './schedule.ts'

/** Options of {@link SGD}. */
export interface SGDOptions {
  /** Learning rate, or a function of the step. */
  readonly lr: number | Schedule
  /** Default 0. */
  readonly momentum?: number
  /** How much of the gradient is left out of the velocity after the first step. Default 0. */
  readonly dampening?: number
  /** Added to the gradient as weightDecay · p. Default 0. */
  readonly weightDecay?: number
  /** Nesterov's momentum; needs momentum > 0 and dampening 0. Default false. */
  readonly nesterov?: boolean
}

type Settings = Required<Omit<SGDOptions, 'lr'>>

const RULE: Rule<SGDOptions, Settings> = {
  name: 'SGD',
  op: 'sgd',
  options: { lr: true, momentum: true, dampening: true, weightDecay: true, nesterov: true },
  lr: undefined,
  settings({ momentum = 0, dampening = 0, weightDecay = 0, nesterov = false }) {
    atLeastZero('SGD: momentum', momentum)
    atLeastZero('SGD: weightDecay', weightDecay)
    if (typeof dampening !== 'number' || !Number.isFinite(dampening))
      throw expected('SGD: dampening', 'a finite number', dampening)
    if (typeof nesterov !== 'boolean') throw expected('SGD: nesterov', 'a boolean', nesterov)
    if (nesterov && !(momentum > 0 && dampening === 0)) {
      const found = `momentum ${momentum} and dampening ${dampening}`
      throw new TilegradError('ERR_ARGUMENT', `SGD: nesterov needs momentum > 0 and dampening 0, not ${found}`)
    }
    return { momentum, dampening, weightDecay, nesterov }
  },
  state: ({ momentum }) => [['momentum', momentum > 0]],
  attributes: ({ momentum, dampening, weightDecay, nesterov }, lr) => [lr, momentum, dampening, weightDecay, +nesterov],
}

/**
 * g += wd·p; v = first step ? g : μ·v + (1 − dampening)·g; p −= lr·(nesterov ? g + μ·v : v).
 *
 * @example
 * ```ts
 * import { nn, optim, randn } from 'tilegrad'
 * const model = new nn.Linear(4, 1)
 * const optimizer = new optim.SGD(model.parameters(), { lr: 0.1, momentum: 0.9 })
 * optimizer.zeroGrad()
 * model.forward(randn([8, 4])).square().mean().backward()
 * optimizer.step()
 * ```
 */
export class SGD extends Optimizer<SGDOptions> {
  /** @param parameters a list of parameters, or groups with options of their own */
  constructor(parameters: ParametersOrGroups<SGDOptions>, options: SGDOptions) {
    super(RULE, parameters, options)
  }
}
