/**
 * The recording of one function for `compile`. Operations write their instructions into the trace's own code instead of
 * the device's stream, so nothing is computed. What the function touches outside itself is noted:
 *
 * - tensors from outside become inputs of the program, and are looked at before each run (*captures*);
 * - places that hold a tensor from run to run, gradients above all, are read and replaced through {@link Cell};
 * - what happens on the host in each run (learning rates, random counters) is kept as *effects*, and done by no recording;
 * - modules are remembered with their fields, because another field may mean another program.
 *
 * A recording changes nothing outside: whatever goes wrong, it can be dropped. What a finished one means for each run is
 * `signature.ts`.
 */

import { type Node, nodeCount, nodeOf } from '../autograd/tape.ts'
import type { Device } from '../device.ts'
import { TilegradError } from '../errors.ts'
import { Tensor } from '../tensor.ts'
import type { Cell } from './cell.ts'
import { Code } from './code.ts'
import { Fields } from './fields.ts'
import type { Recorder } from './record.ts'
import type { Storage, Value } from './value.ts'

/** What one run is given: the tensors among its arguments, and what has been supplied for it. */
export interface Run {
  readonly tensors: readonly Tensor[]
  readonly supplied: Value[]
  readonly scalars: number[]
}

/** Where a value comes from in a run. */
export type Source = (run: Run) => Value | null

/** Finds a cell in a run: that of an argument is another one each time. */
export type CellSource = (run: Run) => Cell

/** What the function does with a cell. */
export interface CellUse {
  readonly cell: CellSource
  /** Whether it is another cell in each run. */
  readonly moves: boolean
  /**
   * The value that was there, and is an input; `null` for nothing, and `undefined` as long as the function has not looked:
   * then it does not matter.
   */
  entry: Value | null | undefined
  /** The function's handle on the entry. */
  proxy: Tensor | null
  /** What the function has put there; `undefined` for nothing yet. */
  written: Tensor | null | undefined
  /** Whether the tensor that was there has been freed. */
  freed: boolean
}

/** A tensor from outside, as it was when the function was recorded. */
export interface Capture {
  readonly tensor: Tensor
  readonly value: Value
}

/** An object whose fields a recording has depended on. */
export type Watched = Readonly<Record<string, unknown>>

/** One recording. */
export class Trace {
  readonly code: Code
  readonly captures = new Map<Tensor, Capture>()
  readonly cells = new Map<Cell, CellUse>()
  /** Sources by value; the first is the one that is bound, the others must give the same. */
  readonly sources = new Map<Value, Source[]>()
  /** Values of the inputs, in order. */
  readonly inputs: Value[] = []
  /** Values that were made from host data while recording: the same in each run. */
  readonly constants: Value[] = []
  /** What happens on the host in each run, in order. */
  readonly effects: ((run: Run) => void)[] = []
  /** Modules that the function went through, with their fields as they were before. */
  readonly watched = new Map<Watched, Fields>()
  /** Storages that are changed in place, as often as they are. */
  readonly changes: Storage[] = []
  /** Tensors from outside by whether they required a gradient when the function looked: it may use none of their values. */
  readonly looked = new Map<Tensor, boolean>()
  /** Checked before each run has any effect; they throw. */
  readonly checks: (() => void)[] = []
  /** Arguments that are also used from outside. */
  readonly captured = new Set<number>()
  /** The default device, if the function has asked for it. */
  defaultDevice: Device | null = null
  readonly #name: string
  #arguments: readonly Tensor[]
  #proxies: readonly Tensor[]
  readonly #inside = new Set<Tensor>()
  /** Handles of the function's own on tensors from outside. */
  readonly #standIns = new Set<Tensor>()
  /** Values that are used before they are defined, with what they stand for. */
  readonly #late = new Map<Value, Value | null>()
  /** The function's handles on what cells hold: one that two of them hold is one inside, too. */
  readonly #entries = new Map<Tensor, Tensor>()
  readonly #firstNode = nodeCount()
  #recorder: Recorder | null = null
  #supplies = 0
  #failure: TilegradError | null = null

  /**
   * @param name of the function, for texts
   * @param tensors the tensors among the arguments
   */
  constructor(name: string, tensors: readonly Tensor[]) {
    this.#name = name
    this.#arguments = tensors
    this.code = new Code(this)
    this.#proxies = tensors.map((tensor) => {
      const proxy = this.#proxy(tensor)
      proxy.node = tensor.node
      if (tensor.node === null) proxy.leaf = nodeOf(tensor)
      proxy.requiresGrad = tensor.requiresGrad
      return proxy
    })
    tensors.forEach((tensor, i) => this.#offer(tensor.value, (run) => run.tensors[i]!.value))
  }

  /** What the function gets in place of the tensors. */
  get proxies(): readonly Tensor[] {
    return this.#proxies
  }

  /** The recorder of the device that the function computes on; `null` while it has not computed anything. */
  get recorder(): Recorder | null {
    return this.#recorder
  }

  /** Throws what the function was refused, should it have caught the error. */
  check(): void {
    if (this.#failure !== null) throw this.#failure
  }

  /** The error for what a recorded function must not do. */
  refusal(what: string, instead: string): TilegradError {
    this.#failure ??= new TilegradError(
      'ERR_TRACE',
      `compile(${this.#name}): ${what} is not possible inside: the function runs only while it is recorded; ${instead}`,
    )
    return this.#failure
  }

  /** Where a recorder writes its instructions. The first one decides on the device. */
  enter(recorder: Recorder): Code {
    if (this.#recorder === null) {
      // What is pending was asked for before, and captured tensors may be among its results.
      recorder.settle()
      this.#recorder = recorder
    }
    if (this.#recorder !== recorder) {
      throw new TilegradError(
        'ERR_DEVICE_MISMATCH',
        `compile(${this.#name}): a compiled function computes on one device, but this one uses ${this.#recorder.backend.kind} and ${recorder.backend.kind}; compile one function for each`,
      )
    }
    return this.code
  }

  /** The function has asked for the default device. */
  relyOn(device: Device): void {
    this.defaultDevice = device
  }

  /** A tensor has been made. */
  made(tensor: Tensor): void {
    this.#inside.add(tensor)
  }

  /** Whether a tensor is the function's own. */
  owns(tensor: Tensor): boolean {
    return this.#inside.has(tensor)
  }

  /** Whether a tensor stands for one from outside: what is done to it would have to be done to that one. */
  standsIn(tensor: Tensor): boolean {
    return this.#standIns.has(tensor)
  }

  /** What the function has in place of a tensor: for an argument its stand-in, else the tensor itself. */
  standIn(tensor: Tensor): Tensor {
    return this.#proxies[this.#arguments.indexOf(tensor)] ?? tensor
  }

  /** The function looks whether a tensor requires a gradient. */
  look(tensor: Tensor, requiresGrad: boolean): void {
    if (!this.#inside.has(tensor)) this.looked.set(tensor, requiresGrad)
  }

  /** A tensor's value is being used. */
  touch(tensor: Tensor, value: Value): void {
    if (this.#inside.has(tensor) || this.captures.has(tensor)) return
    this.captures.set(tensor, { tensor, value })
    // Whether gradients flow decides what the function does with it.
    void tensor.requiresGrad
    this.#offer(value, () => value)
    this.#reached(tensor)
  }

  /** Throws for a node of a graph that was there before: its gradients would be taken once, not in each run. */
  checkNode(node: Node): void {
    if (node.leaf !== null || node.id >= this.#firstNode) return
    throw this.refusal(
      'backward() through a tensor that was computed outside',
      'compile the whole step, or detach() the tensor',
    )
  }

  /** The cell with the gradient of a tensor from outside, or of the one that an argument stands for; `null` for others. */
  gradient(tensor: Tensor): Cell | null {
    const proxy = this.#proxies.indexOf(tensor)
    if (proxy < 0 && this.#inside.has(tensor)) return null
    const argument = proxy < 0 ? this.#reached(tensor) : proxy
    if (argument < 0) return tensor.gradientCell
    const cell = this.#arguments[argument]!.gradientCell
    this.#use(cell, (run) => run.tensors[argument]!.gradientCell)
    return cell
  }

  /** What a cell holds. */
  read(cell: Cell): Tensor | null {
    const use = this.#use(cell)
    if (use.written !== undefined) return use.written
    if (use.entry === undefined) {
      const { held } = cell
      const entry = held?.heldValue ?? null
      use.entry = entry
      if (held !== null && entry !== null) {
        use.proxy = this.#entries.get(held) ?? this.#proxy(held)
        this.#entries.set(held, use.proxy)
        this.#offer(entry, (run) => use.cell(run).held?.heldValue ?? null)
      }
    }
    return use.proxy
  }

  /** Replaces what a cell holds. */
  write(cell: Cell, tensor: Tensor | null): void {
    // One from outside has to be known, so that each run finds it.
    const value = tensor?.heldValue ?? null
    if (value !== null) this.touch(tensor!, value)
    this.#use(cell).written = tensor
  }

  /** Frees what a cell holds. */
  clear(cell: Cell): void {
    const use = this.#use(cell)
    if (use.written === undefined || use.written === use.proxy) use.freed = true
    use.written?.dispose()
    use.written = null
  }

  /** An input has been bound. */
  bound(value: Value): void {
    this.inputs.push(value)
  }

  /** A value has been made from host data. */
  constant(value: Value): void {
    this.constants.push(value.retain())
    this.#offer(value, () => value)
  }

  /** An input that is made for each run. */
  supply(value: Value, make: () => Value): void {
    const position = this.#supplies++
    this.#offer(value, (run) => run.supplied[position]!)
    this.effects.push((run) => run.supplied.push(make()))
  }

  /** A scalar that is asked for in each run; gives what stands in its place now. */
  scalar(index: number, give: () => number): number {
    this.effects.push((run) => {
      run.scalars[index] = give()
    })
    return 0
  }

  /**
   * A value that is used before what it stands for has been recorded: see {@link define}. Its dtype is f32 or f64.
   *
   * @param like a value of the same dtype and shape
   */
  late(like: Value): Value {
    const { recorder, dtype, shape } = like
    const placeholder = recorder.emit('full', [], { dtype, shape }, [0])
    this.#late.set(placeholder, null)
    return placeholder
  }

  /** Says what a late value stands for. */
  define(late: Value, value: Value): void {
    // It may come from outside, and nothing else use it.
    if (value.epoch !== this.code.epoch) this.code.bind(value)
    this.#late.set(late, value)
  }

  /** Puts everything into order, once all is recorded. */
  arrange(): void {
    if (this.#late.size === 0) return
    const meant = new Map<Value, Value>()
    for (const [late, value] of this.#late) {
      if (value === null)
        throw new TilegradError('ERR_INTERNAL', `compile(${this.#name}): a late value was never defined`)
      meant.set(late, value)
    }
    this.code.arrange(meant, this.inputs)
  }

  /** Something that happens on the host in each run. */
  effect(effect: () => void): void {
    this.effects.push(effect)
  }

  /** A method of a module is being called; false if its fields are watched already. */
  watch(object: Watched): boolean {
    if (this.watched.has(object)) return false
    this.watched.set(object, new Fields([object]))
    return true
  }

  /**
   * Throws if the function keeps something in a field of a module from run to run: a number, or a tensor that it has used.
   * It would happen once. What is only put there may be looked at while recording, and is gone afterwards.
   */
  checkFields(): void {
    for (const fields of this.watched.values()) {
      for (const { key, before } of fields.changes()) {
        const kept =
          before instanceof Tensor ? this.captures.has(before) : before !== null && typeof before !== 'object'
        if (kept && before !== undefined) {
          throw this.refusal(
            `changing the field ${key} of a module`,
            'change it between the calls, or make it an argument and a result',
          )
        }
      }
    }
  }

  /** A storage has been changed in place. */
  changed(storage: Storage): void {
    this.changes.push(storage)
  }

  /** Arguments that the function has disposed of. */
  disposed(): number[] {
    return this.#proxies.flatMap((proxy, i) => (proxy.disposed ? [i] : []))
  }

  /**
   * Ends the recording: what the function made is not to be used any more, and the changes in place that it has counted
   * have not happened.
   */
  end(): void {
    for (const storage of this.changes) storage.version--
    for (const tensor of this.#inside) tensor.expire()
    this.#inside.clear()
    this.#standIns.clear()
    // What a signature keeps of this leads here, and must not keep the arguments.
    this.#arguments = []
    this.#proxies = []
    this.#entries.clear()
    this.cells.clear()
  }

  /** Lets go of the constants. */
  drop(): void {
    for (const value of this.constants) value.release()
  }

  /** A tensor from outside has been met there; gives which argument it is besides, or −1. */
  #reached(tensor: Tensor): number {
    const argument = this.#arguments.indexOf(tensor)
    if (argument >= 0) this.captured.add(argument)
    return argument
  }

  #offer(value: Value, source: Source): void {
    const known = this.sources.get(value)
    if (known === undefined) this.sources.set(value, [source])
    else known.push(source)
  }

  #use(cell: Cell, source?: CellSource): CellUse {
    let use = this.cells.get(cell)
    if (use === undefined) {
      const moves = source !== undefined
      use = {
        cell: source ?? ((): Cell => cell),
        moves,
        entry: undefined,
        proxy: null,
        written: undefined,
        freed: false,
      }
      this.cells.set(cell, use)
    }
    return use
  }

  /** A handle of the function's own on a value from outside. */
  #proxy(tensor: Tensor): Tensor {
    const proxy = new Tensor(tensor.device, tensor.heldValue!.retain(), false)
    this.#inside.add(proxy)
    this.#standIns.add(proxy)
    return proxy
  }
}
