/**
 * Softmax, its logarithm and their gradients along the middle of [outer, count, inner], one line at a time. The maximum
 * is subtracted first, so nothing overflows; a NaN or +Infinity in a line makes the whole line NaN.
 */

import type { TypedArray } from '../../dtype.ts'
import type { Call, Kernel, Kernels } from './kernel.ts'

/** Computes one line of `count` elements `step` apart, which starts at `start` in every operand and in `out`. */
type Line = (
  a: TypedArray,
  b: TypedArray,
  out: TypedArray,
  start: number,
  count: number,
  step: number,
  scratch: Float64Array,
) => void

/** The maximum of a line; −Infinity if it is empty. */
function maximum(x: TypedArray, start: number, count: number, step: number): number {
  let most = -Infinity
  for (let i = 0, at = start; i < count; i++, at += step) most = Math.max(most, x[at]!)
  return most
}

function softmaxLine(
  x: TypedArray,
  _: TypedArray,
  out: TypedArray,
  start: number,
  count: number,
  step: number,
  e: Float64Array,
): void {
  const most = maximum(x, start, count, step)
  let total = 0
  for (let i = 0, at = start; i < count; i++, at += step) {
    const v = Math.exp(x[at]! - most)
    e[i] = v
    total += v
  }
  for (let i = 0, at = start; i < count; i++, at += step) out[at] = e[i]! / total
}

function logSoftmaxLine(
  x: TypedArray,
  _: TypedArray,
  out: TypedArray,
  start: number,
  count: number,
  step: number,
): void {
  const most = maximum(x, start, count, step)
  let total = 0
  for (let i = 0, at = start; i < count; i++, at += step) total += Math.exp(x[at]! - most)
  const norm = Math.log(total)
  // x − most first: exact where it matters, and Infinity − Infinity stays NaN.
  for (let i = 0, at = start; i < count; i++, at += step) out[at] = x[at]! - most - norm
}

/** y(dy − Σ dy·y). */
function softmaxGradLine(
  dy: TypedArray,
  y: TypedArray,
  out: TypedArray,
  start: number,
  count: number,
  step: number,
): void {
  let dot = 0
  for (let i = 0, at = start; i < count; i++, at += step) dot += dy[at]! * y[at]!
  for (let i = 0, at = start; i < count; i++, at += step) out[at] = y[at]! * (dy[at]! - dot)
}

/** dy − e^y Σ dy. */
function logSoftmaxGradLine(
  dy: TypedArray,
  y: TypedArray,
  out: TypedArray,
  start: number,
  count: number,
  step: number,
): void {
  let total = 0
  for (let i = 0, at = start; i < count; i++, at += step) total += dy[at]!
  for (let i = 0, at = start; i < count; i++, at += step) out[at] = dy[at]! - Math.exp(y[at]!) * total
}

function along(line: Line): Kernel {
  return ({ inputs, outputs, attributes }: Call) => {
    const a = inputs[0]!.data
    const b = (inputs[1] ?? inputs[0]!).data
    const out = outputs[0]!.data
    const [outer, count, inner] = attributes as [number, number, number]
    const scratch = new Float64Array(count)
    for (let o = 0; o < outer; o++) {
      const start = o * count * inner
      for (let i = 0; i < inner; i++) line(a, b, out, start + i, count, inner, scratch)
    }
  }
}

/** Kernels of the softmax family. */
export const SOFTMAX: Pick<Kernels, 'softmax' | 'logSoftmax' | 'softmaxGrad' | 'logSoftmaxGrad'> = {
  softmax: along(softmaxLine),
  logSoftmax: along(logSoftmaxLine),
  softmaxGrad: along(softmaxGradLine),
  logSoftmaxGrad: along(logSoftmaxGradLine),
}
