/** Losses that are made of other operations and have no instruction of their own, with and without masks. */

import { type Device, type Dtype, type Shape, Tensor, nn } from '../../../ts/index.ts'
import type { Want } from '../compare.ts'
import { type Data, array, count, random, upload } from '../data.ts'
import { logSoftmax, total } from '../reference.ts'
import type { Case, Row } from './case.ts'
import { exactly } from './weighted-loss.ts'

const IGNORED = -100

type Mask = 'none' | 'bool' | 'float'

const REDUCTIONS = ['mean', 'sum', 'none', 'parts'] as const

type Reduction = (typeof REDUCTIONS)[number]

/** A mask that broadcasts to the items: its last axis is stretched. */
function maskOf(kind: Mask, items: Shape, dtype: Dtype): Data | null {
  const shape = items.length === 0 ? [] : [...items.slice(0, -1), items.length > 1 ? 1 : items[0]!]
  if (kind === 'none') return null
  if (kind === 'bool') return array('bool', shape, (i) => +(i % 3 !== 1))
  return array(dtype, shape, (i) => ((i * 3) % 4) / 2)
}

function factor(mask: Data | null, items: Shape, i: number): number {
  if (mask === null) return 1
  return mask.values[mask.shape.length > 1 ? Math.floor(i / items.at(-1)!) : i]!
}

/** What a reduction makes of the losses of items and what each of them counts. */
function reduced(dtype: Dtype, reduction: Reduction, shape: Shape, items: number[], counts: number[]): Want | Want[] {
  if (reduction === 'none') return exactly(dtype, shape, items)
  const [sum, counted] = [total(items), total(counts)]
  if (reduction === 'parts') return [exactly(dtype, [], [sum]), exactly(dtype, [], [counted])]
  return exactly(dtype, [], [reduction === 'sum' ? sum : counted === 0 ? 0 : sum / counted])
}

/** In the dtype of the partner, which is another where a case is repeated in f64. */
function uploaded(mask: Data | null, like: Tensor, device: Device): { mask?: Tensor } {
  if (mask === null) return {}
  return { mask: upload({ ...mask, dtype: mask.dtype === 'bool' ? 'bool' : like.dtype }, device) }
}

function listed(result: Tensor | nn.Parts): Tensor | Tensor[] {
  return result instanceof Tensor ? result : [result.sum, result.count]
}

type Elementwise = (prediction: Tensor, target: Tensor, options: nn.LossOptions) => Tensor | nn.Parts

/** A loss of numbers against numbers, with its formula. */
function elementwise(
  dtype: Dtype,
  name: string,
  call: Elementwise,
  formula: (p: number, t: number) => number,
  ranges: { readonly low?: number; readonly high?: number; readonly apart?: readonly number[] } = {},
): Case[] {
  const shapes: Shape[] = [[], [0], [1], [7], [257], [3, 5], [33, 31]]
  return shapes.flatMap((shape) =>
    (['none', 'bool', 'float'] as const).flatMap((kind) =>
      REDUCTIONS.map((reduction): Case => {
        const target = random(dtype, shape, { salt: 2, low: ranges.low ?? -2, high: ranges.high ?? 2 })
        const start = random(dtype, shape, { salt: 1, low: -3, high: 3 })
        // Away from the corners of a function of the difference.
        const near = (p: number, t: number): boolean => (ranges.apart ?? []).some((c) => Math.abs(p - t - c) < 0.01)
        const moved = start.values.map((p, i) => (near(p, target.values[i]!) ? p + 0.03125 : p))
        const inputs = [array(dtype, shape, moved), target]
        const mask = maskOf(kind, shape, dtype)
        return {
          title: `${name} of [${shape.join(', ')}], ${reduction}, ${kind === 'none' ? 'no' : kind} mask`,
          inputs,
          run: ([p, t], device) => listed(call(p!, t!, { reduction, ...uploaded(mask, p!, device) })),
          want: ([p, t]) => {
            const counts = Array.from(p!.values, (_, i) => factor(mask, shape, i))
            const items = counts.map((f, i) => (f === 0 ? 0 : f * formula(p!.values[i]!, t!.values[i]!)))
            return reduced(dtype, reduction, shape, items, counts)
          },
          grad: count(shape) < 60,
        }
      }),
    ),
  )
}

const DELTA = 0.75

function huberOf(error: number): number {
  const e = Math.abs(error)
  return e <= DELTA ? e ** 2 / 2 : DELTA * (e - DELTA / 2)
}

/** Negative log-likelihood of classes. */
function nllCases(dtype: Dtype): Case[] {
  return [[3, 5], [2, 3, 4], [4], [0, 5], [17, 10], [65, 257]].flatMap((shape: Shape) =>
    (['none', 'bool', 'float'] as const).flatMap((kind) =>
      REDUCTIONS.flatMap((reduction) =>
        [false, true].map((weighted): Case => {
          const [items, classes] = [shape.slice(0, -1), shape.at(-1)!]
          const targets = array('i32', items, (i) => (i % 4 === 3 ? IGNORED : (i * 31 + 2) % classes))
          const inputs = [random(dtype, shape, { low: -4, high: -0.1 }), targets]
          const weight = weighted ? array(dtype, [classes], (c) => ((c * 5) % 7) / 2) : null
          const mask = maskOf(kind, items, dtype)
          return {
            title: `nll of [${shape.join(', ')}], ${reduction}, ${kind === 'none' ? 'no' : kind} mask, ${weighted ? '' : 'no '}weights`,
            inputs,
            run: ([x, y], device) => {
              const own = weight === null ? {} : { weight: upload({ ...weight, dtype: x!.dtype }, device) }
              return listed(nn.nll(x!, y!, { reduction, ...own, ...uploaded(mask, x!, device) }))
            },
            want: ([x, y]) => {
              const counts = Array.from(y!.values, (target, i) =>
                target === IGNORED ? 0 : factor(mask, items, i) * (weight?.values[target] ?? 1),
              )
              const losses = counts.map((f, i) => (f === 0 ? 0 : -f * x!.values[i * classes + y!.values[i]!]!))
              return reduced(dtype, reduction, items, losses, counts)
            },
            grad: count(shape) < 60,
          }
        }),
      ),
    ),
  )
}

/** Cross-entropy with probabilities as targets. */
function probabilityCases(dtype: Dtype): Case[] {
  return [[3, 5], [2, 3, 4], [4], [0, 5], [17, 10], [65, 257]].flatMap((shape: Shape) =>
    (['none', 'bool', 'float'] as const).flatMap((kind) =>
      REDUCTIONS.flatMap((reduction) =>
        [0, 0.2].map((smoothing): Case => {
          const [items, classes] = [shape.slice(0, -1), shape.at(-1)!]
          const weight = smoothing > 0 ? array(dtype, [classes], (c) => ((c * 5) % 7) / 2) : null
          const mask = maskOf(kind, items, dtype)
          return {
            title: `crossEntropy of probabilities [${shape.join(', ')}], ${reduction}, ${kind === 'none' ? 'no' : kind} mask, ε ${smoothing}`,
            inputs: [random(dtype, shape, { low: -4, high: 4 }), random(dtype, shape, { low: 0, high: 1, salt: 5 })],
            run: ([x, t], device) => {
              const own = weight === null ? {} : { weight: upload({ ...weight, dtype: x!.dtype }, device) }
              const options = { reduction, labelSmoothing: smoothing, ...own, ...uploaded(mask, x!, device) }
              return listed(nn.crossEntropy(x!, t!, options))
            },
            want: ([x, t]) => {
              const counts = Array.from({ length: count(items) }, (_, i) => factor(mask, items, i))
              const losses = counts.map((f, i) => {
                if (f === 0) return 0
                const line = logSoftmax([...x!.values.subarray(i * classes, (i + 1) * classes)])
                return -f * total(line.map((logp, c) => {
                  const share = (1 - smoothing) * t!.values[i * classes + c]! + smoothing / classes
                  return (weight?.values[c] ?? 1) * share * logp
                })) // prettier-ignore
              })
              return reduced(dtype, reduction, items, losses, counts)
            },
            grad: count(shape) < 60,
          }
        }),
      ),
    ),
  )
}

/** The losses, by the names that titles give them; compared within the tolerance of losses. */
export const COMPOSED: Readonly<Record<string, Pick<Row, 'gradient' | 'cases'>>> = {
  mse: { gradient: 'smooth', cases: (dtype) => elementwise(dtype, 'mse', nn.mse, (p, t) => (p - t) ** 2) },
  mae: {
    gradient: 'corners',
    cases: (dtype) => elementwise(dtype, 'mae', nn.mae, (p, t) => Math.abs(p - t), { apart: [0] }),
  },
  huber: {
    gradient: 'corners',
    cases: (dtype) =>
      elementwise(
        dtype,
        'huber',
        (p, t, options) => nn.huber(p, t, { ...options, delta: DELTA }),
        (p, t) => huberOf(p - t),
        { apart: [-DELTA, DELTA] },
      ),
  },
  bceWithLogits: {
    gradient: 'smooth',
    cases: (dtype) =>
      elementwise(
        dtype,
        'bceWithLogits',
        nn.bceWithLogits,
        (z, t) => Math.max(z, 0) - z * t + Math.log1p(Math.exp(-Math.abs(z))),
        { low: 0, high: 1 },
      ),
  },
  nll: { gradient: 'smooth', cases: nllCases },
  'crossEntropy of probabilities': { gradient: 'smooth', cases: probabilityCases },
}
