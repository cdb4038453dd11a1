/** Losses. Each gives a mean by default; `'parts'` gives what exact gradient accumulation needs. */

import { recording, track } from '../autograd/tape.ts'
import { TilegradError, checkOptions, expected } from '../errors.ts'
import { scope } from '../scope.ts'
import { sameShape, showShape } from '../shape.ts'
import { Tensor } from '../tensor.ts'
import { checkDtypeClass, checkSameDtype, checkTensor, sharedDevice } from './apply.ts'
import { cast, div, equal, exp, maximum, mul, notEqual, square, sub, where } from './elementwise.ts'
import { gather } from './gather.ts'
import { arange, full } from './creation.ts'
import { sum } from './reduce.ts'
import { reshape } from './shape.ts'
import { logSoftmax } from './softmax.ts'

/**
 * How the losses of single items are brought together: their mean (default), their sum, not at all, or sum and count
 * apart, for {@link Parts}.
 */
export type Reduction = 'mean' | 'sum' | 'none' | 'parts'

/** Sum of the losses and how many items it counts, both of one element: what `GradientAccumulator.add` takes. */
export interface Parts {
  readonly sum: Tensor
  /** The number `mean` would divide by. No gradient flows through it. */
  readonly count: Tensor
}

/** Options of {@link crossEntropy}. */
export interface CrossEntropyOptions<R extends Reduction = Reduction> {
  /** Default `'mean'`. */
  readonly reduction?: R
  /** Targets of this value are not counted: no loss, no gradient. Default −100. */
  readonly ignoreIndex?: number
}

/** What a loss with this reduction gives. */
export type Reduced<R extends Reduction> = R extends 'parts' ? Parts : Tensor

/**
 * Cross-entropy of logits and class indices: −log softmax(logits)[target], softmax included and fused.
 *
 * The mean divides by the number of targets that are not ignored; with none, loss and gradient are 0.
 *
 * @param logits `[…, C]`
 * @param targets `[…]`, i32, each in [0, C) or `ignoreIndex`
 * @throws `ERR_SHAPE`, `ERR_DTYPE`; `ERR_ARGUMENT` when a result is read and a target was out of range
 *
 * @example
 * ```ts
 * import { nn, tensor } from 'tilegrad'
 * const loss = nn.crossEntropy(tensor([[0, Math.log(2), 0]]), tensor([1], { dtype: 'i32' }))
 * console.log(await loss.item()) // 0.693147
 * ```
 */
export function crossEntropy<R extends Reduction = 'mean'>(
  logits: Tensor,
  targets: Tensor,
  options: CrossEntropyOptions<R> = {},
): Reduced<R> {
  checkOptions('crossEntropy', options)
  const { ignoreIndex = -100 } = options
  checkTensor('crossEntropy', 'logits', logits)
  checkTensor('crossEntropy', 'targets', targets)
  checkDtypeClass('crossEntropy', 'float', logits.dtype)
  if (!Number.isInteger(ignoreIndex) || Math.abs(ignoreIndex) > 2 ** 31 - 1)
    throw expected('crossEntropy: ignoreIndex', 'a 32-bit integer', ignoreIndex)
  if (targets.dtype !== 'i32') {
    throw new TilegradError(
      'ERR_DTYPE',
      `crossEntropy: targets are class indices of dtype i32, not ${targets.dtype}; cast('i32') them`,
    )
  }
  if (logits.shape.length === 0 || !sameShape(logits.shape.slice(0, -1), targets.shape)) {
    throw new TilegradError(
      'ERR_SHAPE',
      `crossEntropy: logits ${showShape(logits.shape)} and targets ${showShape(targets.shape)} do not fit: logits are […, C], targets […]`,
    )
  }
  if (logits.shape.at(-1) === 0 && targets.size > 0)
    throw new TilegradError('ERR_SHAPE', `crossEntropy: logits ${showShape(logits.shape)} have no class`)
  const device = sharedDevice('crossEntropy', logits, targets)
  const { dtype } = logits
  const items = { dtype, shape: targets.shape }
  const [itemsValue, normValue, countValue] = device.recorder.emitMany(
    'crossEntropy',
    [logits.value, targets.value],
    [items, items, { dtype, shape: [] }],
    [ignoreIndex >>> 0],
  )
  const losses = new Tensor(device, itemsValue!)
  const logSumExp = new Tensor(device, normValue!, false)
  const count = new Tensor(device, countValue!)
  track(losses, 'crossEntropy', [logits], [logits, targets, logSumExp], (dy, saved) => [
    crossEntropyGrad(dy, saved as [Tensor, Tensor, Tensor], ignoreIndex),
  ])
  logSumExp.dispose()
  return reduceLoss('crossEntropy', losses, count, options.reduction)
}

function crossEntropyGrad(
  dy: Tensor,
  [logits, targets, norm]: readonly [Tensor, Tensor, Tensor],
  ignoreIndex: number,
): Tensor {
  const { device, dtype, shape } = logits
  if (recording()) {
    const classes = arange(shape.at(-1)!, { dtype: 'i32', device })
    const active = reshape(notEqual(targets, ignoreIndex), [...targets.shape, 1])
    // Selected on both ways: what an ignored item holds must not meet a multiplication, here or one derivative later.
    const probability = exp(logSoftmax(where(active, logits, 0)))
    const g = where(active, reshape(dy, active.shape), 0)
    // A look-up, so that a target out of range poisons this gradient as it does the fused one.
    const target = gather(classes, where(active, reshape(targets, active.shape), 0))
    return mul(g, sub(probability, cast(equal(target, classes), dtype)))
  }
  const inputs = [logits.value, targets.value, norm.value, dy.value]
  return new Tensor(device, device.recorder.emit('crossEntropyGrad', inputs, { dtype, shape }, [ignoreIndex >>> 0]))
}

/**
 * Mean squared error (ŷ − y)²; the mean divides by the number of elements.
 *
 * @param prediction any shape
 * @param target the same shape and dtype
 */
export function mse<R extends Reduction = 'mean'>(
  prediction: Tensor,
  target: Tensor,
  options: { readonly reduction?: R } = {},
): Reduced<R> {
  checkOptions('mse', options)
  checkTensor('mse', 'prediction', prediction)
  checkTensor('mse', 'target', target)
  checkDtypeClass('mse', 'float', prediction.dtype)
  checkSameDtype('mse', prediction, target)
  if (!sameShape(prediction.shape, target.shape)) {
    throw new TilegradError(
      'ERR_SHAPE',
      `mse: prediction ${showShape(prediction.shape)} and target ${showShape(target.shape)} differ; reshape one of them`,
    )
  }
  const losses = scope(() => square(sub(prediction, target)))
  const count = full([], losses.size, { dtype: losses.dtype, device: losses.device })
  return reduceLoss('mse', losses, count, options.reduction)
}

/** Takes over `losses` and `count`. */
function reduceLoss<R extends Reduction>(
  op: string,
  losses: Tensor,
  count: Tensor,
  reduction: R | undefined,
): Reduced<R> {
  switch (reduction ?? 'mean') {
    case 'none':
      count.dispose()
      return losses as Reduced<R>
    case 'sum': {
      const total = sum(losses)
      losses.dispose()
      count.dispose()
      return total as Reduced<R>
    }
    case 'parts': {
      const parts: Parts = { sum: sum(losses), count }
      losses.dispose()
      return parts as Reduced<R>
    }
    case 'mean': {
      const result = scope(() => {
        // Nothing to count: 0 / 1, so loss and gradient are 0 instead of NaN.
        return div(sum(losses), maximum(count, 1))
      })
      losses.dispose()
      count.dispose()
      return result as Reduced<R>
    }
    default:
      throw expected(`${op}: reduction`, "'mean', 'sum', 'none' or 'parts'", reduction)
  }
}
