/** Stochastic gradient descent, with momentum as PyTorch defines it: the velocity does not contain the learning rate. */

import { checkOptions, expected } from '../errors.ts'
import type { Value } from '../program/value.ts'
import type { Tensor } from '../tensor.ts'
import { Optimizer, type Schedule, atLeastZero } from './optimizer.ts'
import type { Slab } from './slab.ts'

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
export class SGD extends Optimizer {
  readonly #momentum: number
  readonly #dampening: number
  readonly #weightDecay: number
  readonly #nesterov: boolean
  readonly #velocity: readonly (Tensor | null)[]

  constructor(parameters: Iterable<Tensor>, options: SGDOptions) {
    // Before the base moves the parameters: an optimiser that cannot be made takes nothing over.
    checkOptions('SGD', options)
    const { lr, momentum = 0, dampening = 0, weightDecay = 0, nesterov = false } = options
    atLeastZero('SGD: momentum', momentum)
    atLeastZero('SGD: weightDecay', weightDecay)
    if (typeof dampening !== 'number' || !Number.isFinite(dampening))
      throw expected('SGD: dampening', 'a finite number', dampening)
    if (nesterov && !(momentum > 0 && dampening === 0)) {
      throw expected('SGD: nesterov', 'used with momentum > 0 and dampening 0', { momentum, dampening })
    }
    super('SGD', parameters, lr)
    this.#momentum = momentum
    this.#dampening = dampening
    this.#weightDecay = weightDecay
    this.#nesterov = nesterov
    this.#velocity = this.slabs.map((slab) => (momentum > 0 ? slab.zeros() : null))
  }

  /** @internal */
  protected override update(
    slab: Slab,
    index: number,
    operands: readonly (Value | null)[],
    segments: readonly number[],
  ): void {
    slab.device.recorder.emitMany(
      'sgd',
      [slab.memory.value, this.#velocity[index]?.value ?? null, slab.steps.value, ...operands],
      [],
      [this.rate, this.#momentum, this.#dampening, this.#weightDecay, +this.#nesterov, segments],
    )
  }

  /** @internal */
  protected override state(slab: Slab, index: number): Record<string, Tensor> {
    const velocity = this.#velocity[index]
    return velocity == null ? { steps: slab.steps } : { steps: slab.steps, momentum: velocity }
  }
}
