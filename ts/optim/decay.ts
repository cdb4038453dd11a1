/** Which parameters are to decay: a convention, and therefore a helper that makes groups and no default of any optimiser. */

import { checkOptions, expected } from '../errors.ts'
import type { Tensor } from '../tensor.ts'
import { atLeastZero } from './schedule.ts'

/** What {@link noDecayOnBiasAndNorm} needs of a module. */
interface Named {
  namedParameters(): ReadonlyMap<string, Tensor>
}

/** Options of {@link noDecayOnBiasAndNorm}. */
export interface NoDecayOptions {
  /** Decay of the other parameters; left out, it is that of the optimiser. */
  readonly weightDecay?: number
  /** Names that do not decay either: a pattern, or whole names. */
  readonly noDecay?: RegExp | readonly string[]
}

/** Layers that normalise, by their place in a model: `norm`, `norm1`, `layerNorm`, `batch_norm`, `bn2`, `ln`. */
const NORM = /(^|[._])(\w*norm|bn|ln)_?\d*\.(weight|bias)$/i

/**
 * The parameters of a model in two groups for an optimiser: those that decay, and those that by convention do not: biases,
 * and the parameters of normalisation. They are told by their rank, below 2, and by their names: a last part `bias`, or a
 * layer called like a norm (`norm1.weight`, `bn.weight`). What requires no gradient is in neither; a group without
 * parameters is left out.
 *
 * @param options.weightDecay decay of the first group
 * @param options.noDecay more parameters for the second group, such as embeddings: `/^embedding\./`
 *
 * @example
 * ```ts
 * import { nn, optim } from 'tilegrad'
 * const model = new nn.Sequential(new nn.Linear(8, 16), new nn.Linear(16, 2))
 * const groups = optim.noDecayOnBiasAndNorm(model, { weightDecay: 0.05 })
 * const optimizer = new optim.AdamW(groups, { lr: 1e-3 })
 * console.log(groups.map(({ params, weightDecay }) => [params.length, weightDecay])) // [[2, 0.05], [2, 0]]
 * ```
 */
export function noDecayOnBiasAndNorm(
  model: Named,
  options: NoDecayOptions = {},
): { params: Tensor[]; weightDecay?: number }[] {
  checkOptions('noDecayOnBiasAndNorm', options)
  if (typeof model?.namedParameters !== 'function') throw expected('noDecayOnBiasAndNorm: model', 'a module', model)
  const { weightDecay, noDecay = [] } = options
  if (weightDecay !== undefined) atLeastZero('noDecayOnBiasAndNorm: weightDecay', weightDecay)
  if (!(noDecay instanceof RegExp) && !Array.isArray(noDecay))
    throw expected('noDecayOnBiasAndNorm: noDecay', 'a pattern or a list of names', noDecay)
  const all = new Map([...model.namedParameters()].filter(([, p]) => p.requiresGrad))
  const isListed = (name: string): boolean =>
    noDecay instanceof RegExp ? name.search(noDecay) >= 0 : noDecay.includes(name)
  const unknown = noDecay instanceof RegExp ? [] : noDecay.filter((name) => !all.has(name))
  if (unknown.length > 0)
    throw expected('noDecayOnBiasAndNorm: noDecay', `names of parameters (${[...all.keys()].join(', ')})`, unknown)
  const decaying: Tensor[] = []
  const others: Tensor[] = []
  for (const [name, p] of all) {
    const free = p.rank < 2 || /(^|\.)bias$/.test(name) || NORM.test(name) || isListed(name)
    ;(free ? others : decaying).push(p)
  }
  const groups = [
    { params: decaying, ...(weightDecay !== undefined && { weightDecay }) },
    { params: others, weightDecay: 0 },
  ]
  return groups.filter(({ params }) => params.length > 0)
}
