/**
 * What all losses share: masks, and how the losses of single items become one number. An item that a mask leaves out is
 * *selected* away, in the loss and in its gradient: nothing it holds, NaN included, is ever multiplied by 0. No loss lives
 * here.
 */

import { type Names, TilegradError, checkOptions, expected } from '../../errors.ts'
import { type Shape, broadcastShapes, numel, sameShape, showShape } from '../../shape.ts'
import { Tensor } from '../../tensor.ts'
import { checkTensor, sharedDevice } from '../apply.ts'
import { full, zerosLike } from '../creation.ts'
import { cast, div, equal, maximum, mul, notEqual, where } from '../elementwise.ts'
import { sum } from '../reduce.ts'
import { require } from '../require.ts'

/**
 * How the losses of single items are brought together: their mean (default), their sum, not at all, or sum and count
 * apart, for {@link Parts}.
 */
export type Reduction = 'mean' | 'sum' | 'none' | 'parts'

/**
 * What a loss without any item that counts is: 0 with gradients of 0 (default), NaN as in frameworks that divide 0 by 0, or
 * an error.
 */
export type EmptyMask = 'zero' | 'nan' | 'throw'

/** Sum of the losses and how many items it counts, both of one element: what `GradientAccumulator.add` takes. */
export interface Parts {
  readonly sum: Tensor
  /** The number `mean` would divide by. No gradient flows through it. */
  readonly count: Tensor
}

/** Options of all losses. */
export interface LossOptions<R extends Reduction = Reduction> {
  /** Default `'mean'`. */
  readonly reduction?: R
  /**
   * Which items count: bool, or numbers (i32, or the dtype of the loss) that weigh them. Its shape broadcasts to that of
   * the items. An item whose mask is false or 0 contributes exactly nothing, whatever it holds. `mean` divides by the
   * sum of the mask over all items, true being 1. No gradient flows through it.
   */
  readonly mask?: Tensor
  /**
   * When nothing counts: `'zero'` (default) gives 0 and gradients of 0; `'nan'` a mean of NaN; with `'throw'` reading the
   * loss, its sum, or anything computed from them or their gradients rejects with `ERR_ARGUMENT`, and no parameter is
   * changed. With `reduction: 'none'` there is nothing to decide.
   *
   * Gradients of 0 are gradients: an optimiser's momentum and weight decay go on. `GradientAccumulator` skips a step for
   * which nothing was counted; without one, `'parts'` give the count for `optimizer.step({ ok: count.greater(0) })`.
   */
  readonly emptyMask?: EmptyMask
}

/** What a loss with this reduction gives. */
export type Reduced<R extends Reduction> = R extends 'parts' ? Parts : Tensor

const REDUCTIONS: readonly unknown[] = ['mean', 'sum', 'none', 'parts']
const POLICIES: readonly unknown[] = ['zero', 'nan', 'throw']

/** The options of all losses; those of one are these and its own. */
export const LOSS_OPTIONS: Names<LossOptions> = { reduction: true, mask: true, emptyMask: true }

/** Throws `ERR_ARGUMENT` for options that the loss does not know, or not with these values. Before anything is recorded. */
export function checkLossOptions(op: string, options: LossOptions, names: Readonly<Record<string, true>>): void {
  checkOptions(op, options, names)
  const { reduction = 'mean', emptyMask = 'zero' } = options
  if (!REDUCTIONS.includes(reduction)) throw expected(`${op}: reduction`, "'mean', 'sum', 'none' or 'parts'", reduction)
  if (!POLICIES.includes(emptyMask)) throw expected(`${op}: emptyMask`, "'zero', 'nan' or 'throw'", emptyMask)
}

/** A mask as the losses use it. */
export interface Mask {
  /** Bool: which items count. Broadcasts to the items. */
  readonly active: Tensor
  /** What they weigh, in the dtype of the loss; `null` when all weigh 1. */
  readonly weights: Tensor | null
}

/** The mask of items of this shape, without its gradient; `null` without one. Call it inside a scope. */
export function maskOf(op: string, mask: Tensor | undefined, items: Shape, like: Tensor): Mask | null {
  if (mask === undefined) return null
  checkTensor(op, 'mask', mask)
  sharedDevice(op, like, mask)
  if (mask.dtype !== 'bool' && mask.dtype !== 'i32' && mask.dtype !== like.dtype) {
    throw new TilegradError(
      'ERR_DTYPE',
      `${op}: a mask is bool, i32 or ${like.dtype} here, not ${mask.dtype}; cast() it`,
    )
  }
  if (mask.shape.length > items.length || !sameShape(broadcastShapes(op, mask.shape, items), items)) {
    throw new TilegradError(
      'ERR_SHAPE',
      `${op}: the mask ${showShape(mask.shape)} does not broadcast to the items ${showShape(items)}; give it an axis of 1 for each that it lacks at the end`,
    )
  }
  const constant = mask.detach()
  if (constant.dtype === 'bool') return { active: constant, weights: null }
  const weights = cast(constant, like.dtype)
  return { active: notEqual(weights, 0), weights }
}

/** The losses of the items that count, weighed; 0 for the others. */
export function masked(losses: Tensor, mask: Mask | null): Tensor {
  if (mask === null) return losses
  const kept = where(mask.active, losses, 0)
  return mask.weights === null ? kept : mul(kept, mask.weights)
}

/** What `mean` divides by when all items have the same weight but for the mask. */
export function countOf(items: Tensor, mask: Mask | null): Count {
  if (mask === null || items.size === 0) return { count: items.size, whole: true }
  const { active, weights } = mask
  const stretched = items.size / numel(active.shape)
  const total = sum(weights ?? cast(active, items.dtype))
  return { count: stretched === 1 ? total : mul(total, stretched), whole: weights === null }
}

/** What `mean` divides by: a number where the shape says it. */
export interface Count {
  readonly count: Tensor | number
  /** Whether it is a whole number, so that it is 0 or at least 1. */
  readonly whole: boolean
}

/** The losses, as errors name them. */
export type LossName = 'crossEntropy' | 'nll' | 'mse' | 'mae' | 'huber' | 'bceWithLogits'

/** Brings losses together. Call it inside a scope. */
export function reduceLoss<R extends Reduction>(
  op: LossName,
  losses: Tensor,
  { count, whole }: Count,
  { reduction, emptyMask = 'zero' }: LossOptions<R>,
): Reduced<R> {
  const how: Reduction = reduction ?? 'mean'
  if (how === 'none') return losses as Reduced<R>
  if (emptyMask === 'throw' && count === 0)
    throw new TilegradError('ERR_ARGUMENT', `${op}: there is no item, and emptyMask is 'throw'`)
  const all = sum(losses)
  const total = emptyMask === 'throw' && count instanceof Tensor ? counted(op, all, count) : all
  if (how === 'sum') return total as Reduced<R>
  if (how === 'parts') {
    const { device, dtype } = losses
    const parts: Parts = { sum: total, count: typeof count === 'number' ? full([], count, { dtype, device }) : count }
    return parts as Reduced<R>
  }
  return mean(total, count, whole, emptyMask === 'nan') as Reduced<R>
}

function mean(total: Tensor, count: Tensor | number, whole: boolean, nan: boolean): Tensor {
  if (nan) return div(total, count)
  // Of nothing the sum is 0: 0 / 1, so loss and gradient are 0 instead of NaN.
  if (typeof count === 'number') return div(total, Math.max(count, 1))
  if (whole) return div(total, maximum(count, 1))
  const empty = equal(count, 0)
  return where(empty, zerosLike(total), div(total, where(empty, 1, count)))
}

/** x, with an error in it and in its gradient when `count` is 0. Both hang on one check: who reads either has heard of it. */
function counted(op: LossName, x: Tensor, count: Tensor): Tensor {
  const checked = require(count, notEqual(count, 0), `${op}: nothing is counted: every item is masked or ignored`)
  return where(notEqual(checked, 0), x, 0)
}

/** Throws `ERR_SHAPE` unless prediction and target have one shape. */
export function checkSameShape(op: string, prediction: Tensor, target: Tensor, name = 'prediction'): void {
  if (!sameShape(prediction.shape, target.shape)) {
    throw new TilegradError(
      'ERR_SHAPE',
      `${op}: ${name} ${showShape(prediction.shape)} and target ${showShape(target.shape)} differ; reshape one of them`,
    )
  }
}
