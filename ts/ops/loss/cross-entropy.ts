/**
 * Cross-entropy of logits, log-softmax included. Class indices are fused, forward and backward, in two pairs of
 * instructions: the plain one, and one with class weights and label smoothing. Probabilities are a composition around
 * `logSoftmax`. A bool mask costs the fused ones a select over the targets, nothing over the logits.
 */

import { recording, track } from '../../autograd/tape.ts'
import { type Names, TilegradError, expected } from '../../errors.ts'
import { scope } from '../../scope.ts'
import { sameShape, showShape } from '../../shape.ts'
import { Tensor } from '../../tensor.ts'
import { checkDtypeClass, checkTensor } from '../apply.ts'
import type { TensorData } from '../creation.ts'
import { add, cast, equal, exp, mul, neg, notEqual, sub, where } from '../elementwise.ts'
import { gatherOf } from '../gather.ts'
import { positions } from '../positions.ts'
import { sum } from '../reduce.ts'
import { reshape } from '../shape.ts'
import { logSoftmax } from '../softmax.ts'
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
import {
  type Count,
  type Mask,
  type Reduced,
  type Reduction,
  checkLossOptions,
  countOf,
  maskOf,
  masked,
  reduceLoss,
} from './reduction.ts'

/** Options of {@link crossEntropy}. */
export interface CrossEntropyOptions<R extends Reduction = Reduction> extends ClassLossOptions<R> {
  /** How much of a target is spread evenly over all C classes, from 0 (default) to 1: ε/C to each. */
  readonly labelSmoothing?: number
}

const OPTIONS: Names<CrossEntropyOptions> = { ...CLASS_LOSS_OPTIONS, labelSmoothing: true }

/** What the fused instructions get besides tensors. */
interface Rule {
  readonly ignoreIndex: number
  readonly smoothing: number
  /** `[C]` */
  readonly weight: Tensor | null
}

/**
 * Cross-entropy of logits −Σ_c q_c·log softmax(logits)_c, softmax included and fused, with
 * q_c = weight_c·((1 − ε)·t_c + ε/C), t the target and ε `labelSmoothing`.
 *
 * Targets are class indices (i32, t is 1 for that class) or probabilities (the dtype of the logits). The mean divides by
 * the sum of the weights of the target classes over all items that count, which without `weight` is their number; for
 * probabilities by the number of items, as in PyTorch. With a mask both are weighed by it. With nothing to count, see
 * `emptyMask`.
 *
 * @param logits `[…, C]`
 * @param targets `[…]`, each in [0, C) or `ignoreIndex`; or `[…, C]`, probabilities. Tensors, or numbers as nested or
 * typed arrays, in which classes are checked at once unless there is a mask
 * @throws `ERR_SHAPE`, `ERR_DTYPE`, `ERR_ARGUMENT`; `ERR_ARGUMENT` when a result is read and a target was out of range
 *
 * @example
 * ```ts
 * import { nn, tensor } from 'tilegrad'
 * const logits = tensor([[0, Math.log(2), 0]])
 * console.log(await nn.crossEntropy(logits, [1]).item()) // 0.693147
 * console.log(await nn.crossEntropy(logits, [1], { labelSmoothing: 0.1 }).item()) // 0.739357
 * console.log(await nn.crossEntropy(logits, [[0.5, 0.5, 0]]).item()) // 1.039721
 * ```
 */
export function crossEntropy<R extends Reduction = 'mean'>(
  logits: Tensor,
  targets: Tensor | TensorData,
  options: CrossEntropyOptions<R> = {},
): Reduced<R> {
  const op = 'crossEntropy'
  checkLossOptions(op, options, OPTIONS)
  const { labelSmoothing = 0 } = options
  if (typeof labelSmoothing !== 'number' || !(labelSmoothing >= 0 && labelSmoothing <= 1))
    throw expected(`${op}: labelSmoothing`, 'a number from 0 to 1', labelSmoothing)
  checkTensor(op, 'logits', logits)
  checkDtypeClass(op, 'float', logits.dtype)
  const loss: ClassLoss = { op, name: 'logits', scores: logits, options }
  const ignoreIndex = ignoreIndexOf(loss)
  return scope(() => {
    const given = targetsOf(loss, targets)
    const weight = weightOf(loss)
    const mask = maskOf(op, options.mask, itemsOf(loss), logits)
    if (given.dtype === logits.dtype && given.shape.length === logits.shape.length) {
      if (!sameShape(given.shape, logits.shape))
        throw new TilegradError(
          'ERR_SHAPE',
          `${op}: logits ${showShape(logits.shape)} and probabilities ${showShape(given.shape)} differ; targets are […, C], or classes […] of dtype i32`,
        )
      if (options.ignoreIndex !== undefined)
        throw new TilegradError(
          'ERR_ARGUMENT',
          `${op}: ignoreIndex is for class indices; mask items with probabilities`,
        )
      const losses = masked(ofProbabilities(logits, given, weight, labelSmoothing, mask), mask)
      return reduceLoss(op, losses, countOf(losses, mask), options)
    }
    checkIndices(loss, given)
    const rule: Rule = { ignoreIndex, smoothing: labelSmoothing, weight }
    const { losses, count } = ofClasses(logits, unmasked(given, mask, ignoreIndex), rule, mask)
    return reduceLoss(op, losses, count, options)
  })
}

/** The fused losses of class indices, weighed. */
function ofClasses(
  logits: Tensor,
  targets: Tensor,
  rule: Rule,
  mask: Mask | null,
): { readonly losses: Tensor; readonly count: Count } {
  const { device, dtype } = logits
  const items = { dtype, shape: targets.shape }
  const { ignoreIndex, smoothing, weight } = rule
  const factors = mask?.weights ?? null
  const isPlain = smoothing === 0 && weight === null && factors === null
  const [losses, logSumExp, weights] = isPlain
    ? device.recorder.emitMany(
        'crossEntropy',
        [logits.value, targets.value],
        [items, items, { dtype, shape: [] }],
        [ignoreIndex >>> 0],
      )
    : device.recorder.emitMany(
        'weightedCrossEntropy',
        [logits.value, targets.value, weight?.value ?? null, spread(rule)?.value ?? null],
        [items, items, items],
        [ignoreIndex >>> 0, smoothing],
      )
  const out = new Tensor(device, losses!)
  const norms = new Tensor(device, logSumExp!, false)
  // The plain instruction has added them up.
  const counted = new Tensor(device, weights!)
  const saved = weight === null ? [logits, targets, norms] : [logits, targets, norms, weight]
  track(out, 'crossEntropy', [logits], saved, (dy, saved) => [
    gradient(dy, saved as [Tensor, Tensor, Tensor], { ...rule, weight: saved[3] ?? null }, isPlain),
  ])
  norms.dispose()
  if (isPlain) return { losses: out, count: { count: counted, whole: true } }
  if (factors === null) return { losses: out, count: { count: sum(counted), whole: weight === null } }
  return { losses: mul(out, factors), count: { count: sum(mul(counted, factors)), whole: false } }
}

/** Σ weight, which smoothing needs. */
function spread({ weight, smoothing }: Rule): Tensor | null {
  return weight === null || smoothing === 0 ? null : sum(weight)
}

function gradient(
  dy: Tensor,
  [logits, targets, norms]: readonly [Tensor, Tensor, Tensor],
  rule: Rule,
  isPlain: boolean,
): Tensor {
  if (recording()) return decomposedGradient(dy, logits, targets, rule)
  const { device, dtype, shape } = logits
  const { ignoreIndex, smoothing, weight } = rule
  const inputs = [logits.value, targets.value, norms.value, dy.value]
  if (isPlain)
    return new Tensor(device, device.recorder.emit('crossEntropyGrad', inputs, { dtype, shape }, [ignoreIndex >>> 0]))
  return scope(
    () =>
      new Tensor(
        device,
        device.recorder.emit(
          'weightedCrossEntropyGrad',
          [...inputs, weight?.value ?? null, spread(rule)?.value ?? null],
          { dtype, shape },
          [ignoreIndex >>> 0, smoothing],
        ),
      ),
  )
}

function decomposedGradient(dy: Tensor, logits: Tensor, targets: Tensor, rule: Rule): Tensor {
  const { device, dtype, shape } = logits
  const { ignoreIndex, smoothing, weight } = rule
  const classes = positions(device, shape.at(-1)!)
  const active = reshape(notEqual(targets, ignoreIndex), [...targets.shape, 1])
  // Selected on both ways: what an ignored item holds must not meet a multiplication, here or one derivative later.
  const probability = exp(logSoftmax(where(active, logits, 0)))
  const g = where(active, reshape(dy, active.shape), 0)
  // A look-up, so that a target out of range poisons this gradient as it does the fused one.
  const target = gatherOf('crossEntropy: target', classes, where(active, reshape(targets, active.shape), 0))
  const hot = cast(equal(target, classes), dtype)
  if (smoothing === 0 && weight === null) return mul(g, sub(probability, hot))
  const q = coefficients(hot, rule)
  return mul(g, sub(mul(sum(q, -1, { keepDims: true }), probability), q))
}

/** q_c = weight_c·((1 − ε)·t_c + ε/C). */
function coefficients(target: Tensor, { smoothing, weight }: Pick<Rule, 'smoothing' | 'weight'>): Tensor {
  const smoothed = smoothing === 0 ? target : add(mul(target, 1 - smoothing), smoothing / target.shape.at(-1)!)
  return weight === null ? smoothed : mul(smoothed, weight)
}

/** The losses of probabilities, not yet masked. */
function ofProbabilities(
  logits: Tensor,
  targets: Tensor,
  weight: Tensor | null,
  smoothing: number,
  mask: Mask | null,
): Tensor {
  if (logits.shape.at(-1) === 0 && logits.shape.slice(0, -1).every((d) => d > 0))
    throw new TilegradError('ERR_SHAPE', `crossEntropy: logits ${showShape(logits.shape)} have no class`)
  const active = mask === null ? null : reshape(mask.active, [...mask.active.shape, 1])
  const kept = (x: Tensor): Tensor => (active === null ? x : where(active, x, 0))
  return neg(sum(mul(coefficients(kept(targets), { smoothing, weight }), logSoftmax(kept(logits))), -1))
}
