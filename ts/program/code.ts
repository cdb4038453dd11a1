/**
 * Code under construction: the words of a program, the values that its registers stand for, and the scalars it takes.
 * The pending stream of a device is written into one, and so is each function that is compiled. Who runs the code, when,
 * and what becomes of its results is not known here.
 */

import type { Dtype } from '../dtype.ts'
import { TilegradError } from '../errors.ts'
import { MAX_ELEMENTS, type Shape, showShape } from '../shape.ts'
import { arranged } from './late.ts'
import { OPCODES, OPCODE_NAMES, type Opcode } from './opcodes.ts'
import { DTYPE_CODES, NONE } from './words.ts'
import type { Recorder } from './record.ts'
import type { Trace } from './trace.ts'
import { type Storage, Value } from './value.ts'

/** Operands and listed numbers of an instruction: its length fits 16 bits, with room for its outputs and other attributes. */
const MAX_OPERANDS = 0xffff - 64

/** What an instruction defines: dtype and shape, and the storage it shares when it is a view. */
export interface OutputSpec {
  readonly dtype: Dtype
  readonly shape: Shape
  readonly storage?: Storage
}

/** An attribute in the table's order: a number, a list for `u32s`, or for `scalar` what gives the number for each run. */
export type Attribute = number | readonly number[] | (() => number)

const float = new Float64Array(1)
const floatWords = new Uint32Array(float.buffer)

let epochs = 0

/** Words, registers and scalars of one program. */
export class Code {
  readonly #trace: Trace | null
  /** Tells the registers of one program from those of all others. Negative for functions that are compiled. */
  epoch = 0
  #words = new Uint32Array(4096)
  #length = 0
  /** What each register stands for; `null` for inputs. */
  registers: (Value | null)[] = []
  /** Slots of the inputs, in order. */
  inputs: number[] = []
  scalars: number[] = []
  instructions = 0
  /** Elements computed so far, about. */
  work = 0

  constructor(trace: Trace | null = null) {
    this.#trace = trace
    this.reset()
  }

  /** How many words there are. */
  get length(): number {
    return this.#length
  }

  /** The words, until more are written. */
  get words(): Uint32Array {
    return this.#words.subarray(0, this.#length)
  }

  /** Begins anew. */
  reset(): void {
    this.epoch = this.#trace === null ? ++epochs : -++epochs
    this.#length = 0
    this.registers = []
    this.inputs = []
    this.scalars = []
    this.instructions = 0
    this.work = 0
  }

  /** Throws unless an instruction can be written: half of one would spoil the code. */
  check(op: Opcode, recorder: Recorder, inputs: readonly (Value | null)[], attributes: readonly Attribute[]): void {
    let operands = inputs.length
    for (const a of attributes) if (typeof a === 'object') operands += a.length
    if (operands > MAX_OPERANDS) {
      throw new TilegradError(
        'ERR_UNSUPPORTED',
        `${OPCODE_NAMES.get(op.code)}: ${inputs.length} operands are more than a stream can hold`,
      )
    }
    for (let i = 0; i < inputs.length; i++) {
      const value = inputs[i]
      // Register and slot numbers of another device would name something else here.
      if (value != null && value.recorder !== recorder) throw foreign(recorder, value)
    }
  }

  /** Appends an instruction that {@link check} has let pass. Its results are the last registers. */
  write(
    op: Opcode,
    recorder: Recorder,
    inputs: readonly (Value | null)[],
    outputCount: number,
    output: OutputSpec | undefined,
    outputs: readonly OutputSpec[] | undefined,
    attributes: readonly Attribute[],
  ): void {
    for (let i = 0; i < inputs.length; i++) {
      const value = inputs[i]
      if (value != null && value.epoch !== this.epoch) this.bind(value)
    }
    // Before the first word: a number that is refused must not leave half an instruction.
    const given = this.#trace === null && attributes.some(isAsked) ? attributes.map(asked) : attributes
    const start = this.#length
    this.#reserve(2 + outputCount * 9 + inputs.length)
    const words = this.#words
    let at = start + 1
    words[at++] = outputCount | (inputs.length << 8)
    for (let i = 0; i < outputCount; i++) {
      const { dtype, shape, storage } = output ?? outputs![i]!
      const value = new Value(recorder, dtype, shape, storage)
      if (value.size > MAX_ELEMENTS) {
        throw new TilegradError(
          'ERR_SHAPE',
          `${OPCODE_NAMES.get(op.code)}: the result of shape ${showShape(shape)} is above the limit of ${MAX_ELEMENTS} elements`,
        )
      }
      // The code is no owner: a value starts with the one that `emit` hands to its caller.
      this.#define(value)
      words[at++] = DTYPE_CODES[dtype] | (shape.length << 8)
      for (let d = 0; d < shape.length; d++) words[at++] = shape[d]!
      this.work += value.size
    }
    for (let i = 0; i < inputs.length; i++) {
      const value = inputs[i]
      words[at++] = value == null ? NONE : value.register
    }
    this.#length = at
    for (let i = 0; i < given.length; i++) this.#attribute(op, i, given[i]!)
    const count = this.#length - start
    this.#words[start] = (op.code | (count << 16)) >>> 0
    this.instructions++
  }

  /**
   * Exchanges placeholders for what they stand for, and puts the instructions into an order in which everything is
   * defined before it is used.
   *
   * @param meant what each placeholder stands for
   * @param bound the values of the inputs
   */
  arrange(meant: ReadonlyMap<Value, Value>, bound: readonly Value[]): void {
    const first = new Map<Storage, number>()
    const shared = new Map<number, number>()
    for (const { storage, register } of bound) {
      const known = first.get(storage)
      if (known === undefined) first.set(storage, register)
      else shared.set(register, known)
    }
    const numbers = new Map([...meant].map(([late, value]) => [late.register, value.register]))
    const { words, registers, instructions } = arranged(this.words, numbers, shared)
    this.#words = words
    this.#length = words.length
    this.instructions = instructions
    const values = this.registers
    this.registers = []
    values.forEach((value, register) => {
      if (numbers.has(register)) return
      if (value !== null) value.register = registers[register]!
      this.registers[registers[register]!] = value
    })
    for (const value of bound) value.register = registers[value.register]!
    for (const late of meant.keys()) late.register = registers[late.register]!
  }

  /** Declares a register as an output of the program. */
  output(register: number): void {
    this.#reserve(3)
    this.#words[this.#length++] = OPCODES.output.code | (3 << 16)
    this.#words[this.#length++] = 1 << 8
    this.#words[this.#length++] = register
  }

  /** Declares a value that lives on the device as an input. */
  bind(value: Value): void {
    if (value.slot === 0) throw unbound(value)
    this.inputs.push(value.slot)
    this.#trace?.bound(value)
    this.#input(value)
  }

  /** Declares a value as an input that gets memory only when the code runs. */
  bindLater(value: Value): void {
    this.inputs.push(0)
    this.#trace?.bound(value)
    this.#input(value)
  }

  #input(value: Value): void {
    this.#reserve(3 + value.shape.length)
    const words = this.#words
    words[this.#length++] = OPCODES.input.code | ((3 + value.shape.length) << 16)
    words[this.#length++] = 1
    words[this.#length++] = DTYPE_CODES[value.dtype] | (value.shape.length << 8)
    for (let d = 0; d < value.shape.length; d++) words[this.#length++] = value.shape[d]!
    value.epoch = this.epoch
    value.register = this.registers.length
    this.registers.push(null)
  }

  #define(value: Value): void {
    value.epoch = this.epoch
    value.register = this.registers.length
    this.registers.push(value)
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
        this.#words[this.#length++] = this.scalars.length
        this.scalars.push(
          typeof value === 'function' ? this.#trace!.scalar(this.scalars.length, value) : (value as number),
        )
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

  #reserve(words: number): void {
    if (this.#length + words <= this.#words.length) return
    const larger = new Uint32Array(Math.max(this.#words.length * 2, this.#length + words))
    larger.set(this.#words.subarray(0, this.#length))
    this.#words = larger
  }
}

function isAsked(attribute: Attribute): boolean {
  return typeof attribute === 'function'
}

function asked(attribute: Attribute): number | readonly number[] {
  return typeof attribute === 'function' ? attribute() : attribute
}

function foreign(recorder: Recorder, value: Value): TilegradError {
  const [here, there] = [recorder.backend.kind, value.recorder.backend.kind]
  return new TilegradError(
    'ERR_DEVICE_MISMATCH',
    `an operand lives on another device (${there}) than the others (${here}); move one with await x.to(device)`,
  )
}

function unbound(value: Value): TilegradError {
  return value.epoch < 0
    ? new TilegradError(
        'ERR_TRACE',
        'a tensor made inside a compiled function is used outside it; return it from the function',
      )
    : new TilegradError('ERR_DISPOSED', 'the memory of this tensor has been freed')
}
