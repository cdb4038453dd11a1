/**
 * The base of models. A module finds its parameters and submodules among its own fields, in the order they were assigned;
 * names follow PyTorch (`0.weight`). It does not know devices: parameters do.
 */

import { type Names, TilegradError, checkOptions, expected } from '../errors.ts'
import type { Watched } from '../program/trace.ts'
import { refuseTracing, tracing } from '../program/tracing.ts'
import { sameShape, showShape } from '../shape.ts'
import { Tensor } from '../tensor.ts'
import type { TypedArray } from '../dtype.ts'
import type { Shape } from '../shape.ts'
import { Parameter } from './parameter.ts'

/** One entry of a state: values with their shape. */
export interface StateEntry {
  readonly shape: Shape
  readonly data: TypedArray
}

/** Values by name, as `stateDict()` gives them. A null-prototype object, so any name is safe. */
export type StateDict = Record<string, StateEntry>

/**
 * A layer or a model: parameters, submodules and a `forward`. Extend it and assign parameters and modules to fields, or
 * arrays of them, whose elements are named as in PyTorch's `ModuleList`: `layers.0.weight`. `compile` records a function
 * anew when a field has changed of a module whose methods or getters it calls; private fields (`#x`), maps and sets, and
 * functions in fields it cannot see into.
 *
 * @example
 * ```ts
 * import { nn, randn, type Tensor } from 'tilegrad'
 * class Residual extends nn.Module {
 *   inner = new nn.Linear(8, 8, { activation: 'relu' })
 *   forward(x: Tensor): Tensor {
 *     return this.inner.forward(x).add(x)
 *   }
 * }
 * const model = new Residual()
 * console.log(model.forward(randn([2, 8])).shape, [...model.namedParameters().keys()]) // [2, 8] ['inner.weight', 'inner.bias']
 * ```
 */
export abstract class Module {
  /** Whether the module is in training mode; see {@link train} and {@link eval}. */
  training = true

  constructor() {
    observe(new.target.prototype)
  }

  /** Computes the output for a batch. */
  abstract forward(...inputs: Tensor[]): Tensor

  /** Every parameter, submodules' included, in order of definition; shared ones once. */
  parameters(): Parameter[] {
    return [...this.namedParameters().values()]
  }

  /** Parameters by name: `weight`, `0.bias`, `encoder.2.weight`. Shared ones under their first name. */
  namedParameters(): Map<string, Parameter> {
    const found = new Map<string, Parameter>()
    const seen = new Set<Parameter>()
    this.#walk('', (name, value) => {
      if (!(value instanceof Parameter) || seen.has(value)) return
      seen.add(value)
      found.set(name, value)
    })
    return found
  }

  /** Tensors that belong to the state but are not learned, such as running statistics, by name. */
  buffers(): Map<string, Tensor> {
    const found = new Map<string, Tensor>()
    this.#walk('', (name, value) => {
      if (value instanceof Tensor && !(value instanceof Parameter)) found.set(name, value)
    })
    return found
  }

  /** Direct submodules by field name; those in arrays as `layers.0`. */
  children(): Map<string, Module> {
    const found = new Map<string, Module>()
    for (const [name, value] of this.#fields()) if (value instanceof Module) found.set(name, value)
    return found
  }

  /** Switches to training mode, submodules included. */
  train(on = true): this {
    this.training = on
    for (const child of this.children().values()) child.train(on)
    return this
  }

  /** Switches to evaluation mode, submodules included. */
  eval(): this {
    return this.train(false)
  }

  /** A copy of all parameters and buffers on the host, by name. All reads start before the first is awaited, so it is one moment of training. */
  stateDict(): Promise<StateDict> {
    refuseTracing('reading a state', 'read it between the calls')
    return this.#read()
  }

  async #read(): Promise<StateDict> {
    const entries = [...this.namedParameters(), ...this.buffers()]
    const reads = entries.map(([, tensor]) => tensor.data())
    const state = Object.create(null) as StateDict
    for (const [i, data] of (await Promise.all(reads)).entries()) {
      const [name, tensor] = entries[i]!
      state[name] = { shape: tensor.shape, data }
    }
    return state
  }

  /**
   * Writes values into parameters and buffers. Nothing changes unless everything fits.
   *
   * @param options.strict default true: every name has to be on both sides
   * @throws `ERR_FORMAT` that lists missing, unexpected and mis-shaped names
   */
  loadStateDict(state: StateDict, options: { strict?: boolean } = {}): void {
    checkOptions('loadStateDict', options, { strict: true } satisfies Names<typeof options>)
    const { strict = true } = options
    if (typeof state !== 'object' || state === null)
      throw expected('loadStateDict: state', 'an object of entries by name', state)
    const own = new Map<string, Tensor>([...this.namedParameters(), ...this.buffers()])
    const given = new Set(Object.keys(state))
    const problems: string[] = []
    for (const [name, tensor] of own) {
      const entry = given.has(name) ? state[name] : undefined
      if (!given.has(name)) {
        if (strict) problems.push(`missing ${name}`)
      } else if (!isEntry(entry)) {
        problems.push(`${name} is no entry with shape and data`)
      } else if (!sameShape(entry.shape, tensor.shape)) {
        problems.push(`${name} is ${showShape(entry.shape)} instead of ${showShape(tensor.shape)}`)
      } else if (entry.data.length !== tensor.size) {
        problems.push(`${name} is ${showShape(entry.shape)} and has ${entry.data.length} values`)
      }
    }
    if (strict) for (const name of given) if (!own.has(name)) problems.push(`unexpected ${name}`)
    if (problems.length > 0) throw new TilegradError('ERR_FORMAT', `loadStateDict: ${problems.join('; ')}`)
    for (const [name, tensor] of own)
      if (given.has(name)) tensor.device.recorder.overwrite(tensor.value, state[name]!.data)
  }

  /** The fields, with arrays opened where they hold modules or parameters. */
  *#fields(): Generator<[string, unknown], void, undefined> {
    if (tracing() !== null) watch(this)
    for (const [name, value] of Object.entries(this) as [string, unknown][]) {
      if (!Array.isArray(value)) yield [name, value]
      else
        for (const [i, element] of (value as unknown[]).entries())
          if (element instanceof Module || element instanceof Parameter) yield [`${name}.${i}`, element]
    }
  }

  #walk(prefix: string, visit: (name: string, value: unknown) => void): void {
    for (const [name, value] of this.#fields()) {
      if (value instanceof Module) value.#walk(`${prefix}${name}.`, visit)
      else visit(prefix + name, value)
    }
  }
}

/** Classes whose methods tell the recording of a compiled function about their module. */
const observed = new WeakSet<object>()

/**
 * Lets every method and getter of a class and its bases say that it is called: a compiled function has to be recorded
 * anew when a module that it has been through has changed. Users call `forward` and methods of their own, so there is
 * no other place to notice it.
 */
function observe(prototype: Module): void {
  for (let at: object = prototype; at !== Module.prototype; at = Object.getPrototypeOf(at) as object) {
    if (observed.has(at)) return
    observed.add(at)
    for (const [name, own] of Object.entries(Object.getOwnPropertyDescriptors(at))) {
      if (name === 'constructor' || own.configurable !== true) continue
      for (const part of ['value', 'get'] as const) {
        const method: unknown = own[part]
        if (typeof method === 'function') Object.defineProperty(at, name, { ...own, [part]: observing(method) })
      }
    }
  }
}

/** The same, telling the recording first. Whatever it takes and gives goes through. */
function observing(method: Function): Function {
  const observed = function (this: Module, ...args: unknown[]): unknown {
    if (tracing() !== null && this instanceof Module) watch(this)
    return method.apply(this, args)
  }
  return Object.defineProperty(observed, 'name', { value: method.name })
}

/** Tells the recording about a module and those inside it. */
function watch(module: Module): void {
  if (tracing()?.watch(module as unknown as Watched) !== true) return
  for (const child of module.children().values()) watch(child)
}

/** A state may come out of a file, so its form is checked and not only its sizes. */
function isEntry(entry: StateEntry | undefined): entry is StateEntry {
  return Array.isArray(entry?.shape) && typeof entry.data?.length === 'number'
}
