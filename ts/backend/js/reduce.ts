/**
 * Reductions over the middle of [outer, count, inner]. Every result accumulates in f64, in order of position, so that
 * appended zeros change no bit of a sum. `sum` of i32 wraps around. The SDK refuses maxima over nothing.
 */

import type { TypedArray } from '../../dtype.ts'
import { TilegradError } from '../../errors.ts'
import type { Call, Kernel, Kernels } from './kernel.ts'

/**
 * Reduces one line of `count` elements that lie `step` apart, from `start` on. A line is the unit because each result
 * then lives in a register; for inner > 1 neighbouring lines share cache lines.
 */
type Line = (x: TypedArray, start: number, count: number, step: number) => number

function sumLine(x: TypedArray, start: number, count: number, step: number): number {
  let total = 0
  for (let i = 0, at = start; i < count; i++, at += step) total += x[at]!
  return total
}

function sumIntLine(x: TypedArray, start: number, count: number, step: number): number {
  let total = 0
  for (let i = 0, at = start; i < count; i++, at += step) total = (total + x[at]!) | 0
  return total
}

function maxLine(x: TypedArray, start: number, count: number, step: number): number {
  let best = x[start]!
  for (let i = 1, at = start + step; i < count; i++, at += step) best = Math.max(best, x[at]!)
  return best
}

function minLine(x: TypedArray, start: number, count: number, step: number): number {
  let best = x[start]!
  for (let i = 1, at = start + step; i < count; i++, at += step) best = Math.min(best, x[at]!)
  return best
}

function argmaxLine(x: TypedArray, start: number, count: number, step: number): number {
  let best = x[start]!
  let index = 0
  for (let i = 1, at = start + step; i < count && best === best; i++, at += step) {
    const v = x[at]!
    if (v > best || v !== v) {
      best = v
      index = i
    }
  }
  return index
}

function argminLine(x: TypedArray, start: number, count: number, step: number): number {
  let best = x[start]!
  let index = 0
  for (let i = 1, at = start + step; i < count && best === best; i++, at += step) {
    const v = x[at]!
    if (v < best || v !== v) {
      best = v
      index = i
    }
  }
  return index
}

function squaresLine(x: TypedArray, start: number, count: number, step: number, mean: number): number {
  let total = 0
  for (let i = 0, at = start; i < count; i++, at += step) {
    const d = x[at]! - mean
    total += d * d
  }
  return total
}

function reduction(float: Line, int: Line = float): Kernel {
  return ({ inputs, outputs, attributes }) => {
    const x = inputs[0]!
    const out = outputs[0]!.data
    const [outer, count, inner] = attributes as [number, number, number]
    const line = x.dtype === 'i32' ? int : float
    let at = 0
    for (let o = 0; o < outer; o++) {
      const start = o * count * inner
      for (let i = 0; i < inner; i++) out[at++] = line(x.data, start + i, count, inner)
    }
  }
}

/** The same for reductions that need at least one element. */
function selection(line: Line): Kernel {
  const kernel = reduction(line)
  return (call) => {
    if (call.attributes[1] === 0 && call.outputs[0]!.size > 0) {
      throw new TilegradError('ERR_SHAPE', `${call.name}: an axis of size 0 has no element to choose`)
    }
    kernel(call)
  }
}

/** Sums along the middle, divided; all `inner` lines of a slab at a time, each of them in order of position. */
function addUp({ inputs, outputs, attributes }: Call, divisor: number): void {
  const x = inputs[0]!.data
  const out = outputs[0]!.data
  const [outer, count, inner] = attributes as [number, number, number]
  if (inner === 1) {
    for (let o = 0; o < outer; o++) out[o] = sumLine(x, o * count, count, 1) / divisor
    return
  }
  const totals = new Float64Array(inner)
  for (let o = 0, at = 0; o < outer; o++) {
    totals.fill(0)
    for (let c = 0; c < count; c++) for (let i = 0; i < inner; i++) totals[i]! += x[at++]!
    for (let i = 0; i < inner; i++) out[o * inner + i] = totals[i]! / divisor
  }
}

const sumInt = reduction(sumIntLine)

function sum(call: Call): void {
  if (call.inputs[0]!.dtype === 'i32') sumInt(call)
  else addUp(call, 1)
}

/** Divides by the count; the mean of nothing is 0/0. */
function mean(call: Call): void {
  addUp(call, call.attributes[1]!)
}

/** Two passes; divides by count − correction, or by 0 where that is negative. */
function variance({ inputs, outputs, attributes }: Call): void {
  const x = inputs[0]!.data
  const out = outputs[0]!.data
  const [outer, count, inner, correction] = attributes as [number, number, number, number]
  const divisor = Math.max(0, count - correction)
  for (let o = 0, at = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const start = o * count * inner + i
      const center = sumLine(x, start, count, inner) / count
      out[at++] = squaresLine(x, start, count, inner, center) / divisor
    }
  }
}

/** Kernels of the reductions. */
export const REDUCE: Pick<Kernels, 'sum' | 'mean' | 'max' | 'min' | 'argmax' | 'argmin' | 'variance'> = {
  sum,
  mean,
  max: selection(maxLine),
  min: selection(minLine),
  argmax: selection(argmaxLine),
  argmin: selection(argminLine),
  variance,
}
