/**
 * Activations: y = f(z), element by element, each with its gradient in one instruction. Formulas, and which of y and z
 * the gradient is a function of, stand in the table {@link ACTIVATIONS}, which `linear` uses too. For second derivatives
 * the gradient is built from differentiable operations instead.
 */

import { recording, track } from '../autograd/tape.ts'
import { type Names, checkOptions, expected } from '../errors.ts'
import type { ACTIVATION_CODES } from '../program/words.ts'
import { OPCODES, type OpcodeName } from '../program/opcodes.ts'
import { Tensor } from '../tensor.ts'
import { checkDtypeClass, checkTensor } from './apply.ts'
import { add, cast, clip, erf, exp, greater, mul, square, sub, where } from './elementwise.ts'
import { zerosLike } from './creation.ts'

/** Activations that `linear` and `nn.Linear` can fuse, with their default parameters. */
export type ActivationName = Exclude<keyof typeof ACTIVATION_CODES, 'none'>

interface Activation {
  /** What the gradient is a function of. */
  readonly saves: 'y' | 'z' | null
  readonly grad: OpcodeName | null
  /** Parameters of the stand-alone instruction when none are given. */
  readonly parameters: readonly number[]
  readonly derivative: (saved: Tensor, parameters: readonly number[]) => Tensor
}

/** The options of {@link softplus} and of its layer. */
export const SOFTPLUS_OPTIONS: Names<NonNullable<Parameters<typeof softplus>[1]>> = { beta: true, threshold: true }
/** The options of {@link gelu} and of its layer. */
export const GELU_OPTIONS: Names<NonNullable<Parameters<typeof gelu>[1]>> = { approximate: true }

const SQRT_HALF = Math.SQRT1_2
const INV_SQRT_2PI = 1 / Math.sqrt(2 * Math.PI)
const SQRT_2_OVER_PI = Math.sqrt(2 / Math.PI)
/** From where on the tanh form of GELU is 0 or z. */
const FLAT = 12

/** The activations: what is saved, and the derivative. */
export const ACTIVATIONS: Readonly<Record<ActivationName, Activation>> = {
  relu: { saves: 'y', grad: 'reluGrad', parameters: [], derivative: (y) => cast(greater(y, 0), y.dtype) },
  leakyRelu: {
    saves: 'z',
    grad: 'leakyReluGrad',
    parameters: [0.01],
    derivative: (z, [slope]) => add(mul(cast(greater(z, 0), z.dtype), 1 - slope!), slope!),
  },
  elu: {
    saves: 'y',
    grad: 'eluGrad',
    parameters: [1],
    derivative: (y, [alpha]) => where(greater(y, 0), 1, add(y, alpha!)),
  },
  sigmoid: { saves: 'y', grad: 'sigmoidGrad', parameters: [], derivative: (y) => mul(y, sub(1, y)) },
  tanh: { saves: 'y', grad: 'tanhGrad', parameters: [], derivative: (y) => sub(1, square(y)) },
  silu: {
    saves: 'z',
    grad: 'siluGrad',
    parameters: [],
    derivative: (z) => {
      const s = sigmoid(z)
      return mul(s, add(mul(z, sub(1, s)), 1))
    },
  },
  softplus: {
    saves: 'z',
    grad: 'softplusGrad',
    parameters: [1, 20],
    derivative: (z, [beta, threshold]) => {
      const scaled = mul(z, beta!)
      return where(greater(scaled, threshold!), 1, sigmoid(scaled))
    },
  },
  heaviside: { saves: null, grad: null, parameters: [], derivative: (z) => zerosLike(z) },
  gelu: {
    saves: 'z',
    grad: 'geluGrad',
    parameters: [],
    derivative: (z) => {
      const cumulative = mul(add(erf(mul(z, SQRT_HALF)), 1), 0.5)
      const density = mul(exp(mul(square(z), -0.5)), INV_SQRT_2PI)
      return add(cumulative, mul(z, density))
    },
  },
  geluTanh: {
    saves: 'z',
    grad: 'geluTanhGrad',
    parameters: [],
    derivative: (z) => {
      // Beyond, tanh is flat in f64 too, and the square may be infinite: 0 · ∞.
      const near = clip(z, -FLAT, FLAT)
      const squared = square(near)
      const t = tanh(mul(mul(near, add(mul(squared, 0.044715), 1)), SQRT_2_OVER_PI))
      const inner = mul(add(mul(squared, 3 * 0.044715), 1), SQRT_2_OVER_PI)
      return mul(add(add(t, 1), mul(mul(near, sub(1, square(t))), inner)), 0.5)
    },
  },
}

/**
 * max(z, 0); NaN stays. Gradient 0 at 0.
 *
 * @example
 * ```ts
 * import { relu, tensor } from 'tilegrad'
 * console.log(await relu(tensor([-1, 0, 2])).array()) // [0, 0, 2]
 * ```
 */
export function relu(z: Tensor): Tensor {
  return activation('relu', z, [])
}

/**
 * z above 0, slope · z below.
 *
 * @param slope default 0.01
 *
 * @example
 * ```ts
 * import { leakyRelu, tensor } from 'tilegrad'
 * console.log(await leakyRelu(tensor([-1, 2]), 0.1).array()) // [-0.1, 2]
 * ```
 */
export function leakyRelu(z: Tensor, slope = 0.01): Tensor {
  return activation('leakyRelu', z, [finite('leakyRelu: slope', slope)])
}

/**
 * z above 0, α(eᶻ − 1) below.
 *
 * @param alpha ≥ 0, so that the sign of the result tells the sides apart in the gradient; default 1
 *
 * @example
 * ```ts
 * import { elu, tensor } from 'tilegrad'
 * console.log(await elu(tensor([-1, 2])).array()) // [-0.632121, 2]
 * ```
 */
export function elu(z: Tensor, alpha = 1): Tensor {
  if (!(Number.isFinite(alpha) && alpha >= 0)) throw expected('elu: alpha', 'a finite number ≥ 0', alpha)
  return activation('elu', z, [alpha])
}

/**
 * 1/(1 + e⁻ᶻ), without overflow on either side.
 *
 * @example
 * ```ts
 * import { sigmoid, tensor } from 'tilegrad'
 * console.log(await sigmoid(tensor([0, 2])).array()) // [0.5, 0.880797]
 * ```
 */
export function sigmoid(z: Tensor): Tensor {
  return activation('sigmoid', z, [])
}

/**
 * Hyperbolic tangent.
 *
 * @example
 * ```ts
 * import { tanh, tensor } from 'tilegrad'
 * console.log(await tanh(tensor([0, 1])).array()) // [0, 0.761594]
 * ```
 */
export function tanh(z: Tensor): Tensor {
  return activation('tanh', z, [])
}

/**
 * z · sigmoid(z), also called swish.
 *
 * @example
 * ```ts
 * import { silu, tensor } from 'tilegrad'
 * console.log(await silu(tensor([0, 1])).array()) // [0, 0.731059]
 * ```
 */
export function silu(z: Tensor): Tensor {
  return activation('silu', z, [])
}

/**
 * log(1 + e^(βz))/β, and z itself where βz exceeds the threshold.
 *
 * @param options.beta default 1
 * @param options.threshold default 20
 *
 * @example
 * ```ts
 * import { softplus, tensor } from 'tilegrad'
 * console.log(await softplus(tensor([0, 30])).array()) // [0.693147, 30]
 * ```
 */
export function softplus(z: Tensor, options: { beta?: number; threshold?: number } = {}): Tensor {
  checkOptions('softplus', options, SOFTPLUS_OPTIONS)
  const { beta = 1, threshold = 20 } = options
  if (!(finite('softplus: beta', beta) > 0)) throw expected('softplus: beta', 'a number > 0', beta)
  return activation('softplus', z, [beta, finite('softplus: threshold', threshold)])
}

/**
 * 1 above 0, else 0 (0 at 0): the perceptron's step. Gradient 0.
 *
 * @example
 * ```ts
 * import { heaviside, tensor } from 'tilegrad'
 * console.log(await heaviside(tensor([-1, 0, 2])).array()) // [0, 0, 1]
 * ```
 */
export function heaviside(z: Tensor): Tensor {
  return activation('heaviside', z, [])
}

/**
 * Gaussian error linear unit z · Φ(z).
 *
 * @param options.approximate `'none'` (default, as in PyTorch): by erf; `'tanh'`: the approximation, up to 4.7e-4 away
 *
 * @example
 * ```ts
 * import { gelu, tensor } from 'tilegrad'
 * console.log(await gelu(tensor([-1, 1])).array()) // [-0.158655, 0.841345]
 * ```
 */
export function gelu(z: Tensor, options: { approximate?: 'none' | 'tanh' } = {}): Tensor {
  checkOptions('gelu', options, GELU_OPTIONS)
  const { approximate = 'none' } = options
  if (approximate !== 'none' && approximate !== 'tanh')
    throw expected('gelu: approximate', "'none' or 'tanh'", approximate)
  return activation(approximate === 'tanh' ? 'geluTanh' : 'gelu', z, [])
}

/** dz = dy ⊙ act′, from what the activation saved. */
export function activationGrad(
  name: ActivationName,
  dy: Tensor,
  saved: Tensor | undefined,
  parameters: readonly number[] = ACTIVATIONS[name].parameters,
): Tensor {
  const { grad, derivative } = ACTIVATIONS[name]
  if (grad === null) return zerosLike(dy)
  if (recording()) return mul(dy, derivative(saved!, parameters))
  const { device } = dy
  return new Tensor(
    device,
    device.recorder.emit(grad, [dy.value, saved!.value], { dtype: dy.dtype, shape: dy.shape }, parameters),
  )
}

/** Throws `ERR_ARGUMENT` unless `name` is an activation `linear` can fuse. */
export function checkActivation(op: string, name: unknown): asserts name is ActivationName {
  if (typeof name !== 'string' || !Object.hasOwn(ACTIVATIONS, name)) {
    throw expected(`${op}: activation`, `one of ${Object.keys(ACTIVATIONS).join(', ')}`, name)
  }
}

function activation(name: ActivationName, z: Tensor, parameters: readonly number[]): Tensor {
  checkTensor(name, 'z', z)
  checkDtypeClass(name, OPCODES[name].dtypes, z.dtype)
  const y = new Tensor(
    z.device,
    z.device.recorder.emit(name, [z.value], { dtype: z.dtype, shape: z.shape }, parameters),
  )
  if (!z.requiresGrad) return y
  const { saves } = ACTIVATIONS[name]
  const saved = saves === null ? [] : [saves === 'y' ? y : z]
  return track(y, name, [z], saved, (dy, [s]) => [activationGrad(name, dy, s, parameters)])
}

function finite(what: string, x: number): number {
  if (!Number.isFinite(x)) throw expected(what, 'a finite number', x)
  return x
}
