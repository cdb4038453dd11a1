/**
 * Programs as text, for debugging, error messages and the corpus of random programs: one line per instruction, such as
 * `%3: f32[32,512] = linear %0, %1, %2 {activation: relu, saveZ: 0}`. The text is for people; nothing parses it.
 */

import { type Instruction, type Program, decode, readStream } from './decode.ts'
import { OPCODES, type Opcode, type OpcodeName } from './opcodes.ts'
import { ACTIVATION_CODES, NONE } from './words.ts'

const NO_NAMES: readonly string[] = []
const CHANNELS: readonly string[] = ['outer', 'channels', 'inner']
const MIDDLE: readonly string[] = ['outer', 'count', 'inner']
const GROUPS: readonly string[] = ['outer', 'groups', 'channels', 'inner']

/** Names of the attributes in the table's order; the table itself has only their kinds. */
const ATTRIBUTE_NAMES: Readonly<Partial<Record<OpcodeName, readonly string[]>>> = {
  full: ['value'],
  view: ['offset'],
  leakyRelu: ['slope'],
  elu: ['alpha'],
  softplus: ['beta', 'threshold'],
  leakyReluGrad: ['slope'],
  eluGrad: ['alpha'],
  softplusGrad: ['beta', 'threshold'],
  clip: ['lowest', 'highest'],
  sum: MIDDLE,
  mean: MIDDLE,
  max: MIDDLE,
  min: MIDDLE,
  argmax: MIDDLE,
  argmin: MIDDLE,
  variance: [...MIDDLE, 'correction'],
  topK: [...MIDDLE, 'k'],
  cumsum: [...MIDDLE, 'reverse', 'exclusive'],
  cumprod: [...MIDDLE, 'reverse', 'exclusive'],
  softmax: MIDDLE,
  logSoftmax: MIDDLE,
  softmaxGrad: MIDDLE,
  logSoftmaxGrad: MIDDLE,
  matmul: ['transposeA', 'transposeB'],
  linear: ['activation', 'saveZ'],
  linearGrad: ['activation', 'wanted'],
  crossEntropy: ['ignoreIndex'],
  crossEntropyGrad: ['ignoreIndex'],
  weightedCrossEntropy: ['ignoreIndex', 'labelSmoothing'],
  weightedCrossEntropyGrad: ['ignoreIndex', 'labelSmoothing'],
  transpose: ['axes'],
  concat: ['axis'],
  slice: ['starts'],
  pad: ['before', 'value'],
  gather: ['axis', 'of'],
  scatterAdd: ['axis', 'of'],
  require: ['reason'],
  sgd: ['lr', 'momentum', 'dampening', 'weightDecay', 'nesterov', 'segments'],
  uniform: ['inner', 'seedLow', 'seedHigh', 'site', 'draw', 'rowBase'],
  dropout: ['inner', 'threshold', 'scale', 'seedLow', 'seedHigh', 'site', 'draw', 'rowBase'],
  adam: ['lr', 'beta1', 'beta2', 'eps', 'weightDecay', 'decoupled', 'segments'],
  rmsprop: ['lr', 'alpha', 'eps', 'weightDecay', 'momentum', 'segments'],
  ema: ['weight', 'segments'],
  layerNorm: ['outer', 'channels', 'eps'],
  layerNormGrad: ['outer', 'channels', 'wanted'],
  groupNorm: [...GROUPS, 'eps'],
  groupNormGrad: [...GROUPS, 'wanted'],
  rmsNorm: ['outer', 'channels', 'eps'],
  rmsNormGrad: ['outer', 'channels', 'wanted'],
  batchNormStatistics: CHANNELS,
  batchNormVariance: ['eps'],
  batchNorm: CHANNELS,
  batchNormGradSums: CHANNELS,
  batchNormGrad: CHANNELS,
  batchNormUpdate: ['momentum', 'cumulative', 'unbiased'],
}

const ACTIVATION_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(ACTIVATION_CODES).map(([name, code]) => [code, name]),
)

const GRADIENT_NAMES = ['dx', 'dweight', 'dbias']

/** One instruction of a program as text; with `scalars` their values stand in place of their numbers. */
export function printInstruction(program: Program, instruction: Instruction, scalars?: readonly number[]): string {
  const { name, inputs, outputs } = instruction
  const defined = outputs.map((register) => {
    const { dtype, shape } = program.registers[register]!
    return `%${register}: ${dtype}[${shape.join(',')}]`
  })
  const operands = inputs.map((register) => (register === NONE ? 'none' : `%${register}`))
  const attributes = printAttributes(instruction, scalars)
  return [
    ...(defined.length > 0 ? [defined.join(', '), '='] : []),
    name,
    ...(operands.length > 0 ? [operands.join(', ')] : []),
    ...(attributes.length > 0 ? [`{${attributes.join(', ')}}`] : []),
  ].join(' ')
}

/** A program as text, one line per instruction; a scalar is shown by its number, as `$0`. */
export function printProgram(program: Program): string {
  return program.instructions.map((instruction) => printInstruction(program, instruction)).join('\n')
}

/** A whole stream as text: the program with the values of its scalars, and the slots of inputs and outputs as `#7`. */
export function printStream(words: Uint32Array): string {
  const stream = readStream(words)
  const program = decode(stream.code)
  let input = 0
  let output = 0
  const lines = program.instructions.map((instruction) => {
    const line = printInstruction(program, instruction, stream.scalars)
    if (instruction.name === 'input') return `${line} ${printSlot(stream.inputs[input++])}`
    if (instruction.name === 'output') return `${line} → ${printSlot(stream.outputs[output++])}`
    return line
  })
  if (stream.frees.length > 0) lines.push(`free ${stream.frees.map(printSlot).join(', ')}`)
  return lines.join('\n')
}

function printSlot(slot: number | undefined): string {
  return slot === undefined ? '#missing' : `#${slot}`
}

function printAttributes({ name, attributes, list }: Instruction, scalars: readonly number[] | undefined): string[] {
  const row: Opcode = OPCODES[name]
  const names = ATTRIBUTE_NAMES[name] ?? NO_NAMES
  let next = 0
  return row.attributes.map((kind, i) => {
    const label = names[i] ?? `attribute${i}`
    if (kind === 'u32s') return `${label}: [${list.join(', ')}]`
    const value = attributes[next++]!
    if (kind === 'scalar') return `${label}: ${scalars?.[value] ?? `$${value}`}`
    return `${label}: ${kind === 'f64' ? value : printWord(label, value)}`
  })
}

function printWord(label: string, word: number): string {
  if (label === 'activation') return ACTIVATION_NAMES.get(word) ?? `unknown ${word}`
  if (label === 'ignoreIndex') return `${word | 0}`
  if (label === 'wanted') return GRADIENT_NAMES.filter((_, bit) => ((word >>> bit) & 1) === 1).join('+')
  return `${word}`
}
