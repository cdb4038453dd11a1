/** Which parameters are to decay: a convention, and therefore a helper that makes groups and no default of any optimiser. */

import { type Names, checkOptions, expected } from '../errors.ts'
import { BatchNorm } from '../nn/batch-norm.ts'
import { Module } from '../nn/module.ts'
import { GroupNorm, LayerNorm, RMSNorm } from '../nn/norm.ts'
import type { Tensor } from '../tensor.ts'
import { atLeastZero } from './schedule.ts'

/** Options of {@link noDecayOnBiasAndNorm}. */
export interface NoDecayOptions {
  /** Decay of the other parameters; left out, it is that of the optimiser. */
  readonly weightDecay?: number
  /** Names that do not decay either: a pattern, or whole names. */
  readonly noDecay?: RegExp | readonly string[]
}

/** Layers that normalise, and what extends them. */
const NORMS = [BatchNorm, LayerNorm, GroupNorm, RMSNorm]

/** The parameters of all norms in a module. */
function ofNorms(module: Module): Tensor[] {
  if (NORMS.some((kind) => module instanceof kind)) return module.parameters()
  return [...module.children().values()].flatMap(ofNorms)
}

/**
 * The parameters of a model in two groups for an optimiser: those that decay, and those that by convention do not: biases,
 * and the parameters of normalisation. They are told by their rank, below 2, by a name that ends in `bias`, and by their
 * layer: all that a `BatchNorm`, `LayerNorm`, `GroupNorm` or `RMSNorm` has. What requires no gradient is in neither; a
 * group without parameters is left out.
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
  model: Module,
  options: NoDecayOptions = {},
): { params: Tensor[]; weightDecay?: number }[] {
  checkOptions('noDecayOnBiasAndNorm', options, { weightDecay: true, noDecay: true } satisfies Names<NoDecayOptions>)
  if (!(model instanceof Module)) throw expected('noDecayOnBiasAndNorm: model', 'a module', model)
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
  const norms = new Set(ofNorms(model))
  const decaying: Tensor[] = []
  const others: Tensor[] = []
  for (const [name, p] of all) {
    const free = p.rank < 2 || /(^|\.)bias$/.test(name) || norms.has(p) || isListed(name)
    ;(free ? others : decaying).push(p)
  }
  const groups = [
    { params: decaying, ...(weightDecay !== undefined && { weightDecay }) },
    { params: others, weightDecay: 0 },
  ]
  return groups.filter(({ params }) => params.length > 0)
}
