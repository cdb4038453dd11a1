/**
 * Values that are defined later than they are used. A computation may need a sum over parts of which only the first has
 * been recorded, such as the statistics of all micro-batches in the forward pass of the first one. It gets a placeholder;
 * once all is recorded, the placeholder is exchanged for what it stands for, and the instructions are put into an order
 * in which everything is defined before it is used. Only whole recordings can be put in order, so late values are for
 * compiled functions.
 */

import { TilegradError } from '../errors.ts'
import { OPCODES, type Opcode } from './opcodes.ts'
import { NONE } from './words.ts'

/** Instructions in another order. */
export interface Arranged {
  readonly words: Uint32Array<ArrayBuffer>
  /** The new number of each register; that of a placeholder is the number of what it stood for. */
  readonly registers: Uint32Array
  readonly instructions: number
}

/** One instruction where it stands. */
interface Placed {
  readonly start: number
  readonly end: number
  /** Where its input registers begin, and how many there are. */
  readonly inputs: number
  readonly inputCount: number
  /** Its first output register, and how many there are. */
  readonly register: number
  readonly outputCount: number
  readonly row: Opcode
}

const ROWS: ReadonlyMap<number, Opcode> = new Map(Object.values(OPCODES).map((row) => [row.code, row]))

/**
 * The same program with every placeholder exchanged and everything defined before it is used. Otherwise instructions
 * stay in their order: each comes as early as what it needs allows, the one recorded first before the others. Those that
 * touch memory which one of them changes keep their order among each other.
 *
 * @param words of a program without `output` instructions
 * @param meant by register of a placeholder, the register of what it stands for
 * @param shared by register of an input, the register of one that shows the same memory
 * @throws `ERR_INTERNAL` when something is needed for its own definition
 */
export function arranged(
  words: Uint32Array,
  meant: ReadonlyMap<number, number>,
  shared: ReadonlyMap<number, number>,
): Arranged {
  const { instructions, count } = parse(words)
  const final = (register: number): number => {
    let at = register
    for (let next = meant.get(at); next !== undefined; next = meant.get(at)) at = next
    return at
  }
  const definedBy = new Uint32Array(count)
  instructions.forEach(({ register, outputCount }, i) => definedBy.fill(i, register, register + outputCount))
  const waitsFor = dependencies(words, instructions, definedBy, final, shared)
  const order = sorted(waitsFor).filter((i) => !meant.has(instructions[i]!.register))

  const registers = new Uint32Array(count)
  let next = 0
  for (const i of order) {
    const { register, outputCount } = instructions[i]!
    for (let j = 0; j < outputCount; j++) registers[register + j] = next++
  }
  const out = new Uint32Array(words.length)
  let at = 0
  for (const i of order) {
    const { start, end, inputs, inputCount } = instructions[i]!
    out.set(words.subarray(start, end), at)
    for (let j = 0; j < inputCount; j++) {
      const register = words[inputs + j]!
      if (register !== NONE) out[at + inputs - start + j] = registers[final(register)]!
    }
    at += end - start
  }
  for (const register of meant.keys()) registers[register] = registers[final(register)]!
  return { words: out.subarray(0, at), registers, instructions: order.length }
}

function parse(words: Uint32Array): { readonly instructions: readonly Placed[]; readonly count: number } {
  const instructions: Placed[] = []
  let register = 0
  for (let start = 0; start < words.length;) {
    const head = words[start]!
    const counts = words[start + 1]!
    const [outputCount, inputCount] = [counts & 0xff, counts >>> 8]
    let at = start + 2
    for (let i = 0; i < outputCount; i++) at += 1 + ((words[at]! >>> 8) & 0xff)
    const end = start + (head >>> 16)
    instructions.push({ start, end, inputs: at, inputCount, register, outputCount, row: ROWS.get(head & 0xffff)! })
    register += outputCount
    start = end
  }
  return { instructions, count: register }
}

/** For each instruction, those that have to come before it. */
function dependencies(
  words: Uint32Array,
  instructions: readonly Placed[],
  definedBy: Uint32Array,
  final: (register: number) => number,
  shared: ReadonlyMap<number, number>,
): readonly ReadonlySet<number>[] {
  /** The register whose memory a register shows. */
  const roots = new Map(shared)
  const changed = new Set<number>()
  const inputsOf = ({ inputs, inputCount }: Placed): number[] =>
    [...words.subarray(inputs, inputs + inputCount)].map((register) => (register === NONE ? NONE : final(register)))
  const rootOf = (register: number): number => {
    let at = register
    for (let next = roots.get(at); next !== undefined; next = roots.get(at)) at = next
    return at
  }
  for (const instruction of instructions) {
    if (instruction.row === OPCODES.view) roots.set(instruction.register, inputsOf(instruction)[0]!)
  }
  for (const instruction of instructions) {
    const given = inputsOf(instruction)
    for (const i of instruction.row.mutates ?? []) if (given[i]! !== NONE) changed.add(rootOf(given[i]!))
  }
  // Of memory that is changed: the last change, and who has looked at it since.
  const lastChange = new Map<number, number>()
  const looked = new Map<number, number[]>()
  return instructions.map((instruction, i) => {
    const before = new Set<number>()
    const given = inputsOf(instruction)
    const changes = new Set(
      (instruction.row.mutates ?? []).map((at) => (given[at]! === NONE ? NONE : rootOf(given[at]!))),
    )
    for (const register of given) {
      if (register === NONE) continue
      before.add(definedBy[register]!)
      const root = rootOf(register)
      if (!changed.has(root)) continue
      if (lastChange.has(root)) before.add(lastChange.get(root)!)
      if (!changes.has(root)) looked.set(root, [...(looked.get(root) ?? []), i])
    }
    for (const root of changes) {
      for (const other of looked.get(root) ?? []) before.add(other)
      looked.delete(root)
      lastChange.set(root, i)
    }
    return before
  })
}

/** An order in which each comes after what it waits for, and otherwise the lowest number first. */
function sorted(waitsFor: readonly ReadonlySet<number>[]): number[] {
  const missing = waitsFor.map((before) => before.size)
  const waiting: number[][] = waitsFor.map(() => [])
  waitsFor.forEach((before, i) => {
    for (const other of before) waiting[other]!.push(i)
  })
  const ready = new Heap()
  missing.forEach((count, i) => {
    if (count === 0) ready.push(i)
  })
  const order: number[] = []
  for (let i = ready.pop(); i !== undefined; i = ready.pop()) {
    order.push(i)
    for (const next of waiting[i]!) if (--missing[next]! === 0) ready.push(next)
  }
  if (order.length < waitsFor.length)
    throw new TilegradError('ERR_INTERNAL', 'compile: a value that is defined later is needed for its own definition')
  return order
}

/** Numbers, the smallest first. */
class Heap {
  readonly #items: number[] = []

  push(item: number): void {
    const items = this.#items
    let at = items.push(item) - 1
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (items[parent]! <= item) break
      items[at] = items[parent]!
      at = parent
    }
    items[at] = item
  }

  pop(): number | undefined {
    const items = this.#items
    const top = items[0]
    const last = items.pop()
    if (last === undefined || items.length === 0) return top
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= items.length) break
      if (child + 1 < items.length && items[child + 1]! < items[child]!) child++
      if (items[child]! >= last) break
      items[at] = items[child]!
      at = child
    }
    items[at] = last
    return top
  }
}
