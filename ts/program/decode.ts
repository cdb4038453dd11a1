/**
 * From words to typed instructions: what the `js` device runs and the printer prints. The decoder refuses every word
 * that the table does not allow (`ERR_PROGRAM`), so that whoever walks a decoded program needs no checks of its own on
 * registers, arities or attributes. It does not judge whether shapes fit an operation; the SDK has done that before it
 * recorded one. docs/program.md describes the words.
 */

import { OPCODES, OPCODE_NAMES, type Opcode, type OpcodeName } from './opcodes.ts'
import { DTYPE_CODES, MAGIC, NONE } from './words.ts'
import { type Dtype, isFloat } from '../dtype.ts'
import { TilegradError } from '../errors.ts'
import { MAX_ELEMENTS, MAX_RANK, type Shape, numel, showShape } from '../shape.ts'

/** The parts of a stream. The code is a view of its words; the rest, mostly short, is copied. */
export interface Stream {
  readonly inputs: readonly number[]
  readonly outputs: readonly number[]
  readonly frees: readonly number[]
  readonly scalars: readonly number[]
  readonly code: Uint32Array
}

/** What a register holds. */
export interface Register {
  readonly dtype: Dtype
  readonly shape: Shape
  /** Number of elements. */
  readonly size: number
}

/** One instruction, checked against the table. */
export interface Instruction {
  readonly name: OpcodeName
  /** Position in the program, from 0. */
  readonly line: number
  /** Registers that are read; {@link NONE} where an operand is absent. */
  readonly inputs: readonly number[]
  /** Registers that are defined. */
  readonly outputs: readonly number[]
  /** Attributes but the list, in the table's order; a `scalar` is its index. */
  readonly attributes: readonly number[]
  /** The `u32s` attribute, empty for instructions without one. */
  readonly list: readonly number[]
}

/** Decoded code words. */
export interface Program {
  readonly instructions: readonly Instruction[]
  readonly registers: readonly Register[]
  /** Registers that the input slots bind to, in order. */
  readonly inputs: readonly number[]
  /** Registers that go to the output slots, in order. */
  readonly outputs: readonly number[]
  /** How many scalars the code needs at least. */
  readonly scalarCount: number
}

const HEADER_WORDS = 6

const DTYPES: readonly Dtype[] = (Object.keys(DTYPE_CODES) as Dtype[]).sort((a, b) => DTYPE_CODES[a] - DTYPE_CODES[b])

/** Positions of operands that may be absent. */
const OPTIONAL: Readonly<Partial<Record<OpcodeName, readonly number[]>>> = {
  linear: [2],
  linearGrad: [1, 2, 3],
  weightedCrossEntropy: [2, 3],
  weightedCrossEntropyGrad: [4, 5],
  sgd: [1, 3, 4],
  adam: [3, 5, 6],
  rmsprop: [2, 3, 5, 6],
  ema: [2, 3],
  layerNorm: [1, 2],
  layerNormGrad: [2],
  groupNorm: [1, 2],
  groupNormGrad: [2],
  rmsNorm: [1],
  rmsNormGrad: [2],
  batchNormStatistics: [1],
  batchNorm: [3, 4, 5],
  batchNormGradSums: [4],
  batchNormGrad: [4, 8],
  batchNormUpdate: [2, 6],
}

const float = new Float64Array(1)
const floatWords = new Uint32Array(float.buffer)

function floatOf(low: number, high: number): number {
  floatWords[0] = low
  floatWords[1] = high
  return float[0]!
}

/** Cuts a stream into its parts. */
export function readStream(words: Uint32Array): Stream {
  if (words.length < HEADER_WORDS)
    throw new TilegradError('ERR_PROGRAM', `a stream of ${words.length} words has no header`)
  if (words[0] !== MAGIC) {
    throw new TilegradError('ERR_PROGRAM', `a stream starts with ${MAGIC.toString(16)}, not ${words[0]!.toString(16)}`)
  }
  const [inputs, outputs, frees, scalars, code] = [words[1]!, words[2]!, words[3]!, words[4]!, words[5]!]
  const total = HEADER_WORDS + inputs + outputs + frees + 2 * scalars + code
  if (total !== words.length) {
    throw new TilegradError('ERR_PROGRAM', `a stream of ${words.length} words announces ${total}`)
  }
  let at = HEADER_WORDS
  const take = (count: number): number[] => {
    const list: number[] = []
    for (let i = 0; i < count; i++) list.push(words[at++]!)
    return list
  }
  const slots = { inputs: take(inputs), outputs: take(outputs), frees: take(frees) }
  const values: number[] = []
  for (let i = 0; i < scalars; i++, at += 2) values.push(floatOf(words[at]!, words[at + 1]!))
  return { ...slots, scalars: values, code: words.subarray(at) }
}

/** Decodes code words. Throws `ERR_PROGRAM`, naming the line, for anything the table does not allow. */
export function decode(code: Uint32Array): Program {
  const decoder = new Decoder(code)
  while (decoder.next());
  return decoder
}

class Decoder implements Program {
  readonly instructions: Instruction[] = []
  readonly registers: Register[] = []
  readonly inputs: number[] = []
  readonly outputs: number[] = []
  scalarCount = 0
  readonly #code: Uint32Array
  /** Whether a register is an input of the program or a view of one, hence may be changed in place. */
  readonly #lasting: boolean[] = []
  #at = 0
  #end = 0
  #name: OpcodeName | undefined

  constructor(code: Uint32Array) {
    this.#code = code
  }

  /** Reads one instruction; false at the end of the code. */
  next(): boolean {
    if (this.#at === this.#code.length) return false
    const start = this.#at
    this.#end = this.#code.length
    const head = this.#word()
    this.#name = OPCODE_NAMES.get(head & 0xffff)
    if (this.#name === undefined) throw this.#error(`unknown opcode ${head & 0xffff}`)
    const length = head >>> 16
    if (start + length > this.#code.length) throw this.#error(`${length} words reach beyond the end of the code`)
    this.#end = start + length
    const counts = this.#word()
    const instruction = this.#operands(this.#name, counts & 0xff, counts >>> 8)
    if (this.#at !== this.#end) throw this.#error(`${length} words announced, ${this.#at - start} needed`)
    this.#checkMeaning(instruction)
    this.instructions.push(instruction)
    return true
  }

  #operands(name: OpcodeName, outputCount: number, inputCount: number): Instruction {
    const row: Opcode = OPCODES[name]
    this.#checkCount('output', outputCount, row.outputs)
    this.#checkCount('input', inputCount, row.inputs)
    const registers: Register[] = []
    for (let i = 0; i < outputCount; i++) registers.push(this.#register())
    const inputs: number[] = []
    for (let i = 0; i < inputCount; i++) inputs.push(this.#input(name, i))
    const first = this.registers.length
    this.registers.push(...registers)
    const attributes: number[] = []
    let list: readonly number[] = []
    for (const kind of row.attributes) {
      if (kind === 'u32s') {
        list = Array.from(this.#words(this.#word()))
      } else if (kind === 'f64') {
        const low = this.#word()
        attributes.push(floatOf(low, this.#word()))
      } else {
        const word = this.#word()
        if (kind === 'scalar') this.scalarCount = Math.max(this.scalarCount, word + 1)
        attributes.push(word)
      }
    }
    return {
      name,
      line: this.instructions.length,
      inputs,
      outputs: registers.map((_, i) => first + i),
      attributes,
      list,
    }
  }

  #register(): Register {
    const word = this.#word()
    const dtype = DTYPES[word & 0xff]
    if (dtype === undefined) throw this.#error(`unknown dtype ${word & 0xff}`)
    const rank = (word >>> 8) & 0xff
    if (word >>> 16 !== 0 || rank > MAX_RANK) throw this.#error(`a register of rank ${word >>> 8} is not allowed`)
    const shape = Array.from(this.#words(rank))
    // Zeros must not hide a dimension that nobody can index; products of 8 words stay finite in f64.
    if (numel(shape.filter((d) => d !== 0)) > MAX_ELEMENTS) throw this.#error(`shape ${showShape(shape)} is too large`)
    return { dtype, shape, size: numel(shape) }
  }

  #input(name: OpcodeName, position: number): number {
    const register = this.#word()
    if (register === NONE) {
      if (OPTIONAL[name]?.includes(position)) return NONE
      throw this.#error(`operand ${position} must not be absent`)
    }
    if (register >= this.registers.length) throw this.#error(`register %${register} is used before it is defined`)
    return register
  }

  /** Rules that span words: the dtype class, what may be changed in place, and what views reach. */
  #checkMeaning(instruction: Instruction): void {
    const { name, inputs, outputs, attributes } = instruction
    const row: Opcode = OPCODES[name]
    const subject = inputs[0] ?? outputs[0]
    const dtype = this.registers[subject!]!.dtype
    // The first operand of `where` is its condition, not what it computes on.
    const wanted = name === 'where' ? 'bool' : row.dtypes
    const allowed = { any: true, bool: dtype === 'bool', float: isFloat(dtype), number: dtype !== 'bool' }
    if (!allowed[wanted]) throw this.#error(`does not compute on ${dtype}`)
    for (const position of row.mutates ?? []) {
      const register = inputs[position]!
      if (register !== NONE && !this.#lasting[register]) {
        throw this.#error(`changes %${register}, which is no input of the program`)
      }
    }
    for (const register of outputs) this.#lasting[register] = name === 'input'
    if (name === 'input') this.inputs.push(outputs[0]!)
    if (name === 'output') this.outputs.push(inputs[0]!)
    if (name === 'view') {
      const source = this.registers[inputs[0]!]!
      const view = this.registers[outputs[0]!]!
      if (view.dtype !== source.dtype || attributes[0]! + view.size > source.size) {
        throw this.#error(`does not lie inside %${inputs[0]}`)
      }
      this.#lasting[outputs[0]!] = this.#lasting[inputs[0]!]!
    }
    if ((name === 'assign' || name === 'addInto') && !this.#alike(inputs[0]!, inputs[1]!)) {
      throw this.#error(`%${inputs[0]} and %${inputs[1]} differ in dtype or size`)
    }
  }

  #alike(a: number, b: number): boolean {
    const [x, y] = [this.registers[a]!, this.registers[b]!]
    return x.dtype === y.dtype && x.size === y.size
  }

  #checkCount(what: string, count: number, allowed: number | readonly [number, number]): void {
    const [least, most] = typeof allowed === 'number' ? [allowed, allowed] : allowed
    if (count < least || count > most) throw this.#error(`${count} ${what}s are not allowed`)
  }

  #word(): number {
    this.#require(1)
    return this.#code[this.#at++]!
  }

  #words(count: number): Uint32Array {
    this.#require(count)
    return this.#code.subarray(this.#at, (this.#at += count))
  }

  #require(count: number): void {
    if (this.#at + count > this.#end) throw this.#error('more words are needed than the instruction has')
  }

  #error(message: string): TilegradError {
    const name = this.#name === undefined ? '' : `${this.#name}: `
    return new TilegradError('ERR_PROGRAM', `program line ${this.instructions.length}: ${name}${message}`)
  }
}
