/** Activations as modules, for `Sequential`. To fuse one into a layer use the `activation` option of `Linear`. */

import { elu, gelu, heaviside, leakyRelu, relu, sigmoid, silu, softplus, tanh } from '../ops/activation.ts'
import { logSoftmax, softmax } from '../ops/softmax.ts'
import type { Tensor } from '../tensor.ts'
import { Module } from './module.ts'

/** max(x, 0). */
export class ReLU extends Module {
  forward(x: Tensor): Tensor {
    return relu(x)
  }
}

/** x above 0, slope · x below. */
export class LeakyReLU extends Module {
  readonly slope: number

  /** @param slope default 0.01 */
  constructor(slope = 0.01) {
    super()
    this.slope = slope
  }

  forward(x: Tensor): Tensor {
    return leakyRelu(x, this.slope)
  }
}

/** x above 0, α(eˣ − 1) below. */
export class ELU extends Module {
  readonly alpha: number

  /** @param alpha default 1 */
  constructor(alpha = 1) {
    super()
    this.alpha = alpha
  }

  forward(x: Tensor): Tensor {
    return elu(x, this.alpha)
  }
}

/** 1/(1 + e⁻ˣ). */
export class Sigmoid extends Module {
  forward(x: Tensor): Tensor {
    return sigmoid(x)
  }
}

/** Hyperbolic tangent. */
export class Tanh extends Module {
  forward(x: Tensor): Tensor {
    return tanh(x)
  }
}

/** x · sigmoid(x). */
export class SiLU extends Module {
  forward(x: Tensor): Tensor {
    return silu(x)
  }
}

/** log(1 + e^(βx))/β. */
export class Softplus extends Module {
  readonly beta: number
  readonly threshold: number

  /** @param options beta (default 1) and threshold (default 20) */
  constructor(options: { beta?: number; threshold?: number } = {}) {
    super()
    this.beta = options.beta ?? 1
    this.threshold = options.threshold ?? 20
  }

  forward(x: Tensor): Tensor {
    return softplus(x, { beta: this.beta, threshold: this.threshold })
  }
}

/** 1 above 0, else 0. */
export class Heaviside extends Module {
  forward(x: Tensor): Tensor {
    return heaviside(x)
  }
}

/** x · Φ(x). */
export class GELU extends Module {
  readonly approximate: 'none' | 'tanh'

  /** @param options.approximate default `'none'` */
  constructor(options: { approximate?: 'none' | 'tanh' } = {}) {
    super()
    this.approximate = options.approximate ?? 'none'
  }

  forward(x: Tensor): Tensor {
    return gelu(x, { approximate: this.approximate })
  }
}

/** Softmax along an axis. */
export class Softmax extends Module {
  readonly axis: number

  /** @param axis default −1 */
  constructor(axis = -1) {
    super()
    this.axis = axis
  }

  forward(x: Tensor): Tensor {
    return softmax(x, this.axis)
  }
}

/** Logarithm of softmax along an axis. */
export class LogSoftmax extends Module {
  readonly axis: number

  /** @param axis default −1 */
  constructor(axis = -1) {
    super()
    this.axis = axis
  }

  forward(x: Tensor): Tensor {
    return logSoftmax(x, this.axis)
  }
}
