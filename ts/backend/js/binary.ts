/**
 * Loops over two operands that advance by a step each: 1 along an array, 0 where broadcasting repeats one element.
 * Written out for the same reasons as the loops over one operand.
 */

import type { TypedArray } from '../../dtype.ts'

/** out[oi + i] = f(a[ai + i·as], b[bi + i·bs]) for i < n; p and q are the parameters that a few functions have. */
export type BinaryLoop = (
  a: TypedArray,
  ai: number,
  as: number,
  b: TypedArray,
  bi: number,
  bs: number,
  out: TypedArray,
  oi: number,
  n: number,
  p: number,
  q: number,
) => void

type IntBinary = 'add' | 'sub' | 'mul' | 'maximum' | 'minimum'
type FloatBinary = IntBinary | 'div' | 'pow'
type Logic = 'equal' | 'notEqual' | 'greater' | 'greaterEqual' | 'less' | 'lessEqual' | 'logicalAnd' | 'logicalOr'

/** IEEE's power: unlike `**`, 1 to the power of NaN and ±1 to the power of ±Infinity are 1. */
function power(base: number, exponent: number): number {
  if (base === 1) return 1
  if (base === -1 && (exponent === Infinity || exponent === -Infinity)) return 1
  return base ** exponent
}

/** Arithmetic on floats; NaN passes `maximum` and `minimum`. */
export const FLOAT_BINARY: Readonly<Record<FloatBinary, BinaryLoop>> = {
  add(a, ai, as, b, bi, bs, out, oi, n) {
    for (let i = 0; i < n; i++, ai += as, bi += bs) out[oi + i] = a[ai]! + b[bi]!
  },
  sub(a, ai, as, b, bi, bs, out, oi, n) {
    for (let i = 0; i < n; i++, ai += as, bi += bs) out[oi + i] = a[ai]! - b[bi]!
  },
  mul(a, ai, as, b, bi, bs, out, oi, n) {
    for (let i = 0; i < n; i++, ai += as, bi += bs) out[oi + i] = a[ai]! * b[bi]!
  },
  div(a, ai, as, b, bi, bs, out, oi, n) {
    for (let i = 0; i < n; i++, ai += as, bi += bs) out[oi + i] = a[ai]! / b[bi]!
  },
  pow(a, ai, as, b, bi, bs, out, oi, n) {
    for (let i = 0; i < n; i++, ai += as, bi += bs) out[oi + i] = power(a[ai]!, b[bi]!)
  },
  maximum(a, ai, as, b, bi, bs, out, oi, n) {
    for (let i = 0; i < n; i++, ai += as, bi += bs) out[oi + i] = Math.max(a[ai]!, b[bi]!)
  },
  minimum(a, ai, as, b, bi, bs, out, oi, n) {
    for (let i = 0; i < n; i++, ai += as, bi += bs) out[oi + i] = Math.min(a[ai]!, b[bi]!)
  },
}

/** Arithmetic on i32, which wraps around. */
export const INT_BINARY: Readonly<Record<IntBinary, BinaryLoop>> = {
  add(a, ai, as, b, bi, bs, out, oi, n) {
    for (let i = 0; i < n; i++, ai += as, bi += bs) out[oi + i] = (a[ai]! + b[bi]!) | 0
  },
  sub(a, ai, as, b, bi, bs, out, oi, n) {
    for (let i = 0; i < n; i++, ai += as, bi += bs) out[oi + i] = (a[ai]! - b[bi]!) | 0
  },
  mul(a, ai, as, b, bi, bs, out, oi, n) {
    for (let i = 0; i < n; i++, ai += as, bi += bs) out[oi + i] = Math.imul(a[ai]!, b[bi]!)
  },
  maximum(a, ai, as, b, bi, bs, out, oi, n) {
    for (let i = 0; i < n; i++, ai += as, bi += bs) out[oi + i] = Math.max(a[ai]!, b[bi]!)
  },
  minimum(a, ai, as, b, bi, bs, out, oi, n) {
    for (let i = 0; i < n; i++, ai += as, bi += bs) out[oi + i] = Math.min(a[ai]!, b[bi]!)
  },
}

/** Comparisons and logic, the same for every dtype; results are 0 and 1. */
export const LOGIC: Readonly<Record<Logic, BinaryLoop>> = {
  equal(a, ai, as, b, bi, bs, out, oi, n) {
    for (let i = 0; i < n; i++, ai += as, bi += bs) out[oi + i] = a[ai]! === b[bi]! ? 1 : 0
  },
  notEqual(a, ai, as, b, bi, bs, out, oi, n) {
    for (let i = 0; i < n; i++, ai += as, bi += bs) out[oi + i] = a[ai]! !== b[bi]! ? 1 : 0
  },
  greater(a, ai, as, b, bi, bs, out, oi, n) {
    for (let i = 0; i < n; i++, ai += as, bi += bs) out[oi + i] = a[ai]! > b[bi]! ? 1 : 0
  },
  greaterEqual(a, ai, as, b, bi, bs, out, oi, n) {
    for (let i = 0; i < n; i++, ai += as, bi += bs) out[oi + i] = a[ai]! >= b[bi]! ? 1 : 0
  },
  less(a, ai, as, b, bi, bs, out, oi, n) {
    for (let i = 0; i < n; i++, ai += as, bi += bs) out[oi + i] = a[ai]! < b[bi]! ? 1 : 0
  },
  lessEqual(a, ai, as, b, bi, bs, out, oi, n) {
    for (let i = 0; i < n; i++, ai += as, bi += bs) out[oi + i] = a[ai]! <= b[bi]! ? 1 : 0
  },
  logicalAnd(a, ai, as, b, bi, bs, out, oi, n) {
    for (let i = 0; i < n; i++, ai += as, bi += bs) out[oi + i] = a[ai]! & b[bi]!
  },
  logicalOr(a, ai, as, b, bi, bs, out, oi, n) {
    for (let i = 0; i < n; i++, ai += as, bi += bs) out[oi + i] = a[ai]! | b[bi]!
  },
}
