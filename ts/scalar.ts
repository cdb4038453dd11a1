/**
 * Numbers that change from run to run of a compiled function. A plain number in a compiled function is a constant of its
 * program; a scalar is an input of it. Outside compiled functions it is worth its value at the moment it is used.
 */

import { expected } from './errors.ts'
import { refuseTracing } from './program/tracing.ts'

/** A number with a name of its own; made by {@link scalar}. */
export class Scalar {
  #value: number
  /** @internal What an argument of a compiled function stands for in the run at hand. */
  source: Scalar | null = null

  /** @internal */
  constructor(value: number) {
    this.#value = checked(value)
  }

  /**
   * The number. Operations that have been recorded before a change keep the old one.
   *
   * @throws `ERR_TRACE` inside a compiled function, where only the scalar itself can be used
   */
  get value(): number {
    refuseTracing('reading the value of a scalar', 'use the scalar itself as an operand')
    return this.#value
  }

  set value(value: number) {
    refuseTracing('setting a scalar', 'set it between the calls')
    this.#value = checked(value)
  }

  /** What arithmetic of JavaScript sees: the number, outside compiled functions. */
  [Symbol.toPrimitive](): number {
    return this.value
  }

  /** @internal The number, whatever is being recorded. */
  read(): number {
    return this.source === null ? this.#value : this.source.read()
  }
}

/**
 * A number to use as an operand, that can be changed between the runs of a compiled function.
 *
 * @param value any number
 * @throws `ERR_ARGUMENT` for what is no number
 *
 * @example
 * ```ts
 * import { type Tensor, compile, scalar, tensor } from 'tilegrad'
 * const temperature = scalar(1)
 * const soften = compile((x: Tensor) => x.div(temperature).softmax(-1))
 * const x = tensor([1, 2, 3])
 * const before = soften(x)
 * temperature.value = 0.5
 * console.log((await before.data())[2], (await soften(x).data())[2]) // 0.665241 0.866813
 * ```
 */
export function scalar(value: number): Scalar {
  return new Scalar(value)
}

function checked(value: unknown): number {
  if (typeof value !== 'number') throw expected('scalar: value', 'a number', value)
  return value
}
