/**
 * Optimiser updates over slabs: one memory per kind of state that holds all parameters one after another. A gradient
 * comes with its segment, the number of its parameter and where it starts in the slab; parameters without a gradient
 * are not touched. `ok` = false leaves everything as it is, the step counters included.
 */

import type { TypedArray } from '../../dtype.ts'
import type { Call, Kernels, Operand } from './kernel.ts'

/** Σ over all inputs of x². */
function squaredNorm({ inputs, outputs }: Call): void {
  let total = 0
  for (const x of inputs) total = addSquares(x!.data, total)
  outputs[0]!.data[0] = total
}

function addSquares(x: TypedArray, total: number): number {
  for (let i = 0; i < x.length; i++) total += x[i]! * x[i]!
  return total
}

/** One gradient, and which part of the slabs it updates. */
interface Segment {
  readonly gradient: TypedArray
  readonly offset: number
  /** Applied steps of the parameter, this one included. */
  readonly step: number
}

/** Counts the step and walks the gradients, unless the gate is shut. `[steps, scale, ok, …gradients]` start at `first`. */
function segments({ inputs, list }: Call, first: number, update: (segment: Segment, scale: number) => void): void {
  const [steps, scale, ok, ...gradients] = inputs.slice(first) as [Operand, Operand?, Operand?, ...Operand[]]
  if (ok !== undefined && ok.data[0] === 0) return
  gradients.forEach(({ data: gradient }, i) => {
    const parameter = list[2 * i]!
    const step = steps.data[parameter]! + 1
    steps.data[parameter] = step
    update({ gradient, offset: list[2 * i + 1]!, step }, scale?.data[0] ?? 1)
  })
}

/** g += wd·p; buf = t = 1 ? g : μ·buf + (1 − dampening)·g; d = nesterov ? g + μ·buf : buf; p −= lr·d. */
function sgd(call: Call): void {
  const p = call.inputs[0]!.data
  const velocity = call.inputs[1]?.data
  const [lr, momentum, dampening, decay, nesterov] = call.attributes as [number, number, number, number, number]
  segments(call, 2, ({ gradient, offset, step }, scale) => {
    for (let i = 0, at = offset; i < gradient.length; i++, at++) {
      const g = gradient[i]! * scale + decay * p[at]!
      let d = g
      if (velocity !== undefined) {
        const v = step === 1 ? g : momentum * velocity[at]! + (1 - dampening) * g
        velocity[at] = v
        d = nesterov === 1 ? g + momentum * v : v
      }
      p[at] = p[at]! - lr * d
    }
  })
}

/** p ·= 1 − lr·wd; m = β₁m + (1 − β₁)g; v = β₂v + (1 − β₂)g²; p −= lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + eps). */
function adamw(call: Call): void {
  const [p, m, v] = call.inputs.map((x) => x?.data) as [TypedArray, TypedArray, TypedArray]
  const [lr, beta1, beta2, eps, decay] = call.attributes as [number, number, number, number, number]
  segments(call, 3, ({ gradient, offset, step }, scale) => {
    // 1 − βᵗ without cancellation for β near 1.
    const rate = lr / -Math.expm1(step * Math.log(beta1))
    const root = Math.sqrt(-Math.expm1(step * Math.log(beta2)))
    for (let i = 0, at = offset; i < gradient.length; i++, at++) {
      const g = gradient[i]! * scale
      const first = beta1 * m[at]! + (1 - beta1) * g
      const second = beta2 * v[at]! + (1 - beta2) * g * g
      m[at] = first
      v[at] = second
      p[at] = p[at]! * (1 - lr * decay) - (rate * first) / (Math.sqrt(second) / root + eps)
    }
  })
}

/** Kernels of the optimisers. */
export const OPTIM: Pick<Kernels, 'squaredNorm' | 'sgd' | 'adamw'> = { squaredNorm, sgd, adamw }
