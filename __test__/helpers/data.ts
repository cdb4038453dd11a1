/**
 * Arrays as tests hold them: shape, dtype and values in f64, independent of tensors. Random values are a function of
 * their shape and a salt, so that a case has the same numbers in every process and on every device. Values are always
 * representable in the dtype; those of f64 are kept representable in f32, so that one case serves both.
 */

import { type Device, type Dtype, type Shape, type Tensor, tensor } from '../../ts/index.ts'

/** An array in row-major order. */
export interface Data {
  readonly dtype: Dtype
  readonly shape: Shape
  readonly values: Float64Array
}

/** Lengths where kernels change their path: nothing, one, primes, and one around the widths of vectors and tiles. */
export const SIZES: readonly number[] = [0, 1, 2, 3, 7, 15, 16, 17, 31, 33, 255, 256, 257, 1009]

/** Number of elements. */
export function count(shape: Shape): number {
  return shape.reduce((n, d) => n * d, 1)
}

/** What a number becomes in a dtype. */
export function round(dtype: Dtype, x: number): number {
  switch (dtype) {
    case 'f32':
      return Math.fround(x)
    case 'f64':
      return x
    case 'i32':
      return x | 0
    case 'bool':
      return x === 0 ? 0 : 1
  }
}

/** An array from values or from a function of the position. */
export function array(dtype: Dtype, shape: Shape, values: ArrayLike<number> | ((i: number) => number)): Data {
  const at = typeof values === 'function' ? values : (i: number): number => values[i]!
  return { dtype, shape, values: Float64Array.from({ length: count(shape) }, (_, i) => round(dtype, at(i))) }
}

/** Uniform numbers in [0, 1) from a seed (Mulberry32). */
export function generator(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Where random values come from. */
export interface Range {
  readonly low?: number
  readonly high?: number
  /** Values whose neighbourhood is left out: corners of a function, where it has no derivative. */
  readonly corners?: readonly number[]
  /** Tells apart arrays of one shape. */
  readonly salt?: number
}

/** How far from a corner random values stay; far above the step of a difference quotient. */
const DISTANCE = 0.01

/** Random values of a dtype: floats in [low, high) (default −2 to 2), whole numbers in [low, high] (default ±9), 0 and 1. */
export function random(dtype: Dtype, shape: Shape, range: Range = {}): Data {
  const { corners = [], salt = 0 } = range
  const next = generator([...shape, salt, 77].reduce((hash, d) => Math.imul(hash ^ d, 0x0100_0193), 0x811c_9dc5))
  if (dtype === 'bool') return array(dtype, shape, () => +(next() < 0.5))
  const { low, high } = dtype === 'i32' ? { low: -9, high: 9, ...range } : { low: -2, high: 2, ...range }
  if (dtype === 'i32') return array(dtype, shape, () => Math.floor(low + next() * (high - low + 1)))
  return array(dtype, shape, () => {
    for (;;) {
      const x = Math.fround(low + next() * (high - low))
      if (corners.every((c) => Math.abs(x - c) > DISTANCE)) return x
    }
  })
}

/** Whole numbers as floats, for results that have to be exact. */
export function whole(dtype: Dtype, shape: Shape, low: number, high: number, salt = 0): Data {
  return array(dtype, shape, random('i32', shape, { low, high, salt }).values)
}

/** All pairs of the elements of two lists, as two arrays. */
export function pairs(a: Data, b: Data): [Data, Data] {
  const shape = [a.values.length * b.values.length]
  const inner = b.values.length
  return [
    array(a.dtype, shape, (i) => a.values[Math.floor(i / inner)]!),
    array(b.dtype, shape, (i) => b.values[i % inner]!),
  ]
}

/** A copy on a device. */
export function upload(data: Data, device: Device, requiresGrad = false): Tensor {
  return tensor(data.values, { shape: data.shape, dtype: data.dtype, device, requiresGrad })
}
