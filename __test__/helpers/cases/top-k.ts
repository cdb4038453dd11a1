/** The largest elements along an axis: every place an axis can have, ties, special values, few and many, long lines. */

import * as tilegrad from '../../../ts/index.ts'
import type { Shape } from '../../../ts/index.ts'
import { Tensor } from '../../../ts/index.ts'
import type { OpcodeName } from '../../../ts/program/opcodes.ts'
import type { Want } from '../compare.ts'
import { type Data, SIZES, array, count, random } from '../data.ts'
import { axesOf, build, largestFirst, pick } from '../reference.ts'
import { type Case, EXACT, type Row, shapesOf } from './case.ts'

interface Plan {
  readonly shape: Shape
  readonly k: number
  readonly axis?: number
  readonly grad?: boolean
}

const PLANS: readonly Plan[] = [
  ...SIZES.flatMap((n) => [...new Set([0, 1, 3, n >> 1, n])].filter((k) => k <= n).map((k) => ({ shape: [2, n], k }))),
  ...[0, 1, 2, -2].map((axis) => ({ shape: [5, 7, 6], k: 3, axis })),
  { shape: [257, 33], k: 5, axis: 0 },
  { shape: [257, 33], k: 257, axis: 0 },
  { shape: [3, 100, 17], k: 40, axis: 1 },
  { shape: [0, 5], k: 2 },
  { shape: [3, 0, 4], k: 0, axis: 1 },
  { shape: [2, 3, 0], k: 2, axis: 1 },
  // Longer than any tile, with few, as many, and more than a tile holds.
  ...[1, 37, 1024, 3000, 4099].map((k) => ({ shape: [2, 4099], k })),
  { shape: [5000, 3], k: 1500, axis: 0 },
  { shape: [20_011], k: 100 },
  { shape: [3, 4, 2], k: 2, axis: 1, grad: true },
  { shape: [4, 5], k: 5, grad: true },
  { shape: [7], k: 1, grad: true },
  { shape: [3, 0], k: 0, grad: true },
]

function wanted(x: Data, k: number, axis: number): { values: Want; indices: Want; places: Want } {
  const [a] = axesOf(axis, x.shape.length) as [number]
  const [size, inner] = [x.shape[a]!, count(x.shape.slice(a + 1))]
  const found = new Map<number, number[]>()
  const shape = x.shape.with(a, k)
  const indexAt = (index: readonly number[]): number => {
    const first = x.shape.reduce((p, d, i) => p * d + (i === a ? 0 : index[i]!), 0)
    if (!found.has(first))
      found.set(first, largestFirst(Array.from({ length: size }, (_, i) => x.values[first + i * inner]!)))
    return found.get(first)![index[a]!]!
  }
  const source = (index: readonly number[]): number[] => index.with(a, indexAt(index))
  return {
    values: build(x.dtype, shape, (index) => pick(x, source(index))),
    indices: build('i32', shape, indexAt),
    places: build('i32', shape, (index) => source(index).reduce((p, v, i) => p * x.shape[i]! + v, 0)),
  }
}

/** What users see. */
function plain(title: string, x: Data, k: number, axis: number, grad = false): Case {
  return {
    title: `${k} of ${title} along ${axis}`,
    inputs: [x],
    run([x]) {
      const { values, indices } = tilegrad.topK(x!, k, axis)
      return [values, indices]
    },
    want([x]) {
      const { values, indices } = wanted(x!, k, axis)
      return [values, indices]
    },
    grad,
  }
}

/** The instruction, whose places gradients use. */
function whole(x: Data, k: number, axis: number): Case {
  const { shape, dtype } = x
  const [a] = axesOf(axis, shape.length) as [number]
  const sizes = [count(shape.slice(0, a)), shape[a]!, count(shape.slice(a + 1)), k]
  const to = shape.with(a, k)
  return {
    title: `places of the ${k} largest of ${shapesOf([x])} along ${axis}`,
    inputs: [x],
    run([x], device) {
      const types = [dtype, 'i32', 'i32'] as const
      const results = types.map((dtype) => ({ dtype, shape: to }))
      return device.recorder.emitMany('topK', [x!.value], results, sizes).map((value) => new Tensor(device, value))
    },
    want([x]) {
      const { values, indices, places } = wanted(x!, k, axis)
      return [values, indices, places]
    },
  }
}

const TOP_K_ROW: Row = {
  api: ['topK'],
  tolerance: EXACT,
  gradient: 'corners',
  cases: (dtype) => [
    ...PLANS.map(({ shape, k, axis = -1, grad }) => {
      const x = random(dtype, shape)
      return plain(shapesOf([x]), x, k, axis, grad)
    }),
    // Few distinct values, so that there are ties, within lines of every length.
    ...PLANS.filter(({ grad }) => !grad).map(({ shape, k, axis = -1 }) => {
      const x = array(dtype, shape, random('i32', shape, { low: -3, high: 3, salt: 3 }).values)
      return plain(`${shapesOf([x])}, with ties,`, x, k, axis)
    }),
    whole(random(dtype, [3, 7]), 2, 1),
    whole(random(dtype, [4, 300, 3]), 50, 1),
    whole(random(dtype, [3000, 2]), 1100, 0),
    // Sorted lines move everything that has been found, or nothing.
    ...[1, -1].map((sign) =>
      plain(
        sign > 0 ? 'ascending lines' : 'descending lines',
        array(dtype, [2, 700], (i) => sign * i),
        20,
        1,
      ),
    ),
    ...(dtype === 'i32'
      ? [plain('extremes', array(dtype, [6], [0, -(2 ** 31), 2 ** 31 - 1, -1, -(2 ** 31), 2 ** 31 - 1]), 6, 0)]
      : specials(dtype)),
  ],
}

const SPECIAL = [
  [1, NaN, 3, NaN, Infinity, -Infinity],
  [-Infinity, -Infinity, -Infinity, -Infinity, -Infinity, -Infinity],
  [-0, 0, -0, 0, -0, 0],
  [NaN, NaN, NaN, NaN, NaN, NaN],
  [Infinity, NaN, -0, 2 ** -149, -(2 ** -149), 0],
  [-1, -2, -3, -1, -2, -3],
] as const

function specials(dtype: Data['dtype']): Case[] {
  const flat = SPECIAL.flat()
  return [1, 2, 4, 6].flatMap((k) => [
    plain('special values', array(dtype, [6, 6], flat), k, 1),
    plain(
      'special values',
      array(dtype, [6, 6], (i) => SPECIAL[i % 6]![Math.floor(i / 6)]!),
      k,
      0,
    ),
    plain('special values far apart', array(dtype, [6, 3000], (i) => (i % 500 === 3 ? flat[Math.floor(i / 500)]! : -5)), k, 1), // prettier-ignore
  ])
}

export const TOP_K = { topK: TOP_K_ROW } as const satisfies Readonly<Partial<Record<OpcodeName, Row>>>
