/** The layer y = act(xW + b), fused. */

import { type Names, checkOptions, expected } from '../errors.ts'
import { type ActivationName, checkActivation } from '../ops/activation.ts'
import { type CreationOptions, initUniform, zeros } from '../ops/creation.ts'
import { linear } from '../ops/linear.ts'
import type { Tensor } from '../tensor.ts'
import { Module } from './module.ts'
import { Parameter } from './parameter.ts'

/** Options of {@link Linear}. */
export interface LinearLayerOptions extends Omit<CreationOptions, 'requiresGrad'> {
  /** Add a bias. Default true. */
  readonly bias?: boolean
  /** Activation fused into the layer. Default: none. */
  readonly activation?: ActivationName
  /**
   * `'kaimingUniform'` (default, PyTorch's): weight and bias from U(−1/√in, 1/√in). `'glorotUniform'` (Keras'): weight
   * from U(±√(6/(in + out))), bias 0.
   */
  readonly init?: 'kaimingUniform' | 'glorotUniform'
}

const OPTIONS: Names<LinearLayerOptions> = { bias: true, activation: true, init: true, dtype: true, device: true }

/**
 * A fully connected layer. `weight` is `[in, out]` (PyTorch's is the transpose), `bias` is `[out]`.
 *
 * @example
 * ```ts
 * import { nn, randn } from 'tilegrad'
 * const layer = new nn.Linear(784, 10, { activation: 'relu' })
 * console.log(layer.forward(randn([32, 784])).shape) // [32, 10]
 * ```
 */
export class Linear extends Module {
  readonly weight: Parameter
  readonly bias: Parameter | null
  readonly activation: ActivationName | undefined

  /**
   * @param inFeatures size of the last axis of the input
   * @param outFeatures size of the last axis of the output
   */
  constructor(inFeatures: number, outFeatures: number, options: LinearLayerOptions = {}) {
    super()
    checkOptions('Linear', options, OPTIONS)
    for (const [name, size] of Object.entries({ inFeatures, outFeatures })) {
      if (!Number.isInteger(size) || size < 0) throw expected(`Linear: ${name}`, 'a whole number ≥ 0', size)
    }
    const { bias = true, activation, init = 'kaimingUniform', ...creation } = options
    if (activation !== undefined) checkActivation('Linear', activation)
    if (init !== 'kaimingUniform' && init !== 'glorotUniform')
      throw expected('Linear: init', "'kaimingUniform' or 'glorotUniform'", init)
    const glorot = init === 'glorotUniform'
    const bound = inFeatures === 0 ? 0 : 1 / Math.sqrt(inFeatures)
    const weightBound = glorot ? Math.sqrt(6 / Math.max(1, inFeatures + outFeatures)) : bound
    this.weight = new Parameter(initUniform([inFeatures, outFeatures], weightBound, creation))
    this.bias = !bias
      ? null
      : new Parameter(glorot ? zeros([outFeatures], creation) : initUniform([outFeatures], bound, creation))
    this.activation = activation
  }

  /** `[…, in]` → `[…, out]`. */
  forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias, this.activation === undefined ? {} : { activation: this.activation })
  }
}
