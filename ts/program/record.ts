/**
 * The recorder: appends instructions to the pending stream of one device and hands the stream over at a flush. Code
 * words hold no slots and no run-time numbers, so that recording the same work twice gives the same words. A register
 * whose value still has an owner at the flush is materialised into a slot; values freed before it, in program order,
 * never reach memory of their own. Finalisers never change a stream: what they free waits until after the next flush.
 *
 * Flushes happen at reads, at `sync()`, after {@link MAX_INSTRUCTIONS} or {@link MAX_WORK}, when much is waiting to be
 * freed, and at the end of the macrotask that recorded the first instruction.
 */

import type { Backend } from '../backend/backend.ts'
import { type Dtype, type TypedArray, allocate } from '../dtype.ts'
import { TilegradError } from '../errors.ts'
import { MAX_ELEMENTS, type Shape, showShape } from '../shape.ts'
import { DTYPE_CODES, MAGIC, NONE, OPCODES, OPCODE_NAMES, type Opcode, type OpcodeName } from './opcodes.ts'
import { type Storage, Value } from './value.ts'

/** Instructions after which a stream is flushed unasked. */
export const MAX_INSTRUCTIONS = 512

/** Estimated work (about one per flop) after which a stream is flushed unasked: some milliseconds of a CPU. */
export const MAX_WORK = 1e9

/** Operands and listed numbers of an instruction: its length fits 16 bits, with room for its outputs and other attributes. */
const MAX_OPERANDS = 0xffff - 64

/** Frees, and their bytes, after which a stream is flushed unasked. */
const MAX_FREES = 4096
const MAX_FREED_BYTES = 64 * 2 ** 20

const HEADER_WORDS = 6
const INDEX_BITS = 22
const INDEX_MASK = (1 << INDEX_BITS) - 1
const GENERATION_MASK = 0x3ff

/** What an instruction defines: dtype and shape, and the storage it shares when it is a view. */
export interface OutputSpec {
  readonly dtype: Dtype
  readonly shape: Shape
  readonly storage?: Storage
}

/** An attribute in the table's order: a number, or a list for `u32s`. */
export type Attribute = number | readonly number[]

const float = new Float64Array(1)
const floatWords = new Uint32Array(float.buffer)

/** Records the instructions of one device. */
export class Recorder {
  readonly backend: Backend
  #scheduled = false
  #closed = false
  #epoch = 0
  #words = new Uint32Array(4096)
  #length = 0
  #stream = new Uint32Array(8192)
  #registers: (Value | null)[] = []
  #inputs: number[] = []
  #scalars: number[] = []
  #frees: number[] = []
  #freedBytes = 0
  #finalised: Value[] = []
  /** What a flush that nobody called has thrown. */
  #late: Error | undefined
  #instructions = 0
  #work = 0
  #nextIndex = 1
  #freeIndices: number[] = []
  #generations: number[] = [0]

  constructor(backend: Backend) {
    this.backend = backend
  }

  /** Appends an instruction with one output. */
  emit(
    op: OpcodeName,
    inputs: readonly (Value | null)[],
    output: OutputSpec,
    attributes: readonly Attribute[] = [],
  ): Value {
    this.#write(OPCODES[op], inputs, 1, output, undefined, attributes)
    return this.#registers[this.#registers.length - 1]!
  }

  /** Appends an instruction with any number of outputs. */
  emitMany(
    op: OpcodeName,
    inputs: readonly (Value | null)[],
    outputs: readonly OutputSpec[],
    attributes: readonly Attribute[] = [],
  ): Value[] {
    const row: Opcode = OPCODES[op]
    // Only what lives on the device can be changed in place: what this stream has made so far has to get there first.
    if (row.mutates?.some((i) => inputs[i] != null && inputs[i].slot === 0)) this.flush()
    this.#write(row, inputs, outputs.length, undefined, outputs, attributes)
    if (row.mutates !== undefined) for (const i of row.mutates) if (inputs[i] != null) inputs[i].storage.version++
    return outputs.length === 0 ? [] : (this.#registers.slice(-outputs.length) as Value[])
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
    this.#work += work
    if (this.#work > MAX_WORK) this.flush()
  }

  /** The last owner of `value` has gone. Called by `Value.release`. */
  free(value: Value): void {
    if (value.slot === 0 || this.#closed) return
    this.#frees.push(value.slot)
    value.slot = 0
    this.#freedBytes += value.byteLength
    // A loop that never yields may upload and dispose for long without recording anything.
    if (this.#freedBytes > MAX_FREED_BYTES || this.#frees.length >= MAX_FREES) this.flush()
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
    this.#flush()
    if (this.#late === undefined) return
    const error = this.#late
    this.#late = undefined
    throw error
  }

  #flush(): void {
    this.#scheduled = false
    if (this.#closed) return
    if (this.#length > 0 || this.#frees.length > 0) this.#submit()
    if (this.#finalised.length > 0) {
      const values = this.#finalised
      this.#finalised = []
      for (const value of values) value.release()
    }
  }

  /** Drops what is pending and refuses further work with `ERR_DEVICE_LOST`. */
  close(): void {
    this.#closed = true
    this.#reset()
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

  #foreign(value: Value): TilegradError {
    const [here, there] = [this.backend.kind, value.recorder.backend.kind]
    return new TilegradError(
      'ERR_DEVICE_MISMATCH',
      `an operand lives on another device (${there}) than the others (${here}); move one with await x.to(device)`,
    )
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      if (!this.#scheduled) return
      try {
        this.#flush()
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
  ): void {
    this.#checkOpen()
    // Before anything is written: half an instruction would spoil the stream.
    let operands = inputs.length
    for (const a of attributes) if (typeof a !== 'number') operands += a.length
    if (operands > MAX_OPERANDS) {
      throw new TilegradError(
        'ERR_UNSUPPORTED',
        `${OPCODE_NAMES.get(op.code)}: ${inputs.length} operands are more than a stream can hold`,
      )
    }
    if (this.#instructions >= MAX_INSTRUCTIONS) this.flush()
    for (let i = 0; i < inputs.length; i++) {
      const value = inputs[i]
      if (value == null) continue
      // Register and slot numbers of another device would name something else here.
      if (value.recorder !== this) throw this.#foreign(value)
      if (value.epoch !== this.#epoch) this.#bind(value)
    }
    const start = this.#length
    this.#reserve(2 + outputCount * 9 + inputs.length)
    const words = this.#words
    let at = start + 1
    words[at++] = outputCount | (inputs.length << 8)
    for (let i = 0; i < outputCount; i++) {
      const { dtype, shape, storage } = output ?? outputs![i]!
      const value = new Value(this, dtype, shape, storage)
      if (value.size > MAX_ELEMENTS) {
        throw new TilegradError(
          'ERR_SHAPE',
          `${OPCODE_NAMES.get(op.code)}: the result of shape ${showShape(shape)} is above the limit of ${MAX_ELEMENTS} elements`,
        )
      }
      // The recorder is no owner: a value starts with the one that `emit` hands to its caller.
      this.#define(value)
      words[at++] = DTYPE_CODES[dtype] | (shape.length << 8)
      for (let d = 0; d < shape.length; d++) words[at++] = shape[d]!
      this.#work += value.size
    }
    for (let i = 0; i < inputs.length; i++) {
      const value = inputs[i]
      words[at++] = value == null ? NONE : value.register
    }
    this.#length = at
    for (let i = 0; i < attributes.length; i++) this.#attribute(op, i, attributes[i]!)
    const count = this.#length - start
    this.#words[start] = (op.code | (count << 16)) >>> 0
    this.#instructions++
    this.#schedule()
  }

  #attribute(op: Opcode, i: number, value: Attribute): void {
    switch (op.attributes[i]) {
      case 'u32':
        this.#reserve(1)
        this.#words[this.#length++] = value as number
        break
      case 'f64':
        this.#reserve(2)
        float[0] = value as number
        this.#words[this.#length++] = floatWords[0]!
        this.#words[this.#length++] = floatWords[1]!
        break
      case 'scalar':
        this.#reserve(1)
        this.#words[this.#length++] = this.#scalars.length
        this.#scalars.push(value as number)
        break
      case 'u32s': {
        const list = value as readonly number[]
        this.#reserve(1 + list.length)
        this.#words[this.#length++] = list.length
        for (let j = 0; j < list.length; j++) this.#words[this.#length++] = list[j]!
        break
      }
      default:
        throw new TilegradError('ERR_INTERNAL', `opcode ${op.code} has no attribute ${i}`)
    }
  }

  /** Declares a value that lives on the device as an input of this stream. */
  #bind(value: Value): void {
    if (value.slot === 0) throw new TilegradError('ERR_DISPOSED', 'the memory of this tensor has been freed')
    this.#reserve(3 + value.shape.length)
    const words = this.#words
    words[this.#length++] = OPCODES.input.code | ((3 + value.shape.length) << 16)
    words[this.#length++] = 1
    words[this.#length++] = DTYPE_CODES[value.dtype] | (value.shape.length << 8)
    for (let d = 0; d < value.shape.length; d++) words[this.#length++] = value.shape[d]!
    this.#inputs.push(value.slot)
    value.epoch = this.#epoch
    value.register = this.#registers.length
    this.#registers.push(null)
  }

  #define(value: Value): void {
    value.epoch = this.#epoch
    value.register = this.#registers.length
    this.#registers.push(value)
  }

  #reserve(words: number): void {
    if (this.#length + words <= this.#words.length) return
    const larger = new Uint32Array(Math.max(this.#words.length * 2, this.#length + words))
    larger.set(this.#words.subarray(0, this.#length))
    this.#words = larger
  }

  #submit(): void {
    const outputs: number[] = []
    for (const value of this.#registers) {
      if (value === null || value.owners === 0) continue
      value.slot = this.#newSlot()
      outputs.push(value.slot)
      this.#reserve(3)
      this.#words[this.#length++] = OPCODES.output.code | (3 << 16)
      this.#words[this.#length++] = 1 << 8
      this.#words[this.#length++] = value.register
    }
    const total =
      HEADER_WORDS + this.#inputs.length + outputs.length + this.#frees.length + 2 * this.#scalars.length + this.#length
    if (total > this.#stream.length) this.#stream = new Uint32Array(total * 2)
    const stream = this.#stream
    let at = 0
    stream[at++] = MAGIC
    stream[at++] = this.#inputs.length
    stream[at++] = outputs.length
    stream[at++] = this.#frees.length
    stream[at++] = this.#scalars.length
    stream[at++] = this.#length
    for (const slot of this.#inputs) stream[at++] = slot
    for (const slot of outputs) stream[at++] = slot
    for (const slot of this.#frees) stream[at++] = slot
    for (const scalar of this.#scalars) {
      float[0] = scalar
      stream[at++] = floatWords[0]!
      stream[at++] = floatWords[1]!
    }
    stream.set(this.#words.subarray(0, this.#length), at)
    const frees = this.#frees
    this.#reset()
    this.backend.submit(stream.subarray(0, total))
    // The device works in order, so a freed index may be used again from the next stream on.
    for (const slot of frees) this.#recycle(slot)
  }

  #reset(): void {
    this.#epoch++
    this.#length = 0
    this.#registers = []
    this.#inputs = []
    this.#scalars = []
    this.#frees = []
    this.#freedBytes = 0
    this.#instructions = 0
    this.#work = 0
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
