/**
 * Targets that name classes: from tensors or host data, which of them count, and their weights. Cross-entropy and nll
 * share it. Devices look at every target and poison what depends on one that is no class; data that is still on the host
 * is looked at here, before it is uploaded.
 */

import { type Names, TilegradError, expected } from '../../errors.ts'
import { type Shape, sameShape, showShape } from '../../shape.ts'
import { Tensor } from '../../tensor.ts'
import { checkSameDtype, checkTensor, sharedDevice } from '../apply.ts'
import { type TensorData, tensor } from '../creation.ts'
import { where } from '../elementwise.ts'
import { LOSS_OPTIONS, type LossOptions, type Mask, type Reduction } from './reduction.ts'

/** Options of losses whose targets are classes. */
export interface ClassLossOptions<R extends Reduction = Reduction> extends LossOptions<R> {
  /** Targets of this value are not counted: no loss, no gradient. Default −100. For class indices only. */
  readonly ignoreIndex?: number
  /** `[C]`, the dtype of the scores: what each class weighs; no gradient flows through it. Default: all weigh 1. */
  readonly weight?: Tensor
}

/** The options of such losses. */
export const CLASS_LOSS_OPTIONS: Names<ClassLossOptions> = { ...LOSS_OPTIONS, ignoreIndex: true, weight: true }

/** A loss of scores `[…, C]` under examination. */
export interface ClassLoss {
  readonly op: string
  /** What the scores are called. */
  readonly name: 'logits' | 'logProbabilities'
  readonly scores: Tensor
  readonly options: ClassLossOptions
}

const LARGEST = 2 ** 31 - 1

/** The target that is no class and costs nothing. */
export function ignoreIndexOf({ op, options }: ClassLoss): number {
  const { ignoreIndex = -100 } = options
  if (!Number.isInteger(ignoreIndex) || Math.abs(ignoreIndex) > LARGEST)
    throw expected(`${op}: ignoreIndex`, 'a 32-bit integer', ignoreIndex)
  return ignoreIndex
}

/** The weights of the classes, as a constant; `null` when all weigh 1. */
export function weightOf({ op, scores, options }: ClassLoss): Tensor | null {
  const { weight } = options
  if (weight === undefined) return null
  checkTensor(op, 'weight', weight)
  sharedDevice(op, scores, weight)
  checkSameDtype(op, scores, weight)
  const classes = scores.shape.slice(-1)
  if (!sameShape(weight.shape, classes)) {
    throw new TilegradError(
      'ERR_SHAPE',
      `${op}: weight ${showShape(weight.shape)} has to be ${showShape(classes)}: a number for each class`,
    )
  }
  return weight.detach()
}

/** The shape of the items: scores without their classes. */
export function itemsOf({ op, name, scores }: ClassLoss): Shape {
  if (scores.shape.length === 0)
    throw new TilegradError('ERR_SHAPE', `${op}: ${name} [] have no classes; they are […, C]`)
  return scores.shape.slice(0, -1)
}

/** Targets as a tensor beside the scores: host data is uploaded, class indices among it are checked first. */
export function targetsOf(loss: ClassLoss, targets: Tensor | TensorData): Tensor {
  const { op, scores } = loss
  if (targets instanceof Tensor) {
    sharedDevice(op, scores, targets)
    return targets
  }
  const { device, dtype } = scores
  const items = itemsOf(loss)
  if (ArrayBuffer.isView(targets)) {
    if (targets instanceof Float32Array || targets instanceof Float64Array)
      return tensor(targets, { dtype, shape: scores.shape, device })
    const made = tensor(targets, { dtype: 'i32', shape: items, device })
    checkClasses(loss, targets as unknown as ArrayLike<number>)
    return made
  }
  if (typeof targets !== 'number' && !Array.isArray(targets))
    throw expected(`${op}: targets`, 'a tensor, an array or a number', targets)
  let depth = 0
  for (let level: unknown = targets; Array.isArray(level); level = (level as unknown[])[0]) depth++
  if (depth === scores.shape.length) return tensor(targets, { dtype, device })
  const made = tensor(targets, { dtype: 'i32', device })
  if (sameShape(made.shape, items)) checkClasses(loss, [targets].flat(Infinity))
  return made
}

/** Throws `ERR_ARGUMENT` for the first class that does not exist. What a mask leaves out may hold anything. */
function checkClasses(loss: ClassLoss, targets: ArrayLike<number>): void {
  if (loss.options.mask !== undefined) return
  const classes = loss.scores.shape.at(-1)!
  const ignored = ignoreIndexOf(loss)
  for (let i = 0; i < targets.length; i++) {
    const target = targets[i]!
    if ((target < 0 || target >= classes) && target !== ignored)
      throw new TilegradError(
        'ERR_ARGUMENT',
        `${loss.op}: target ${target} at position ${i} is outside [0, ${classes})`,
      )
  }
}

/** Throws unless these are class indices that fit the scores. */
export function checkIndices(loss: ClassLoss, targets: Tensor): void {
  const { op, name, scores } = loss
  if (targets.dtype !== 'i32') {
    throw new TilegradError(
      'ERR_DTYPE',
      `${op}: targets are class indices of dtype i32, not ${targets.dtype}; cast('i32') them`,
    )
  }
  if (!sameShape(itemsOf(loss), targets.shape)) {
    throw new TilegradError(
      'ERR_SHAPE',
      `${op}: ${name} ${showShape(scores.shape)} and targets ${showShape(targets.shape)} do not fit: ${name} are […, C], targets […]`,
    )
  }
  if (scores.shape.at(-1) === 0 && targets.size > 0)
    throw new TilegradError('ERR_SHAPE', `${op}: ${name} ${showShape(scores.shape)} have no class`)
}

/** Class indices in which what a mask leaves out is ignored, whatever stood there. */
export function unmasked(targets: Tensor, mask: Mask | null, ignoreIndex: number): Tensor {
  return mask === null ? targets : where(mask.active, targets, ignoreIndex)
}
