/** Cross-entropy with class weights, label smoothing and masks that weigh. */

import * as tilegrad from '../../../ts/index.ts'
import { type Device, type Dtype, type Shape, type Tensor, Tensor as TensorClass } from '../../../ts/index.ts'
import type { OpcodeName } from '../../../ts/program/opcodes.ts'
import type { Want } from '../compare.ts'
import { type Data, array, random, upload } from '../data.ts'
import { logSoftmax, logSumExp, total } from '../reference.ts'
import { type Case, LOSS, type Row, shapesOf } from './case.ts'

const IGNORED = -100

interface Setting {
  readonly shape: Shape
  /** Every how many items one is ignored; 0 for none. */
  readonly ignore: number
  readonly weighted: boolean
  readonly smoothing: number
  readonly mask?: 'bool' | 'i32' | 'float'
  readonly grad?: boolean
}

const WAYS: readonly Pick<Setting, 'weighted' | 'smoothing' | 'mask'>[] = [
  { weighted: true, smoothing: 0 },
  { weighted: false, smoothing: 0.1 },
  { weighted: true, smoothing: 0.3 },
  { weighted: false, smoothing: 0, mask: 'float' },
  { weighted: false, smoothing: 1, mask: 'bool' },
  { weighted: true, smoothing: 0.25, mask: 'float' },
  { weighted: true, smoothing: 0, mask: 'i32' },
]

const SETTINGS: readonly Setting[] = WAYS.flatMap((way) => [
  { shape: [3, 5], ignore: 0, grad: true, ...way },
  { shape: [2, 3, 4], ignore: 3, grad: true, ...way },
  { shape: [4], ignore: 0, grad: true, ...way },
  { shape: [3, 4], ignore: 1, grad: true, ...way },
  { shape: [0, 5], ignore: 0, grad: true, ...way },
  { shape: [1, 1], ignore: 0, ...way },
  { shape: [17, 10], ignore: 5, ...way },
  { shape: [33, 31], ignore: 0, ...way },
  { shape: [65, 257], ignore: 7, ...way },
  { shape: [3, 1009], ignore: 0, ...way },
])

function targetsOf({ shape, ignore }: Setting): Data {
  const classes = shape.at(-1)!
  return array('i32', shape.slice(0, -1), (i) => (ignore > 0 && i % ignore === 0 ? IGNORED : (i * 31 + 2) % classes))
}

/** Half, one, one and a half, … : exact in every dtype; some class weighs nothing. */
function weightOf({ shape, weighted }: Setting, dtype: Dtype): Data | null {
  return weighted ? array(dtype, shape.slice(-1), (c) => ((c * 5) % 7) / 2) : null
}

function maskOf({ shape, mask }: Setting, dtype: Dtype): Data | null {
  const items = shape.slice(0, -1)
  if (mask === undefined) return null
  if (mask === 'float') return array(dtype, items, (i) => ((i * 3) % 4) / 2)
  return array(mask, items, (i) => (mask === 'bool' ? +(i % 3 !== 1) : i % 3))
}

/** The coefficients of an item: q_c = weight_c·((1 − ε)·[c = target] + ε/C). */
function coefficients(setting: Setting, target: number): number[] {
  const classes = setting.shape.at(-1)!
  const weight = weightOf(setting, 'f64')
  return Array.from({ length: classes }, (_, c) => {
    const share = (1 - setting.smoothing) * +(c === target) + setting.smoothing / classes
    return (weight?.values[c] ?? 1) * share
  })
}

/** The weighed losses of all items, and what they count. */
function losses(setting: Setting, logits: Data, targets: Data): [number[], number[]] {
  const classes = setting.shape.at(-1)!
  const [weight, mask] = [weightOf(setting, 'f64'), maskOf(setting, 'f64')]
  const factors = Array.from(targets.values, (target, i) => (target === IGNORED ? 0 : (mask?.values[i] ?? 1)))
  const items = Array.from(targets.values, (target, i) => {
    if (factors[i] === 0) return 0
    const line = logSoftmax(Array.from(logits.values.subarray(i * classes, (i + 1) * classes)))
    return -factors[i]! * total(coefficients(setting, target).map((q, c) => q * line[c]!))
  })
  const counts = factors.map((factor, i) => (factor === 0 ? 0 : factor * (weight?.values[targets.values[i]!] ?? 1)))
  return [items, counts]
}

/** In the dtype of the logits, which is another where a case is repeated in f64. */
function optionsOf(setting: Setting, { dtype }: Tensor, device: Device): tilegrad.nn.CrossEntropyOptions {
  const [weight, mask] = [weightOf(setting, dtype), maskOf(setting, dtype)]
  return {
    labelSmoothing: setting.smoothing,
    ...(weight !== null && { weight: upload(weight, device) }),
    ...(mask !== null && { mask: upload(mask, device) }),
  }
}

function cases(dtype: Dtype, setting: Setting): Case[] {
  const { shape, weighted, smoothing, mask, ignore } = setting
  const inputs = [random(dtype, shape, { low: -4, high: 4 }), targetsOf(setting)]
  const how = [weighted && 'weights', smoothing > 0 && `ε ${smoothing}`, mask && `${mask} mask`].filter(Boolean)
  const title = `${shapesOf(inputs)}, ${how.join(', ')}, ${ignore === 0 ? 'none' : `one in ${ignore}`} ignored`
  const grad = setting.grad ?? false
  const reduced = (reduction: 'mean' | 'sum' | 'none'): Case => ({
    title: `${reduction} of ${title}`,
    inputs,
    run: ([logits, targets], device) =>
      tilegrad.nn.crossEntropy(logits!, targets!, { ...optionsOf(setting, logits!, device), reduction }),
    want: ([logits, targets]) => {
      const [items, counts] = losses(setting, logits!, targets!)
      if (reduction === 'none') return exactly(dtype, targets!.shape, items)
      const [sum, count] = [total(items), total(counts)]
      // Nothing to count gives 0, whatever there is to divide.
      return exactly(dtype, [], [reduction === 'sum' ? sum : count === 0 ? 0 : sum / count])
    },
    grad,
  })
  const parts: Case = {
    title: `parts of ${title}`,
    inputs,
    run: ([logits, targets], device) => {
      const options = optionsOf(setting, logits!, device)
      const { sum, count } = tilegrad.nn.crossEntropy(logits!, targets!, { ...options, reduction: 'parts' })
      return [sum, count]
    },
    want: ([logits, targets]) =>
      losses(setting, logits!, targets!).map((list) => exactly(dtype, [], [total(list)])) as [Want, Want],
  }
  return [reduced('mean'), reduced('sum'), reduced('none'), parts]
}

/** A result in f64 that is to come out in a dtype. */
export function exactly(dtype: Dtype, shape: Shape, values: ArrayLike<number>): Want {
  return { ...array('f64', shape, values), dtype }
}

const WEIGHTED_CROSS_ENTROPY: Row = {
  api: ['nn.crossEntropy'],
  tolerance: LOSS,
  gradient: 'smooth',
  cases: (dtype) => [
    ...SETTINGS.flatMap((setting) => cases(dtype, setting)),
    {
      title: 'what an ignored or masked item holds does not matter',
      inputs: [array(dtype, [3, 2], [NaN, 1, 0.5, 1, Infinity, -Infinity]), array('i32', [3], [IGNORED, 1, 77])],
      run: ([logits, targets], device) =>
        tilegrad.nn.crossEntropy(logits!, targets!, {
          mask: tilegrad.tensor([true, true, false], { device }),
          labelSmoothing: 0.5,
        }),
      want: ([logits]) => {
        const [first, second] = logSoftmax([...logits!.values.subarray(2, 4)]) as [number, number]
        return exactly(dtype, [], [-0.25 * first - 0.75 * second])
      },
    },
  ],
}

const WEIGHTED_CROSS_ENTROPY_GRAD: Row = {
  api: [],
  tolerance: LOSS,
  gradient: 'none',
  cases: (dtype) =>
    SETTINGS.filter(({ mask }) => mask === undefined).map((setting): Case => {
      const { shape, smoothing } = setting
      const [items, classes] = [shape.slice(0, -1), shape.at(-1)!]
      const logits = random(dtype, shape, { low: -4, high: 4 })
      const line = (i: number): number[] => Array.from(logits.values.subarray(i * classes, (i + 1) * classes))
      const norms = array(dtype, items, (i) => logSumExp(line(i)))
      const weight = weightOf(setting, dtype)
      const sum = weight === null || smoothing === 0 ? null : array(dtype, [], [total([...weight.values])])
      const inputs = [logits, targetsOf(setting), norms, random(dtype, items, { salt: 3 })]
      return {
        title: `${shapesOf(inputs)}, ${weight === null ? 'no ' : ''}weights, ε ${smoothing}`,
        inputs,
        run: (inputs, device) => {
          const values = [...inputs, ...[weight, sum].map((data) => data && upload(data, device))]
          const attributes = [IGNORED >>> 0, smoothing]
          return new TensorClass(
            device,
            device.recorder.emit(
              'weightedCrossEntropyGrad',
              values.map((x) => x?.value ?? null),
              { dtype, shape },
              attributes,
            ),
          )
        },
        want: ([, targets, norms, dy]) => {
          const values = Float64Array.from(logits.values, (x, p) => {
            const item = Math.floor(p / classes)
            const target = targets!.values[item]!
            if (target === IGNORED) return 0
            const q = coefficients(setting, target)
            return dy!.values[item]! * (total(q) * Math.exp(x - norms!.values[item]!) - q[p % classes]!)
          })
          return exactly(dtype, shape, values)
        },
      }
    }),
}

export const WEIGHTED = {
  weightedCrossEntropy: WEIGHTED_CROSS_ENTROPY,
  weightedCrossEntropyGrad: WEIGHTED_CROSS_ENTROPY_GRAD,
} as const satisfies Readonly<Partial<Record<OpcodeName, Row>>>
