/**
 * Binary cross-entropy of logits. Forward is a chain of elementwise operations that loses no digits for logits of any
 * size; backward is its own short rule, because the slopes of the chain's parts do not add up at z = 0.
 */

import { track } from '../../autograd/tape.ts'
import { scope } from '../../scope.ts'
import type { Tensor } from '../../tensor.ts'
import { relu, sigmoid } from '../activation.ts'
import { checkDtypeClass, checkSameDtype, checkTensor } from '../apply.ts'
import { abs, add, exp, log1p, mul, neg, sub, where } from '../elementwise.ts'
import {
  LOSS_OPTIONS,
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

/**
 * Binary cross-entropy −t·log σ(z) − (1 − t)·log(1 − σ(z)) of logits z and targets t, computed as
 * max(z, 0) − z·t + log1p(e^(−|z|)); its gradient is σ(z) − t. The mean divides by the number of elements.
 *
 * @param logits any shape
 * @param target the same shape and dtype, probabilities from 0 to 1; not checked
 * @throws `ERR_SHAPE`, `ERR_DTYPE`, `ERR_ARGUMENT`; see {@link LossOptions} for masks
 *
 * @example
 * ```ts
 * import { nn, tensor } from 'tilegrad'
 * const loss = nn.bceWithLogits(tensor([0, 20]), tensor([1, 1]), { reduction: 'none' })
 * console.log(await loss.data()) // Float32Array [0.693147, 2.061e-9]
 * ```
 */
export function bceWithLogits<R extends Reduction = 'mean'>(
  logits: Tensor,
  target: Tensor,
  options: LossOptions<R> = {},
): Reduced<R> {
  const op = 'bceWithLogits'
  checkLossOptions(op, options, LOSS_OPTIONS)
  checkTensor(op, 'logits', logits)
  checkTensor(op, 'target', target)
  checkDtypeClass(op, 'float', logits.dtype)
  checkSameDtype(op, logits, target)
  checkSameShape(op, logits, target, 'logits')
  return scope(() => {
    const mask = maskOf(op, options.mask, logits.shape, logits)
    // Before as well as behind: the slope at what a masked item holds would meet a gradient of 0 in a product.
    const kept = (x: Tensor): Tensor => (mask === null ? x : where(mask.active, x, 0))
    const losses = masked(items(kept(logits), kept(target)), mask)
    return reduceLoss(op, losses, countOf(losses, mask), options)
  })
}

function items(logits: Tensor, target: Tensor): Tensor {
  const [z, t] = [logits.detach(), target.detach()]
  const out = add(sub(relu(z), mul(z, t)), log1p(exp(neg(abs(z)))))
  return track(out, 'bceWithLogits', [logits, target], [logits, target], (dy, [z, t], needs) => [
    needs[0] ? mul(dy, sub(sigmoid(z!), t!)) : null,
    needs[1] ? mul(dy, neg(z!)) : null,
  ])
}
