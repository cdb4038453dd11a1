/** Normalisation in random programs. eps is large, so that no row makes rounding errors grow without bound. */

import { type Tensor, batchNorm, groupNorm, layerNorm, rmsNorm, square } from '../../../ts/index.ts'
import { numel, sameShape, type Shape } from '../../../ts/shape.ts'
import type { Choices, Known } from '../program-generator.ts'
import { type Options, type Planned, type Rule, float, pick, shaped } from './rule.ts'

const EPS = 0.25

/** Which operands there are besides x, as the options of a step say it. */
interface Affine {
  readonly weight: Tensor | null
  readonly bias: Tensor | null
}

function affineOf(rest: readonly Tensor[], { weight, bias }: Options): Affine {
  const left = [...rest]
  return { weight: weight === true ? left.shift()! : null, bias: bias === true ? left.shift()! : null }
}

/** Plans rows of `count` elements with weights of `shape`. */
function planned(
  choices: Choices,
  known: readonly Known[],
  x: number,
  count: number,
  shape: Shape,
  options: Options,
  hasBias = true,
): Planned {
  const k = known[x]!
  const fits = (other: Known): boolean => float(other) && sameShape(other.shape, shape)
  const weight = choices.flag() ? pick(choices, known, fits) : null
  const bias = hasBias && choices.flag() ? pick(choices, known, fits) : null
  // x̂ is at most √count, and at most 1/√eps = 2 times as sensitive as x, for each of the three terms of its derivative.
  const size = Math.sqrt(Math.max(1, count))
  const error = 2 * (2 + size) * (k.error + 4 * k.magnitude) + 8 * size
  const by = weight === null ? { magnitude: 1, error: 0 } : known[weight]!
  const and = bias === null ? { magnitude: 0, error: 0 } : known[bias]!
  return {
    inputs: [x, ...(weight === null ? [] : [weight]), ...(bias === null ? [] : [bias])],
    options: { ...options, weight: weight !== null, bias: bias !== null },
    result: shaped(k, {
      whole: false,
      magnitude: size * by.magnitude + and.magnitude,
      error: error * by.magnitude + size * by.error + and.error + and.magnitude,
    }),
  }
}

/** Over trailing axes. */
function trailing(op: string, hasBias: boolean, apply: (x: Tensor, shape: Shape, affine: Affine) => Tensor): Rule {
  return {
    op,
    plan(choices, known) {
      const x = pick(choices, known, (k) => float(k) && k.shape.length >= 1)
      if (x === null) return null
      const { shape } = known[x]!
      const normalizedShape = shape.slice(choices.below(shape.length))
      return planned(choices, known, x, numel(normalizedShape), normalizedShape, { normalizedShape }, hasBias)
    },
    apply: ([x, ...rest], o) => apply(x!, o['normalizedShape'] as Shape, affineOf(rest, o)),
  }
}

/** Along any axis, by the statistics of the batch or by others; these are made of what is at hand, so that they are positive. */
const BATCH_NORM: Rule = {
  op: 'batchNorm',
  plan(choices, known) {
    const x = pick(choices, known, (k) => float(k) && k.shape.length >= 2)
    if (x === null) return null
    const { shape } = known[x]!
    const axis = choices.below(shape.length)
    const channels = shape[axis]!
    const values = numel(shape.filter((_, i) => i !== axis))
    const training = values >= 2 && choices.flag()
    const plan = planned(choices, known, x, training ? values : 1, [channels], { axis, training })
    if (training) return plan
    const vector = (k: Known): boolean => float(k) && sameShape(k.shape, [channels])
    const [mean, root] = [pick(choices, known, vector), pick(choices, known, vector)]
    if (mean === null || root === null) return null
    // x̂ is at most twice as sensitive as x and the mean, and falls with the variance at most by half of 1/eps^1.5 = 8.
    const [of, at, by] = [known[x]!, known[mean]!, known[root]!]
    const size = 2 * (of.magnitude + at.magnitude)
    const spread = 2 * by.magnitude * by.error + by.magnitude ** 2
    const error = 2 * (of.error + at.error) + size + 2 * size * spread
    const weight = plan.options!['weight'] === true ? known[plan.inputs[1]!]! : { magnitude: 1, error: 0 }
    const bias = plan.options!['bias'] === true ? known[plan.inputs.at(-1)!]! : { magnitude: 0, error: 0 }
    const magnitude = size * weight.magnitude + bias.magnitude
    return {
      ...plan,
      inputs: [...plan.inputs, mean, root],
      result: shaped(of, {
        whole: false,
        magnitude,
        error: error * weight.magnitude + size * weight.error + bias.error + magnitude,
      }),
    }
  },
  apply([x, ...rest], o) {
    const [axis, training] = [o['axis'] as number, o['training'] as boolean]
    const affine = affineOf(rest, o)
    if (training) return batchNorm(x!, { ...affine, axis, eps: EPS, training })
    const [runningMean, root] = rest.slice(-2) as [Tensor, Tensor]
    return batchNorm(x!, { ...affine, axis, eps: EPS, runningMean, runningVar: square(root) })
  },
}

/** All of them. */
export const NORMS: readonly Rule[] = [
  trailing('layerNorm', true, (x, normalizedShape, affine) => layerNorm(x, { normalizedShape, ...affine, eps: EPS })),
  trailing('rmsNorm', false, (x, normalizedShape, { weight }) => rmsNorm(x, { normalizedShape, weight, eps: EPS })),
  {
    op: 'groupNorm',
    plan(choices, known) {
      const x = pick(choices, known, (k) => float(k) && k.shape.length >= 2)
      if (x === null) return null
      const { shape } = known[x]!
      const all = shape[1]!
      const groups = choices.of(Array.from({ length: Math.max(1, all) }, (_, i) => i + 1).filter((g) => all % g === 0))
      return planned(choices, known, x, numel(shape.slice(1)) / groups, [all], { groups })
    },
    apply: ([x, ...rest], o) => groupNorm(x!, { groups: o['groups'] as number, ...affineOf(rest, o), eps: EPS }),
  },
  BATCH_NORM,
]
