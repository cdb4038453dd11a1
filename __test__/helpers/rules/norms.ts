/** Normalisation in random programs. eps is large, so that no row makes rounding errors grow without bound. */

import { type Tensor, groupNorm, layerNorm, rmsNorm } from '../../../ts/index.ts'
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

/** layerNorm, rmsNorm and groupNorm. */
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
]
