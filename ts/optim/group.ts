/**
 * Groups of parameters: each with a learning rate and settings of its own, in slabs of its own. What an optimiser does to
 * them is a {@link Rule}; the groups know which memory it is done to, and how that is saved and restored.
 */

import { type Names, type TilegradError, checkOptions, expected } from '../errors.ts'
import type { Attribute } from '../program/code.ts'
import type { OpcodeName } from '../program/opcodes.ts'
import { refuseTracing, takeBack } from '../program/tracing.ts'
import type { Value } from '../program/value.ts'
import { Tensor } from '../tensor.ts'
import { type Schedule, atLeastZero } from './schedule.ts'
import { type ParameterState, Slab } from './slab.ts'

/** What every optimiser takes, and every group may have for itself. */
export interface GroupOptions {
  /** Learning rate, or a function of the step. */
  readonly lr?: number | Schedule
}

/** Parameters with settings of their own; what is left out is as in the options of the optimiser. */
export type ParameterGroupOptions<Options extends GroupOptions> = Partial<Options> & {
  /** The parameters. */
  readonly params: Iterable<Tensor> | Tensor
}

/** What an optimiser updates: parameters, or groups of them. */
export type ParametersOrGroups<Options extends GroupOptions> =
  Iterable<Tensor> | Iterable<ParameterGroupOptions<Options>>

/** The state of one group: the learning rate of the next step, and its parameters in their order. */
export interface GroupState {
  readonly lr: number
  readonly parameters: readonly ParameterState[]
}

/** @internal An optimiser: its settings, what it remembers, and the instruction that updates a slab. */
export interface Rule<Options extends GroupOptions, Settings> {
  readonly name: string
  readonly op: OpcodeName
  /** The names of its options. */
  readonly options: Names<Options>
  /** The learning rate where there is none in the options. */
  readonly lr: number | undefined
  /** Checks the options of a group and fills in the defaults. */
  settings(options: Options): Settings
  /** Names of what is remembered of each element, in the order of the operands, and whether it is with these settings. */
  state(settings: Settings): readonly (readonly [name: string, present: boolean])[]
  /** All attributes but the segments. */
  attributes(settings: Settings, lr: Attribute): readonly Attribute[]
}

/** What groups have to know of a rule to be checked. */
interface Named {
  readonly name: string
  readonly options: Readonly<Record<string, true>>
}

/** @internal Which groups an optimiser was given, with the defaults in place of what they leave out. */
export function optionsOfGroups<Options extends GroupOptions>(
  { name, options }: Named,
  given: ParametersOrGroups<Options>,
  defaults: Options,
): (Options & { params: readonly Tensor[] })[] {
  checkOptions(name, defaults, options)
  if (typeof given !== 'object' || given === null || !(Symbol.iterator in given))
    throw expected(`${name}: parameters`, 'a list of parameters, such as model.parameters(), or of groups', given)
  const list: unknown[] = [...given]
  const groups = list.filter(isGroup)
  if (groups.length > 0 && groups.length < list.length)
    throw expected(`${name}: parameters`, 'a list of parameters or a list of groups, not of both', list)
  const all = (groups.length > 0 ? groups : [{ params: list }]).map((group) =>
    withDefaults({ name, options }, group, defaults),
  )
  if (all.every(({ params }) => params.length === 0))
    throw expected(`${name}: parameters`, 'at least one parameter', list)
  return all
}

function isGroup(x: unknown): x is { params: unknown } {
  return !(x instanceof Tensor) && typeof x === 'object' && x !== null && 'params' in x
}

/** @internal One group with the defaults. An option that is `undefined` is left out. */
export function withDefaults<Options extends GroupOptions>(
  { name, options }: Named,
  group: { readonly params: unknown },
  defaults: Options,
): Options & { params: readonly Tensor[] } {
  checkOptions(`${name}: group`, group, { params: true, ...options })
  const { params } = group
  const isList = typeof params === 'object' && params !== null && Symbol.iterator in params
  if (!isList && !(params instanceof Tensor)) throw expected(`${name}: params`, 'a list of parameters', params)
  const list: unknown[] = isList ? [...(params as Iterable<unknown>)] : [params]
  for (const p of list) if (!(p instanceof Tensor)) throw expected(`${name}: parameters`, 'tensors', p)
  const own = Object.fromEntries(Object.entries(group).filter(([, value]) => value !== undefined))
  return { ...defaults, ...own, params: list as readonly Tensor[] }
}

/**
 * Parameters that are updated with the same settings. Made by the optimiser; its `groups` list them.
 *
 * @example
 * ```ts
 * import { nn, optim } from 'tilegrad'
 * const [body, head] = [new nn.Linear(8, 8), new nn.Linear(8, 2)]
 * const optimizer = new optim.AdamW(
 *   [{ params: body.parameters(), lr: 1e-4 }, { params: head.parameters(), weightDecay: 0 }],
 *   { lr: 1e-3 },
 * )
 * optimizer.groups[0]!.lr = 1e-5
 * console.log(optimizer.groups.map(({ lr }) => lr)) // [1e-5, 1e-3]
 * ```
 */
export class ParameterGroup {
  /** Those that are updated: the given ones that required a gradient when the group was made, in their order. */
  readonly parameters: readonly Tensor[]
  readonly #name: string
  readonly #op: OpcodeName
  readonly #slabs: readonly Slab[]
  /** For each slab, what is remembered of its elements, by name. */
  readonly #arrays: readonly (readonly [string, Tensor | null])[][]
  readonly #attributes: readonly Attribute[]
  #lr: number | Schedule
  /** Steps attempted so far. */
  #step = 0
  /** The rate of the step that is being recorded or run. */
  #rate = 0

  /** @internal Allocates all memory; the parameters move only with {@link takeOver}. `step`: those attempted so far. */
  constructor(rule: Rule<GroupOptions, unknown>, options: GroupOptions & { params: readonly Tensor[] }) {
    this.#name = rule.name
    this.#op = rule.op
    this.#lr = this.#checkRate(options.lr === undefined ? rule.lr : options.lr)
    const settings = rule.settings(options)
    // A function: asked for anew in each run of a compiled function.
    this.#attributes = rule.attributes(settings, () => this.#rate)
    this.#slabs = Slab.group(rule.name, options.params)
    this.#arrays = this.#slabs.map((slab) =>
      rule.state(settings).map(([name, present]) => [name, present ? slab.zeros() : null] as const),
    )
    const updated = new Set(this.#slabs.flatMap((slab) => slab.parameters))
    this.parameters = [...new Set(options.params)].filter((p) => updated.has(p))
  }

  /** Learning rate of the next step. May be set between steps, to a number or to a function of the step. */
  get lr(): number {
    refuseTracing('reading a learning rate', 'give the optimiser a function of the step')
    return this.#lrAt(this.#step)
  }

  set lr(lr: number | Schedule) {
    refuseTracing('setting a learning rate', 'set it between the calls, or give the optimiser a function of the step')
    this.#lr = this.#checkRate(lr)
  }

  #checkRate(lr: unknown): number | Schedule {
    return typeof lr === 'function' ? (lr as Schedule) : atLeastZero(`${this.#name}: lr`, lr)
  }

  #lrAt(step: number): number {
    return typeof this.#lr === 'function' ? atLeastZero(`${this.#name}: lr(${step})`, this.#lr(step)) : this.#lr
  }

  /** @internal Moves the parameters into the slabs. */
  takeOver(): void {
    for (const slab of this.#slabs) slab.takeOver()
  }

  /** @internal The rate of a step, and what has to happen for it to be the one that is used. */
  attempt(step: number): () => void {
    const rate = this.#lrAt(step)
    return () => {
      this.#rate = rate
      this.#step = step + 1
      takeBack(() => (this.#step = step))
    }
  }

  /** @internal Checks the gradients that are there; what comes back records the updates. */
  prepare(): (scale: Value | null, ok: Value | null) => void {
    const gradients = this.#slabs.map((slab) => slab.gradients())
    return (scale, ok) => {
      this.#slabs.forEach((slab, i) => {
        const { values, segments } = gradients[i]!
        if (values.length === 0) return
        const arrays = this.#arrays[i]!.map(([, tensor]) => tensor?.value ?? null)
        slab.device.recorder.emitMany(
          this.#op,
          [slab.memory.value, ...arrays, slab.steps.value, scale, ok, ...values],
          [],
          [...this.#attributes, segments],
        )
      })
    }
  }

  /** @internal A copy of the state on the host. Every read starts before the first is awaited. */
  async read(): Promise<GroupState> {
    const lr = this.#lrAt(this.#step)
    const states = new Map<Tensor, ParameterState>()
    await Promise.all(
      this.#slabs.map(async (slab, i) => {
        const all = await slab.read(this.#arrays[i]!)
        slab.parameters.forEach((p, j) => states.set(p, all[j]!))
      }),
    )
    return { lr, parameters: this.parameters.map((p) => states.get(p)!) }
  }

  /** @internal Checks a state, throwing what `mismatch` makes; what comes back writes it. */
  restore(state: GroupState, step: number, mismatch: (why: string) => TilegradError): () => void {
    const lr = atLeastZero(`${this.#name}: lr`, state?.lr)
    const given: readonly unknown[] = Array.isArray(state.parameters) ? state.parameters : []
    if (given.length !== this.parameters.length)
      throw mismatch(`a group has ${given.length} parameters instead of ${this.parameters.length}`)
    const states = new Map(this.parameters.map((p, i) => [p, given[i] as ParameterState | null | undefined]))
    const writes = this.#slabs.map((slab, i) => {
      const own = slab.parameters.map((p) => states.get(p))
      return slab.restore(own, this.#arrays[i]!, mismatch)
    })
    return () => {
      for (const write of writes) write()
      this.#step = step
      // A function of the step goes on from there; it is not part of the state.
      if (typeof this.#lr !== 'function') this.#lr = lr
    }
  }
}
