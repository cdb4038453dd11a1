/** Reductions and softmax of random programs. */

import {
  type Tensor,
  type TopK,
  argmax,
  argmin,
  logSoftmax,
  max,
  mean,
  min,
  softmax,
  sum,
  topK,
  variance,
} from '../../../ts/index.ts'
import type { Known } from '../program-generator.ts'
import { type Rule, float, pick, shaped, whole } from './rule.ts'

/** Over one axis or all of them. */
function reduction(
  op: string,
  apply: (x: Tensor, axes: number[] | undefined, keepDims: boolean, extra: number) => Tensor,
  bounds: (k: Known, count: number) => Partial<Known> | null,
  more: { only?: (k: Known) => boolean; distance?: Rule['distance']; oneAxis?: boolean; extras?: number } = {},
): Rule {
  return {
    op,
    plan(choices, known) {
      const at = pick(choices, known, more.only ?? float)
      if (at === null) return null
      const k = known[at]!
      const rank = k.shape.length
      const form = choices.below(rank === 0 ? 1 : more.oneAxis === true ? 2 : 3)
      const first = choices.below(rank)
      const second = choices.below(rank)
      const axes = form === 0 ? k.shape.map((_, i) => i) : form === 1 ? [first] : [...new Set([first, second])]
      const count = axes.reduce((n, a) => n * k.shape[a]!, 1)
      const found = bounds(k, count)
      if (found === null) return null
      const keepDims = choices.flag()
      const shape = k.shape.flatMap((d, i) => (!axes.includes(i) ? [d] : keepDims ? [1] : []))
      const options = { axes: form === 0 ? [] : axes, keepDims, extra: choices.below(more.extras ?? 1) }
      return { inputs: [at], options, result: shaped({ ...k, shape }, found) }
    },
    apply: ([x], o) =>
      apply(
        x!,
        (o['axes'] as number[]).length === 0 ? undefined : (o['axes'] as number[]),
        o['keepDims'] as boolean,
        o['extra'] as number,
      ),
    ...(more.distance !== undefined && { distance: more.distance }),
  }
}

/** Whether two different elements anywhere come near each other: too strict for one axis, and enough. */
const spread: NonNullable<Rule['distance']> = ([x]) => {
  const sorted = Array.from(x!).toSorted((a, b) => a - b)
  let least = Infinity
  for (let i = 1; i < sorted.length; i++) least = Math.min(least, sorted[i]! - sorted[i - 1]!)
  return least
}

function along(
  op: string,
  apply: (x: Tensor, axis: number) => Tensor,
  bounds: (k: Known, count: number) => Partial<Known>,
): Rule {
  return {
    op,
    plan(choices, known) {
      const at = pick(choices, known, (k) => float(k) && k.shape.length > 0)
      if (at === null) return null
      const k = known[at]!
      const axis = choices.below(k.shape.length)
      return { inputs: [at], options: { axis }, result: shaped(k, { whole: false, ...bounds(k, k.shape[axis]!) }) }
    },
    apply: ([x], { axis }) => apply(x!, axis as number),
  }
}

/** Some or all of an axis. Of equals the index decides, so their indices are taken of whole numbers only. */
function largest(
  op: string,
  fits: (k: Known) => boolean,
  part: (found: TopK) => Tensor,
  change: (size: number) => Partial<Known>,
): Rule {
  return {
    op,
    plan(choices, known) {
      const at = pick(choices, known, (k) => fits(k) && k.shape.length > 0)
      if (at === null) return null
      const of = known[at]!
      const axis = choices.below(of.shape.length)
      const size = of.shape[axis]!
      const k = choices.below(size + 1)
      return {
        inputs: [at],
        options: { axis, k },
        result: shaped({ ...of, shape: of.shape.with(axis, k) }, change(size)),
      }
    },
    apply: ([x], { axis, k }) => part(topK(x!, k as number, axis as number)),
  }
}

/** Reductions and softmax. */
export const REDUCTIONS: readonly Rule[] = [
  reduction('sum', (x, axes, keepDims) => sum(x, axes, { keepDims }), (k, n) => ({ magnitude: n * k.magnitude, error: n * (k.error + 0.2 * n * k.magnitude) })), // prettier-ignore
  reduction(
    'mean',
    (x, axes, keepDims) => mean(x, axes, { keepDims }),
    (k, n) => (n === 0 ? null : { whole: false, error: k.error + 8 * k.magnitude }),
  ),
  reduction(
    'max',
    (x, axes, keepDims) => max(x, axes, { keepDims }),
    (_, n) => (n === 0 ? null : {}),
    { distance: spread },
  ),
  reduction(
    'min',
    (x, axes, keepDims) => min(x, axes, { keepDims }),
    (_, n) => (n === 0 ? null : {}),
    { distance: spread },
  ),
  reduction(
    'variance',
    (x, axes, keepDims, correction) => variance(x, axes, { keepDims, correction }),
    (k, n) =>
      n < 2
        ? null
        : { whole: false, magnitude: 2 * k.magnitude ** 2, error: 8 * k.magnitude * (k.error + k.magnitude) },
    { extras: 2 },
  ),
  ...(
    [
      ['argmax', argmax],
      ['argmin', argmin],
    ] as const
  ).map(([op, f]) =>
    // prettier-ignore
    reduction(
      op,
      (x, axes, keepDims) => f(x, axes?.[0], { keepDims }),
      (_, n) => (n === 0 ? null : { kind: 'index', whole: true, magnitude: n - 1 }),
      { only: whole, oneAxis: true },
    ),
  ),
  {
    ...largest(
      'topK',
      float,
      (found) => found.values,
      () => ({}),
    ),
    distance: spread,
  },
  largest(
    'topKIndices',
    whole,
    (found) => found.indices,
    (size) => ({ kind: 'index', whole: true, magnitude: Math.max(0, size - 1) }),
  ),
  along('softmax', softmax, (k) => ({ magnitude: 1, error: 2 * k.error + 8 })),
  along('logSoftmax', logSoftmax, (k, n) => ({
    magnitude: 2 * k.magnitude + Math.log(n + 1),
    error: 2 * k.error + 2 * k.magnitude + 12,
  })),
]
