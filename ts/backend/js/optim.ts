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

/** The gradient with its decay. Without one an infinite parameter must not make it NaN. */
function decayed(g: number, decay: number, p: number): number {
  return decay === 0 ? g : g + decay * p
}

/** g += wd·p; buf = t = 1 ? g : μ·buf + (1 − dampening)·g; d = nesterov ? g + μ·buf : buf; p −= lr·d. */
function sgd(call: Call): void {
  const p = call.inputs[0]!.data
  const [lr, momentum, dampening, decay, nesterov] = call.attributes as [number, number, number, number, number]
  const velocity = momentum === 0 ? undefined : call.inputs[1]?.data
  segments(call, 2, ({ gradient, offset, step }, scale) => {
    for (let i = 0, at = offset; i < gradient.length; i++, at++) {
      const g = decayed(gradient[i]! * scale, decay, p[at]!)
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

/**
 * Coupled: g += wd·p; decoupled: p ·= 1 − lr·wd. m = β₁m + (1 − β₁)g; v = β₂v + (1 − β₂)g²; with a fourth slab that is
 * the greatest v so far, and used in its place; p −= lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + eps).
 */
function adam(call: Call): void {
  const [p, m, v] = call.inputs.map((x) => x?.data) as [TypedArray, TypedArray, TypedArray]
  const greatest = call.inputs[3]?.data
  const [lr, beta1, beta2, eps, decay, decoupled] = call.attributes as [number, number, number, number, number, number]
  const [coupled, keep] = decoupled === 1 ? [0, 1 - lr * decay] : [decay, 1]
  segments(call, 4, ({ gradient, offset, step }, scale) => {
    // 1 − βᵗ without cancellation for β near 1.
    const rate = lr / -Math.expm1(step * Math.log(beta1))
    const root = Math.sqrt(-Math.expm1(step * Math.log(beta2)))
    for (let i = 0, at = offset; i < gradient.length; i++, at++) {
      const g = decayed(gradient[i]! * scale, coupled, p[at]!)
      const first = beta1 * m[at]! + (1 - beta1) * g
      let second = beta2 * v[at]! + (1 - beta2) * g * g
      m[at] = first
      v[at] = second
      if (greatest !== undefined) {
        second = Math.max(greatest[at]!, second)
        greatest[at] = second
      }
      p[at] = p[at]! * keep - (rate * first) / (Math.sqrt(second) / root + eps)
    }
  })
}

/**
 * g += wd·p; v = αv + (1 − α)g²; with a slab of means a = αa + (1 − α)g and v − a² in place of v; d = g / (√v + eps);
 * with a velocity b = μb + d in place of d; p −= lr·d.
 */
function rmsprop(call: Call): void {
  const [p, v] = call.inputs.map((x) => x?.data) as [TypedArray, TypedArray]
  const mean = call.inputs[2]?.data
  const velocity = call.inputs[3]?.data
  const [lr, alpha, eps, decay, momentum] = call.attributes as [number, number, number, number, number]
  segments(call, 4, ({ gradient, offset }, scale) => {
    for (let i = 0, at = offset; i < gradient.length; i++, at++) {
      const g = decayed(gradient[i]! * scale, decay, p[at]!)
      let spread = alpha * v[at]! + (1 - alpha) * g * g
      v[at] = spread
      if (mean !== undefined) {
        const a = alpha * mean[at]! + (1 - alpha) * g
        mean[at] = a
        // A variance: rounding must not make it negative. NaN stays.
        spread = Math.max(spread - a * a, 0)
      }
      let d = g / (Math.sqrt(spread) + eps)
      if (velocity !== undefined) {
        d = momentum * velocity[at]! + d
        velocity[at] = d
      }
      p[at] = p[at]! - lr * d
    }
  })
}

/** a += w·(x − a), by the form that is exact at both ends; the first value of a parameter has weight 1. */
function ema(call: Call): void {
  const average = call.inputs[0]!.data
  const [given] = call.attributes as [number]
  segments(call, 1, ({ gradient: values, offset, step }, scale) => {
    const weight = step === 1 ? 1 : given
    for (let i = 0, at = offset; i < values.length; i++, at++) {
      const x = values[i]! * scale
      const gap = x - average[at]!
      average[at] = weight < 0.5 ? average[at]! + weight * gap : weight === 1 ? x : x - (1 - weight) * gap
    }
  })
}

/** Kernels of the optimisers. */
export const OPTIM: Pick<Kernels, 'squaredNorm' | 'sgd' | 'adam' | 'rmsprop' | 'ema'> = {
  squaredNorm,
  sgd,
  adam,
  rmsprop,
  ema,
}
