/**
 * Where every register of a program lives. Registers whose memory goes to an output slot get buffers of their own;
 * temporaries share *cells*, which are reused as soon as nothing reads what they hold. Plans are kept by their code
 * words, since a training loop sends the same words again and again.
 */

import { BYTES_PER_ELEMENT } from '../../dtype.ts'
import { type Program, type Register, decode } from '../../program/decode.ts'
import { NONE } from '../../program/words.ts'
import { printInstruction } from '../../program/print.ts'

/** A decoded program and the places of its registers. */
export interface Plan {
  readonly program: Program
  readonly places: readonly Place[]
  /** Sizes in bytes of the buffers a run needs besides its inputs: first the cells, then the memory of outputs. */
  readonly buffers: readonly number[]
  /** Bytes of all cells together. */
  readonly cellBytes: number
  /** The most bytes of temporaries alive at one moment. */
  readonly liveBytes: number
}

/** Where one register lives. */
export interface Place {
  /** The buffer of the plan, or −1 for memory of an input. */
  readonly buffer: number
  /** The register whose memory this one is or looks at. */
  readonly root: number
  /** Elements from the start of the root's memory. */
  readonly offset: number
}

/** A cell may hold something smaller than itself, down to this part. */
const LEAST_USE = 1 / 4

/** Decodes and lays out. Throws `ERR_PROGRAM` for words that are no program. */
export function makePlan(code: Uint32Array): Plan {
  const program = decode(code)
  const { registers, instructions } = program
  const roots = new Array<number>(registers.length)
  const offsets = new Array<number>(registers.length).fill(0)
  const lastUse = new Array<number>(registers.length).fill(-1)
  const kept = new Set<number>()
  const external = new Set<number>()
  for (const { name, line, inputs, outputs, attributes } of instructions) {
    for (const register of outputs) roots[register] = register
    if (name === 'input') external.add(outputs[0]!)
    if (name === 'view') {
      const [view, source] = [outputs[0]!, inputs[0]!]
      roots[view] = roots[source]!
      offsets[view] = offsets[source]! + attributes[0]!
    }
    for (const register of [...inputs, ...outputs]) if (register !== NONE) lastUse[roots[register]!] = line
    if (name === 'output') kept.add(roots[inputs[0]!]!)
  }
  const cells = new Cells()
  const buffers = new Map<number, number>()
  const ending: number[][] = instructions.map(() => [])
  let live = 0
  let liveBytes = 0
  for (const { name, line, outputs } of instructions) {
    for (const register of outputs) {
      if (name === 'view' || name === 'input' || kept.has(register)) continue
      const bytes = bytesOf(registers[register]!)
      buffers.set(register, cells.take(bytes))
      live += bytes
      ending[lastUse[register]!]!.push(register)
    }
    liveBytes = Math.max(liveBytes, live)
    for (const register of ending[line]!) {
      cells.release(buffers.get(register)!)
      live -= bytesOf(registers[register]!)
    }
  }
  const sizes = cells.sizes
  const cellBytes = sizes.reduce((sum, bytes) => sum + bytes, 0)
  for (const root of kept) {
    if (!external.has(root)) buffers.set(root, sizes.push(bytesOf(registers[root]!)) - 1)
  }
  const places = roots.map((root, i) => ({ root, offset: offsets[i]!, buffer: buffers.get(root) ?? -1 }))
  return { program, places, buffers: sizes, cellBytes, liveBytes }
}

/** A plan as text: each instruction with the cells or the memory of outputs that its results go to. */
export function printPlan({ program, places, buffers, cellBytes, liveBytes }: Plan): string {
  const lines = program.instructions.map((instruction, i) => {
    const text = `${i}: ${printInstruction(program, instruction)}`
    const where = instruction.outputs.flatMap((register) => {
      const { buffer, root, offset } = places[register]!
      if (instruction.name === 'input') return []
      return root === register ? [`buffer ${buffer} of ${buffers[buffer]} bytes`] : [`%${root} from ${offset}`]
    })
    return where.length === 0 ? text : `${text}  in ${where.join(', ')}`
  })
  return `cells of ${cellBytes} bytes, ${liveBytes} alive at most\n${lines.join('\n')}\n`
}

/** Bytes a register takes on this device. */
export function bytesOf({ dtype, size }: Register): number {
  return size * BYTES_PER_ELEMENT[dtype]
}

/** Numbered pieces of memory that are taken and released while a program is laid out. */
class Cells {
  readonly sizes: number[] = []
  readonly #free = new Set<number>()

  /** The smallest free cell that is large enough and not far too large, else a new one. */
  take(bytes: number): number {
    let best = -1
    for (const cell of this.#free) {
      const size = this.sizes[cell]!
      if (size >= bytes && size * LEAST_USE <= bytes && (best < 0 || size < this.sizes[best]!)) best = cell
    }
    if (best < 0) return this.sizes.push(bytes) - 1
    this.#free.delete(best)
    return best
  }

  release(cell: number): void {
    this.#free.add(cell)
  }
}

/** Plans kept; as many distinct programs are in use at once only where shapes vary from step to step. */
const MOST_PLANS = 256

/** Plans by code words, the least recently used dropped first. */
export class PlanCache {
  hits = 0
  misses = 0
  /** By hash; two programs with one hash take turns. */
  readonly #entries = new Map<number, { readonly code: Uint32Array; readonly plan: Plan }>()

  get size(): number {
    return this.#entries.size
  }

  /** The plan of a program. The words are copied if they are new. */
  get(code: Uint32Array): Plan {
    const key = hash(code)
    const known = this.#entries.get(key)
    if (known !== undefined && equal(known.code, code)) {
      this.hits++
      this.#entries.delete(key)
      this.#entries.set(key, known)
      return known.plan
    }
    const entry = { code: code.slice(), plan: makePlan(code) }
    this.misses++
    this.#entries.delete(key)
    this.#entries.set(key, entry)
    if (this.#entries.size > MOST_PLANS) {
      const [oldest] = this.#entries.keys()
      this.#entries.delete(oldest!)
    }
    return entry.plan
  }

  clear(): void {
    this.#entries.clear()
  }
}

/** FNV-1a, word by word. */
function hash(words: Uint32Array): number {
  let h = 0x811c9dc5
  for (let i = 0; i < words.length; i++) h = Math.imul(h ^ words[i]!, 0x01000193)
  return h
}

function equal(a: Uint32Array, b: Uint32Array): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}
