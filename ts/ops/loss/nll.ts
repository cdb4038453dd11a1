/**
 * Negative log-likelihood of class indices, from log-probabilities. A composition: classes are picked by a select over all
 * of them, which reductions evaluate on the way, and whose gradient is written in one pass without adding anything up.
 */

import { scope } from '../../scope.ts'
import type { Tensor } from '../../tensor.ts'
import { checkDtypeClass, checkTensor } from '../apply.ts'
import type { TensorData } from '../creation.ts'
import { cast, equal, mul, neg, notEqual, where } from '../elementwise.ts'
import { gatherOf } from '../gather.ts'
import { positions } from '../positions.ts'
import { sum } from '../reduce.ts'
import { reshape } from '../shape.ts'
import {
  CLASS_LOSS_OPTIONS,
  type ClassLoss,
  type ClassLossOptions,
  checkIndices,
  ignoreIndexOf,
  itemsOf,
  targetsOf,
  unmasked,
  weightOf,
} from './class-targets.ts'
import { type Reduced, type Reduction, checkLossOptions, maskOf, reduceLoss } from './reduction.ts'

/**
 * Negative log-likelihood −weight_y·logProbabilities_y of the classes y: what `crossEntropy` gives of logits, for
 * probabilities that are at hand as logarithms. The mean divides by the sum of the weights of the target classes over
 * all items that count, which without `weight` is their number.
 *
 * @param logProbabilities `[…, C]`
 * @param targets `[…]`, each in [0, C) or `ignoreIndex`: an i32 tensor, or numbers as nested or typed arrays, which are
 * checked at once unless there is a mask
 * @throws `ERR_SHAPE`, `ERR_DTYPE`, `ERR_ARGUMENT`; `ERR_ARGUMENT` when a result is read and a target was out of range
 *
 * @example
 * ```ts
 * import { logSoftmax, nn, tensor } from 'tilegrad'
 * const logits = tensor([[0, Math.log(2), 0]])
 * console.log(await nn.nll(logSoftmax(logits), [1]).item()) // 0.693147
 * ```
 */
export function nll<R extends Reduction = 'mean'>(
  logProbabilities: Tensor,
  targets: Tensor | TensorData,
  options: ClassLossOptions<R> = {},
): Reduced<R> {
  const op = 'nll'
  checkLossOptions(op, options, CLASS_LOSS_OPTIONS)
  checkTensor(op, 'logProbabilities', logProbabilities)
  checkDtypeClass(op, 'float', logProbabilities.dtype)
  const { device, dtype, shape } = logProbabilities
  const loss: ClassLoss = { op, name: 'logProbabilities', scores: logProbabilities, options }
  const ignoreIndex = ignoreIndexOf(loss)
  return scope(() => {
    const given = targetsOf(loss, targets)
    checkIndices(loss, given)
    const weight = weightOf(loss)
    const mask = maskOf(op, options.mask, itemsOf(loss), logProbabilities)
    const classes = positions(device, shape.at(-1)!)
    const left = unmasked(given, mask, ignoreIndex)
    const active = notEqual(left, ignoreIndex)
    const safe = where(active, left, 0)
    // A look-up, so that a target out of range poisons loss and gradient.
    const target = gatherOf('nll: target', classes, safe)
    const hot = equal(reshape(target, [...target.shape, 1]), classes)
    const picked = sum(where(hot, logProbabilities, 0), -1)
    // What each item weighs: that of its class times that of the mask, if there are any.
    const ofClass = weight === null ? null : where(active, gatherOf('nll: target', weight, target), 0)
    const factors = mask?.weights ?? null
    const own = ofClass === null || factors === null ? (ofClass ?? factors) : mul(ofClass, factors)
    const losses = where(active, neg(picked), 0)
    const counted = own === null ? cast(active, dtype) : where(active, own, 0)
    const count = { count: sum(counted), whole: own === null }
    return reduceLoss(op, own === null ? losses : mul(losses, own), count, options)
  })
}
