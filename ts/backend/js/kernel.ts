/**
 * What a kernel of the `js` device is: a function over the operands and results of one instruction. Results are
 * allocated and hold anything; a kernel writes all of every result. It computes in f64 and rounds at the store, which
 * the typed arrays do by themselves. What only data can show (an index out of range) it throws as a `TilegradError`,
 * and the device poisons the results.
 */

import type { Dtype, TypedArray } from '../../dtype.ts'
import type { OpcodeName } from '../../program/opcodes.ts'
import type { Shape } from '../../shape.ts'

/** One operand or result. */
export interface Operand {
  readonly data: TypedArray
  readonly dtype: Dtype
  readonly shape: Shape
  readonly size: number
}

/** One instruction with its memory. */
export interface Call {
  readonly name: OpcodeName
  /** `undefined` where an operand is absent. */
  readonly inputs: readonly (Operand | undefined)[]
  readonly outputs: readonly Operand[]
  /** Attributes but the list, in the table's order; a `scalar` is its value already. */
  readonly attributes: readonly number[]
  /** The `u32s` attribute. */
  readonly list: readonly number[]
}

/** Runs one instruction. */
export type Kernel = (call: Call) => void

/** Instructions that move no data and are the device's own business. */
export type Structural = 'input' | 'output' | 'view'

/** A kernel for every other instruction: one that is missing is a type error. */
export type Kernels = Readonly<Record<Exclude<OpcodeName, Structural>, Kernel>>
