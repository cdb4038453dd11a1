/**
 * Comparing what a device computed with what the formula gives in f64, element by element. The tolerances are those
 * of the textbook or of the budget that an operation declares; f64 on the `js` device is held to the same rules with its
 * own unit roundoff.
 */

import type { Dtype, Shape, TypedArray } from '../../ts/index.ts'
import { type Data, round } from './data.ts'

/** How near a result has to be. */
export type Tolerance =
  /** The exact value, rounded once. */
  | { readonly kind: 'exact' }
  /** |error| ≤ relative · |value|, or ≤ absolute. */
  | { readonly kind: 'budget'; readonly relative: number; readonly absolute: number }
  /** |error| ≤ relative · |value| + absolute · the largest |value| of the tensor. */
  | { readonly kind: 'scale'; readonly relative: number; readonly absolute: number }
  /**
   * |error| ≤ γ_terms · magnitude, whatever the order of additions and with or without fused multiply-add (Higham,
   * "Accuracy and Stability of Numerical Algorithms", ch. 3), plus a budget relative to the magnitude for what
   * follows the sum.
   */
  | { readonly kind: 'sum'; readonly budget?: number }
  /** What another library gave in f64: f32 as `scale` with 1.3e-6 and 1e-5, f64 within 1e-9 of the largest |value|. */
  | { readonly kind: 'golden' }

/** The exact result with what its tolerance needs. */
export interface Want extends Data {
  /** The same sum with absolute values. */
  readonly magnitude?: Float64Array
  /** Roundings on the way to an element; one number for all. */
  readonly terms?: number
  /** In place of the row's. */
  readonly tolerance?: Tolerance
}

/** f64 computes with 29 more bits; three are left for the reference, which rounds too. */
const F64_RATIO = 2 ** -26

/** γ_k = k·u/(1 − k·u). */
export function gamma(k: number, dtype: Dtype): number {
  const ku = k * (dtype === 'f64' ? 2 ** -53 : 2 ** -24)
  return ku / (1 - ku)
}

/** The largest allowed error at an element. */
function allowed(want: Want, tolerance: Tolerance, i: number, scale: number): number {
  const exact = Math.abs(want.values[i]!)
  const ratio = want.dtype === 'f64' ? F64_RATIO : 1
  switch (tolerance.kind) {
    case 'exact':
      return 0
    case 'budget':
      return ratio * Math.max(tolerance.relative * exact, tolerance.absolute)
    case 'scale':
      return ratio * (tolerance.relative * exact + tolerance.absolute * scale)
    case 'sum': {
      const roundings = gamma(want.terms!, want.dtype)
      return (roundings + ratio * (tolerance.budget ?? 0)) * want.magnitude![i]!
    }
    case 'golden':
      return want.dtype === 'f64' ? 1e-9 * scale : 1.3e-6 * exact + 1e-5 * scale
  }
}

/** The largest |value| that is finite. */
export function largest(values: ArrayLike<number>): number {
  let most = 0
  for (let i = 0; i < values.length; i++) if (Number.isFinite(values[i])) most = Math.max(most, Math.abs(values[i]!))
  return most
}

/** The worst error of a tensor relative to what was allowed; 0 when all is exact. */
export interface Comparison {
  readonly worst: number
  /** Why it does not fit, or `null`. */
  readonly problem: string | null
}

function bad(problem: string): Comparison {
  return { worst: Infinity, problem }
}

/** Compares a result with what was wanted. */
export function compare(got: TypedArray, shape: Shape, dtype: Dtype, want: Want, rule: Tolerance): Comparison {
  if (dtype !== want.dtype) return bad(`dtype ${dtype} instead of ${want.dtype}`)
  if (shape.join() !== want.shape.join())
    return bad(`shape [${shape.join(', ')}] instead of [${want.shape.join(', ')}]`)
  if (got.length !== want.values.length) return bad(`${got.length} elements instead of ${want.values.length}`)
  const tolerance = want.tolerance ?? rule
  const scale = largest(want.values)
  let worst = 0
  for (let i = 0; i < got.length; i++) {
    const value = got[i]!
    const exact = round(want.dtype, want.values[i]!)
    if (value === exact || (Number.isNaN(value) && Number.isNaN(exact))) continue
    const limit = allowed(want, tolerance, i, scale)
    const error = Math.abs(value - want.values[i]!)
    // Written so that NaN and Infinity fail.
    if (!(error <= limit)) {
      return bad(
        `element ${i} of [${shape.join(', ')}] is ${value}, exact ${want.values[i]}; off by ${error}, allowed ${limit}`,
      )
    }
    worst = Math.max(worst, error / limit)
  }
  return { worst, problem: null }
}

/** The first difference between two arrays by their bits, or `null`. */
export function differentBits(a: TypedArray, b: TypedArray): string | null {
  if (a.length !== b.length) return `${a.length} and ${b.length} elements`
  const [x, y] = [bytes(a), bytes(b)]
  const at = x.findIndex((byte, i) => byte !== y[i])
  if (at < 0) return null
  const i = Math.floor(at / a.BYTES_PER_ELEMENT)
  return `element ${i} is ${a[i]} in one and ${b[i]} in the other`
}

function bytes(a: TypedArray): Uint8Array {
  return new Uint8Array(a.buffer, a.byteOffset, a.byteLength)
}
