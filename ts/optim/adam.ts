/** Adam (Kingma & Ba, 2015) and its variant AMSGrad (Reddi et al., 2018), as PyTorch defines them. */

import { expected } from '../errors.ts'
import type { ParametersOrGroups, Rule } from './group.ts'
import { Optimizer, fraction } from './optimizer.ts'
import { type Schedule, atLeastZero } from './schedule.ts'

/** Options of {@link Adam}. */
export interface AdamOptions {
  /** Learning rate, or a function of the step. Default 1e-3. */
  readonly lr?: number | Schedule
  /** Decay of the two moments. Default [0.9, 0.999]. */
  readonly betas?: readonly [number, number]
  /** Added to the root after bias correction. Default 1e-8. */
  readonly eps?: number
  /** Added to the gradient as weightDecay · p. Default 0. */
  readonly weightDecay?: number
  /** Divide by the largest second moment so far instead of the current one. Default false. */
  readonly amsgrad?: boolean
}

type Settings = Required<Omit<AdamOptions, 'lr'>>

/** @internal Adam, and with `decoupled` decay AdamW: one instruction. */
export function adamRule(name: string, decoupled: boolean, decay: number): Rule<AdamOptions, Settings> {
  return {
    name,
    op: 'adam',
    options: { lr: true, betas: true, eps: true, weightDecay: true, amsgrad: true },
    lr: 1e-3,
    settings({ betas = [0.9, 0.999], eps = 1e-8, weightDecay = decay, amsgrad = false }) {
      if (!Array.isArray(betas) || betas.length !== 2) throw expected(`${name}: betas`, 'two numbers', betas)
      fraction(`${name}: betas[0]`, betas[0])
      fraction(`${name}: betas[1]`, betas[1])
      atLeastZero(`${name}: eps`, eps)
      atLeastZero(`${name}: weightDecay`, weightDecay)
      if (typeof amsgrad !== 'boolean') throw expected(`${name}: amsgrad`, 'a boolean', amsgrad)
      return { betas: [betas[0], betas[1]], eps, weightDecay, amsgrad }
    },
    state: ({ amsgrad }) => [
      ['m', true],
      ['v', true],
      ['vMax', amsgrad],
    ],
    attributes: ({ betas, eps, weightDecay }, lr) => [lr, ...betas, eps, weightDecay, +decoupled],
  }
}

const RULE = adamRule('Adam', false, 0)

/**
 * g += wd·p; m = β₁m + (1 − β₁)g; v = β₂v + (1 − β₂)g²; p −= lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + eps), with `amsgrad`
 * the largest v so far in place of v. t counts the steps each parameter has received; it lives on the device.
 *
 * The decay goes through the moments (coupled L2). For decay of the weights themselves see {@link AdamW}.
 *
 * @example
 * ```ts
 * import { nn, optim, randn } from 'tilegrad'
 * const model = new nn.Linear(4, 1)
 * const optimizer = new optim.Adam(model.parameters(), { lr: 1e-2, amsgrad: true })
 * model.forward(randn([8, 4])).square().mean().backward()
 * optimizer.step()
 * ```
 */
export class Adam extends Optimizer<AdamOptions> {
  /** @param parameters a list of parameters, or groups with options of their own */
  constructor(parameters: ParametersOrGroups<AdamOptions>, options: AdamOptions = {}) {
    super(RULE, parameters, options)
  }
}
