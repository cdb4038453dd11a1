/** Reductions over one axis, several, neighbours or not, or all; softmax along an axis, with the instructions of its gradients. */

import * as tilegrad from '../../../ts/index.ts'
import type { Axis, Dtype, Shape, Tensor } from '../../../ts/index.ts'
import { Tensor as TensorClass } from '../../../ts/index.ts'
import type { OpcodeName } from '../../../ts/program/opcodes.ts'
import type { Tolerance, Want } from '../compare.ts'
import { type Data, SIZES, array, count, random } from '../data.ts'
import {
  absoluteTotal,
  alongAxis,
  axesOf,
  extremumAt,
  logSoftmax,
  reduce,
  softmax,
  total,
  variance,
} from '../reference.ts'
import { type Case, EXACT, type Gradient, LOSS, type Row, SUM } from './case.ts'

interface Plan {
  readonly shape: Shape
  readonly axis?: Axis
  readonly keepDims?: boolean
  readonly grad?: boolean
}

const GRAD = { grad: true }
const KEPT = { keepDims: true }

/** Every place an axis can have, tile edges in each of the three sizes a device sees, nothing to reduce, nothing to keep. */
const PLANS: readonly Plan[] = [
  ...SIZES.map((n) => ({ shape: [n] })),
  { shape: [] },
  { shape: [], ...KEPT, ...GRAD },
  { shape: [3, 5, 7] },
  ...[0, 1, 2, -1, -3].map((axis) => ({ shape: [3, 5, 7], axis })),
  ...[[0, 1], [1, 2], [0, 2], [-1, 0], [0, 1, 2], [1]].map((axis) => ({ shape: [3, 5, 7], axis, ...KEPT })),
  ...[[], [1, 3], [0, 2], [0, 3], [3, 1, 0]].map((axis) => ({ shape: [2, 3, 4, 5], axis })),
  { shape: [33, 257], axis: 0 },
  { shape: [33, 257], axis: 1, ...KEPT },
  { shape: [257, 33], axis: 0 },
  { shape: [257, 17], axis: -1 },
  { shape: [4, 256, 3], axis: 1 },
  { shape: [3, 1, 5], axis: 1 },
  { shape: [20011] },
  { shape: [3, 4, 2], axis: 1, ...GRAD },
  { shape: [3, 4, 2], axis: [0, 2], ...GRAD },
  { shape: [3, 4, 2], axis: [2, 1], ...KEPT, ...GRAD },
  { shape: [11], ...GRAD },
]

/** Axes without an element, where a reduction has a value all the same. */
const EMPTY: readonly Plan[] = [
  { shape: [0, 3], axis: 0, ...GRAD },
  { shape: [3, 0], axis: 1, ...KEPT },
  { shape: [2, 0, 3], axis: [0, 1] },
]

/** Nothing to reduce and nothing that comes out. */
const NOTHING: readonly Plan[] = [
  { shape: [0, 3], axis: 1, ...GRAD },
  { shape: [3, 0, 0], axis: 1 },
]

function options({ keepDims }: Plan): { keepDims?: boolean } {
  return keepDims === undefined ? {} : { keepDims }
}

function title(plan: Plan): string {
  return `[${plan.shape.join(', ')}] over ${JSON.stringify(plan.axis) ?? 'all'}${plan.keepDims ? ', kept' : ''}`
}

/** How many elements meet. */
function meeting({ shape, axis }: Plan): number {
  return count(axesOf(axis, shape.length).map((a) => shape[a]!))
}

interface Options {
  readonly gradient: Gradient
  readonly empty: boolean
  readonly tolerance: Tolerance
}

type Name = 'sum' | 'mean' | 'max' | 'min'

function reduction(op: Name, { gradient, empty, tolerance }: Options, f: (list: readonly number[]) => number): Row {
  const plans = [...PLANS.filter((p) => empty || meeting(p) > 0), ...(empty ? EMPTY : []), ...NOTHING]
  return {
    api: [op],
    tolerance,
    gradient,
    cases: (dtype) => [
      ...plans.map((plan): Case => {
        const inputs = [random(dtype, plan.shape)]
        return {
          title: title(plan),
          inputs,
          run: ([x]) => tilegrad[op](x!, plan.axis, options(plan)),
          want: ([x]) => bounded(op, x!, plan, f),
          grad: plan.grad ?? false,
        }
      }),
      ...(dtype === 'i32' ? [] : specials(dtype, op, f)),
    ],
  }
}

function bounded(op: Name, x: Data, plan: Plan, f: (list: readonly number[]) => number): Want {
  const want = reduce(x, plan.axis, plan.keepDims ?? false, f)
  if (op === 'max' || op === 'min') return want
  const n = meeting(plan)
  const magnitude = reduce(x, plan.axis, plan.keepDims ?? false, absoluteTotal).values.map((v) =>
    op === 'mean' ? v / n : v,
  )
  return { ...want, magnitude, terms: n + 2 }
}

const ROWS: readonly (readonly number[])[] = [
  [1, NaN, 3],
  [Infinity, 1, 2],
  [-Infinity, -Infinity, -Infinity],
  [Infinity, -Infinity, 0],
  [NaN, NaN, NaN],
  [5, 5, 1],
  [-1, -3, -3],
]

function specialRows(dtype: Dtype): Data {
  return array(dtype, [ROWS.length, 3], ROWS.flat())
}

function specials(dtype: Dtype, op: Name | 'argmax' | 'argmin', f: (list: readonly number[]) => number): Case[] {
  const result = op === 'argmax' || op === 'argmin' ? 'i32' : dtype
  return [
    {
      title: 'special values along the last axis',
      inputs: [specialRows(dtype)],
      run: ([x]) => tilegrad[op](x!, 1),
      want: ([x]) => ({
        ...reduce(x!, 1, false, f, result),
        tolerance: { kind: 'budget', relative: 1e-6, absolute: 0 },
      }),
    },
    {
      title: 'special values along the first axis',
      inputs: [array(dtype, [3, ROWS.length], (i) => ROWS[i % ROWS.length]![Math.floor(i / ROWS.length)]!)],
      run: ([x]) => tilegrad[op](x!, 0),
      want: ([x]) => ({
        ...reduce(x!, 0, false, f, result),
        tolerance: { kind: 'budget', relative: 1e-6, absolute: 0 },
      }),
    },
  ]
}

function position(op: 'argmax' | 'argmin', sign: 1 | -1): Row {
  const f = (list: readonly number[]): number => extremumAt(list, sign)
  // Over one axis or all; few distinct values, so that there are ties.
  const plans = [...PLANS, ...NOTHING].filter((p) => !Array.isArray(p.axis) && meeting(p) > 0)
  return {
    api: [op],
    tolerance: EXACT,
    gradient: 'none',
    cases: (dtype) => [
      ...plans.map((plan): Case => {
        const wide = random('i32', plan.shape, { low: -3, high: 3 })
        return {
          title: title(plan),
          inputs: [array(dtype, plan.shape, wide.values)],
          run: ([x]) => tilegrad[op](x!, plan.axis as number | undefined, options(plan)),
          want: ([x]) => reduce(x!, plan.axis, plan.keepDims ?? false, f, 'i32'),
        }
      }),
      ...(dtype === 'i32' ? [] : specials(dtype, op, f)),
    ],
  }
}

const VARIANCE: Row = {
  api: ['variance'],
  tolerance: LOSS,
  gradient: 'smooth',
  cases: (dtype) => [
    ...[...PLANS, ...EMPTY, ...NOTHING].flatMap((plan) =>
      [1, 0].map((correction): Case => {
        // One element has no spread to estimate: 0/0.
        const grad = plan.grad === true && meeting(plan) > 1
        return {
          title: `${title(plan)}, correction ${correction}`,
          inputs: [random(dtype, plan.shape)],
          run: ([x]) => tilegrad.variance(x!, plan.axis, { ...options(plan), correction }),
          want: ([x]) => reduce(x!, plan.axis, plan.keepDims ?? false, (list) => variance(list, correction)),
          grad,
        }
      }),
    ),
    {
      title: 'a large mean does not cancel',
      inputs: [array(dtype, [4], [1_000_004, 1_000_007, 1_000_013, 1_000_016])],
      run: ([x]) => tilegrad.variance(x!),
      want: ([x]) => reduce(x!, undefined, false, (list) => variance(list, 1)),
    },
  ],
}

/** Shapes and axes of softmax. */
const LINES: readonly { readonly shape: Shape; readonly axis: number; readonly grad?: boolean }[] = [
  ...SIZES.filter((n) => n > 0).map((n) => ({ shape: [3, n], axis: -1 })),
  { shape: [0, 5], axis: 1, grad: true },
  { shape: [5, 0], axis: 1 },
  { shape: [5, 0], axis: 0 },
  { shape: [7], axis: 0, grad: true },
  { shape: [3, 4, 2], axis: 1, grad: true },
  { shape: [3, 4, 2], axis: 0, grad: true },
  { shape: [2, 33, 5], axis: -2 },
  { shape: [257, 3], axis: 0 },
  { shape: [2, 17, 31], axis: 2 },
]

function softmaxRow(op: 'softmax' | 'logSoftmax', f: (line: number[]) => number[]): Row {
  const make = (name: string, x: Data, axis: number, grad: boolean): Case => ({
    title: name,
    inputs: [x],
    run: ([x]) => tilegrad[op](x!, axis),
    want: ([x]) => alongAxis(x!, axis, f),
    grad,
  })
  return {
    api: [op],
    tolerance: LOSS,
    gradient: 'smooth',
    cases: (dtype) => [
      ...LINES.map(({ shape, axis, grad = false }) =>
        make(`[${shape.join(', ')}] along ${axis}`, random(dtype, shape), axis, grad),
      ),
      make(
        'large logits',
        array(dtype, [3, 4], [1e4, 9999, 0, -1e4, -1e4, -1e4, -1e4, -9990, 3e38, 1, 2, 3]),
        1,
        false,
      ),
      make('special values', specialRows(dtype), 1, false),
      make(
        'special values in columns',
        array(dtype, [3, 4], [0, NaN, -Infinity, 1, 1, 1, 5, 1, -Infinity, 2, -Infinity, 1]),
        0,
        false,
      ),
    ],
  }
}

function softmaxGradRow(op: 'softmaxGrad' | 'logSoftmaxGrad', forward: (line: number[]) => number[]): Row {
  return {
    api: [],
    tolerance: LOSS,
    gradient: 'none',
    cases: (dtype) =>
      LINES.map(({ shape, axis }): Case => {
        const y = array(dtype, shape, alongAxis(random(dtype, shape), axis, forward).values)
        const [a] = axesOf(axis, shape.length) as [number]
        const sizes = [count(shape.slice(0, a)), shape[a]!, count(shape.slice(a + 1))]
        return {
          title: `[${shape.join(', ')}] along ${axis}`,
          inputs: [random(dtype, shape, { salt: 5 }), y],
          run: ([dy, y], device): Tensor =>
            new TensorClass(device, device.recorder.emit(op, [dy!.value, y!.value], { dtype, shape }, sizes)),
          want: ([dy, y]) => {
            const weight = op === 'softmaxGrad' ? y!.values : y!.values.map(Math.exp)
            const summed = {
              ...dy!,
              values: op === 'softmaxGrad' ? dy!.values.map((v, i) => v * weight[i]!) : dy!.values,
            }
            const sums = alongAxis(summed, axis, (line) => line.map(() => total(line)))
            const from = (v: number, i: number): number =>
              op === 'softmaxGrad' ? weight[i]! * (v - sums.values[i]!) : v - weight[i]! * sums.values[i]!
            return { ...dy!, values: dy!.values.map(from) }
          },
        }
      }),
  }
}

export const REDUCE = {
  sum: reduction('sum', { gradient: 'smooth', empty: true, tolerance: SUM }, total),
  mean: reduction('mean', { gradient: 'smooth', empty: true, tolerance: SUM }, (list) => total(list) / list.length),
  max: reduction('max', { gradient: 'corners', empty: false, tolerance: EXACT }, (list) => list[extremumAt(list, 1)]!),
  min: reduction('min', { gradient: 'corners', empty: false, tolerance: EXACT }, (list) => list[extremumAt(list, -1)]!),
  argmax: position('argmax', 1),
  argmin: position('argmin', -1),
  variance: VARIANCE,
} as const satisfies Readonly<Partial<Record<OpcodeName, Row>>>

export const SOFTMAX = {
  softmax: softmaxRow('softmax', softmax),
  logSoftmax: softmaxRow('logSoftmax', logSoftmax),
  softmaxGrad: softmaxGradRow('softmaxGrad', softmax),
  logSoftmaxGrad: softmaxGradRow('logSoftmaxGrad', logSoftmax),
} as const satisfies Readonly<Partial<Record<OpcodeName, Row>>>
