/**
 * One run of a planned program: instructions in order, each with its operands' memory. An error of the data poisons the
 * results of its instruction and all that depends on them; an instruction that changes memory in place is left out when
 * one of its operands is poisoned. Memory and slots are the device's business.
 */

import type { Dtype, TypedArray } from '../../dtype.ts'
import { TilegradError } from '../../errors.ts'
import type { Instruction, Program, Register } from '../../program/decode.ts'
import { OPCODES, type Opcode, type OpcodeName } from '../../program/opcodes.ts'
import { NONE } from '../../program/words.ts'
import { printInstruction } from '../../program/print.ts'
import { BATCH_NORM } from './batch-norm.ts'
import { ELEMENTWISE } from './elementwise.ts'
import { GATHER } from './gather.ts'
import type { Call, Kernels, Operand } from './kernel.ts'
import { LOSS } from './loss.ts'
import { MATMUL } from './matmul.ts'
import { NORM } from './norm.ts'
import { OPTIM } from './optim.ts'
import type { Plan } from './plan.ts'
import { RANDOM } from './random.ts'
import { REDUCE } from './reduce.ts'
import { SCAN } from './scan.ts'
import { SHAPE } from './shape.ts'
import { SOFTMAX } from './softmax.ts'
import { STRUCTURE } from './structure.ts'
import { TOP_K } from './top-k.ts'

/** What a register holds: its elements, or the error it is poisoned with. */
export type Held = TypedArray | TilegradError

/** A kernel for every instruction. */
const KERNELS: Kernels = {
  ...STRUCTURE,
  ...ELEMENTWISE,
  ...REDUCE,
  ...TOP_K,
  ...SCAN,
  ...SOFTMAX,
  ...NORM,
  ...MATMUL,
  ...LOSS,
  ...SHAPE,
  ...GATHER,
  ...OPTIM,
  ...RANDOM,
  ...BATCH_NORM,
}

/** Which attributes are scalars, by position among those that are no list. */
const SCALARS: ReadonlyMap<string, ReadonlySet<number>> = new Map(
  Object.entries(OPCODES).map(([name, row]: [string, Opcode]) => {
    const kinds = row.attributes.filter((kind) => kind !== 'u32s')
    return [name, new Set(kinds.flatMap((kind, i) => (kind === 'scalar' ? [i] : [])))]
  }),
)

/**
 * Runs a program.
 *
 * @param inputs what the `input` instructions bind, in order
 * @param buffers memory by number, as the plan asks for
 * @param onError called once for every error that an instruction causes
 * @param onStep called after each kernel, with the time when it began
 * @returns what each register holds at the end; those in cells may have been overwritten
 */
export function run(
  { program, places }: Plan,
  inputs: readonly Held[],
  buffers: readonly ArrayBuffer[],
  scalars: readonly number[],
  onError: (error: TilegradError) => void,
  onStep?: (instruction: Instruction, start: number) => void,
): Held[] {
  const held: Held[] = []
  let nextInput = 0
  for (const instruction of program.instructions) {
    const { name } = instruction
    if (name === 'output') continue
    if (name === 'input') {
      held.push(inputs[nextInput++]!)
      continue
    }
    const poison = firstError(instruction, held)
    if (poison !== undefined) {
      for (const register of instruction.outputs) held[register] = poison
      continue
    }
    if (name === 'view') {
      const [register, offset] = [instruction.outputs[0]!, instruction.attributes[0]!]
      const source = held[instruction.inputs[0]!] as TypedArray
      held[register] = source.subarray(offset, offset + program.registers[register]!.size)
      continue
    }
    for (const register of instruction.outputs) {
      const { dtype, size } = program.registers[register]!
      held[register] = arrayOver(dtype, buffers[places[register]!.buffer]!, size)
    }
    const start = onStep === undefined ? 0 : performance.now()
    try {
      KERNELS[name](callOf(name, instruction, program, held, scalars))
    } catch (cause) {
      const error = locate(cause, program, instruction)
      onError(error)
      for (const register of instruction.outputs) held[register] = error
    }
    onStep?.(instruction, start)
  }
  return held
}

/** A typed array of `size` elements at the start of a buffer. */
export function arrayOver(dtype: Dtype, buffer: ArrayBuffer, size: number): TypedArray {
  switch (dtype) {
    case 'f32':
      return new Float32Array(buffer, 0, size)
    case 'i32':
      return new Int32Array(buffer, 0, size)
    case 'bool':
      return new Uint8Array(buffer, 0, size)
    case 'f64':
      return new Float64Array(buffer, 0, size)
  }
}

function firstError({ inputs }: Instruction, held: readonly Held[]): TilegradError | undefined {
  for (const register of inputs) {
    const value = held[register]
    if (value instanceof TilegradError) return value
  }
  return undefined
}

function callOf(
  name: OpcodeName,
  { inputs, outputs, attributes, list }: Instruction,
  { registers }: Program,
  held: readonly Held[],
  scalars: readonly number[],
): Call {
  const operand = (register: number): Operand => new Bound(registers[register]!, held[register] as TypedArray)
  const isScalar = SCALARS.get(name)!
  return {
    name,
    inputs: inputs.map((register) => (register === NONE ? undefined : operand(register))),
    outputs: outputs.map(operand),
    attributes: isScalar.size === 0 ? attributes : attributes.map((a, i) => (isScalar.has(i) ? scalars[a]! : a)),
    list,
  }
}

class Bound implements Operand {
  readonly data: TypedArray
  readonly dtype: Dtype
  readonly shape: readonly number[]
  readonly size: number

  constructor(register: Register, data: TypedArray) {
    this.data = data
    this.dtype = register.dtype
    this.shape = register.shape
    this.size = register.size
  }
}

/** An error with the instruction it comes from. */
function locate(cause: unknown, program: Program, instruction: Instruction): TilegradError {
  const { name, line } = instruction
  const where = `program line ${line}: ${printInstruction(program, instruction)}`
  const error = explained(cause, name, where)
  error.place = { op: name, line }
  return error
}

function explained(cause: unknown, name: OpcodeName, where: string): TilegradError {
  if (cause instanceof TilegradError) return new TilegradError(cause.code, `${cause.message} (${where})`, { cause })
  // V8's words for an ArrayBuffer that cannot be had: a kernel asked for scratch memory.
  if (cause instanceof RangeError && /allocation failed|Invalid typed array length/.test(cause.message)) {
    return new TilegradError('ERR_OUT_OF_MEMORY', `${name}: no scratch memory (${where})`, { cause })
  }
  return new TilegradError('ERR_INTERNAL', `${name} failed (${where})`, { cause })
}
