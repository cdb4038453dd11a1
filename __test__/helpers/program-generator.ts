/**
 * Random programs: directed graphs of operations over small tensors, some with a backward pass. A program is plain data
 * that prints as text and lives as JSON in a corpus. fast-check draws lists of arbitrary numbers; {@link build} reads
 * every such list as a valid program, so that dropping or lowering numbers, which is how fast-check shrinks, always
 * leaves one.
 *
 * Two static bounds go with every value: its magnitude, and by how much a rounding error anywhere before may have grown
 * (in units of the rounding). An operation that would take either too far is not taken, so results of f32 devices have
 * to agree with f64 within 1e-4 of the scale. What jumps (comparisons, steps, argmax) only sees whole numbers.
 */

import { type Shape, numel } from '../../ts/shape.ts'
import { Philox } from '../../ts/random.ts'
import { RULES } from './rules/index.ts'
import type { Rule } from './rules/rule.ts'

/** A leaf or the result of a step, as the generator knows it. */
export interface Known {
  readonly shape: Shape
  readonly kind: 'float' | 'index' | 'bool'
  /** Whether all elements are whole numbers, exactly. */
  readonly whole: boolean
  /** No element is larger than this. */
  readonly magnitude: number
  /** No element is off by more than this many roundings of a number near 1. */
  readonly error: number
}

/** A tensor that a program starts with. */
export interface Leaf {
  readonly shape: readonly number[]
  readonly kind: 'float' | 'index'
  readonly whole: boolean
  readonly values: readonly number[]
  readonly requiresGrad: boolean
}

/** An operation on earlier results. */
export interface Step {
  readonly op: string
  readonly inputs: readonly number[]
  readonly options: Readonly<Record<string, number | readonly number[] | boolean | string>>
}

/** Leaves, then steps; numbers in `inputs` count both. With `backward`, the sum of the last float result is pulled back. */
export interface Program {
  readonly leaves: readonly Leaf[]
  readonly steps: readonly Step[]
  readonly backward: boolean
}

/** Arbitrary numbers, as fast-check draws and shrinks them. */
export interface Raw {
  readonly seed: number
  readonly backward: boolean
  readonly leaves: readonly (readonly number[])[]
  readonly steps: readonly (readonly number[])[]
}

/** Hands out the numbers of a list one by one, then zeros. */
export class Choices {
  readonly #numbers: readonly number[]
  #at = 0

  constructor(numbers: readonly number[]) {
    this.#numbers = numbers
  }

  /** One of `count` possibilities. */
  below(count: number): number {
    return count <= 1 ? 0 : (this.#numbers[this.#at++] ?? 0) % count
  }

  /** One of the list. */
  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!
  }

  flag(): boolean {
    return this.below(2) === 1
  }
}

const LARGEST = 64
const MOST_ERROR = 200
const MOST_ELEMENTS = 600

const SHAPES: readonly Shape[] = [
  [3],
  [1],
  [],
  [2, 3],
  [3, 1],
  [4, 3],
  [1, 5],
  [2, 3, 4],
  [3, 3],
  [17],
  [5, 8],
  [0],
  [2, 1, 3],
  [3, 0],
  [33, 2],
]

/** The program that these numbers mean. */
export function build(raw: Raw): Program {
  const leaves = raw.leaves.map((numbers, i) => leaf(new Choices(numbers), raw.seed, i))
  const known: Known[] = leaves.map(({ shape, kind, whole }) => ({ shape, kind, whole, magnitude: 2, error: 0 }))
  const steps: Step[] = []
  for (const numbers of raw.steps) {
    const choices = new Choices(numbers)
    const rule = choices.of(RULES)
    const found = attempt(rule, choices, known)
    if (found === null) continue
    steps.push(found.step)
    known.push(found.result)
  }
  return { leaves, steps, backward: raw.backward }
}

function attempt(rule: Rule, choices: Choices, known: readonly Known[]): { step: Step; result: Known } | null {
  const planned = rule.plan(choices, known)
  if (planned === null) return null
  const { shape, magnitude, error } = planned.result
  if (numel(shape) > MOST_ELEMENTS || shape.length > 5 || magnitude > LARGEST || error > MOST_ERROR) return null
  return { step: { op: rule.op, inputs: planned.inputs, options: planned.options ?? {} }, result: planned.result }
}

function leaf(choices: Choices, seed: number, index: number): Leaf {
  const shape = choices.of(SHAPES)
  const form = choices.below(6)
  const kind = form === 5 ? 'index' : 'float'
  const whole = form >= 4
  const random = new Philox({ site: 1, row: index }, [seed >>> 0, 0])
  const values = Array.from({ length: numel(shape) }, () =>
    kind === 'index' ? random.below(3) : whole ? random.below(5) - 2 : Math.fround(4 * random.uniform() - 2),
  )
  return { shape: [...shape], kind, whole, values, requiresGrad: kind === 'float' && choices.below(3) !== 2 }
}

/** A program as text, for failures. */
export function print(program: Program): string {
  const leaves = program.leaves.map(
    (l, i) =>
      `%${i} = leaf [${l.shape.join(', ')}] ${l.kind}${l.whole ? ', whole' : ''}${l.requiresGrad ? ', requires grad' : ''}: ${l.values.slice(0, 24).join(' ')}${l.values.length > 24 ? ' …' : ''}`,
  )
  const steps = program.steps.map(({ op, inputs, options }, i) => {
    const named = Object.entries(options).map(([name, value]) => `${name}: ${JSON.stringify(value)}`)
    return `%${program.leaves.length + i} = ${op} ${inputs.map((n) => `%${n}`).join(', ')}${named.length > 0 ? ` {${named.join(', ')}}` : ''}`
  })
  return [...leaves, ...steps, ...(program.backward ? ['backward'] : [])].join('\n')
}
