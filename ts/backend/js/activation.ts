/**
 * Activations y = f(z) and their gradients dz = dy · f′, which take y or z, whichever the derivative is a function of.
 * `linear` and `linearGrad` use the same loops with the default parameters, so that fused and unfused layers agree.
 */

import { ACTIVATION_CODES } from '../../program/words.ts'
import { normalCdf } from './erf.ts'
import type { BinaryLoop } from './binary.ts'
import type { UnaryLoop } from './unary.ts'

const INV_SQRT_2PI = 1 / Math.sqrt(2 * Math.PI)
const SQRT_2_OVER_PI = Math.sqrt(2 / Math.PI)
const CUBIC = 0.044715

/** 1/(1 + e⁻ᶻ); the two-sided form never overflows. */
function sigmoid(z: number): number {
  if (z >= 0) return 1 / (1 + Math.exp(-z))
  const e = Math.exp(z)
  return e / (1 + e)
}

/** tanh(√(2/π)(z + 0.044715 z³)), the inside of the tanh form of GELU. */
function geluInner(z: number): number {
  return Math.tanh(SQRT_2_OVER_PI * (z + CUBIC * z * z * z))
}

type ActivationName = Exclude<keyof typeof ACTIVATION_CODES, 'none'>
type GradName = `${Exclude<ActivationName, 'heaviside'>}Grad`

/** f, by opcode. Parameters: leakyRelu slope; elu alpha; softplus beta, threshold. */
export const ACTIVATION: Readonly<Record<ActivationName, UnaryLoop>> = {
  relu(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) out[oi + i] = Math.max(x[xi + i]!, 0)
  },
  leakyRelu(x, xi, out, oi, n, slope) {
    for (let i = 0; i < n; i++) {
      const z = x[xi + i]!
      out[oi + i] = z > 0 ? z : slope * z
    }
  },
  elu(x, xi, out, oi, n, alpha) {
    for (let i = 0; i < n; i++) {
      const z = x[xi + i]!
      out[oi + i] = z > 0 ? z : alpha * Math.expm1(z)
    }
  },
  sigmoid(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) out[oi + i] = sigmoid(x[xi + i]!)
  },
  tanh(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) out[oi + i] = Math.tanh(x[xi + i]!)
  },
  silu(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) {
      const z = x[xi + i]!
      out[oi + i] = z * sigmoid(z)
    }
  },
  softplus(x, xi, out, oi, n, beta, threshold) {
    for (let i = 0; i < n; i++) {
      const z = x[xi + i]!
      out[oi + i] = beta * z > threshold ? z : Math.log1p(Math.exp(beta * z)) / beta
    }
  },
  heaviside(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) out[oi + i] = x[xi + i]! > 0 ? 1 : 0
  },
  gelu(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) {
      const z = x[xi + i]!
      out[oi + i] = z * normalCdf(z)
    }
  },
  geluTanh(x, xi, out, oi, n) {
    for (let i = 0; i < n; i++) {
      const z = x[xi + i]!
      out[oi + i] = 0.5 * z * (1 + geluInner(z))
    }
  },
}

/** dy · f′, by opcode; the second operand is y for relu, elu, sigmoid and tanh, else z. */
export const ACTIVATION_GRAD: Readonly<Record<GradName, BinaryLoop>> = {
  reluGrad(dy, di, ds, y, yi, ys, out, oi, n) {
    for (let i = 0; i < n; i++, di += ds, yi += ys) out[oi + i] = y[yi]! > 0 ? dy[di]! : 0
  },
  leakyReluGrad(dy, di, ds, z, zi, zs, out, oi, n, slope) {
    for (let i = 0; i < n; i++, di += ds, zi += zs) out[oi + i] = z[zi]! > 0 ? dy[di]! : slope * dy[di]!
  },
  eluGrad(dy, di, ds, y, yi, ys, out, oi, n, alpha) {
    for (let i = 0; i < n; i++, di += ds, yi += ys) {
      const v = y[yi]!
      out[oi + i] = v > 0 ? dy[di]! : dy[di]! * (v + alpha)
    }
  },
  sigmoidGrad(dy, di, ds, y, yi, ys, out, oi, n) {
    for (let i = 0; i < n; i++, di += ds, yi += ys) {
      const v = y[yi]!
      out[oi + i] = dy[di]! * v * (1 - v)
    }
  },
  tanhGrad(dy, di, ds, y, yi, ys, out, oi, n) {
    for (let i = 0; i < n; i++, di += ds, yi += ys) {
      const v = y[yi]!
      out[oi + i] = dy[di]! * (1 - v * v)
    }
  },
  siluGrad(dy, di, ds, z, zi, zs, out, oi, n) {
    for (let i = 0; i < n; i++, di += ds, zi += zs) {
      const v = z[zi]!
      const s = sigmoid(v)
      out[oi + i] = dy[di]! * s * (1 + v * (1 - s))
    }
  },
  softplusGrad(dy, di, ds, z, zi, zs, out, oi, n, beta, threshold) {
    for (let i = 0; i < n; i++, di += ds, zi += zs) {
      const v = beta * z[zi]!
      out[oi + i] = v > threshold ? dy[di]! : dy[di]! * sigmoid(v)
    }
  },
  geluGrad(dy, di, ds, z, zi, zs, out, oi, n) {
    for (let i = 0; i < n; i++, di += ds, zi += zs) {
      const v = z[zi]!
      out[oi + i] = dy[di]! * (normalCdf(v) + v * INV_SQRT_2PI * Math.exp(-0.5 * v * v))
    }
  },
  geluTanhGrad(dy, di, ds, z, zi, zs, out, oi, n) {
    for (let i = 0; i < n; i++, di += ds, zi += zs) {
      const v = z[zi]!
      const t = geluInner(v)
      const slope = SQRT_2_OVER_PI * (1 + 3 * CUBIC * v * v)
      out[oi + i] = dy[di]! * 0.5 * (1 + t + v * (1 - t * t) * slope)
    }
  },
}

/** One activation as `linear` fuses it: its loops and their default parameters. */
export interface FusedActivation {
  readonly forward: UnaryLoop
  readonly grad: BinaryLoop
  readonly p: number
  readonly q: number
}

const DEFAULTS: Readonly<Partial<Record<ActivationName, readonly [number, number]>>> = {
  leakyRelu: [0.01, 0],
  elu: [1, 0],
  softplus: [1, 20],
}

/** The derivative of a step function. */
const zeroGrad: BinaryLoop = (_dy, _di, _ds, _y, _yi, _ys, out, oi, n) => {
  for (let i = 0; i < n; i++) out[oi + i] = 0
}

/** Activations by the number they have in `linear`; none for 0. */
export const FUSED_ACTIVATIONS: ReadonlyMap<number, FusedActivation> = new Map(
  (Object.keys(ACTIVATION_CODES) as (keyof typeof ACTIVATION_CODES)[]).flatMap((name) => {
    if (name === 'none') return []
    const [p, q] = DEFAULTS[name] ?? [0, 0]
    const grad = name === 'heaviside' ? zeroGrad : ACTIVATION_GRAD[`${name}Grad`]
    return [[ACTIVATION_CODES[name], { forward: ACTIVATION[name], grad, p, q }] as const]
  }),
)
