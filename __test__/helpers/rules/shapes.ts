/** Operations of random programs that move elements. */

import { concat, expand, gather, pad, reshape, slice, transpose } from '../../../ts/index.ts'
import { numel } from '../../../ts/shape.ts'
import type { Known } from '../program-generator.ts'
import { type Rule, float, pick, shaped } from './rule.ts'

/** Operations that move elements. */
export const SHAPES: readonly Rule[] = [
  {
    op: 'reshape',
    plan(choices, known) {
      const at = pick(choices, known, () => true)!
      const k = known[at]!
      const size = numel(k.shape)
      const divisors = Array.from({ length: size }, (_, i) => i + 1).filter((d) => size % d === 0)
      const form = choices.below(3)
      const d = divisors.length === 0 ? 1 : choices.of(divisors)
      const shape = form === 0 ? [size] : form === 1 ? [1, ...k.shape] : size === 0 ? [0, 2] : [d, size / d]
      return { inputs: [at], options: { shape }, result: shaped(k, { shape }) }
    },
    apply: ([x], { shape }) => reshape(x!, shape as number[]),
  },
  {
    op: 'transpose',
    plan(choices, known) {
      const at = pick(choices, known, (k) => k.shape.length >= 1)
      if (at === null) return null
      const k = known[at]!
      const rest = k.shape.map((_, i) => i)
      const axes: number[] = []
      while (rest.length > 0) axes.push(...rest.splice(rest.length - 1 - choices.below(rest.length), 1))
      return { inputs: [at], options: { axes }, result: shaped(k, { shape: axes.map((a) => k.shape[a]!) }) }
    },
    apply: ([x], { axes }) => transpose(x!, axes as number[]),
  },
  {
    op: 'expand',
    plan(choices, known) {
      const at = pick(choices, known, () => true)!
      const k = known[at]!
      const shape = [...(choices.flag() ? [2] : []), ...k.shape.map((d) => (d === 1 ? 1 + choices.below(3) : d))]
      return { inputs: [at], options: { shape }, result: shaped(k, { shape }) }
    },
    apply: ([x], { shape }) => expand(x!, shape as number[]),
  },
  {
    op: 'concat',
    plan(choices, known) {
      const a = pick(choices, known, (k) => k.shape.length >= 1)
      if (a === null) return null
      const first = known[a]!
      const axis = choices.below(first.shape.length)
      const fits = (k: Known): boolean =>
        k.kind === first.kind &&
        k.shape.length === first.shape.length &&
        k.shape.every((d, i) => i === axis || d === first.shape[i])
      const inputs = [a]
      for (let more = 1 + choices.below(2); more > 0; more--) inputs.push(pick(choices, known, fits)!)
      const all = inputs.map((i) => known[i]!)
      const shape = first.shape.map((d, i) => (i === axis ? all.reduce((n, k) => n + k.shape[axis]!, 0) : d))
      const magnitude = Math.max(...all.map((k) => k.magnitude))
      const error = Math.max(...all.map((k) => k.error))
      return {
        inputs,
        options: { axis },
        result: shaped(first, { shape, magnitude, error, whole: all.every((k) => k.whole) }),
      }
    },
    apply: (inputs, { axis }) => concat(inputs, axis as number),
  },
  {
    op: 'slice',
    plan(choices, known) {
      const at = pick(choices, known, (k) => k.shape.length >= 1)
      if (at === null) return null
      const k = known[at]!
      const begin = k.shape.map((d) => choices.below(d + 1))
      const shape = k.shape.map((d, i) => d - begin[i]! - choices.below(d - begin[i]! + 1))
      return { inputs: [at], options: { begin, shape }, result: shaped(k, { shape }) }
    },
    apply: ([x], { begin, shape }) => slice(x!, begin as number[], shape as number[]),
  },
  {
    op: 'pad',
    plan(choices, known) {
      const at = pick(choices, known, (k) => float(k) && k.shape.length >= 1)
      if (at === null) return null
      const k = known[at]!
      const before = k.shape.map(() => choices.below(3))
      const after = k.shape.map(() => choices.below(2))
      const shape = k.shape.map((d, i) => d + before[i]! + after[i]!)
      const value = choices.of([0, 1])
      return {
        inputs: [at],
        options: { before, after, value },
        result: shaped(k, { shape, magnitude: Math.max(k.magnitude, value) }),
      }
    },
    apply: ([x], { before, after, value }) =>
      pad(x!, (before as number[]).map((b, i) => [b, (after as number[])[i]!]), value as number), // prettier-ignore
  },
  {
    op: 'gather',
    plan(choices, known) {
      const x = pick(choices, known, (k) => k.shape.length >= 1)
      if (x === null) return null
      const k = known[x]!
      const axis = choices.below(k.shape.length)
      const indices = pick(choices, known, (i) => i.kind === 'index' && i.magnitude < k.shape[axis]!)
      if (indices === null) return null
      const shape = [...k.shape.slice(0, axis), ...known[indices]!.shape, ...k.shape.slice(axis + 1)]
      return { inputs: [x, indices], options: { axis }, result: shaped(k, { shape }) }
    },
    apply: ([x, indices], { axis }) => gather(x!, indices!, axis as number),
  },
]
