/**
 * One recorded program of a compiled function, with what has to hold for it to be run (*guards*) and how to run it: bind
 * the inputs, let the host effects happen, run, and hand out the results. The program on the device is freed when the
 * signature is dropped or collected.
 */

import type { ProgramInfo } from '../backend/backend.ts'
import { Node } from '../autograd/tape.ts'
import { type Device, defaultDevice } from '../device.ts'
import { type TilegradError, expected } from '../errors.ts'
import { sameShape } from '../shape.ts'
import { Tensor } from '../tensor.ts'
import type { Cell } from './cell.ts'
import { Fields } from './fields.ts'
import type { Recorder } from './record.ts'
import type { Capture, CellSource, Run, Source, Trace } from './trace.ts'
import { allOrNothing } from './tracing.ts'
import { Storage, Value } from './value.ts'

/** A result of the program: what it is, and the memory it shares. */
interface Output {
  readonly value: Value
  /** The storage of a value from outside, of which it is a view. */
  readonly view: Source | null
  /** Else a number: outputs with the same one share their memory. */
  readonly group: number
}

/** What a run leaves behind: its outputs, and what was there before and is handed on. */
interface Left {
  readonly outputs: readonly Value[]
  readonly passed: readonly Value[]
  /** Handles among the results, by number: a tensor that is returned twice is one tensor. */
  readonly handles: Tensor[]
  /** What cells hold from now on, by what the function has left there: two cells may hold one tensor. */
  readonly held: Map<Tensor, Tensor>
  /** What has been there before and stays: nobody else is to change or free it. */
  readonly staying: Set<Tensor>
}

/** Gives a value of a run. */
type Place = (left: Left) => Value

/** What becomes of a cell after a run. */
type Aftermath = (run: Run, left: Left) => void

/** Builds the result of the function. */
type Result = (left: Left) => unknown

interface CellGuard {
  readonly cell: CellSource
  readonly entry: Value | null
  /** The first of the guards whose cell held the same tensor: another one must not hold it. */
  readonly first: number
}

const programs = new FinalizationRegistry<{
  readonly recorder: Recorder | null
  readonly program: number
  readonly constants: readonly Value[]
}>(({ recorder, program, constants }) => {
  recorder?.release(program)
  for (const value of constants) value.recorder.finalise(value)
})

/** Whether a signature fits: it does, it does not now, or it never will again. */
export type Fit = 'yes' | 'no' | 'never'

/** A program that can be run again. */
export class Signature {
  readonly instructions: number
  /** What the device says of the program; `null` when there is nothing to compute. */
  readonly info: ProgramInfo | null
  /** Words of the program, for printing. */
  readonly code: Uint32Array
  runs = 0
  readonly #recorder: Recorder | null
  readonly #program: number
  readonly #captures: readonly Capture[]
  readonly #looked: readonly (readonly [Tensor, boolean])[]
  readonly #checks: readonly (() => void)[]
  readonly #cells: readonly CellGuard[]
  readonly #same: readonly (readonly [Source, Source])[]
  /** By argument: the tensor that it has to be, or `null`. */
  readonly #arguments: readonly (Tensor | null)[]
  /** Tensors from outside that no argument may be that collects a gradient. */
  readonly #outside: ReadonlySet<Tensor>
  /** The cells from outside: for the same reason. */
  readonly #outsideCells: ReadonlySet<Cell>
  readonly #defaultDevice: Device | null
  readonly #fields: Fields
  readonly #inputs: readonly Source[]
  readonly #changed: readonly number[]
  readonly #outputs: readonly Output[]
  readonly #groups: number
  readonly #passed: readonly Source[]
  readonly #effects: readonly ((run: Run) => void)[]
  readonly #scalars: readonly number[]
  readonly #aftermath: readonly Aftermath[]
  readonly #result: Result
  readonly #constants: readonly Value[]

  /**
   * Finishes a recording, which is still active.
   *
   * @param result what the function has returned
   * @param tensors the tensors among the arguments
   * @param title what people call the program
   */
  constructor(trace: Trace, result: unknown, tensors: readonly Tensor[], title: string) {
    const { code } = trace
    const outputs = new Outputs(trace)
    this.#result = outputs.result(result, 0)
    this.#aftermath = [
      ...outputs.aftermath(),
      ...trace.disposed().map(
        (i): Aftermath =>
          (run) =>
            run.tensors[i]!.dispose(),
      ),
    ]
    trace.arrange()
    this.#outputs = outputs.list
    this.#groups = outputs.groups
    this.#passed = outputs.passed
    for (const { value } of this.#outputs) code.output(value.register)
    this.#captures = [...trace.captures.values()]
    this.#looked = [...trace.looked]
    this.#checks = trace.checks
    // Those that the function has looked at.
    const looked = [...trace.cells.values()].filter(({ entry }) => entry !== undefined)
    this.#cells = looked.map(({ cell, entry, proxy }, i) => {
      const first = proxy === null ? i : looked.findIndex((other) => other.proxy === proxy)
      return { cell, entry: entry ?? null, first }
    })
    this.#same = [...trace.sources.values()].flatMap(([first, ...others]) =>
      others.map((other) => [first!, other] as const),
    )
    this.#arguments = tensors.map((tensor, i) => (trace.captured.has(i) ? tensor : null))
    this.#outside = new Set(trace.captures.keys())
    this.#outsideCells = new Set([...trace.cells].flatMap(([cell, { moves }]) => (moves ? [] : [cell])))
    this.#defaultDevice = trace.defaultDevice
    this.#fields = new Fields(trace.watched.keys())
    this.#inputs = trace.inputs.map((value) => trace.sources.get(value)![0]!)
    const changes = new Set(trace.changes)
    this.#changed = trace.inputs.flatMap((value, i) => (changes.has(value.storage) ? [i] : []))
    this.#effects = trace.effects
    this.#scalars = code.scalars
    this.#constants = trace.constants
    this.instructions = code.instructions
    this.code = code.words.slice()
    this.#recorder = trace.recorder
    if (trace.recorder === null) {
      this.info = null
      this.#program = -1
    } else {
      const { program, info } = trace.recorder.compile(this.code, title)
      this.#program = program
      this.info = info
    }
    const held = { recorder: trace.recorder, program: this.#program, constants: this.#constants }
    programs.register(this, held, this)
  }

  /** Whether the program still is what the function would do with these tensors. */
  fits(tensors: readonly Tensor[]): Fit {
    for (const { tensor, value } of this.#captures) if (tensor.heldValue !== value) return 'never'
    for (const [tensor, requiresGrad] of this.#looked) if (tensor.requiresGrad !== requiresGrad) return 'no'
    for (let i = 0; i < tensors.length; i++) {
      const wanted = this.#arguments[i]!
      if (wanted === null ? this.#isOutside(tensors[i]!) : wanted !== tensors[i]) return 'no'
    }
    const run: Run = { tensors, supplied: [], scalars: [] }
    if (!this.#fitCells(run)) return 'no'
    for (const [a, b] of this.#same) if (a(run) !== b(run)) return 'no'
    if (this.#defaultDevice !== null && this.#defaultDevice !== defaultDevice()) return 'no'
    return this.#fields.unchanged() ? 'yes' : 'no'
  }

  /** Whether cells hold what they did: nothing, or something alike, and the same tensor where they did. */
  #fitCells(run: Run): boolean {
    const found: (Tensor | null)[] = []
    const different = new Set<Tensor>()
    for (const { cell, entry, first } of this.#cells) {
      const { held } = cell(run)
      const value = held?.heldValue ?? null
      if ((value === null) !== (entry === null)) return false
      if (held !== null && value !== null && entry !== null) {
        if (!alike(value, entry)) return false
        if (first < found.length ? found[first] !== held : different.has(held)) return false
        different.add(held)
      }
      found.push(held)
    }
    return true
  }

  /** Whether the gradient of an argument is one that the function also reaches from outside. */
  #isOutside(tensor: Tensor): boolean {
    return tensor.requiresGrad && (this.#outside.has(tensor) || this.#outsideCells.has(tensor.gradientCell))
  }

  /** Runs the program and gives the function's result. What throws before it runs leaves everything as it was. */
  run(tensors: readonly Tensor[]): unknown {
    const run: Run = { tensors, supplied: [], scalars: this.#scalars.slice() }
    for (const check of this.#checks) check()
    // Whatever is pending was asked for before.
    this.#recorder?.settleWork()
    try {
      const left = allOrNothing(() => this.#start(run))
      this.runs++
      // Each receiver has an owner of its own; the one that a value starts with goes at the end.
      for (const value of left.passed) value.retain()
      for (const after of this.#aftermath) after(run, left)
      const result = this.#result(left)
      for (const value of left.passed) value.release()
      for (const value of left.outputs) value.release()
      return result
    } finally {
      for (const value of run.supplied) value.release()
    }
  }

  /** Lets the effects happen, binds and hands over. */
  #start(run: Run): Left {
    for (const effect of this.#effects) effect(run)
    const bound: Value[] = []
    const slots: number[] = []
    for (const source of this.#inputs) {
      const value = source(run)!
      bound.push(value)
      slots.push(value.slot)
    }
    // Asked for now: arguments may be disposed of, and cells hold something else, before they are handed on.
    const passed = this.#passed.map((source) => source(run)!)
    const groups: (Storage | undefined)[] = new Array<Storage | undefined>(this.#groups)
    const outputs: Value[] = []
    for (const { value, view, group } of this.#outputs) {
      const storage = view === null ? (groups[group] ??= new Storage()) : view(run)!.storage
      outputs.push(new Value(value.recorder, value.dtype, value.shape, storage))
    }
    if (this.#recorder !== null && this.#program >= 0) this.#recorder.run(this.#program, slots, outputs, run.scalars)
    for (const i of this.#changed) bound[i]!.storage.version++
    return { outputs, passed, handles: [], held: new Map(), staying: new Set() }
  }

  /** Frees the program. */
  drop(): void {
    programs.unregister(this)
    if (this.#recorder !== null) this.#recorder.release(this.#program)
    for (const value of this.#constants) value.release()
  }
}

/** Finds the outputs of a recording: what the function returns and what it leaves in cells. */
class Outputs {
  readonly list: Output[] = []
  groups = 0
  /** Where values come from that were there before and are handed on. */
  readonly passed: Source[] = []
  readonly #trace: Trace
  readonly #places = new Map<Value, Place>()
  readonly #returned = new Map<Tensor, Result>()
  readonly #storages = new Map<Storage, Pick<Output, 'view' | 'group'>>()

  constructor(trace: Trace) {
    this.#trace = trace
    for (const [value, [source]] of trace.sources) {
      if (!this.#storages.has(value.storage)) this.#storages.set(value.storage, { view: source!, group: -1 })
    }
  }

  /** How to build what a function has returned: tensors, and arrays and plain objects of them. */
  result(returned: unknown, depth: number): Result {
    if (returned instanceof Tensor) return this.#tensor(returned)
    if (typeof returned !== 'object' || returned === null) {
      if (typeof returned === 'function' || typeof returned === 'symbol') throw unfit(returned)
      return () => returned
    }
    if (depth > 8) throw unfit(returned)
    if (Array.isArray(returned)) {
      const parts = returned.map((part) => this.result(part, depth + 1))
      return (left) => parts.map((part) => part(left))
    }
    const prototype: unknown = Object.getPrototypeOf(returned)
    if (prototype !== Object.prototype && prototype !== null) throw unfit(returned)
    const parts = Object.entries(returned).map(([key, part]) => [key, this.result(part, depth + 1)] as const)
    return (left) => {
      const result = Object.create(prototype) as Record<string, unknown>
      for (const [key, part] of parts) result[key] = part(left)
      return result
    }
  }

  /** What has to happen to cells that the function has changed. */
  aftermath(): Aftermath[] {
    return [...this.#trace.cells.values()].flatMap((use) => {
      const { cell, proxy } = use
      const current = use.written === undefined ? proxy : use.written
      const value = current?.heldValue ?? null
      // The same handle, or one in place of a freed one, stays: it is the gradient of the same tensor, a step later.
      const freed = use.freed || (proxy?.disposed ?? false)
      const stays = current === proxy || freed
      if (current === null || value === null) {
        if (use.written === undefined && !freed) return []
        return [
          (run, left): void => {
            const found = cell(run)
            if (freed && found.held !== null && !left.staying.has(found.held)) found.held.dispose()
            found.held = null
          },
        ]
      }
      if (current === proxy && value === use.entry) return []
      const { device } = current
      const place = this.#place(current, value)
      return [
        (run, left): void => {
          const found = cell(run)
          const { held } = found
          const next = place(left)
          const before = held?.heldValue ?? null
          const free = held !== null && !left.staying.has(held)
          let here = left.held.get(current)
          if (here === undefined && free && stays && before !== null && alike(before, next)) {
            held.replaceValue(next.retain())
            left.staying.add(held)
            here = held
          }
          here ??= new Tensor(device, next.retain(), false)
          left.held.set(current, here)
          if (here === held) return
          if (freed && free) held.dispose()
          found.held = here
        },
      ]
    })
  }

  #tensor(tensor: Tensor): Result {
    const known = this.#returned.get(tensor)
    if (known !== undefined) return known
    const position = this.#returned.size
    const { device } = tensor
    const place = this.#place(tensor, tensor.value)
    // What backward() has been through needs no way back.
    const open = tensor.requiresGrad && !(tensor.node?.released ?? false)
    const make = (left: Left): Tensor => {
      const made = new Tensor(device, place(left).retain())
      if (open) {
        made.node = Node.compiled()
        made.requiresGrad = true
      }
      return made
    }
    const result: Result = (left) => (left.handles[position] ??= make(left))
    this.#returned.set(tensor, result)
    return result
  }

  #place(tensor: Tensor, value: Value): Place {
    const known = this.#places.get(value)
    if (known !== undefined) return known
    const sources = this.#trace.sources.get(value)
    let place: Place
    if (sources !== undefined) {
      const position = this.passed.push(sources[0]!) - 1
      place = ({ passed }) => passed[position]!
    } else {
      // A tensor of another device cannot have come from here: it would have been captured.
      this.#trace.enter(tensor.device.recorder)
      const position = this.list.length
      let where = this.#storages.get(value.storage)
      if (where === undefined) this.#storages.set(value.storage, (where = { view: null, group: this.groups++ }))
      this.list.push({ value, ...where })
      place = ({ outputs }) => outputs[position]!
    }
    this.#places.set(value, place)
    return place
  }
}

/** Whether one value can stand where the other does. */
function alike(a: Value, b: Value): boolean {
  return a.recorder === b.recorder && a.dtype === b.dtype && sameShape(a.shape, b.shape)
}

function unfit(returned: unknown): TilegradError {
  return expected('compile: the result of fn', 'tensors, numbers, and arrays and plain objects of them', returned)
}
