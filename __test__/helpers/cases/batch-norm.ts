/** Batch normalisation: through the public function, and each of its instructions by itself. */

import * as tilegrad from '../../../ts/index.ts'
import type { Device, Dtype, Shape, Tensor } from '../../../ts/index.ts'
import { Tensor as TensorClass } from '../../../ts/index.ts'
import type { OpcodeName } from '../../../ts/program/opcodes.ts'
import type { Want } from '../compare.ts'
import { type Data, array, count, random, upload } from '../data.ts'
import { total } from '../reference.ts'
import { type Case, EXACT, LOSS, type Row, shapesOf } from './case.ts'

const EPS = 1e-5

interface Plan {
  readonly shape: Shape
  readonly axis: number
  /** Every how many positions one is masked; 0 for no mask. */
  readonly masked: number
  readonly grad?: boolean
}

const PLANS: readonly Plan[] = [
  // Two values are ±1 whatever they are: there is next to no gradient to compare.
  { shape: [2, 1], axis: 1, masked: 0 },
  { shape: [3, 1], axis: 1, masked: 0, grad: true },
  { shape: [4, 3], axis: 1, masked: 0, grad: true },
  { shape: [5, 3], axis: 1, masked: 3, grad: true },
  { shape: [3, 2, 2], axis: 1, masked: 0, grad: true },
  { shape: [2, 2, 3], axis: 1, masked: 4, grad: true },
  { shape: [2, 3, 2], axis: -1, masked: 0, grad: true },
  { shape: [2, 3, 2], axis: -1, masked: 2, grad: true },
  { shape: [3, 4], axis: 0, masked: 0, grad: true },
  { shape: [4, 0], axis: 1, masked: 0, grad: true },
  { shape: [63, 5], axis: 1, masked: 0 },
  { shape: [65, 16], axis: 1, masked: 0 },
  { shape: [257, 33], axis: 1, masked: 7 },
  { shape: [1009, 4], axis: 1, masked: 0 },
  { shape: [4099, 3], axis: 1, masked: 0 },
  { shape: [130, 515], axis: 1, masked: 2 },
  { shape: [7, 5, 4, 4], axis: 1, masked: 0 },
  { shape: [3, 9, 7, 5], axis: 1, masked: 5 },
  { shape: [2, 3, 65, 33], axis: 1, masked: 0 },
  { shape: [2, 3, 65, 32], axis: 1, masked: 3 },
  { shape: [5, 6, 20], axis: -1, masked: 4 },
]

function axisOf({ shape, axis }: Plan): number {
  return axis < 0 ? axis + shape.length : axis
}

/** [outer, channels, inner]. */
function viewOf(plan: Plan): [number, number, number] {
  const at = axisOf(plan)
  return [count(plan.shape.slice(0, at)), plan.shape[at]!, count(plan.shape.slice(at + 1))]
}

function channelOf(plan: Plan, position: number): number {
  const [, channels, inner] = viewOf(plan)
  return Math.floor(position / inner) % channels
}

/** Whether the element at a position counts. */
function counts(plan: Plan, position: number): boolean {
  if (plan.masked === 0) return true
  const [, channels, inner] = viewOf(plan)
  const place = Math.floor(position / inner / channels) * inner + (position % inner)
  return place % plan.masked !== 0
}

function maskOf(plan: Plan): Data {
  const at = axisOf(plan)
  return array(
    'bool',
    plan.shape.filter((_, i) => i !== at),
    (i) => +(i % plan.masked !== 0),
  )
}

function show(plan: Plan): string {
  return `[${plan.shape.join(', ')}] along ${plan.axis}${plan.masked === 0 ? '' : `, one in ${plan.masked} masked`}`
}

/** x where it counts; what is masked is NaN, which nothing may meet. */
function inputOf(dtype: Dtype, plan: Plan, salt = 0): Data {
  const x = random(dtype, plan.shape, { salt })
  return { ...x, values: x.values.map((v, i) => (counts(plan, i) ? v : NaN)) }
}

/** Values of each channel that count. */
function channelsOf(plan: Plan, x: Data): number[][] {
  const lists: number[][] = Array.from({ length: viewOf(plan)[1] }, () => [])
  x.values.forEach((v, i) => counts(plan, i) && lists[channelOf(plan, i)]!.push(v))
  return lists
}

interface Statistics {
  readonly count: number
  readonly mean: number[]
  readonly m2: number[]
}

function statistics(plan: Plan, x: Data): Statistics {
  const [outer, , inner] = viewOf(plan)
  const lists = channelsOf(plan, x)
  const mean = lists.map((list) => (list.length === 0 ? 0 : total(list) / list.length))
  const counted = Array.from({ length: outer * inner }, (_, i) => plan.masked === 0 || i % plan.masked !== 0)
  return {
    count: counted.filter(Boolean).length,
    mean,
    m2: lists.map((list, c) => total(list.map((v) => (v - mean[c]!) ** 2))),
  }
}

function inverse(variance: readonly number[]): number[] {
  return variance.map((v) => 1 / Math.sqrt(v + EPS))
}

/** (x − mean)·istd·weight + bias, or 0. */
function normalised(
  plan: Plan,
  x: Data,
  mean: ArrayLike<number>,
  istd: ArrayLike<number>,
  weight?: Data,
  bias?: Data,
): Want {
  return array(x.dtype, x.shape, (i) => {
    if (!counts(plan, i)) return 0
    const c = channelOf(plan, i)
    return (x.values[i]! - mean[c]!) * istd[c]! * (weight?.values[c] ?? 1) + (bias?.values[c] ?? 0)
  })
}

function exactly(want: Want, values: (i: number) => number): Want {
  return { ...want, values: Float64Array.from({ length: want.values.length }, (_, i) => values(i)) }
}

function perChannel(plan: Plan, dtype: Dtype, salt: number, low = 0.5, high = 1.5): Data {
  return random(dtype, [viewOf(plan)[1]], { low, high, salt })
}

/** Of gradients: what is masked is a number, because differences move it. */
function trainingCase(dtype: Dtype, plan: Plan, affine: boolean): Case {
  const x = plan.grad === true ? random(dtype, plan.shape) : inputOf(dtype, plan)
  const inputs = [x, ...(affine ? [perChannel(plan, dtype, 1), perChannel(plan, dtype, 2, -1, 1)] : [])]
  return {
    title: `training, ${affine ? 'affine, ' : ''}${show(plan)}`,
    inputs,
    run: ([x, weight = null, bias = null], device) =>
      tilegrad.batchNorm(x!, {
        weight,
        bias,
        training: true,
        axis: plan.axis,
        mask: plan.masked === 0 ? null : upload(maskOf(plan), device),
      }),
    want: ([x, weight, bias]) => {
      const { count, mean, m2 } = statistics(plan, x!)
      return normalised(plan, x!, mean, inverse(m2.map((m) => m / count)), weight, bias)
    },
    grad: plan.grad ?? false,
  }
}

function evaluationCase(dtype: Dtype, plan: Plan): Case {
  const x = plan.grad === true ? random(dtype, plan.shape) : inputOf(dtype, plan)
  const [mean, variance] = [perChannel(plan, dtype, 4, -1, 1), perChannel(plan, dtype, 5)]
  return {
    title: `evaluation, ${show(plan)}`,
    inputs: [x, perChannel(plan, dtype, 1), perChannel(plan, dtype, 2, -1, 1)],
    run: ([x, weight, bias], device) =>
      tilegrad.batchNorm(x!, {
        weight: weight!,
        bias: bias!,
        axis: plan.axis,
        runningMean: upload({ ...mean, dtype: x!.dtype }, device),
        runningVar: upload({ ...variance, dtype: x!.dtype }, device),
        mask: plan.masked === 0 ? null : upload(maskOf(plan), device),
      }),
    want: ([x, weight, bias]) => normalised(plan, x!, mean.values, inverse([...variance.values]), weight, bias),
    grad: plan.grad ?? false,
  }
}

const BATCH_NORM: Row = {
  api: ['batchNorm'],
  tolerance: LOSS,
  gradient: 'smooth',
  cases: (dtype) => [
    ...PLANS.flatMap((plan) => [
      trainingCase(dtype, plan, true),
      trainingCase(dtype, plan, false),
      evaluationCase(dtype, plan),
    ]),
    {
      title: 'a large mean does not cancel',
      inputs: [array(dtype, [4, 1], [1_000_004, 1_000_007, 1_000_013, 1_000_016])],
      run: ([x]) => tilegrad.batchNorm(x!, { training: true }),
      want: ([x]) => {
        const plan: Plan = { shape: [4, 1], axis: 1, masked: 0 }
        const { mean, m2 } = statistics(plan, x!)
        return normalised(plan, x!, mean, inverse(m2.map((m) => m / 4)))
      },
    },
    {
      title: 'the channel [1, 3]',
      inputs: [array(dtype, [2, 1], [1, 3])],
      run: ([x]) => tilegrad.batchNorm(x!, { training: true }),
      want: ([x]) => array(x!.dtype, [2, 1], [-1 / Math.sqrt(1 + EPS), 1 / Math.sqrt(1 + EPS)]),
    },
  ],
}

/** Records one instruction. */
function emit(
  device: Device,
  op: OpcodeName,
  inputs: readonly (Tensor | null)[],
  outputs: readonly Shape[],
  attributes: readonly number[],
): Tensor[] {
  const { dtype } = inputs[0]!
  const values = device.recorder.emitMany(
    op,
    inputs.map((t) => t?.value ?? null),
    outputs.map((shape) => ({ dtype, shape })),
    attributes,
  )
  return values.map((value) => new TensorClass(device, value))
}

function maskOn(plan: Plan, device: Device): Tensor | null {
  return plan.masked === 0 ? null : upload(maskOf(plan), device)
}

const NOTHING: readonly Plan[] = [
  { shape: [0, 3], axis: 1, masked: 0 },
  { shape: [6, 3], axis: 1, masked: 1 },
  { shape: [2, 3, 5], axis: 1, masked: 1 },
  { shape: [1, 3], axis: 1, masked: 0 },
  { shape: [6, 0], axis: 1, masked: 2 },
]

const STATISTICS: Row = {
  api: [],
  tolerance: LOSS,
  gradient: 'none',
  cases: (dtype) =>
    [...PLANS, ...NOTHING].map((plan): Case => {
      const [, channels] = viewOf(plan)
      return {
        title: show(plan),
        inputs: [inputOf(dtype, plan)],
        run: ([x], device) =>
          emit(device, 'batchNormStatistics', [x!, maskOn(plan, device)], [[], [channels], [channels]], viewOf(plan)),
        want: ([x]) => {
          const { count, mean, m2 } = statistics(plan, x!)
          return [array(dtype, [], [count]), ...[mean, m2].map((list) => array('f64', [channels], list))].map((w) => ({
            ...w,
            dtype,
          }))
        },
      }
    }),
}

const VARIANCE: Row = {
  api: [],
  tolerance: LOSS,
  gradient: 'none',
  cases: (dtype) =>
    [0, 1, 7, 64, 65, 300].map((channels): Case => {
      const m2 = random(dtype, [channels], { low: 0, high: 9 })
      return {
        title: `${channels} channels`,
        inputs: [m2, array(dtype, [], [9])],
        run: ([m2, n], device) => emit(device, 'batchNormVariance', [m2!, n!], [[channels], [channels]], [EPS]),
        want: ([m2]) => {
          const variance = [...m2!.values].map((m) => m / 9)
          return [variance, inverse(variance)].map((list) => ({ ...array('f64', [channels], list), dtype }))
        },
      }
    }),
}

const GRAD_SUMS: Row = {
  api: [],
  tolerance: LOSS,
  gradient: 'none',
  cases: (dtype) =>
    [...PLANS, ...NOTHING].map((plan): Case => {
      const [, channels] = viewOf(plan)
      const inputs = [
        inputOf(dtype, plan, 1),
        inputOf(dtype, plan, 2),
        perChannel(plan, dtype, 3),
        perChannel(plan, dtype, 4),
      ]
      return {
        title: show(plan),
        inputs,
        run: ([dy, x, mean, istd], device) =>
          emit(
            device,
            'batchNormGradSums',
            [dy!, x!, mean!, istd!, maskOn(plan, device)],
            [[channels], [channels]],
            viewOf(plan),
          ),
        want: ([dy, x, mean, istd]) => {
          const lists = [channelsOf(plan, dy!), channelsOf(plan, x!)] as const
          const sums = lists[0].map(total)
          const products = lists[0].map((list, c) =>
            total(list.map((g, i) => g * (lists[1][c]![i]! - mean!.values[c]!) * istd!.values[c]!)),
          )
          return [sums, products].map((list) => ({ ...array('f64', [channels], list), dtype }))
        },
      }
    }),
}

const GRAD: Row = {
  api: [],
  tolerance: LOSS,
  gradient: 'none',
  cases: (dtype) =>
    PLANS.map((plan): Case => {
      const each = [3, 4, 5, 6, 7].map((salt) => perChannel(plan, dtype, salt))
      const inputs = [inputOf(dtype, plan, 1), inputOf(dtype, plan, 2), ...each, array(dtype, [], [5])]
      return {
        title: shapesOf(inputs.slice(0, 2)),
        inputs,
        run: ([dy, x, mean, istd, weight, sums, products, n], device) =>
          emit(
            device,
            'batchNormGrad',
            [dy!, x!, mean!, istd!, weight!, sums!, products!, n!, maskOn(plan, device)],
            [plan.shape],
            viewOf(plan),
          ),
        want: ([dy, x, mean, istd, weight, sums, products]) =>
          exactly({ ...dy!, shape: plan.shape }, (i) => {
            if (!counts(plan, i)) return 0
            const c = channelOf(plan, i)
            const normal = (x!.values[i]! - mean!.values[c]!) * istd!.values[c]!
            const inner = dy!.values[i]! - sums!.values[c]! / 5 - (normal * products!.values[c]!) / 5
            return weight!.values[c]! * istd!.values[c]! * inner
          }),
      }
    }),
}

interface Update {
  readonly momentum: number
  readonly cumulative: boolean
  readonly unbiased: boolean
  readonly ok?: boolean
}

const UPDATES: readonly Update[] = [
  { momentum: 0.1, cumulative: false, unbiased: true },
  { momentum: 0.25, cumulative: false, unbiased: false, ok: true },
  { momentum: 0.25, cumulative: false, unbiased: false, ok: false },
  { momentum: 0, cumulative: true, unbiased: true },
]

/** Two updates by the same statistics of five values. */
const UPDATE: Row = {
  api: ['nn.BatchNorm'],
  tolerance: LOSS,
  gradient: 'none',
  cases: (dtype) =>
    [0, 1, 7, 65, 300].flatMap((channels) =>
      UPDATES.map((update): Case => {
        const inputs = [1, 2, 3, 4].map((salt) => random(dtype, [channels], { low: 0.5, high: 2, salt }))
        return {
          title: `${channels} channels, ${JSON.stringify(update)}`,
          inputs,
          run: ([runningMean, runningVar, mean, variance], device) => {
            const updates = tilegrad.tensor(0, { dtype: 'i32', device })
            const ok = update.ok === undefined ? null : tilegrad.tensor([update.ok], { device }).reshape([])
            const five = tilegrad.full([], 5, { dtype, device })
            const operands = [runningMean!, runningVar!, updates, mean!, variance!, five, ok]
            for (let i = 0; i < 2; i++) {
              emit(device, 'batchNormUpdate', operands, [], [update.momentum, +update.cumulative, +update.unbiased])
            }
            return [runningMean!, runningVar!, updates]
          },
          want: (data) => {
            const steps = update.ok === false ? 0 : 2
            const after = (old: number, fresh: number): number => {
              let value = old
              for (let t = 1; t <= steps; t++) value += (update.cumulative ? 1 / t : update.momentum) * (fresh - value)
              return value
            }
            const [m, v, mean, variance] = data.map(({ values }) => values)
            const correction = update.unbiased ? 5 / 4 : 1
            return [
              { ...array('f64', [channels], (c) => after(m![c]!, mean![c]!)), dtype },
              { ...array('f64', [channels], (c) => after(v![c]!, variance![c]! * correction)), dtype },
              { ...array('i32', [], [steps]), tolerance: EXACT },
            ]
          },
        }
      }),
    ),
}

export const BATCH_NORMS = {
  batchNorm: BATCH_NORM,
  batchNormStatistics: STATISTICS,
  batchNormVariance: VARIANCE,
  batchNormGradSums: GRAD_SUMS,
  batchNormGrad: GRAD,
  batchNormUpdate: UPDATE,
} as const satisfies Readonly<Partial<Record<OpcodeName, Row>>>
