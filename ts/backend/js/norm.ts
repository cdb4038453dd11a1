/**
 * layerNorm, groupNorm and rmsNorm with their gradients. An operand is `[outer, groups, channels, inner]`, a row is
 * `channels · inner` neighbours of it; without a mean (rmsNorm) the rest is the same. Statistics take two passes over the row.
 */

import type { TypedArray } from '../../dtype.ts'
import type { Call, Kernel, Kernels } from './kernel.ts'

/** How an operand is seen, and what else the attributes say. */
interface Layout {
  readonly rows: number
  readonly groups: number
  /** Of a group. */
  readonly channels: number
  readonly inner: number
  /** eps, or which gradients are wanted. */
  readonly last: number
}

function layoutOf({ name, attributes }: Call): Layout {
  if (name === 'groupNorm' || name === 'groupNormGrad') {
    const [outer, groups, channels, inner, last] = attributes as [number, number, number, number, number]
    return { rows: outer * groups, groups, channels, inner, last }
  }
  const [rows, channels, last] = attributes as [number, number, number]
  return { rows, groups: 1, channels, inner: 1, last }
}

/** → y, the means where there are any, the scales. */
function forward(isCentred: boolean): Kernel {
  return (call) => {
    const { rows, groups, channels, inner, last: eps } = layoutOf(call)
    const x = call.inputs[0]!.data
    const weight = call.inputs[1]?.data
    const bias = call.inputs[2]?.data
    const y = call.outputs[0]!.data
    const means = isCentred ? call.outputs[1]!.data : null
    const scales = call.outputs[isCentred ? 2 : 1]!.data
    const count = channels * inner
    for (let row = 0; row < rows; row++) {
      const start = row * count
      let mean = 0
      if (isCentred) {
        for (let i = start; i < start + count; i++) mean += x[i]!
        mean /= count
        means![row] = mean
      }
      let squares = 0
      for (let i = start; i < start + count; i++) squares += (x[i]! - mean) ** 2
      const scale = 1 / Math.sqrt(squares / count + eps)
      scales[row] = scale
      for (let c = 0, at = start, channel = (row % groups) * channels; c < channels; c++, channel++) {
        const w = weight === undefined ? 1 : weight[channel]!
        const b = bias === undefined ? 0 : bias[channel]!
        for (const end = at + inner; at < end; at++) y[at] = (x[at]! - mean) * scale * w + b
      }
    }
  }
}

/** [dy, x, weight, means where there are any, scales] → the wanted of dx, dweight, dbias. */
function backward(isCentred: boolean): Kernel {
  return (call) => {
    const layout = layoutOf(call)
    const [dy, x] = [call.inputs[0]!.data, call.inputs[1]!.data]
    const weight = call.inputs[2]?.data
    const means = isCentred ? call.inputs[3]!.data : null
    const scales = call.inputs[isCentred ? 4 : 3]!.data
    let next = 0
    const wanted = (bit: number): TypedArray | null => ((layout.last & bit) === 0 ? null : call.outputs[next++]!.data)
    const [dx, dweight, dbias] = [wanted(1), wanted(2), wanted(4)]
    if (dx !== null) rowGradients(layout, dy, x, weight, means, scales, dx)
    if (dweight !== null || dbias !== null) channelGradients(layout, dy, x, means, scales, dweight, dbias)
  }
}

/** scale · (g − mean(g) − x̂ · mean(g · x̂)) with g = weight · dy; without the first mean where x was not centred. */
function rowGradients(
  { rows, groups, channels, inner }: Layout,
  dy: TypedArray,
  x: TypedArray,
  weight: TypedArray | undefined,
  means: TypedArray | null,
  scales: TypedArray,
  dx: TypedArray,
): void {
  const count = channels * inner
  const g = new Float64Array(count)
  for (let row = 0; row < rows; row++) {
    const start = row * count
    const first = (row % groups) * channels
    const [mean, scale] = [means === null ? 0 : means[row]!, scales[row]!]
    let total = 0
    let along = 0
    for (let i = 0; i < count; i++) {
      g[i] = weight === undefined ? dy[start + i]! : dy[start + i]! * weight[first + Math.floor(i / inner)]!
      total += g[i]!
      along += g[i]! * (x[start + i]! - mean) * scale
    }
    total = means === null ? 0 : total / count
    along /= count
    for (let i = 0; i < count; i++) dx[start + i] = scale * (g[i]! - total - (x[start + i]! - mean) * scale * along)
  }
}

/** Σ dy · x̂ and Σ dy over everything that a channel has, example by example. */
function channelGradients(
  { rows, groups, channels, inner }: Layout,
  dy: TypedArray,
  x: TypedArray,
  means: TypedArray | null,
  scales: TypedArray,
  dweight: TypedArray | null,
  dbias: TypedArray | null,
): void {
  const products = new Float64Array(groups * channels)
  const sums = new Float64Array(groups * channels)
  let at = 0
  for (let row = 0; row < rows; row++) {
    const [mean, scale] = [means === null ? 0 : means[row]!, scales[row]!]
    const first = (row % groups) * channels
    for (let channel = first; channel < first + channels; channel++) {
      for (const end = at + inner; at < end; at++) {
        products[channel]! += dy[at]! * (x[at]! - mean) * scale
        sums[channel]! += dy[at]!
      }
    }
  }
  dweight?.set(products)
  dbias?.set(sums)
}

type NormName = 'layerNorm' | 'groupNorm' | 'rmsNorm'

/** Kernels of the norm family. */
export const NORM: Pick<Kernels, NormName | `${NormName}Grad`> = {
  layerNorm: forward(true),
  layerNormGrad: backward(true),
  groupNorm: forward(true),
  groupNormGrad: backward(true),
  rmsNorm: forward(false),
  rmsNormGrad: backward(false),
}
