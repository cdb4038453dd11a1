/** Running sums and products: every place an axis can have, from either end, with and without the element, long lines. */

import * as tilegrad from '../../../ts/index.ts'
import type { Dtype, Shape } from '../../../ts/index.ts'
import type { OpcodeName } from '../../../ts/program/opcodes.ts'
import { type Data, SIZES, array, random } from '../data.ts'
import { alongAxis } from '../reference.ts'
import { type Case, EXACT, type Row, SUM, shapesOf } from './case.ts'

interface Plan {
  readonly shape: Shape
  readonly axis: number
  readonly grad?: boolean
}

const PLANS: readonly Plan[] = [
  ...SIZES.map((n) => ({ shape: [2, n], axis: 1 })),
  ...[32, 33, 64, 65].map((n) => ({ shape: [n, 3], axis: 0 })),
  ...[0, 1, 2, -2].map((axis) => ({ shape: [5, 7, 6], axis })),
  { shape: [257, 33], axis: 0 },
  { shape: [9, 100, 17], axis: 1 },
  { shape: [13, 40], axis: -1 },
  { shape: [2, 300, 260], axis: 1 },
  { shape: [0, 5], axis: 1 },
  { shape: [3, 0, 4], axis: 1 },
  { shape: [2, 3, 0], axis: 1 },
  // So long that sums of blocks of blocks are needed.
  { shape: [2, 5003], axis: 1 },
  { shape: [2100, 2], axis: 0 },
  { shape: [40_009], axis: 0 },
  { shape: [3, 4, 2], axis: 1, grad: true },
  { shape: [7], axis: 0, grad: true },
  { shape: [3, 1], axis: 1, grad: true },
  { shape: [0, 3], axis: 0, grad: true },
]

const WAYS = [false, true].flatMap((reverse) => [false, true].map((exclusive) => ({ reverse, exclusive })))

type Combine = (a: number, b: number) => number

function running(line: readonly number[], way: (typeof WAYS)[number], neutral: number, f: Combine): number[] {
  const list = way.reverse ? line.toReversed() : line
  let so = neutral
  const found = list.map((v, i) => {
    const before = so
    so = i === 0 ? v : f(so, v)
    return way.exclusive ? before : so
  })
  return way.reverse ? found.toReversed() : found
}

function row(
  op: 'cumsum' | 'cumprod',
  neutral: number,
  float: Combine,
  int: Combine,
  data: (dtype: Dtype, shape: Shape) => Data,
): Row {
  const cases = (dtype: Dtype, title: string, x: Data, axis: number, grad = false): Case[] =>
    WAYS.map((way) => ({
      title: `${title} along ${axis}, ${JSON.stringify(way)}`,
      inputs: [x],
      run: ([x]) => tilegrad[op](x!, axis, way),
      want([x]) {
        const want = alongAxis(x!, axis, (line) => running(line, way, neutral, dtype === 'i32' ? int : float))
        if (dtype === 'i32') return { ...want, tolerance: EXACT }
        // Of a sum the absolute values count, of a product its own.
        const sizes = op === 'cumsum' ? { ...x!, values: x!.values.map(Math.abs) } : x!
        const { values } = alongAxis(sizes, axis, (line) => running(line, way, neutral, float))
        return { ...want, magnitude: values.map(Math.abs), terms: x!.shape.at(axis)! + 1 }
      },
      grad,
    }))
  return {
    api: [op],
    tolerance: SUM,
    gradient: 'smooth',
    cases: (dtype) => [
      ...PLANS.flatMap(({ shape, axis, grad }) =>
        cases(dtype, shapesOf([data(dtype, shape)]), data(dtype, shape), axis, grad),
      ),
      ...(dtype === 'i32'
        ? cases(dtype, 'what wraps around', array(dtype, [4], [2 ** 30, 3, 2 ** 31 - 1, -7]), 0)
        : cases(
            dtype,
            'NaN and infinities',
            array(dtype, [2, 70], (i) => ({ 40: NaN, 75: Infinity, 120: -3 })[i] ?? 1),
            1,
          )),
      ...cases(dtype, 'zeros', array(dtype, [2, 6], [2, 0, 3, 0, 1, 5, 0, 0, 0, 4, 4, 4]), 1, dtype === 'f64'),
    ],
  }
}

/** Factors near 1, of both signs, so that long products stay in range. */
function factors(dtype: Dtype, shape: Shape): Data {
  if (dtype === 'i32') return random(dtype, shape)
  const { values } = random(dtype, shape, { low: -0.2, high: 0.2 })
  return array(dtype, shape, (i) => (i % 3 === 1 ? -1 : 1) * (1 + values[i]! / (1 + shape.length * 2)))
}

export const SCAN = {
  cumsum: row('cumsum', 0, (a, b) => a + b, (a, b) => (a + b) | 0, random), // prettier-ignore
  cumprod: row('cumprod', 1, (a, b) => a * b, Math.imul, factors),
} as const satisfies Readonly<Partial<Record<OpcodeName, Row>>>
