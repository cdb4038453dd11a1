/**
 * Cross-entropy of class indices over the last axis, log-softmax fused, forward and backward: plain, and with class weights
 * and label smoothing. Items whose target is the ignored index have loss and gradient 0, whatever their logits hold.
 */

import type { TypedArray } from '../../dtype.ts'
import { TilegradError } from '../../errors.ts'
import type { Call, Kernels, Operand } from './kernel.ts'

/** Throws unless every target is a class or ignored. */
function checkTargets(op: string, targets: TypedArray, classes: number, ignored: number): void {
  for (let i = 0; i < targets.length; i++) {
    const target = targets[i]!
    if ((target < 0 || target >= classes) && target !== ignored) {
      throw new TilegradError('ERR_ARGUMENT', `${op}: target ${target} at position ${i} is outside [0, ${classes})`)
    }
  }
}

/** log Σ e^x over `count` elements from `start` on. */
function logSumExp(x: TypedArray, start: number, count: number): number {
  let most = -Infinity
  for (let i = 0; i < count; i++) most = Math.max(most, x[start + i]!)
  let total = 0
  for (let i = 0; i < count; i++) total += Math.exp(x[start + i]! - most)
  return most + Math.log(total)
}

/** [logits, targets] → losses, log Σ e^logits per item, number of items not ignored. */
function crossEntropy({ name, inputs, outputs, attributes }: Call): void {
  const logits = inputs[0]!
  const targets = inputs[1]!.data
  const [losses, norms, count] = outputs.map((out) => out.data) as [TypedArray, TypedArray, TypedArray]
  const classes = logits.shape.at(-1)!
  const ignored = attributes[0]! | 0
  checkTargets(name, targets, classes, ignored)
  let counted = 0
  for (let i = 0, start = 0; i < targets.length; i++, start += classes) {
    const target = targets[i]!
    const norm = logSumExp(logits.data, start, classes)
    norms[i] = norm
    if (target === ignored) {
      losses[i] = 0
    } else {
      losses[i] = norm - logits.data[start + target]!
      counted++
    }
  }
  count[0] = counted
}

/** [logits, targets, logSumExp, dlosses] → dlosses · (softmax − one-hot). */
function crossEntropyGrad({ name, inputs, outputs, attributes }: Call): void {
  const [logits, targets, norms, dlosses] = inputs as readonly Operand[] as [Operand, Operand, Operand, Operand]
  const out = outputs[0]!.data
  const x = logits.data
  const classes = logits.shape.at(-1)!
  const ignored = attributes[0]! | 0
  checkTargets(name, targets.data, classes, ignored)
  for (let i = 0, start = 0; i < targets.size; i++, start += classes) {
    const target = targets.data[i]!
    if (target === ignored) {
      out.fill(0, start, start + classes)
      continue
    }
    const norm = norms.data[i]!
    const g = dlosses.data[i]!
    for (let c = 0; c < classes; c++) out[start + c] = g * (Math.exp(x[start + c]! - norm) - (c === target ? 1 : 0))
  }
}

/** What label smoothing spreads: to every class its weight times this, and the rest of the target's weight to itself. */
function shares(classes: number, smoothing: number): [each: number, own: number] {
  return [smoothing / classes, 1 - smoothing]
}

/** [logits, targets, weight, Σ weight] → losses, log Σ e^logits, weight of the target's class. */
function weightedCrossEntropy({ name, inputs, outputs, attributes }: Call): void {
  const [logits, { data: targets }] = inputs as [Operand, Operand]
  const weight = inputs[2]?.data
  const [losses, norms, weights] = outputs.map((out) => out.data) as [TypedArray, TypedArray, TypedArray]
  const x = logits.data
  const classes = logits.shape.at(-1)!
  const [ignored, smoothing] = [attributes[0]! | 0, attributes[1]!]
  const [each, own] = shares(classes, smoothing)
  checkTargets(name, targets, classes, ignored)
  for (let i = 0, start = 0; i < targets.length; i++, start += classes) {
    const target = targets[i]!
    const norm = logSumExp(x, start, classes)
    norms[i] = norm
    if (target === ignored) {
      losses[i] = 0
      weights[i] = 0
      continue
    }
    const heavy = weight?.[target] ?? 1
    let loss = heavy * own * (norm - x[start + target]!)
    if (smoothing > 0) {
      let all = 0
      for (let c = 0; c < classes; c++) all += (weight?.[c] ?? 1) * (norm - x[start + c]!)
      loss += each * all
    }
    losses[i] = loss
    weights[i] = heavy
  }
}

/** [logits, targets, logSumExp, dlosses, weight, Σ weight] → dlosses · (Σq · softmax − q). */
function weightedCrossEntropyGrad({ name, inputs, outputs, attributes }: Call): void {
  const [logits, targets, norms, dlosses] = inputs as readonly Operand[] as [Operand, Operand, Operand, Operand]
  const weight = inputs[4]?.data
  const out = outputs[0]!.data
  const x = logits.data
  const classes = logits.shape.at(-1)!
  const [ignored, smoothing] = [attributes[0]! | 0, attributes[1]!]
  const [each, own] = shares(classes, smoothing)
  const all = inputs[5]?.data[0] ?? classes
  checkTargets(name, targets.data, classes, ignored)
  for (let i = 0, start = 0; i < targets.size; i++, start += classes) {
    const target = targets.data[i]!
    if (target === ignored) {
      out.fill(0, start, start + classes)
      continue
    }
    const norm = norms.data[i]!
    const g = dlosses.data[i]!
    const hit = (weight?.[target] ?? 1) * own
    // Without smoothing Σ weight is not there, and counts 0 times.
    const total = smoothing > 0 ? hit + each * all : hit
    for (let c = 0; c < classes; c++) {
      const q = each * (weight?.[c] ?? 1) + (c === target ? hit : 0)
      out[start + c] = g * (total * Math.exp(x[start + c]! - norm) - q)
    }
  }
}

/** Kernels of the losses. */
export const LOSS: Pick<
  Kernels,
  'crossEntropy' | 'crossEntropyGrad' | 'weightedCrossEntropy' | 'weightedCrossEntropyGrad'
> = { crossEntropy, crossEntropyGrad, weightedCrossEntropy, weightedCrossEntropyGrad }
