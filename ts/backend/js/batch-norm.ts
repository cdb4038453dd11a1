/**
 * Batch normalisation over x seen as [outer, channels, inner]: statistics in two passes, normalisation, its gradient, and
 * the update of running statistics. Everything accumulates in f64, in order of position. What the mask leaves out is
 * skipped, never multiplied by 0.
 */

import type { TypedArray } from '../../dtype.ts'
import type { Call, Kernels } from './kernel.ts'

/** Calls `each` with every element that counts, its channel and its place; `skip` with the places of the others. */
function walk(
  attributes: readonly number[],
  mask: TypedArray | undefined,
  each: (at: number, channel: number) => void,
  skip?: (at: number) => void,
): void {
  const [outer, channels, inner] = attributes as [number, number, number]
  let at = 0
  for (let o = 0; o < outer; o++) {
    for (let c = 0; c < channels; c++) {
      for (let i = 0; i < inner; i++, at++) {
        if (mask === undefined || mask[o * inner + i] !== 0) each(at, c)
        else skip?.(at)
      }
    }
  }
}

/** [x, mask] → count, mean, M2. */
function batchNormStatistics({ inputs, outputs, attributes }: Call): void {
  const x = inputs[0]!.data
  const mask = inputs[1]?.data
  const [outer, channels, inner] = attributes as [number, number, number]
  let count = 0
  if (mask === undefined) count = outer * inner
  else for (let i = 0; i < mask.length; i++) count += +(mask[i] !== 0)
  const means = new Float64Array(channels)
  const squares = new Float64Array(channels)
  walk(attributes, mask, (at, c) => {
    means[c]! += x[at]!
  })
  for (let c = 0; c < channels; c++) means[c] = count === 0 ? 0 : means[c]! / count
  walk(attributes, mask, (at, c) => {
    const d = x[at]! - means[c]!
    squares[c]! += d * d
  })
  outputs[0]!.data[0] = count
  outputs[1]!.data.set(means)
  outputs[2]!.data.set(squares)
}

/** [M2, count] → variance, 1/√(variance + eps). */
function batchNormVariance({ inputs, outputs, attributes }: Call): void {
  const squares = inputs[0]!.data
  const count = inputs[1]!.data[0]!
  const eps = attributes[0]!
  for (let c = 0; c < squares.length; c++) {
    // Of nothing it is 0.
    const variance = squares[c]! / Math.max(count, 1)
    outputs[0]!.data[c] = variance
    outputs[1]!.data[c] = 1 / Math.sqrt(variance + eps)
  }
}

/** [x, mean, istd, weight, bias, mask] → y. */
function batchNorm({ inputs, outputs, attributes }: Call): void {
  const [x, mean, istd, weight, bias, mask] = inputs.map((operand) => operand?.data)
  const y = outputs[0]!.data
  walk(
    attributes,
    mask,
    (at, c) => {
      y[at] = (x![at]! - mean![c]!) * (istd![c]! * (weight?.[c] ?? 1)) + (bias?.[c] ?? 0)
    },
    (at) => {
      y[at] = 0
    },
  )
}

/** [dy, x, mean, istd, mask] → Σdy, Σdy·x̂. */
function batchNormGradSums({ inputs, outputs, attributes }: Call): void {
  const [dy, x, mean, istd, mask] = inputs.map((operand) => operand?.data)
  const sums = new Float64Array(attributes[1]!)
  const products = new Float64Array(attributes[1]!)
  walk(attributes, mask, (at, c) => {
    sums[c]! += dy![at]!
    products[c]! += dy![at]! * (x![at]! - mean![c]!)
  })
  outputs[0]!.data.set(sums)
  outputs[1]!.data.set(products.map((product, c) => product * istd![c]!))
}

/** [dy, x, mean, istd, weight, Σdy, Σdy·x̂, count, mask] → dx. */
function batchNormGrad({ inputs, outputs, attributes }: Call): void {
  const [dy, x, mean, istd, weight, sums, products, count, mask] = inputs.map((operand) => operand?.data)
  const dx = outputs[0]!.data
  const m = count![0]!
  walk(
    attributes,
    mask,
    (at, c) => {
      const inverse = istd![c]!
      const normal = (x![at]! - mean![c]!) * inverse
      dx[at] = (weight?.[c] ?? 1) * inverse * (dy![at]! - sums![c]! / m - (normal * products![c]!) / m)
    },
    (at) => {
      dx[at] = 0
    },
  )
}

/** [running mean, running variance, updates, mean, variance, count, ok]: r += f·(new − r). */
function batchNormUpdate({ inputs, attributes }: Call): void {
  const [runningMean, runningVar, updates, mean, variance, count, ok] = inputs
  const [momentum, cumulative, unbiased] = attributes as [number, number, number]
  if (ok !== undefined && ok.data[0] === 0) return
  let factor = momentum
  if (updates !== undefined) {
    const done = updates.data[0]! + 1
    updates.data[0] = done
    if (cumulative === 1) factor = 1 / done
  }
  const n = count!.data[0]!
  const correction = unbiased === 1 ? n / (n - 1) : 1
  for (let c = 0; c < mean!.size; c++) {
    const [m, v] = [runningMean!.data[c]!, runningVar!.data[c]!]
    runningMean!.data[c] = m + factor * (mean!.data[c]! - m)
    runningVar!.data[c] = v + factor * (variance!.data[c]! * correction - v)
  }
}

/** Kernels of batch normalisation. */
export const BATCH_NORM: Pick<
  Kernels,
  'batchNormStatistics' | 'batchNormVariance' | 'batchNorm' | 'batchNormGradSums' | 'batchNormGrad' | 'batchNormUpdate'
> = { batchNormStatistics, batchNormVariance, batchNorm, batchNormGradSums, batchNormGrad, batchNormUpdate }
