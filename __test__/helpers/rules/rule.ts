/**
 * What an operation of random programs is: how it is chosen among known results, what is known of its result (shape,
 * magnitude, how far rounding errors have grown), and how it runs.
 */

import type { Tensor } from '../../../ts/index.ts'
import { type Shape, broadcastShapes } from '../../../ts/shape.ts'
import type { Choices, Known, Step } from '../program-generator.ts'

export type Options = Step['options']

export interface Planned {
  readonly inputs: readonly number[]
  readonly options?: Options
  readonly result: Known
}

/** One operation. */
export interface Rule {
  readonly op: string
  /** Picks operands and options; `null` when nothing fits. */
  plan(choices: Choices, known: readonly Known[]): Planned | null
  apply(inputs: readonly Tensor[], options: Options): Tensor
  /**
   * For operations whose derivative jumps: how far the operands' elements are from the nearest jump. Where it is tiny,
   * rounding decides which side counts, and gradients cannot be compared.
   */
  distance?(inputs: readonly ArrayLike<number>[], options: Options, shapes: readonly Shape[]): number
}

export const float = (k: Known): boolean => k.kind === 'float'
export const whole = (k: Known): boolean => k.kind === 'float' && k.whole

export function pick(choices: Choices, known: readonly Known[], fits: (k: Known) => boolean): number | null {
  const candidates = known.flatMap((k, i) => (fits(k) ? [i] : []))
  if (candidates.length === 0) return null
  // The lower of two numbers, counted from the end: late results come more often, so that programs grow deep.
  const back = Math.min(choices.below(candidates.length), choices.below(candidates.length))
  return candidates[candidates.length - 1 - back]!
}

export function shaped(k: Known, change: Partial<Known>): Known {
  const result = { ...k, ...change }
  return result.whole ? { ...result, error: 0 } : result
}

export function stretched(a: Shape, b: Shape): Shape | null {
  try {
    return broadcastShapes('program', a, b)
  } catch {
    return null
  }
}
