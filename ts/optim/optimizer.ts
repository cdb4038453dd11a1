/**
 * What optimisers share: slabs, the learning rate, state, and the gate that lets a step be decided on the device. A step
 * is one instruction per slab; nothing is read back.
 */

import { TilegradError, expected, show } from '../errors.ts'
import type { TypedArray } from '../dtype.ts'
import { hostEffect, refuseTracing, takeBack } from '../program/tracing.ts'
import type { Value } from '../program/value.ts'
import { Tensor } from '../tensor.ts'
import { Slab } from './slab.ts'

/** What decides on the device whether and how a step is applied. */
export interface StepGate {
  /** Every gradient is multiplied by this number of one element. */
  readonly scale?: Tensor
  /** Bool of one element: when false, parameters, state and step counters stay as they are. */
  readonly ok?: Tensor
}

/** A learning rate as a function of the step, counted from 0 by calls of {@link Optimizer.step}. It must give a finite number ≥ 0. */
export type Schedule = (step: number) => number

/** The state of an optimiser: the learning rate of the next step, how many steps there were and, per slab, named arrays. */
export interface OptimizerState {
  readonly lr: number
  readonly step: number
  readonly slabs: readonly Readonly<Record<string, TypedArray>>[]
}

/** The base of {@link SGD} and {@link AdamW}. */
export abstract class Optimizer {
  /** @internal */
  protected readonly slabs: readonly Slab[]
  readonly #name: string
  #lr: number | Schedule = 0
  /** Steps so far, those included that a gate has held back. */
  #step = 0
  /** The rate of the step that is being recorded or run. */
  #rate = 0

  /** @internal */
  protected constructor(name: string, parameters: Iterable<Tensor>, lr: number | Schedule) {
    this.#name = name
    if (typeof parameters !== 'object' || parameters === null || !(Symbol.iterator in parameters)) {
      throw expected(`${name}: parameters`, 'a list of parameters, such as model.parameters()', parameters)
    }
    const list = [...parameters]
    for (const p of list) if (!(p instanceof Tensor)) throw expected(`${name}: parameters`, 'tensors', p)
    if (list.length === 0) throw expected(`${name}: parameters`, 'at least one parameter', list)
    this.lr = lr
    this.slabs = Slab.group(name, list)
  }

  /** Learning rate of the next step. May be set between steps, to a number or to a function of the step. */
  get lr(): number {
    refuseTracing('reading a learning rate', 'give the optimiser a function of the step')
    return this.#lrAt(this.#step)
  }

  set lr(lr: number | Schedule) {
    refuseTracing('setting a learning rate', 'set it between the calls, or give the optimiser a function of the step')
    this.#lr = typeof lr === 'function' ? lr : atLeastZero(`${this.#name}: lr`, lr)
  }

  /** @internal The learning rate as an attribute: asked for anew in each run of a compiled function. */
  protected readonly rate = (): number => this.#rate

  #lrAt(step: number): number {
    return typeof this.#lr === 'function' ? atLeastZero(`${this.#name}: lr(${step})`, this.#lr(step)) : this.#lr
  }

  /** Parameters that are updated: those that required a gradient when the optimiser was made. */
  get parameters(): Tensor[] {
    return this.slabs.flatMap((slab) => slab.parameters)
  }

  /**
   * Updates every parameter that has a gradient; the others keep their values and state.
   *
   * @param gate decided on the device; used by `GradientAccumulator`
   * @throws `ERR_SHAPE`, `ERR_DTYPE`, `ERR_DEVICE_MISMATCH` when a gradient assigned by hand does not fit; `ERR_ARGUMENT`
   * when a later optimiser has taken over a parameter. Then no parameter changes
   */
  step(gate: StepGate = {}): void {
    // All are checked before the first is applied.
    const gradients = this.slabs.map((slab) => slab.gradients())
    hostEffect(() => {
      const step = this.#step
      this.#rate = this.#lrAt(step)
      this.#step = step + 1
      takeBack(() => (this.#step = step))
    })
    this.slabs.forEach((slab, i) => {
      const { values, segments } = gradients[i]!
      if (values.length > 0)
        this.update(slab, i, [gate.scale?.value ?? null, gate.ok?.value ?? null, ...values], segments)
    })
  }

  /** Drops the gradients of all parameters. */
  zeroGrad(): void {
    for (const slab of this.slabs) for (const p of slab.parameters) p.clearGrad()
  }

  /** A copy of the state on the host, for {@link loadStateDict}. */
  stateDict(): Promise<OptimizerState> {
    refuseTracing('reading a state', 'read it between the calls')
    return this.#read()
  }

  async #read(): Promise<OptimizerState> {
    const { lr } = this
    const step = this.#step
    const slabs = await Promise.all(
      this.slabs.map(async (slab, i) => {
        const state = Object.entries(this.state(slab, i))
        const reads = await Promise.all(state.map(([, tensor]) => tensor.data()))
        return Object.fromEntries(state.map(([name], j) => [name, reads[j]!]))
      }),
    )
    return { lr, step, slabs }
  }

  /**
   * Continues from a state of an optimiser of the same kind over the same parameters. Nothing changes unless all fits.
   *
   * @throws `ERR_FORMAT`; `ERR_ARGUMENT` for a learning rate that is none
   */
  loadStateDict(state: OptimizerState): void {
    refuseTracing('loading the state of an optimiser', 'load it between the calls')
    const mismatch = (why: string): TilegradError =>
      new TilegradError('ERR_FORMAT', `${this.#name}: this state does not belong to these parameters: ${why}`)
    if (!Array.isArray(state?.slabs) || state.slabs.length !== this.slabs.length)
      throw mismatch('the number of slabs differs')
    const lr = atLeastZero(`${this.#name}: lr`, state.lr)
    if (!Number.isSafeInteger(state.step) || state.step < 0)
      throw mismatch(`step should be a whole number, not ${show(state.step)}`)
    const writes: (() => void)[] = []
    this.slabs.forEach((slab, i) => {
      const given = state.slabs[i] ?? {}
      for (const [name, { value }] of Object.entries(this.state(slab, i))) {
        const data = Object.hasOwn(given, name) ? given[name] : undefined
        if (data?.length !== value.size)
          throw mismatch(`${name} should have ${value.size} elements, not ${data?.length ?? 'none'}`)
        writes.push(() => slab.device.recorder.overwrite(value, data))
      }
    })
    for (const write of writes) write()
    this.#step = state.step
    // A function of the step goes on from there; it is not part of the state.
    if (typeof this.#lr !== 'function') this.lr = lr
  }

  /** @internal Records the update of one slab; `operands` are scale, ok and the gradients. */
  protected abstract update(
    slab: Slab,
    index: number,
    operands: readonly (Value | null)[],
    segments: readonly number[],
  ): void

  /** @internal What has to be saved for one slab. */
  protected abstract state(slab: Slab, index: number): Record<string, Tensor>
}

/** @internal */
export function atLeastZero(what: string, x: unknown): number {
  if (typeof x !== 'number' || !(x >= 0 && Number.isFinite(x))) throw expected(what, 'a finite number ≥ 0', x)
  return x
}

/** @internal */
export function fraction(what: string, x: unknown): number {
  if (typeof x !== 'number' || !(x >= 0 && x < 1)) throw expected(what, 'a number from 0 to below 1', x)
  return x
}
