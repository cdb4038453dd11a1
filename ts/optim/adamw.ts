/** Adam with decoupled weight decay (Loshchilov & Hutter, 2019), as PyTorch defines it. */

import { checkOptions, expected } from '../errors.ts'
import type { Value } from '../program/value.ts'
import type { Tensor } from '../tensor.ts'
import { Optimizer, type Schedule, atLeastZero, fraction } from './optimizer.ts'
import type { Slab } from './slab.ts'

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
}

/**
 * p ·= 1 − lr·wd; m = β₁m + (1 − β₁)g; v = β₂v + (1 − β₂)g²; p −= lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + eps).
 * t counts the steps each parameter has received; it lives on the device.
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
export class AdamW extends Optimizer {
  readonly #betas: readonly [number, number]
  readonly #eps: number
  readonly #weightDecay: number
  readonly #moments: readonly { readonly m: Tensor; readonly v: Tensor }[]

  constructor(parameters: Iterable<Tensor>, options: AdamWOptions = {}) {
    // Before the base moves the parameters: an optimiser that cannot be made takes nothing over.
    checkOptions('AdamW', options)
    const { lr = 1e-3, betas = [0.9, 0.999], eps = 1e-8, weightDecay = 1e-2 } = options
    if (!Array.isArray(betas) || betas.length !== 2) throw expected('AdamW: betas', 'two numbers', betas)
    const decays = [fraction('AdamW: betas[0]', betas[0]), fraction('AdamW: betas[1]', betas[1])] as const
    atLeastZero('AdamW: eps', eps)
    atLeastZero('AdamW: weightDecay', weightDecay)
    super('AdamW', parameters, lr)
    this.#betas = decays
    this.#eps = eps
    this.#weightDecay = weightDecay
    this.#moments = this.slabs.map((slab) => ({ m: slab.zeros(), v: slab.zeros() }))
  }

  /** @internal */
  protected override update(
    slab: Slab,
    index: number,
    operands: readonly (Value | null)[],
    segments: readonly number[],
  ): void {
    const { m, v } = this.#moments[index]!
    slab.device.recorder.emitMany(
      'adamw',
      [slab.memory.value, m.value, v.value, slab.steps.value, ...operands],
      [],
      [this.rate, ...this.#betas, this.#eps, this.#weightDecay, segments],
    )
  }

  /** @internal */
  protected override state(slab: Slab, index: number): Record<string, Tensor> {
    const { m, v } = this.#moments[index]!
    return { steps: slab.steps, m, v }
  }
}
