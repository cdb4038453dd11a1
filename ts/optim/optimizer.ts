/**
 * What optimisers share: groups, steps, state, and the gate that lets a step be decided on the device. A step is one
 * instruction per slab; nothing is read back.
 */

import { TilegradError, expected, show } from '../errors.ts'
import { hostEffect, refuseTracing, takeBack } from '../program/tracing.ts'
import { endWindow } from '../random-site.ts'
import type { Tensor } from '../tensor.ts'
import {
  type GroupOptions,
  type GroupState,
  ParameterGroup,
  type ParameterGroupOptions,
  type ParametersOrGroups,
  type Rule,
  optionsOfGroups,
  withDefaults,
} from './group.ts'
import type { Schedule } from './schedule.ts'

/** What decides on the device whether and how a step is applied. */
export interface StepGate {
  /** Every gradient is multiplied by this number of one element. */
  readonly scale?: Tensor
  /** Bool of one element: when false, parameters, state and step counters stay as they are. */
  readonly ok?: Tensor
}

/** The state of an optimiser: how many steps were attempted, and its groups. Plain data: what devices and slabs were is not part of it. */
export interface OptimizerState {
  readonly step: number
  readonly groups: readonly GroupState[]
}

/** The base of {@link SGD}, {@link Adam}, {@link AdamW} and {@link RMSprop}. */
export abstract class Optimizer<Options extends GroupOptions = GroupOptions> {
  readonly #rule: Rule<GroupOptions, unknown>
  readonly #defaults: Options
  readonly #groups: ParameterGroup[] = []
  /** Steps so far, those included that a gate has held back. */
  #step = 0

  /** @internal */
  protected constructor(rule: Rule<Options, unknown>, given: ParametersOrGroups<Options>, defaults: Options) {
    refuseTracing('making an optimiser', 'make it outside')
    this.#rule = rule
    const groups = optionsOfGroups(rule, given, defaults)
    this.#defaults = defaults
    this.#add(groups)
  }

  /** Adds groups whose parameters move only when nothing can fail any more: what cannot be made takes nothing over. */
  #add(options: readonly (Options & { params: readonly Tensor[] })[]): void {
    const known = new Set(this.#groups.flatMap(({ parameters }) => parameters))
    for (const { params } of options) {
      for (const p of new Set(params)) {
        if (known.has(p))
          throw expected(`${this.#rule.name}: parameters`, 'in one group each', 'one that is in two groups')
        known.add(p)
      }
    }
    const made = options.map((one) => new ParameterGroup(this.#rule, one))
    for (const group of made) group.takeOver()
    this.#groups.push(...made)
  }

  /** The groups of parameters, in the order in which they were given; one if there was a list of parameters. */
  get groups(): readonly ParameterGroup[] {
    return this.#groups
  }

  /** Learning rate of the next step: that of the first group. Setting it, to a number or a function of the step, sets it for all. */
  get lr(): number {
    return this.#groups[0]!.lr
  }

  set lr(lr: number | Schedule) {
    for (const group of this.#groups) group.lr = lr
  }

  /** Parameters that are updated: those that required a gradient when the optimiser was made. */
  get parameters(): Tensor[] {
    return this.#groups.flatMap(({ parameters }) => parameters)
  }

  /**
   * Adds a group of parameters, before the first step.
   *
   * @throws `ERR_ARGUMENT` after the first step: its state would not be as old as that of the others
   */
  addGroup(group: ParameterGroupOptions<Options>): void {
    refuseTracing('adding parameters to an optimiser', 'add them outside')
    const { name } = this.#rule
    if (this.#step > 0) {
      throw new TilegradError(
        'ERR_ARGUMENT',
        `${name}.addGroup: there have been ${this.#step} steps; add parameters before the first, or make another optimiser for them`,
      )
    }
    this.#add([withDefaults(this.#rule, group, this.#defaults)])
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
    const updates = this.#groups.map((group) => group.prepare())
    hostEffect(() => {
      // As with the rates: none is used unless all are rates.
      const step = this.#step
      const attempts = this.#groups.map((group) => group.attempt(step))
      for (const attempt of attempts) attempt()
      this.#step = step + 1
      takeBack(() => (this.#step = step))
    })
    for (const update of updates) update(gate.scale?.value ?? null, gate.ok?.value ?? null)
    hostEffect(endWindow)
  }

  /** Drops the gradients of all parameters. */
  zeroGrad(): void {
    for (const { parameters } of this.#groups) for (const p of parameters) p.clearGrad()
  }

  /** A copy of the state on the host, for {@link loadStateDict}. All reads start before the first is awaited, so it is one moment of training. */
  stateDict(): Promise<OptimizerState> {
    refuseTracing('reading a state', 'read it between the calls')
    return this.#read()
  }

  async #read(): Promise<OptimizerState> {
    const step = this.#step
    return { step, groups: await Promise.all(this.#groups.map((group) => group.read())) }
  }

  /**
   * Continues from a state of an optimiser of the same kind with the same groups. Settings other than learning rates
   * that are numbers stay as they are. Nothing changes unless all fits.
   *
   * @throws `ERR_FORMAT`; `ERR_ARGUMENT` for a learning rate that is none
   */
  loadStateDict(state: OptimizerState): void {
    refuseTracing('loading the state of an optimiser', 'load it between the calls')
    const mismatch = (why: string): TilegradError =>
      new TilegradError('ERR_FORMAT', `${this.#rule.name}: this state does not belong to these parameters: ${why}`)
    const given: readonly GroupState[] = Array.isArray(state?.groups) ? state.groups : []
    if (given.length !== this.#groups.length)
      throw mismatch(`it has ${given.length} groups instead of ${this.#groups.length}`)
    if (!Number.isSafeInteger(state.step) || state.step < 0)
      throw mismatch(`step should be a whole number, not ${show(state.step)}`)
    const writes = this.#groups.map((group, i) => group.restore(given[i]!, state.step, mismatch))
    for (const write of writes) write()
    this.#step = state.step
  }
}

/** @internal */
export function fraction(what: string, x: unknown): number {
  if (typeof x !== 'number' || !(x >= 0 && x < 1)) throw expected(what, 'a number from 0 to below 1', x)
  return x
}
