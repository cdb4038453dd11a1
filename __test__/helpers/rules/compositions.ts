/** Operations made of others, in random programs: norms of vectors, running sums and products, attention, embeddings, losses; and dropout. */

import {
  type Tensor,
  cumprod,
  cumsum,
  dropout,
  embedding,
  logSumExp,
  nn,
  norm,
  oneHot,
  prod,
  scaledDotProductAttention,
  tensor,
} from '../../../ts/index.ts'
import { sameShape } from '../../../ts/shape.ts'
import type { Choices, Known } from '../program-generator.ts'
import { type Planned, type Rule, float, pick, shaped } from './rule.ts'

/** The element that is nearest to 0. */
const fromZero: NonNullable<Rule['distance']> = ([x]) =>
  Array.from(x!).reduce((least, v) => Math.min(least, Math.abs(v)), Infinity)

/** Picks a tensor that has an axis, and the axis. */
function alongAxis(
  choices: Choices,
  known: readonly Known[],
): { at: number; k: Known; axis: number; n: number } | null {
  const at = pick(choices, known, (k) => float(k) && k.shape.length >= 1)
  if (at === null) return null
  const k = known[at]!
  const axis = choices.below(k.shape.length)
  return { at, k, axis, n: k.shape[axis]! }
}

function without(k: Known, axis: number): number[] {
  return k.shape.filter((_, i) => i !== axis)
}

/** A product of n factors: how large it is, and how far off. */
function product(k: Known, n: number): Pick<Known, 'magnitude' | 'error'> {
  const most = Math.max(1, k.magnitude)
  return { magnitude: most ** n, error: n * most ** Math.max(0, n - 1) * (k.error + most) }
}

/** A sum of n terms. */
function sumOf(k: Known, n: number): Pick<Known, 'magnitude' | 'error'> {
  return { magnitude: n * k.magnitude, error: n * (k.error + 0.2 * n * k.magnitude) }
}

function scan(op: string, apply: typeof cumsum, bounds: typeof sumOf): Rule {
  return {
    op,
    plan(choices, known) {
      const picked = alongAxis(choices, known)
      if (picked === null) return null
      const { at, k, axis, n } = picked
      const options = { axis, reverse: choices.flag(), exclusive: choices.flag() }
      return { inputs: [at], options, result: shaped(k, bounds(k, n)) }
    },
    apply: ([x], o) =>
      apply(x!, o['axis'] as number, { reverse: o['reverse'] as boolean, exclusive: o['exclusive'] as boolean }),
  }
}

function attention(choices: Choices, known: readonly Known[]): Planned | null {
  const q = pick(choices, known, (k) => float(k) && k.shape.length >= 2 && k.shape.at(-1)! > 0)
  if (q === null) return null
  const { shape } = known[q]!
  const alike = (k: Known): boolean => float(k) && sameShape(k.shape, shape)
  const [k, v] = [pick(choices, known, alike)!, pick(choices, known, alike)!]
  const [a, b, c] = [known[q]!, known[k]!, known[v]!]
  const size = Math.sqrt(shape.at(-1)!)
  const scores = size * (a.magnitude * b.error + b.magnitude * a.error + 2 * a.magnitude * b.magnitude)
  const error = c.error + c.magnitude * (2 * scores + 8)
  return {
    inputs: [q, k, v],
    options: { causal: choices.flag() },
    result: shaped(c, { whole: false, error }),
  }
}

/** Operations made of others. */
export const COMPOSITIONS: readonly Rule[] = [
  {
    op: 'norm',
    plan(choices, known) {
      const picked = alongAxis(choices, known)
      if (picked === null) return null
      const { at, k, axis, n } = picked
      const p = choices.of([2, 1, 3])
      const { magnitude, error } = sumOf(k, Math.max(1, n))
      return { inputs: [at], options: { axis, p }, result: shaped(k, { shape: without(k, axis), whole: false, magnitude, error }) } // prettier-ignore
    },
    apply: ([x], { axis, p }) => norm(x!, { axis: axis as number, p: p as number }),
    // A vector near 0 has a direction that rounding decides.
    distance: (...args) => fromZero(...args) / 30,
  },
  {
    op: 'logSumExp',
    plan(choices, known) {
      const picked = alongAxis(choices, known)
      if (picked === null || picked.n === 0) return null
      const { at, k, axis, n } = picked
      const magnitude = k.magnitude + Math.log(n)
      return { inputs: [at], options: { axis }, result: shaped(k, { shape: without(k, axis), whole: false, magnitude, error: k.error + 2 * magnitude + 8 }) } // prettier-ignore
    },
    apply: ([x], { axis }) => logSumExp(x!, axis as number),
  },
  {
    op: 'prod',
    plan(choices, known) {
      const picked = alongAxis(choices, known)
      if (picked === null) return null
      const { at, k, axis, n } = picked
      return { inputs: [at], options: { axis }, result: shaped(k, { shape: without(k, axis), ...product(k, n) }) }
    },
    apply: ([x], { axis }) => prod(x!, axis as number),
  },
  scan('cumsum', cumsum, sumOf),
  scan('cumprod', cumprod, product),
  {
    op: 'oneHot',
    plan(choices, known) {
      const at = pick(choices, known, (k) => k.kind === 'index' && k.magnitude < 40)
      if (at === null) return null
      const k = known[at]!
      const classes = k.magnitude + 1 + choices.below(2)
      return { inputs: [at], options: { classes }, result: shaped(k, { shape: [...k.shape, classes], magnitude: 1 }) } // prettier-ignore
    },
    // Programs run in f32 and in f64: of floats it would not know which.
    apply: ([x], { classes }) => oneHot(x!, classes as number, { dtype: 'i32' }),
  },
  {
    op: 'embedding',
    plan(choices, known) {
      const table = pick(choices, known, (k) => float(k) && k.shape.length === 2)
      if (table === null) return null
      const k = known[table]!
      const at = pick(choices, known, (i) => i.kind === 'index' && i.magnitude < k.shape[0]!)
      if (at === null) return null
      const shape = [...known[at]!.shape, k.shape[1]!]
      return { inputs: [at, table], options: { padding: choices.below(k.shape[0]!) }, result: shaped(k, { shape }) }
    },
    apply: ([indices, table], { padding }) => embedding(indices!, table!, { paddingIdx: padding as number }),
  },
  {
    op: 'scaledDotProductAttention',
    plan: attention,
    apply: ([q, k, v], { causal }) => scaledDotProductAttention(q!, k!, v!, { causal: causal as boolean }),
  },
  {
    op: 'dropout',
    plan(choices, known) {
      const at = pick(choices, known, float)
      if (at === null) return null
      const k = known[at]!
      const p = choices.of([0.5, 0.25])
      const by = 1 / (1 - p)
      // A half doubles what is left, exactly.
      const result = { whole: k.whole && p === 0.5, magnitude: by * k.magnitude, error: by * (k.error + k.magnitude) }
      return { inputs: [at], options: { p }, result: shaped(k, result) }
    },
    apply: ([x], { p }): Tensor => dropout(x!, { p: p as number }),
  },
  {
    op: 'mae',
    plan(choices, known) {
      const a = pick(choices, known, float)
      if (a === null) return null
      const k = known[a]!
      const b = pick(choices, known, (other) => float(other) && sameShape(other.shape, k.shape))!
      const magnitude = k.magnitude + known[b]!.magnitude
      const item = { magnitude, error: k.error + known[b]!.error + magnitude }
      return { inputs: [a, b], options: { reduction: 'none' }, result: shaped(k, { ...item, whole: false }) }
    },
    apply: ([a, b], o) => nn.mae(a!, b!, o),
    distance: ([a, b]) => fromZero([Array.from(a!, (v, i) => v - b![i]!)], {}, []),
  },
  {
    op: 'nll',
    plan(choices, known) {
      const at = pick(choices, known, (k) => float(k) && k.shape.length >= 1 && k.shape.at(-1)! > 0)
      if (at === null) return null
      const k = known[at]!
      const rows = k.shape.slice(0, -1)
      const reduction = choices.of(['mean', 'none'])
      const options = { reduction, salt: choices.below(50) }
      const shape = reduction === 'none' ? rows : []
      return { inputs: [at], options, result: shaped(k, { shape, whole: false, error: k.error + 8 * k.magnitude }) }
    },
    apply: ([x], { reduction, salt }) => nn.nll(x!, classesOf(x!, salt as number), { reduction: reduction as 'mean' }),
  },
]

/** A class for every row, some of them ignored. */
function classesOf(x: Tensor, salt: number): Tensor {
  const classes = x.shape.at(-1)!
  const targets = Int32Array.from({ length: x.size / classes }, (_, i) => {
    const at = 7 * i + salt
    return at % 5 === 4 ? -100 : at % classes
  })
  return tensor(targets, { shape: x.shape.slice(0, -1), device: x.device })
}
