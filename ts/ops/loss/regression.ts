/**
 * Losses of numbers against numbers, element by element: mean squared, mean absolute and Huber's. They are made of
 * elementwise operations, which devices run as one; none has an instruction of its own.
 */

import { type Names, expected } from '../../errors.ts'
import { scope } from '../../scope.ts'
import type { Tensor } from '../../tensor.ts'
import { checkDtypeClass, checkSameDtype, checkTensor } from '../apply.ts'
import { abs, clip, mul, square, sub, where } from '../elementwise.ts'
import {
  LOSS_OPTIONS,
  type LossName,
  type LossOptions,
  type Reduced,
  type Reduction,
  checkLossOptions,
  checkSameShape,
  countOf,
  maskOf,
  masked,
  reduceLoss,
} from './reduction.ts'

/** Options of {@link huber}. */
export interface HuberOptions<R extends Reduction = Reduction> extends LossOptions<R> {
  /** The error up to which the loss is quadratic; above 0. Default 1. */
  readonly delta?: number
}

const HUBER: Names<HuberOptions> = { ...LOSS_OPTIONS, delta: true }

/**
 * Mean squared error (ŷ − y)²; the mean divides by the number of elements, so its gradient is 2(ŷ − y)/n.
 *
 * @param prediction any shape
 * @param target the same shape and dtype
 * @throws `ERR_SHAPE`, `ERR_DTYPE`, `ERR_ARGUMENT`; see {@link LossOptions} for masks
 *
 * @example
 * ```ts
 * import { nn, tensor } from 'tilegrad'
 * const prediction = tensor([1, 2, NaN])
 * const target = tensor([0, 0, 0])
 * const mask = tensor([true, true, false])
 * console.log(await nn.mse(prediction, target, { mask }).item()) // 2.5
 * ```
 */
export function mse<R extends Reduction = 'mean'>(
  prediction: Tensor,
  target: Tensor,
  options: LossOptions<R> = {},
): Reduced<R> {
  return ofErrors('mse', prediction, target, options, square)
}

/**
 * Mean absolute error |ŷ − y|; its gradient is 0 where they are equal.
 *
 * @param prediction any shape
 * @param target the same shape and dtype
 * @throws `ERR_SHAPE`, `ERR_DTYPE`, `ERR_ARGUMENT`; see {@link LossOptions} for masks
 *
 * @example
 * ```ts
 * import { nn, tensor } from 'tilegrad'
 * console.log(await nn.mae(tensor([1, 2]), tensor([0, 5])).item()) // 2
 * ```
 */
export function mae<R extends Reduction = 'mean'>(
  prediction: Tensor,
  target: Tensor,
  options: LossOptions<R> = {},
): Reduced<R> {
  return ofErrors('mae', prediction, target, options, abs)
}

/**
 * Huber's loss: ½e² for errors |e| = |ŷ − y| up to `delta`, delta·(|e| − ½·delta) above.
 *
 * @param prediction any shape
 * @param target the same shape and dtype
 * @throws `ERR_SHAPE`, `ERR_DTYPE`, `ERR_ARGUMENT`; see {@link LossOptions} for masks
 *
 * @example
 * ```ts
 * import { nn, tensor } from 'tilegrad'
 * const items = nn.huber(tensor([0.5, 3]), tensor([0, 0]), { delta: 1, reduction: 'none' })
 * console.log(await items.data()) // Float32Array [0.125, 2.5]
 * ```
 */
export function huber<R extends Reduction = 'mean'>(
  prediction: Tensor,
  target: Tensor,
  options: HuberOptions<R> = {},
): Reduced<R> {
  checkLossOptions('huber', options, HUBER)
  const { delta = 1, ...rest } = options
  if (!(Number.isFinite(delta) && delta > 0)) throw expected('huber: delta', 'a finite number > 0', delta)
  return ofErrors('huber', prediction, target, rest, (error) => {
    // With c the error held within ±delta, c·(e − ½c) is both branches, and its slope is c everywhere: no corner to miss.
    const held = clip(error, -delta, delta)
    return mul(held, sub(error, mul(held, 0.5)))
  })
}

/** A loss that is a function of the error, 0 with a slope of 0 at 0: a masked error is put to 0 before and stays so. */
function ofErrors<R extends Reduction>(
  op: LossName,
  prediction: Tensor,
  target: Tensor,
  options: LossOptions<R>,
  itemLoss: (error: Tensor) => Tensor,
): Reduced<R> {
  checkLossOptions(op, options, LOSS_OPTIONS)
  checkTensor(op, 'prediction', prediction)
  checkTensor(op, 'target', target)
  checkDtypeClass(op, 'float', prediction.dtype)
  checkSameDtype(op, prediction, target)
  checkSameShape(op, prediction, target)
  return scope(() => {
    const mask = maskOf(op, options.mask, prediction.shape, prediction)
    const error = sub(prediction, target)
    const losses = itemLoss(mask === null ? error : where(mask.active, error, 0))
    const weighed = mask?.weights == null ? losses : masked(losses, mask)
    return reduceLoss(op, weighed, countOf(weighed, mask), options)
  })
}
