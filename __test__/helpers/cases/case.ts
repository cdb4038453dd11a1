/** What a row of the case table is; the rows themselves stand in the files beside this one, by family. */

import type { Device, Dtype, Tensor } from '../../../ts/index.ts'
import { type DtypeClass, OPCODES } from '../../../ts/program/opcodes.ts'
import type { Tolerance, Want } from '../compare.ts'
import type { Data } from '../data.ts'

/** One call of an operation with what it has to give. */
export interface Case {
  readonly title: string
  readonly inputs: readonly Data[]
  readonly run: (inputs: readonly Tensor[], device: Device) => Tensor | readonly Tensor[]
  readonly want: (inputs: readonly Data[]) => Want | readonly Want[]
  /** Whether derivatives are taken here: few elements, no special values, away from corners. */
  readonly grad?: boolean
}

/**
 * What gradients flow through an operation: none at all, zeros, those of a function with corners, or those of a smooth
 * function, which has second derivatives too.
 */
export type Gradient = 'none' | 'zero' | 'corners' | 'smooth'

/** One instruction of the opcode table. */
export interface Row {
  /** The public functions that record it; none for what only gradients and optimisers record. */
  readonly api: readonly string[]
  readonly tolerance: Tolerance
  readonly gradient: Gradient
  /** The calls, with inputs of a dtype of {@link dtypesOf}. */
  readonly cases: (dtype: Dtype) => Case[]
}

export const EXACT: Tolerance = { kind: 'exact' }

/** What transcendental functions in f32 may be off by; the second figure is two steps of the smallest subnormals. */
export const BUDGET: Tolerance = { kind: 'budget', relative: 5e-7, absolute: 3e-45 }

/** Norms and losses. */
export const LOSS: Tolerance = { kind: 'scale', relative: 1.3e-6, absolute: 1e-5 }

/** Sums and products. */
export const SUM: Tolerance = { kind: 'sum' }

const DTYPES: Readonly<Record<DtypeClass, readonly Dtype[]>> = {
  float: ['f32', 'f64'],
  number: ['f32', 'f64', 'i32'],
  any: ['f32', 'f64', 'i32', 'bool'],
  bool: ['bool'],
}

/** The element types an instruction takes. */
export function dtypesOf(op: keyof typeof OPCODES): readonly Dtype[] {
  return DTYPES[OPCODES[op].dtypes]
}

/** `[2, 3]·[3]`, for titles. */
export function shapesOf(inputs: readonly Data[]): string {
  return inputs.map((x) => `[${x.shape.join(', ')}]`).join('·')
}

/** What may be one or a list, as a list. */
export function listOf<T extends object>(x: T | readonly T[]): readonly T[] {
  return Array.isArray(x) ? (x as readonly T[]) : [x as T]
}
