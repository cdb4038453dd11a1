/**
 * What the operations mean, in f64 and by the most naive loops: every element of a result finds its operands by its
 * index. Nothing here is shared with the library. A few of these also give what their error bounds need.
 */

import type { Dtype, Shape } from '../../ts/index.ts'
import type { Want } from './compare.ts'
import { type Data, count } from './data.ts'

/** The index of an element, from its position. */
export function unravel(position: number, shape: Shape): number[] {
  const index = shape.map(() => 0)
  for (let d = shape.length - 1; d >= 0; d--) {
    index[d] = position % shape[d]!
    position = Math.floor(position / shape[d]!)
  }
  return index
}

/** The element at an index; axes of size 1 and missing leading axes repeat. */
export function at(x: Data, index: readonly number[]): number {
  const lead = index.length - x.shape.length
  return x.values[x.shape.reduce((position, d, i) => position * d + (d === 1 ? 0 : index[lead + i]!), 0)]!
}

/** A result whose every element is a function of its index. The index is one array, counted up. */
export function build(dtype: Dtype, shape: Shape, f: (index: number[]) => number): Want {
  const values = new Float64Array(count(shape))
  const index = shape.map(() => 0)
  for (let p = 0; p < values.length; p++) {
    values[p] = f(index)
    for (let d = shape.length - 1; d >= 0 && ++index[d]! === shape[d]; d--) index[d] = 0
  }
  return { dtype, shape, values }
}

/** NumPy's broadcasting of shapes. */
export function broadcast(...shapes: Shape[]): number[] {
  const rank = Math.max(0, ...shapes.map((s) => s.length))
  return Array.from({ length: rank }, (_, i) => {
    const sizes = shapes.map((s) => s[s.length - rank + i] ?? 1)
    return sizes.find((d) => d !== 1) ?? 1
  })
}

/** f of the elements that meet under broadcasting. */
export function map<X extends number[]>(
  dtype: Dtype,
  f: (...x: X) => number,
  ...operands: { [I in keyof X]: Data }
): Want {
  const list: readonly Data[] = operands
  const shape = broadcast(...list.map((o) => o.shape))
  return build(dtype, shape, (index) => f(...(list.map((o) => at(o, index)) as X)))
}

/** Axes counted from the start; all when none are given. */
export function axesOf(axis: number | readonly number[] | undefined, rank: number): number[] {
  if (axis === undefined) return Array.from({ length: rank }, (_, i) => i)
  return [axis].flat().map((a) => (a < 0 ? a + rank : a))
}

/** The elements that meet in each element of a reduction, in row-major order. */
function groups(x: Data, axes: readonly number[]): number[][] {
  const kept = x.shape.map((d, i) => (axes.includes(i) ? 1 : d))
  const lists: number[][] = Array.from({ length: count(kept) }, () => [])
  x.values.forEach((value, position) => {
    const index = unravel(position, x.shape)
    lists[kept.reduce((p, d, i) => p * d + (d === 1 ? 0 : index[i]!), 0)]!.push(value)
  })
  return lists
}

/** f of the elements along axes. */
export function reduce(
  x: Data,
  axis: number | readonly number[] | undefined,
  keepDims: boolean,
  f: (list: readonly number[]) => number,
  dtype: Dtype = x.dtype,
): Want {
  const axes = axesOf(axis, x.shape.length)
  const shape = x.shape.flatMap((d, i) => (!axes.includes(i) ? [d] : keepDims ? [1] : []))
  return { dtype, shape, values: Float64Array.from(groups(x, axes), f) }
}

/** Σ. */
export function total(list: readonly number[]): number {
  return list.reduce((sum, v) => sum + v, 0)
}

/** Σ|x|. */
export function absoluteTotal(list: readonly number[]): number {
  return list.reduce((sum, v) => sum + Math.abs(v), 0)
}

/** Σ(x − mean)²/(n − correction). */
export function variance(list: readonly number[], correction: number): number {
  const mean = total(list) / list.length
  return list.reduce((sum, v) => sum + (v - mean) ** 2, 0) / Math.max(list.length - correction, 0)
}

/** Position of the extremum, the first of equals; NaN before everything. */
export function extremumAt(list: readonly number[], sign: 1 | -1): number {
  const nan = list.findIndex((v) => Number.isNaN(v))
  if (nan >= 0) return nan
  return list.reduce((best, v, i) => (sign * v > sign * list[best]! ? i : best), 0)
}

/** Positions from the largest to the smallest; NaN before everything, of equals the first. */
export function largestFirst(list: readonly number[]): number[] {
  const before = (a: number, b: number): boolean => a > b || (Number.isNaN(a) && !Number.isNaN(b))
  // Sorting is stable.
  return list.map((_, i) => i).sort((i, j) => +before(list[j]!, list[i]!) - +before(list[i]!, list[j]!))
}

/** f of each whole line along an axis. */
export function alongAxis(x: Data, axis: number, f: (line: number[]) => number[]): Want {
  const [a] = axesOf(axis, x.shape.length) as [number]
  const values = new Float64Array(x.values.length)
  const step = count(x.shape.slice(a + 1))
  const size = x.shape[a]!
  for (let p = 0; p < values.length; p++) {
    if (Math.floor(p / step) % size !== 0) continue
    const line = Array.from({ length: size }, (_, k) => x.values[p + k * step]!)
    f(line).forEach((v, k) => (values[p + k * step] = v))
  }
  return { dtype: x.dtype, shape: x.shape, values }
}

/** log Σ eˣ. */
export function logSumExp(line: readonly number[]): number {
  const m = Math.max(...line)
  return m + Math.log(line.reduce((sum, v) => sum + Math.exp(v - m), 0))
}

/** x − log Σ eˣ. */
export function logSoftmax(line: readonly number[]): number[] {
  const norm = logSumExp(line)
  return line.map((v) => v - norm)
}

/** eˣ / Σ eˣ. */
export function softmax(line: readonly number[]): number[] {
  const m = Math.max(...line)
  const e = line.map((v) => Math.exp(v - m))
  const sum = total(e)
  return e.map((v) => v / sum)
}

/** op(a)·op(b) over the last two axes, with the sums of absolute values. */
export function matmul(a: Data, b: Data, transposeA = false, transposeB = false): Want {
  const [m, k] = lastTwo(a.shape, transposeA)
  const n = lastTwo(b.shape, transposeB)[1]
  const batch = broadcast(a.shape.slice(0, -2), b.shape.slice(0, -2))
  const shape = [...batch, m, n]
  const values = new Float64Array(count(shape))
  const magnitude = new Float64Array(values.length)
  for (let p = 0; p < values.length; p++) {
    const index = unravel(p, shape)
    const [j, i] = [index.pop()!, index.pop()!]
    // Strides instead of `at`: this is the one loop that has to be quick.
    const x = matrixAt(a, index, i, transposeA, false)
    const y = matrixAt(b, index, j, transposeB, true)
    for (let l = 0; l < k; l++) {
      const product = a.values[x.start + l * x.step]! * b.values[y.start + l * y.step]!
      values[p]! += product
      magnitude[p]! += Math.abs(product)
    }
  }
  return { dtype: a.dtype, shape, values, magnitude, terms: k + 3 }
}

function lastTwo(shape: Shape, transpose: boolean): [number, number] {
  const [rows, columns] = shape.slice(-2) as [number, number]
  return transpose ? [columns, rows] : [rows, columns]
}

/** Where row i of op(x) (or column i) starts in its batch, and how far its elements are apart. */
function matrixAt(
  x: Data,
  batch: readonly number[],
  i: number,
  transpose: boolean,
  column: boolean,
): { start: number; step: number } {
  const [rows, columns] = x.shape.slice(-2) as [number, number]
  const own = x.shape.slice(0, -2)
  const lead = batch.length - own.length
  const matrix = own.reduce((p, d, axis) => p * d + (d === 1 ? 0 : batch[lead + axis]!), 0) * rows * columns
  return transpose === column ? { start: matrix + i * columns, step: 1 } : { start: matrix + i, step: columns }
}

/** xW + b over the last axis of x, with the sums of absolute values. */
export function linear(x: Data, weight: Data, bias: Data | null): Want {
  const inside = x.shape.at(-1)!
  const rows = count(x.shape.slice(0, -1))
  const z = matmul({ ...x, shape: [rows, inside] }, weight)
  const out = weight.shape[1]!
  if (bias !== null) {
    for (let p = 0; p < z.values.length; p++) {
      z.values[p]! += bias.values[p % out]!
      z.magnitude![p]! += Math.abs(bias.values[p % out]!)
    }
  }
  return { ...z, shape: [...x.shape.slice(0, -1), out] }
}

/** Axes in another order. */
export function transpose(x: Data, axes?: readonly number[]): Want {
  const order = axesOf(axes, x.shape.length)
  if (axes === undefined) order.reverse()
  return build(
    x.dtype,
    order.map((a) => x.shape[a]!),
    (index) => {
      const source: number[] = []
      order.forEach((a, place) => (source[a] = index[place]!))
      return at(x, source)
    },
  )
}

/** Arrays one after the other along an axis. */
export function concat(list: readonly Data[], axis: number): Want {
  const [a] = axesOf(axis, list[0]!.shape.length) as [number]
  const shape = list[0]!.shape.map((d, i) => (i === a ? total(list.map((x) => x.shape[a]!)) : d))
  return build(list[0]!.dtype, shape, (index) => {
    let from = index[a]!
    const source = list.find((x) => {
      if (from < x.shape[a]!) return true
      from -= x.shape[a]!
      return false
    })!
    return source.values[source.shape.reduce((p, d, i) => p * d + (i === a ? from : index[i]!), 0)]!
  })
}

/** The element at an exact index, without broadcasting; `outside` where there is none. */
export function pick(x: Data, index: readonly number[], outside = NaN): number {
  if (index.some((v, i) => v < 0 || v >= x.shape[i]!)) return outside
  return x.values[x.shape.reduce((p, d, i) => p * d + index[i]!, 0)]!
}

/** Slices along an axis, by index. */
export function gather(x: Data, indices: Data, axis: number): Want {
  const [a] = axesOf(axis, x.shape.length) as [number]
  const shape = [...x.shape.slice(0, a), ...indices.shape, ...x.shape.slice(a + 1)]
  return build(x.dtype, shape, (index) => {
    const which = pick(indices, index.slice(a, a + indices.shape.length))
    return pick(x, [...index.slice(0, a), which, ...index.slice(a + indices.shape.length)])
  })
}

/** The reverse of gather: adds up. Terms are how many slices may meet. */
export function scatterAdd(updates: Data, indices: Data, shape: Shape, axis: number): Want {
  const [a] = axesOf(axis, shape.length) as [number]
  const values = new Float64Array(count(shape))
  const magnitude = new Float64Array(count(shape))
  updates.values.forEach((v, p) => {
    const index = unravel(p, updates.shape)
    const which = pick(indices, index.slice(a, a + indices.shape.length))
    const target = [...index.slice(0, a), which, ...index.slice(a + indices.shape.length)]
    const position = shape.reduce((q, d, i) => q * d + target[i]!, 0)
    values[position] = updates.dtype === 'i32' ? (values[position]! + v) | 0 : values[position]! + v
    magnitude[position]! += Math.abs(v)
  })
  return { dtype: updates.dtype, shape, values, magnitude, terms: indices.values.length }
}

/** How a tensor lies when its rows are normalised: a row is `channels · inner` neighbours. */
export interface NormSizes {
  readonly outer: number
  readonly groups: number
  readonly channels: number
  readonly inner: number
  /** Whether the mean is subtracted. */
  readonly isCentred: boolean
}

/** The channel, counted over all groups, that a position belongs to. */
function channelOf(p: number, { groups, channels, inner }: NormSizes): number {
  return Math.floor(p / inner) % (groups * channels)
}

/** (x − mean)/√(variance + eps) · weight + bias for each row, with mean and 1/√(variance + eps) of the rows. */
export function normalize(
  x: Data,
  weight: Data | null,
  bias: Data | null,
  sizes: NormSizes,
  eps: number,
): { y: Want; means: Want; scales: Want } {
  const { dtype, shape } = x
  const length = sizes.channels * sizes.inner
  const rows = sizes.outer * sizes.groups
  const lines = Array.from({ length: rows }, (_, r) => [...x.values.subarray(r * length, (r + 1) * length)])
  const means = lines.map((line) => (sizes.isCentred ? total(line) / length : 0))
  const scales = lines.map((line, r) => {
    const squares = line.map((v) => (v - means[r]!) ** 2)
    return 1 / Math.sqrt(total(squares) / length + eps)
  })
  const values = x.values.map((v, p) => {
    const [row, channel] = [Math.floor(p / length), channelOf(p, sizes)]
    return (v - means[row]!) * scales[row]! * (weight?.values[channel] ?? 1) + (bias?.values[channel] ?? 0)
  })
  const perRow = (list: number[]): Want => ({ dtype, shape: [rows], values: Float64Array.from(list) })
  return { y: { dtype, shape, values }, means: perRow(means), scales: perRow(scales) }
}

/** The gradients of {@link normalize}, for statistics that are given; dx with what bounds its error. */
export function normalizeGrad(
  dy: Data,
  x: Data,
  weight: Data | null,
  means: Data | null,
  scales: Data,
  sizes: NormSizes,
): { dx: Want; dweight: Want; dbias: Want } {
  const { dtype, shape } = x
  const length = sizes.channels * sizes.inner
  const all = sizes.groups * sizes.channels
  const [dweight, dbias] = [new Float64Array(all), new Float64Array(all)]
  const [values, magnitude] = [new Float64Array(x.values.length), new Float64Array(x.values.length)]
  for (let row = 0; row < sizes.outer * sizes.groups; row++) {
    const [mean, scale] = [means?.values[row] ?? 0, scales.values[row]!]
    const places = Array.from({ length }, (_, i) => row * length + i)
    const normal = places.map((p) => (x.values[p]! - mean) * scale)
    const g = places.map((p) => dy.values[p]! * (weight?.values[channelOf(p, sizes)] ?? 1))
    const along = g.map((v, i) => v * normal[i]!)
    const meanG = means === null ? 0 : total(g) / length
    const meanAlong = total(along) / length
    const [sizeG, sizeAlong] = [absoluteTotal(g) / length, absoluteTotal(along) / length]
    places.forEach((p, i) => {
      values[p] = scale * (g[i]! - meanG - normal[i]! * meanAlong)
      magnitude[p] = scale * (Math.abs(g[i]!) + sizeG + Math.abs(normal[i]!) * sizeAlong)
      dweight[channelOf(p, sizes)]! += dy.values[p]! * normal[i]!
      dbias[channelOf(p, sizes)]! += dy.values[p]!
    })
  }
  return {
    dx: { dtype, shape, values, magnitude, terms: length + 10 },
    dweight: { dtype, shape: [all], values: dweight },
    dbias: { dtype, shape: [all], values: dbias },
  }
}
