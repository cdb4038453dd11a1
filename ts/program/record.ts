/**
 * The recorder: appends instructions to the pending stream of one device and hands the stream over at a flush. Code
 * words hold no slots and no run-time numbers, so that recording the same work twice gives the same words. A register
 * whose value still has an owner at the flush is materialised into a slot; values freed before it, in program order,
 * never reach memory of their own. Finalisers never change a stream: what they free waits until after the next flush.
 *
 * Flushes happen at reads, at `sync()`, after {@link MAX_INSTRUCTIONS} or {@link MAX_WORK}, when much is waiting to be
 * freed, and at the end of the macrotask that recorded the first instruction.
 */

import type { Backend, ProgramInfo } from '../backend/backend.ts'
import type { Places } from '../debug/places.ts'
import { type Dtype, type TypedArray, allocate } from '../dtype.ts'
import { TilegradError } from '../errors.ts'
import type { Shape } from '../shape.ts'
import { type Attribute, Code, type OutputSpec } from './code.ts'
import { OPCODES, OPCODE_NAMES, type Opcode, type OpcodeName } from './opcodes.ts'
import { MAGIC } from './words.ts'
import { tracing } from './tracing.ts'
import { Value } from './value.ts'

/** Instructions after which a stream is flushed unasked. */
export const MAX_INSTRUCTIONS = 512

/** Estimated work (about one per flop) after which a stream is flushed unasked: some milliseconds of a CPU. */
export const MAX_WORK = 1e9

/** Frees, and their bytes, after which a stream is flushed unasked. */
const MAX_FREES = 4096
const MAX_FREED_BYTES = 64 * 2 ** 20

const HEADER_WORDS = 6
const INDEX_BITS = 22
const INDEX_MASK = (1 << INDEX_BITS) - 1
const GENERATION_MASK = 0x3ff

const float = new Float64Array(1)
const floatWords = new Uint32Array(float.buffer)
const NO_WORDS = new Uint32Array(0)

/** Records the instructions of one device. */
export class Recorder {
  /** Where the work goes. Replaced while somebody looks at it. */
  backend: Backend
  #scheduled = false
  #closed = false
  /** What has been recorded and not yet handed over. */
  readonly #pending = new Code()
  #stream = new Uint32Array(8192)
  #frees: number[] = []
  #freedBytes = 0
  #finalised: Value[] = []
  /** What a flush that nobody called has thrown. */
  #late: Error | undefined
  #nextProgram = 0
  readonly #places: Places | null
  readonly #titles = new Map<number, string>()
  #nextIndex = 1
  #freeIndices: number[] = []
  #generations: number[] = [0]

  /** @param places where to note who has recorded what, for errors */
  constructor(backend: Backend, places: Places | null = null) {
    this.backend = backend
    this.#places = places
  }

  /** Appends an instruction with one output. */
  emit(
    op: OpcodeName,
    inputs: readonly (Value | null)[],
    output: OutputSpec,
    attributes: readonly Attribute[] = [],
  ): Value {
    const { registers } = this.#write(OPCODES[op], inputs, 1, output, undefined, attributes)
    return registers[registers.length - 1]!
  }

  /** Appends an instruction with any number of outputs. */
  emitMany(
    op: OpcodeName,
    inputs: readonly (Value | null)[],
    outputs: readonly OutputSpec[],
    attributes: readonly Attribute[] = [],
  ): Value[] {
    const row: Opcode = OPCODES[op]
    const trace = tracing()
    // Hands over what is pending, which may be what is to be changed.
    trace?.enter(this)
    // Only what lives on the device can be changed in place: what this stream has made so far has to get there first.
    if (row.mutates?.some((i) => inputs[i] != null && inputs[i].slot === 0)) {
      if (trace !== null) throw trace.refusal(`${op} of a tensor made inside it`, 'make that tensor outside')
      this.flush()
    }
    const { registers } = this.#write(row, inputs, outputs.length, undefined, outputs, attributes)
    for (const i of row.mutates ?? []) {
      const changed = inputs[i]?.storage
      if (changed === undefined) continue
      changed.version++
      trace?.changed(changed)
    }
    return outputs.length === 0 ? [] : (registers.slice(-outputs.length) as Value[])
  }

  /** A value filled from host data, at once and outside the stream. */
  upload(dtype: Dtype, shape: Shape, data: TypedArray): Value {
    this.#checkOpen()
    const value = new Value(this, dtype, shape)
    const slot = this.#newSlot()
    try {
      this.backend.write(slot, dtype, data)
    } catch (error) {
      this.#recycle(slot)
      throw error
    }
    value.slot = slot
    tracing()?.constant(value)
    return value
  }

  /**
   * A value filled from what `make` gives: now, or in a function that is being compiled anew for each run of it.
   */
  uploadEach(dtype: Dtype, shape: Shape, make: () => TypedArray): Value {
    const trace = tracing()
    if (trace === null) return this.upload(dtype, shape, make())
    this.#checkOpen()
    const value = new Value(this, dtype, shape)
    trace.enter(this).bindLater(value)
    trace.supply(value, () => this.upload(dtype, shape, make()))
    return value
  }

  /** Replaces the elements of a value in place, so that every view of its memory sees them. */
  overwrite(value: Value, data: TypedArray): void {
    // A state may come from another dtype, or out of a file: the device gets what the value holds.
    const elements = allocate(value.dtype, value.size)
    elements.set(data)
    const source = this.upload(value.dtype, value.shape, elements)
    this.emitMany('assign', [value, source], [])
    source.release()
  }

  /** Counts estimated work (flops) of the instruction just recorded; a long stream is flushed. */
  addWork(work: number): void {
    if (tracing() !== null) return
    this.#pending.work += work
    if (this.#pending.work > MAX_WORK) this.flush()
  }

  /** The last owner of `value` has gone. Called by `Value.release`. */
  free(value: Value): void {
    if (value.slot === 0 || this.#closed) return
    this.#frees.push(value.slot)
    value.slot = 0
    this.#freedBytes += value.byteLength
    // A loop that never yields may upload and dispose for long without recording anything.
    if (this.#freedBytes > MAX_FREED_BYTES || this.#frees.length >= MAX_FREES) this.settle()
    else this.#schedule()
  }

  /** A handle was collected. Its owner is taken away after the next flush, so that collection never changes a stream. */
  finalise(value: Value): void {
    if (this.#closed) return
    this.#finalised.push(value)
    this.#schedule()
  }

  /**
   * Hands everything recorded so far to the device.
   *
   * @throws what handing over has thrown, now or at the end of an earlier macrotask, where nobody could have caught it
   */
  flush(): void {
    const trace = tracing()
    if (trace !== null) throw trace.refusal('waiting for results', 'return what you want to read, and read it outside')
    this.settle()
    if (this.#late === undefined) return
    const error = this.#late
    this.#late = undefined
    throw error
  }

  /** Hands everything recorded so far to the device, also while a function is being recorded beside it. */
  settle(): void {
    this.#scheduled = false
    if (this.#closed) return
    if (this.#pending.length > 0 || this.#frees.length > 0) this.#submit()
    if (this.#finalised.length > 0) {
      const values = this.#finalised
      this.#finalised = []
      for (const value of values) value.release()
    }
  }

  /** The same, if there is anything to compute: what is only to be freed goes along with the next run or stream. */
  settleWork(): void {
    if (this.#pending.length > 0) this.settle()
  }

  /** Drops what is pending and refuses further work with `ERR_DEVICE_LOST`. */
  close(): void {
    this.#closed = true
    this.#pending.reset()
    this.#takeFrees()
  }

  /** Slots given out and not yet freed, as the SDK counts them. */
  get liveSlots(): number {
    return this.#nextIndex - 1 - this.#freeIndices.length - this.#frees.length
  }

  #checkOpen(): void {
    if (this.#closed) {
      throw new TilegradError('ERR_DEVICE_LOST', `the ${this.backend.kind} device has been closed; open another one`)
    }
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      if (!this.#scheduled) return
      try {
        this.settle()
      } catch (error) {
        this.#late ??= error instanceof Error ? error : new Error(String(error))
      }
    })
  }

  #write(
    op: Opcode,
    inputs: readonly (Value | null)[],
    outputCount: number,
    output: OutputSpec | undefined,
    outputs: readonly OutputSpec[] | undefined,
    attributes: readonly Attribute[],
  ): Code {
    this.#checkOpen()
    const trace = tracing()
    const code = trace === null ? this.#pending : trace.enter(this)
    code.check(op, this, inputs, attributes)
    if (trace === null && code.instructions >= MAX_INSTRUCTIONS) this.flush()
    code.write(op, this, inputs, outputCount, output, outputs, attributes)
    // Inputs stand among the instructions.
    if (this.#places !== null)
      this.#places.note(OPCODE_NAMES.get(op.code) ?? '', code.instructions - 1 + code.inputs.length)
    if (trace === null) this.#schedule()
    return code
  }

  #submit(): void {
    const code = this.#pending
    const outputs: number[] = []
    for (const value of code.registers) {
      if (value === null || value.owners === 0) continue
      value.slot = this.#newSlot()
      outputs.push(value.slot)
      code.output(value.register)
    }
    const { inputs, scalars, words } = code
    const frees = this.#takeFrees()
    const stream = this.#assemble(inputs, outputs, frees, scalars, words)
    code.reset()
    this.backend.submit(stream)
    this.#recycleAll(frees)
  }

  /**
   * Gives code to the device for any number of runs.
   *
   * @param title what people call it
   */
  compile(code: Uint32Array, title: string): { readonly program: number; readonly info: ProgramInfo } {
    this.#checkOpen()
    const program = this.#nextProgram
    this.#nextProgram = (program + 1) >>> 0
    const info = this.backend.compile(program, code, title)
    this.#titles.set(program, title)
    return { program, info }
  }

  /** What people call a compiled program. */
  titleOf(program: number): string {
    return this.#titles.get(program) ?? `program ${program}`
  }

  /** Runs a compiled program after everything recorded so far. The outputs get slots. */
  run(program: number, inputs: readonly number[], outputs: readonly Value[], scalars: readonly number[]): void {
    this.#checkOpen()
    const slots: number[] = []
    for (const value of outputs) slots.push((value.slot = this.#newSlot()))
    const frees = this.#takeFrees()
    this.backend.run(program, this.#assemble(inputs, slots, frees, scalars, NO_WORDS))
    this.#recycleAll(frees)
  }

  /** Forgets a compiled program. */
  release(program: number): void {
    this.#titles.delete(program)
    if (!this.#closed) this.backend.release(program)
  }

  #takeFrees(): number[] {
    const frees = this.#frees
    this.#frees = []
    this.#freedBytes = 0
    return frees
  }

  /** The device works in order, so a freed index may be used again from the next stream on. */
  #recycleAll(frees: readonly number[]): void {
    for (const slot of frees) this.#recycle(slot)
  }

  /** The words of a stream, in a buffer that the next one overwrites. */
  #assemble(
    inputs: readonly number[],
    outputs: readonly number[],
    frees: readonly number[],
    scalars: readonly number[],
    code: Uint32Array,
  ): Uint32Array {
    const total = HEADER_WORDS + inputs.length + outputs.length + frees.length + 2 * scalars.length + code.length
    if (total > this.#stream.length) this.#stream = new Uint32Array(total * 2)
    const stream = this.#stream
    let at = 0
    stream[at++] = MAGIC
    stream[at++] = inputs.length
    stream[at++] = outputs.length
    stream[at++] = frees.length
    stream[at++] = scalars.length
    stream[at++] = code.length
    for (const slot of inputs) stream[at++] = slot
    for (const slot of outputs) stream[at++] = slot
    for (const slot of frees) stream[at++] = slot
    for (const scalar of scalars) {
      float[0] = scalar
      stream[at++] = floatWords[0]!
      stream[at++] = floatWords[1]!
    }
    stream.set(code, at)
    return stream.subarray(0, total)
  }

  #recycle(slot: number): void {
    const index = slot & INDEX_MASK
    this.#generations[index] = (this.#generations[index]! + 1) & GENERATION_MASK
    this.#freeIndices.push(index)
  }

  #newSlot(): number {
    const index = this.#freeIndices.pop() ?? this.#nextIndex++
    if (index > INDEX_MASK) {
      throw new TilegradError(
        'ERR_OUT_OF_MEMORY',
        `more than ${INDEX_MASK} tensors are alive on one device; dispose of some`,
      )
    }
    const generation = (this.#generations[index] ??= 0)
    return ((generation << INDEX_BITS) | index) >>> 0
  }
}
