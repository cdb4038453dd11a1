/**
 * Loops over one operand. Each is written out, because a loop that calls a function per element runs several times
 * slower, and so that float and integer arrays keep loops of their own.
 */

import type { TypedArray } from '../../dtype.ts'
import { erf } from './erf.ts'

/** out[oi + i] = f(x[xi + i]) for i < n; p and q are the parameters that a few functions have. */
export type UnaryLoop = (
  x: TypedArray,
  xi: number,
  out: TypedArray,
  oi: number,
  n: number,
  p: number,
  q: number,
) => void

type IntUnary = 'neg' | 'abs' | 'sign' | 'square'
type FloatUnary =
  IntUnary | 'sqrt' | 'rsqrt' | 'reciprocal' | 'exp' | 'expm1' | 'log' | 'log1p' | 'erf' | 'floor' | 'ceil' | 'isFinite'

/** Functions of floats. */
export const FLOAT_UNARY: Readonly<Record<FloatUnary, UnaryLoop>> = {
  neg(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) out[oi + i] = -x[xi + i]!
  },
  abs(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) out[oi + i] = Math.abs(x[xi + i]!)
  },
  sign(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) out[oi + i] = Math.sign(x[xi + i]!)
  },
  square(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) {
      const v = x[xi + i]!
      out[oi + i] = v * v
    }
  },
  sqrt(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) out[oi + i] = Math.sqrt(x[xi + i]!)
  },
  rsqrt(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) out[oi + i] = 1 / Math.sqrt(x[xi + i]!)
  },
  reciprocal(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) out[oi + i] = 1 / x[xi + i]!
  },
  exp(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) out[oi + i] = Math.exp(x[xi + i]!)
  },
  expm1(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) out[oi + i] = Math.expm1(x[xi + i]!)
  },
  log(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) out[oi + i] = Math.log(x[xi + i]!)
  },
  log1p(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) out[oi + i] = Math.log1p(x[xi + i]!)
  },
  erf(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) out[oi + i] = erf(x[xi + i]!)
  },
  floor(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) out[oi + i] = Math.floor(x[xi + i]!)
  },
  ceil(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) out[oi + i] = Math.ceil(x[xi + i]!)
  },
  isFinite(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) out[oi + i] = Number.isFinite(x[xi + i]!) ? 1 : 0
  },
}

/** Functions of i32, which wrap around as the store into an `Int32Array` does. */
export const INT_UNARY: Readonly<Record<IntUnary, UnaryLoop>> = {
  neg(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) out[oi + i] = -x[xi + i]! | 0
  },
  abs(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) out[oi + i] = Math.abs(x[xi + i]!) | 0
  },
  sign(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) out[oi + i] = Math.sign(x[xi + i]!)
  },
  square(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) {
      const v = x[xi + i]!
      out[oi + i] = Math.imul(v, v)
    }
  },
}

/** Negation of bool. */
export const logicalNot: UnaryLoop = (x, xi, out, oi, n) => {
  for (let i = 0; i < n; i++) out[oi + i] = x[xi + i]! === 0 ? 1 : 0
}
