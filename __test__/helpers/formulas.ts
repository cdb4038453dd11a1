/**
 * Functions of one or two numbers, written in f64 from their definitions: what kernels are held against. None of it
 * comes from the library. Where `Math` has the function it is used; the error function is computed here.
 */

/** erf by its series e^(−x²)·2/√π·Σ 2ⁿx^(2n+1)/(2n+1)!!, whose terms are all of one sign; by 1 − erfc where that is tiny. */
export function erf(x: number): number {
  if (Number.isNaN(x)) return NaN
  if (Math.abs(x) > 1.5) return Math.sign(x) * (1 - erfcTail(Math.abs(x)))
  let term = x
  let sum = x
  for (let n = 1; n < 200; n++) {
    term *= (2 * x * x) / (2 * n + 1)
    sum += term
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum
}

/** 1 − erf(x) with relative accuracy for large x. */
export function erfc(x: number): number {
  return x > 1.5 ? erfcTail(x) : 1 - erf(x)
}

/** e^(−x²)/√π / (x + ½/(x + 1/(x + 3⁄2/(x + …)))), from the inside out; 120 levels are enough from 1.5 on. */
function erfcTail(x: number): number {
  if (x > 30) return 0
  let fraction = x
  for (let k = 120; k >= 1; k--) fraction = x + k / 2 / fraction
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / fraction
}

/** The normal distribution function. */
export function normalCdf(z: number): number {
  return 0.5 * erfc(-z * Math.SQRT1_2)
}

/** The normal density. */
export function normalDensity(z: number): number {
  return Math.exp(-0.5 * z * z) / Math.sqrt(2 * Math.PI)
}

/** 1/(1 + e⁻ᶻ); for large −z the quotient is eᶻ. */
export function sigmoid(z: number): number {
  return z < -40 ? Math.exp(z) : 1 / (1 + Math.exp(-z))
}

/** aᵇ as IEEE 754 has it; JavaScript's differs at 1 and −1. */
export function pow(a: number, b: number): number {
  if (a === 1 || b === 0) return 1
  if (a === -1 && Math.abs(b) === Infinity) return 1
  return a ** b
}

/** float → i32: towards zero, to the nearest end of the range, NaN to 0. */
export function toInteger(x: number): number {
  if (Number.isNaN(x)) return 0
  return Math.trunc(Math.min(Math.max(x, -(2 ** 31)), 2 ** 31 - 1))
}

const C = Math.sqrt(2 / Math.PI)

function geluTangent(z: number): number {
  return Math.tanh(C * (z + 0.044715 * z ** 3))
}

/** An activation: value and derivative, both functions of z. */
export interface Formula {
  readonly f: (z: number) => number
  readonly derivative: (z: number) => number
  /** What the gradient instruction takes: the result or the operand. */
  readonly saves: 'y' | 'z' | null
  /** Bound of |derivative|. */
  readonly lipschitz: number
  /** Where there is no derivative. */
  readonly corners: readonly number[]
}

/** The activations with their default parameters. */
export const ACTIVATION_FORMULAS = {
  relu: {
    f: (z) => (z > 0 || Number.isNaN(z) ? z : 0),
    derivative: (z) => +(z > 0),
    saves: 'y',
    lipschitz: 1,
    corners: [0],
  },
  leakyRelu: {
    f: (z) => (z > 0 ? z : 0.01 * z),
    derivative: (z) => (z > 0 ? 1 : 0.01),
    saves: 'z',
    lipschitz: 1,
    corners: [0],
  },
  elu: {
    f: (z) => (z > 0 ? z : Math.expm1(z)),
    derivative: (z) => (z > 0 ? 1 : Math.exp(z)),
    saves: 'y',
    lipschitz: 1,
    corners: [0],
  },
  sigmoid: {
    f: sigmoid,
    derivative: (z) => sigmoid(z) * sigmoid(-z),
    saves: 'y',
    lipschitz: 0.25,
    corners: [],
  },
  tanh: {
    f: Math.tanh,
    derivative: (z) => 1 / Math.cosh(z) ** 2,
    saves: 'y',
    lipschitz: 1,
    corners: [],
  },
  silu: {
    f: (z) => z * sigmoid(z),
    derivative: (z) => sigmoid(z) * (1 + z * sigmoid(-z)),
    saves: 'z',
    lipschitz: 1.1,
    corners: [],
  },
  softplus: {
    f: (z) => (z > 20 ? z : Math.log1p(Math.exp(z))),
    derivative: (z) => (z > 20 ? 1 : sigmoid(z)),
    saves: 'z',
    lipschitz: 1,
    corners: [20],
  },
  heaviside: {
    f: (z) => +(z > 0),
    derivative: () => 0,
    saves: null,
    lipschitz: 0,
    corners: [0],
  },
  gelu: {
    f: (z) => z * normalCdf(z),
    derivative: (z) => normalCdf(z) + z * normalDensity(z),
    saves: 'z',
    lipschitz: 1.13,
    corners: [],
  },
  geluTanh: {
    f: (z) => 0.5 * z * (1 + geluTangent(z)),
    derivative: (z) => {
      const t = geluTangent(z)
      return 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * C * (1 + 3 * 0.044715 * z * z)
    },
    saves: 'z',
    lipschitz: 1.13,
    corners: [],
  },
} as const satisfies Record<string, Formula>
