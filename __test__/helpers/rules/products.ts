/** Products, layers and losses of random programs. */

import { linear, matmul, nn } from '../../../ts/index.ts'
import { type Shape, numel, sameShape } from '../../../ts/shape.ts'
import type { Choices, Known } from '../program-generator.ts'
import { type Rule, float, pick, shaped, stretched } from './rule.ts'

const ACTIVATIONS = [
  'none',
  'relu',
  'leakyRelu',
  'elu',
  'sigmoid',
  'tanh',
  'silu',
  'softplus',
  'gelu',
  'geluTanh',
] as const

const inner = (k: Known, transposed: boolean): number => k.shape[k.shape.length - (transposed ? 2 : 1)]!

/** Products, layers and losses. */
export const PRODUCTS: readonly Rule[] = [
  {
    op: 'matmul',
    plan(choices, known) {
      const [transposeA, transposeB] = [choices.flag(), choices.flag()]
      const matrix = (k: Known): boolean => float(k) && k.shape.length >= 2
      const a = pick(choices, known, matrix)
      if (a === null) return null
      const first = known[a]!
      const size = inner(first, transposeA)
      const batches = (k: Known): Shape | null => stretched(first.shape.slice(0, -2), k.shape.slice(0, -2))
      const b = pick(choices, known, (k) => matrix(k) && inner(k, !transposeB) === size && batches(k) !== null)
      if (b === null) return null
      const second = known[b]!
      const shape = [...batches(second)!, inner(first, !transposeA), inner(second, transposeB)]
      return { inputs: [a, b], options: { transposeA, transposeB }, result: product(first, second, size, shape) }
    },
    apply: ([a, b], o) => matmul(a!, b!, o),
  },
  {
    op: 'linear',
    plan(choices, known) {
      const x = pick(choices, known, (k) => float(k) && k.shape.length >= 1)
      if (x === null) return null
      const first = known[x]!
      const size = inner(first, false)
      const weight = pick(choices, known, (k) => float(k) && k.shape.length === 2 && k.shape[0] === size)
      if (weight === null) return null
      const second = known[weight]!
      const out = second.shape[1]!
      const bias = choices.flag() ? pick(choices, known, (k) => float(k) && sameShape(k.shape, [out])) : null
      const activation = choices.of(ACTIVATIONS)
      const base = product(first, second, size, [...first.shape.slice(0, -1), out])
      const third = bias === null ? { magnitude: 0, error: 0, whole: true } : known[bias]!
      const magnitude = base.magnitude + third.magnitude + (activation === 'none' ? 0 : 1)
      const error =
        1.2 * (base.error + third.error + base.magnitude + third.magnitude) +
        (activation === 'none' ? 0 : 8 * (magnitude + 1))
      const exact = base.whole && third.whole && (activation === 'none' || activation === 'relu')
      return {
        inputs: bias === null ? [x, weight] : [x, weight, bias],
        options: { activation },
        result: shaped(base, { magnitude, error, whole: exact }),
      }
    },
    apply: ([x, weight, bias], { activation }) =>
      linear(x!, weight!, bias, activation === 'none' ? {} : { activation: activation as 'relu' }),
    distance: ([x, weight, bias], { activation }, shapes) => {
      if (activation !== 'relu' && activation !== 'leakyRelu') return Infinity
      const [k, n] = shapes[1] as [number, number]
      let least = Infinity
      for (let row = 0; row < x!.length / Math.max(1, k); row++) {
        for (let column = 0; column < n; column++) {
          let z = bias?.[column] ?? 0
          for (let i = 0; i < k; i++) z += x![row * k + i]! * weight![i * n + column]!
          least = Math.min(least, Math.abs(z))
        }
      }
      return least
    },
  },
  {
    op: 'crossEntropy',
    plan(choices, known) {
      const fits = (k: Known, i: Known): boolean =>
        float(k) &&
        i.kind === 'index' &&
        sameShape(i.shape, k.shape.slice(0, -1)) &&
        i.magnitude < (k.shape.at(-1) ?? 0)
      const logits = pick(choices, known, (k) => known.some((i) => fits(k, i)))
      if (logits === null) return null
      const k = known[logits]!
      const targets = pick(choices, known, (i) => fits(k, i))!
      const rows = k.shape.slice(0, -1)
      const classes = k.shape.at(-1)!
      const reduction = choices.of(['mean', 'sum', 'none'])
      const count = reduction === 'sum' ? Math.max(1, numel(rows)) : 1
      const magnitude = count * (2 * k.magnitude + Math.log(classes))
      const error = count * (2 * k.error + 2 * k.magnitude + 12) + 8 * magnitude
      const ignoreIndex = choices.of([-100, 0, 1])
      const labelSmoothing = choices.of([0, 0, 0.1, 0.5])
      const shape = reduction === 'none' ? rows : []
      return {
        inputs: [logits, targets],
        options: { reduction, ignoreIndex, labelSmoothing },
        result: shaped(k, { shape, magnitude, error, whole: false }),
      }
    },
    apply: ([logits, targets], o) => nn.crossEntropy(logits!, targets!, o),
  },
  {
    op: 'mse',
    plan(choices, known) {
      const a = pick(choices, known, (k) => float(k) && numel(k.shape) > 0)
      if (a === null) return null
      const first = known[a]!
      const b = pick(choices, known, (k) => float(k) && sameShape(k.shape, first.shape))!
      const second = known[b]!
      const m = first.magnitude + second.magnitude
      const error = 2 * m * (first.error + second.error + m) + 8 * m * m
      return { inputs: [a, b], result: shaped(first, { shape: [], magnitude: m * m, error, whole: false }) }
    },
    apply: ([a, b]) => nn.mse(a!, b!),
  },
  {
    op: 'bceWithLogits',
    plan(choices, known) {
      const both = pair(choices, known)
      if (both === null) return null
      const [first, second] = [known[both[0]!]!, known[both[1]!]!]
      const magnitude = first.magnitude * (1 + second.magnitude) + 1
      const error =
        2 * (first.error * (1 + second.magnitude) + second.error * first.magnitude) + 8 * (magnitude + second.magnitude)
      return { inputs: both, result: shaped(first, { shape: [], magnitude, error, whole: false }) }
    },
    apply: ([a, b]) => nn.bceWithLogits(a!, b!),
  },
  {
    op: 'huber',
    plan(choices, known) {
      const both = pair(choices, known)
      if (both === null) return null
      const [first, second] = [known[both[0]!]!, known[both[1]!]!]
      const magnitude = first.magnitude + second.magnitude
      const error = 2 * (first.error + second.error + magnitude) + 8 * magnitude
      return { inputs: both, result: shaped(first, { shape: [], magnitude, error, whole: false }) }
    },
    apply: ([a, b]) => nn.huber(a!, b!),
  },
]

/** Two operands of one shape, which may be one. */
function pair(choices: Choices, known: readonly Known[]): number[] | null {
  const a = pick(choices, known, (k) => float(k) && numel(k.shape) > 0)
  if (a === null) return null
  return [a, pick(choices, known, (k) => float(k) && sameShape(k.shape, known[a]!.shape))!]
}

function product(a: Known, b: Known, size: number, shape: Shape): Known {
  const magnitude = size * a.magnitude * b.magnitude
  const error = size * (a.error * b.magnitude + b.error * a.magnitude) + size * magnitude
  return shaped(a, { shape, magnitude, error, whole: a.whole && b.whole })
}
