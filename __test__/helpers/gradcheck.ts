/**
 * Gradients of the cases of the table: as the library computes them, and as central differences. The function that is
 * differentiated is Σ weight ⊙ result over all results, with weights that are fixed for a shape; gradients are taken for
 * every float input.
 */

import { type Device, type Tensor, add, cast, grad, mul, scope, sum, zeros } from '../../ts/index.ts'
import { type Case, listOf } from './cases.ts'
import { type Data, random, upload } from './data.ts'

/** The step of central differences in f64, and how near they come. */
const STEP = 1e-6
const ABSOLUTE = 1e-5
const RELATIVE = 1e-3

/** What is differentiated: tensors in, one tensor of any shape or several out. */
export type Differentiable = (inputs: readonly Tensor[]) => Tensor | readonly Tensor[]

/** Inputs that have gradients, by position. */
export function floatPositions(inputs: readonly Data[]): number[] {
  return inputs.flatMap((x, i) => (x.dtype === 'f32' || x.dtype === 'f64' ? [i] : []))
}

/** The weights of a result. */
function weights(result: Tensor, position: number): Data {
  return random(result.dtype, result.shape, { low: 0.5, high: 1.5, salt: 900 + position })
}

/** Σ weight ⊙ result. */
export function weightedSum(results: Tensor | readonly Tensor[]): Tensor {
  const list = listOf(results)
  const sums = list.map((y, i) => sum(mul(y, upload(weights(y, i), y.device))))
  return sums.reduce((a, b) => add(a, b), zeros([], { dtype: list[0]!.dtype, device: list[0]!.device }))
}

/** The same as a function of the float inputs alone. */
export function closed(
  fn: Differentiable,
  inputs: readonly Tensor[],
  positions: readonly number[],
): (...x: Tensor[]) => Tensor {
  return (...x) => weightedSum(fn(inputs.map((t, i) => x[positions.indexOf(i)] ?? t)))
}

/** How gradients are computed: by the instructions made for it, or by differentiable operations, as second derivatives need. */
export type Path = 'fused' | 'decomposed'

/** Gradients of the weighted sum with respect to each float input. */
export function gradients(fn: Differentiable, data: readonly Data[], device: Device, path: Path = 'fused'): Tensor[] {
  const positions = floatPositions(data)
  return scope(() => {
    const inputs = data.map((x, i) => upload(x, device, path === 'decomposed' && positions.includes(i)))
    const slopes = grad(closed(fn, inputs, positions))(...positions.map((p) => inputs[p]!))
    return slopes.map((g) => g.detach())
  })
}

/** Central differences of the weighted sum, computed in f64 on the host. */
export function differences(fn: Differentiable, data: readonly Data[], device: Device): Float64Array[] {
  const value = (inputs: readonly Data[]): number =>
    scope(() => {
      const results = listOf(fn(inputs.map((x) => upload(x, device))))
      return results.reduce((total, y, i) => {
        const elements = y.dataSync()
        return weights(y, i).values.reduce((s, w, j) => s + w * elements[j]!, total)
      }, 0)
    })
  return floatPositions(data).map((p) =>
    data[p]!.values.map((x, i) => {
      const shifted = (by: number): Data[] =>
        data.map((d, q) => (q === p ? { ...d, values: d.values.with(i, x + by) } : d))
      return (value(shifted(STEP)) - value(shifted(-STEP))) / (2 * STEP)
    }),
  )
}

/** The case in f64: the same numbers. */
export function inF64(data: readonly Data[]): Data[] {
  return data.map((x) => (x.dtype === 'f32' ? { ...x, dtype: 'f64' } : x))
}

/** Where a gradient and a central difference disagree, or `null`. */
export function disagreement(gradient: ArrayLike<number>, difference: ArrayLike<number>): string | null {
  if (gradient.length !== difference.length) return `${gradient.length} and ${difference.length} elements`
  for (let i = 0; i < gradient.length; i++) {
    const [g, d] = [gradient[i]!, difference[i]!]
    // Written so that NaN fails.
    if (!(Math.abs(g - d) <= ABSOLUTE + RELATIVE * Math.abs(d))) return `element ${i}: gradient ${g}, difference ${d}`
  }
  return null
}

/** Holds the gradients of a function against central differences; gives the first disagreement. */
export function gradcheck(
  fn: Differentiable,
  data: readonly Data[],
  device: Device,
  path: Path = 'fused',
): string | null {
  const slopes = gradients(fn, data, device, path)
  const steps = differences(fn, data, device)
  const positions = floatPositions(data)
  for (const [i, slope] of slopes.entries()) {
    const problem =
      slope.shape.join() === data[positions[i]!]!.shape.join()
        ? disagreement(slope.dataSync(), steps[i]!)
        : `gradient of shape [${slope.shape.join(', ')}]`
    slope.dispose()
    if (problem !== null) return `input ${positions[i]}: ${problem}`
  }
  return null
}

/** The function of a case. */
export function functionOf(one: Case, device: Device): Differentiable {
  const isFloat = ({ dtype }: Tensor): boolean => dtype === 'f32' || dtype === 'f64'
  return (inputs) => {
    const float = inputs.find(isFloat)?.dtype ?? 'f32'
    return listOf(one.run(inputs, device)).map((y) => (isFloat(y) ? y : cast(y, float)))
  }
}
