/**
 * Writes streams by hand, for tests that sit below the recorder: of the decoder, the printer and the devices. It checks
 * nothing, so that tests can also write what is wrong.
 */

import { type Dtype } from '../../ts/dtype.ts'
import { OPCODES, type Opcode, type OpcodeName } from '../../ts/program/opcodes.ts'
import { DTYPE_CODES, MAGIC, NONE } from '../../ts/program/words.ts'

/** Dtype and shape of an output. */
export type Output = readonly [Dtype, readonly number[]]

/** An attribute in the table's order; a `scalar` is given by its value. */
export type Attribute = number | readonly number[]

/** The words of one f64, low first. */
export function floatWords(value: number): [number, number] {
  const words = new Uint32Array(new Float64Array([value]).buffer)
  return [words[0]!, words[1]!]
}

/** Builds one stream; registers are the numbers that `input` and `op` return. */
export class StreamBuilder {
  readonly code: number[] = []
  readonly inputs: number[] = []
  readonly outputs: number[] = []
  readonly frees: number[] = []
  readonly scalars: number[] = []
  #registers = 0

  /** Declares an input slot. */
  input(slot: number, dtype: Dtype, shape: readonly number[]): number {
    this.inputs.push(slot)
    return this.op('input', [], [[dtype, shape]])
  }

  /** Appends an instruction; returns the register of its first output. */
  op(
    name: OpcodeName,
    inputs: readonly (number | null)[],
    outputs: readonly Output[] = [],
    attributes: readonly Attribute[] = [],
  ): number {
    const row: Opcode = OPCODES[name]
    const words = [0, (outputs.length | (inputs.length << 8)) >>> 0]
    for (const [dtype, shape] of outputs) words.push(DTYPE_CODES[dtype] | (shape.length << 8), ...shape)
    for (const register of inputs) words.push(register ?? NONE)
    row.attributes.forEach((kind, i) => {
      const value = attributes[i]!
      if (typeof value !== 'number') words.push(value.length, ...value)
      else if (kind === 'f64') words.push(...floatWords(value))
      else if (kind === 'scalar') words.push(this.scalars.push(value) - 1)
      else words.push(value >>> 0)
    })
    words[0] = (row.code | (words.length << 16)) >>> 0
    this.code.push(...words)
    const first = this.#registers
    this.#registers += outputs.length
    return first
  }

  /** Sends a register to a slot. */
  output(register: number, slot: number): this {
    this.outputs.push(slot)
    this.op('output', [register])
    return this
  }

  /** Frees a slot after the code. */
  free(slot: number): this {
    this.frees.push(slot)
    return this
  }

  /** The stream. */
  words(): Uint32Array {
    const { inputs, outputs, frees, scalars, code } = this
    return Uint32Array.from([
      MAGIC,
      ...[inputs, outputs, frees, scalars, code].map((part) => part.length),
      ...inputs,
      ...outputs,
      ...frees,
      ...scalars.flatMap(floatWords),
      ...code,
    ])
  }
}
