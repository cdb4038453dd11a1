/** Activations as modules, for `Sequential`. To fuse one into a layer use the `activation` option of `Linear`. */

import { checkOptions } from '../errors.ts'
import {
  GELU_OPTIONS,
  SOFTPLUS_OPTIONS,
  elu,
  gelu,
  heaviside,
  leakyRelu,
  relu,
  sigmoid,
  silu,
  softplus,
  tanh,
} from '../ops/activation.ts'
import { logSoftmax, softmax } from '../ops/softmax.ts'
import type { Tensor } from '../tensor.ts'
import { Module } from './module.ts'

/**
 * max(x, 0).
 *
 * @example
 * ```ts
 * import { nn, tensor } from 'tilegrad'
 * console.log(await new nn.ReLU().forward(tensor([-1, 0, 2])).array()) // [0, 0, 2]
 * ```
 */
export class ReLU extends Module {
  /** Element by element: any shape → the same shape. */
  forward(x: Tensor): Tensor {
    return relu(x)
  }
}

/**
 * x above 0, slope · x below.
 *
 * @example
 * ```ts
 * import { nn, tensor } from 'tilegrad'
 * console.log(await new nn.LeakyReLU(0.1).forward(tensor([-1, 2])).array()) // [-0.1, 2]
 * ```
 */
export class LeakyReLU extends Module {
  readonly slope: number

  /** @param slope default 0.01 */
  constructor(slope = 0.01) {
    super()
    this.slope = slope
  }

  /** Element by element: any shape → the same shape. */
  forward(x: Tensor): Tensor {
    return leakyRelu(x, this.slope)
  }
}

/**
 * x above 0, α(eˣ − 1) below.
 *
 * @example
 * ```ts
 * import { nn, tensor } from 'tilegrad'
 * console.log(await new nn.ELU().forward(tensor([-1, 2])).array()) // [-0.632121, 2]
 * ```
 */
export class ELU extends Module {
  readonly alpha: number

  /** @param alpha default 1 */
  constructor(alpha = 1) {
    super()
    this.alpha = alpha
  }

  /** Element by element: any shape → the same shape. */
  forward(x: Tensor): Tensor {
    return elu(x, this.alpha)
  }
}

/**
 * 1/(1 + e⁻ˣ).
 *
 * @example
 * ```ts
 * import { nn, tensor } from 'tilegrad'
 * console.log(await new nn.Sigmoid().forward(tensor([0, 2])).array()) // [0.5, 0.880797]
 * ```
 */
export class Sigmoid extends Module {
  /** Element by element: any shape → the same shape. */
  forward(x: Tensor): Tensor {
    return sigmoid(x)
  }
}

/**
 * Hyperbolic tangent.
 *
 * @example
 * ```ts
 * import { nn, tensor } from 'tilegrad'
 * console.log(await new nn.Tanh().forward(tensor([0, 1])).array()) // [0, 0.761594]
 * ```
 */
export class Tanh extends Module {
  /** Element by element: any shape → the same shape. */
  forward(x: Tensor): Tensor {
    return tanh(x)
  }
}

/**
 * x · sigmoid(x).
 *
 * @example
 * ```ts
 * import { nn, tensor } from 'tilegrad'
 * console.log(await new nn.SiLU().forward(tensor([0, 1])).array()) // [0, 0.731059]
 * ```
 */
export class SiLU extends Module {
  /** Element by element: any shape → the same shape. */
  forward(x: Tensor): Tensor {
    return silu(x)
  }
}

/**
 * log(1 + e^(βx))/β, and x itself where βx exceeds the threshold.
 *
 * @example
 * ```ts
 * import { nn, tensor } from 'tilegrad'
 * console.log(await new nn.Softplus().forward(tensor([0, 30])).array()) // [0.693147, 30]
 * ```
 */
export class Softplus extends Module {
  readonly beta: number
  readonly threshold: number

  /** @param options beta (default 1) and threshold (default 20) */
  constructor(options: { beta?: number; threshold?: number } = {}) {
    super()
    checkOptions('Softplus', options, SOFTPLUS_OPTIONS)
    this.beta = options.beta ?? 1
    this.threshold = options.threshold ?? 20
  }

  /** Element by element: any shape → the same shape. */
  forward(x: Tensor): Tensor {
    return softplus(x, { beta: this.beta, threshold: this.threshold })
  }
}

/**
 * 1 above 0, else 0: the perceptron's step, through which no gradient flows.
 *
 * @example
 * ```ts
 * import { nn, tensor } from 'tilegrad'
 * console.log(await new nn.Heaviside().forward(tensor([-1, 0, 2])).array()) // [0, 0, 1]
 * ```
 */
export class Heaviside extends Module {
  /** Element by element: any shape → the same shape. */
  forward(x: Tensor): Tensor {
    return heaviside(x)
  }
}

/**
 * x · Φ(x), Φ the normal distribution; see {@link gelu} for `approximate`.
 *
 * @example
 * ```ts
 * import { nn, tensor } from 'tilegrad'
 * console.log(await new nn.GELU().forward(tensor([-1, 1])).array()) // [-0.158655, 0.841345]
 * ```
 */
export class GELU extends Module {
  readonly approximate: 'none' | 'tanh'

  /** @param options.approximate default `'none'` */
  constructor(options: { approximate?: 'none' | 'tanh' } = {}) {
    super()
    checkOptions('GELU', options, GELU_OPTIONS)
    this.approximate = options.approximate ?? 'none'
  }

  /** Element by element: any shape → the same shape. */
  forward(x: Tensor): Tensor {
    return gelu(x, { approximate: this.approximate })
  }
}

/**
 * Softmax along an axis.
 *
 * @example
 * ```ts
 * import { nn, tensor } from 'tilegrad'
 * console.log(await new nn.Softmax().forward(tensor([[0, 0], [0, 1]])).array()) // [[0.5, 0.5], [0.268941, 0.731059]]
 * ```
 */
export class Softmax extends Module {
  readonly axis: number

  /** @param axis default −1 */
  constructor(axis = -1) {
    super()
    this.axis = axis
  }

  /** Any shape with that axis → the same shape. */
  forward(x: Tensor): Tensor {
    return softmax(x, this.axis)
  }
}

/**
 * Logarithm of softmax along an axis.
 *
 * @example
 * ```ts
 * import { nn, tensor } from 'tilegrad'
 * console.log(await new nn.LogSoftmax().forward(tensor([[0, 0]])).array()) // [[-0.693147, -0.693147]]
 * ```
 */
export class LogSoftmax extends Module {
  readonly axis: number

  /** @param axis default −1 */
  constructor(axis = -1) {
    super()
    this.axis = axis
  }

  /** Any shape with that axis → the same shape. */
  forward(x: Tensor): Tensor {
    return logSoftmax(x, this.axis)
  }
}
