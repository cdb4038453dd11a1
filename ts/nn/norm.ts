/**
 * Layers that normalise each row by its own statistics: `LayerNorm`, `GroupNorm`, `RMSNorm`. They keep no running
 * statistics, so training and evaluation are the same, and so are a batch and its rows: a row does not depend on the others.
 * Linear they are not. Weights start as ones, biases as zeros; names of parameters are PyTorch's.
 */

import { type Names, TilegradError, checkOptions, expected } from '../errors.ts'
import { checkTensor } from '../ops/apply.ts'
import { type CreationOptions, ones, zeros } from '../ops/creation.ts'
import {
  checkDivides,
  checkEps,
  checkGroups,
  checkNormalizedShape,
  groupNorm,
  layerNorm,
  rmsNorm,
} from '../ops/norm.ts'
import { type Shape, showShape } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { Module } from './module.ts'
import { Parameter } from './parameter.ts'

/** Options of {@link LayerNorm}. */
export interface LayerNormLayerOptions extends Omit<CreationOptions, 'requiresGrad'> {
  /** Added to the variance. Default 1e-5. */
  readonly eps?: number
  /** Whether there is a weight, and with it a bias. Default true. */
  readonly elementwiseAffine?: boolean
  /** Whether there is a bias where there is a weight. Default true. */
  readonly bias?: boolean
}

/** Options of {@link GroupNorm}. */
export interface GroupNormLayerOptions extends Omit<CreationOptions, 'requiresGrad'> {
  /** Added to the variance. Default 1e-5. */
  readonly eps?: number
  /** Whether there are a weight and a bias for each channel. Default true. */
  readonly affine?: boolean
}

/** Options of {@link RMSNorm}. */
export interface RMSNormLayerOptions extends Omit<CreationOptions, 'requiresGrad'> {
  /** Added to the mean of the squares. `null`, the default, is the machine epsilon of the dtype: 2⁻²³ for f32. */
  readonly eps?: number | null
  /** Whether there is a weight. Default true. */
  readonly elementwiseAffine?: boolean
}

const LAYER_NORM: Names<LayerNormLayerOptions> = {
  eps: true,
  elementwiseAffine: true,
  bias: true,
  dtype: true,
  device: true,
}
const GROUP_NORM: Names<GroupNormLayerOptions> = { eps: true, affine: true, dtype: true, device: true }
const RMS_NORM: Names<RMSNormLayerOptions> = { eps: true, elementwiseAffine: true, dtype: true, device: true }

/**
 * (x − mean)/√(variance + eps) · weight + bias over the trailing axes of `normalizedShape`.
 *
 * @example
 * ```ts
 * import { nn, randn } from 'tilegrad'
 * const layer = new nn.LayerNorm(64)
 * console.log(layer.forward(randn([32, 10, 64])).shape) // [32, 10, 64]
 * console.log([...layer.namedParameters().keys()]) // ['weight', 'bias']
 * ```
 */
export class LayerNorm extends Module {
  readonly normalizedShape: Shape
  readonly eps: number
  readonly elementwiseAffine: boolean
  readonly weight: Parameter | null
  readonly bias: Parameter | null

  /** @param normalizedShape sizes of the trailing axes that are normalised together; a number is the last axis alone */
  constructor(normalizedShape: number | Shape, options: LayerNormLayerOptions = {}) {
    super()
    checkOptions('LayerNorm', options, LAYER_NORM)
    const { eps = 1e-5, elementwiseAffine = true, bias = true, ...creation } = options
    this.normalizedShape = checkNormalizedShape('LayerNorm', normalizedShape)
    this.eps = checkEps('LayerNorm', eps)
    this.elementwiseAffine = checkFlag('LayerNorm: elementwiseAffine', elementwiseAffine)
    checkFlag('LayerNorm: bias', bias)
    this.weight = elementwiseAffine ? new Parameter(ones(this.normalizedShape, creation)) : null
    this.bias = elementwiseAffine && bias ? new Parameter(zeros(this.normalizedShape, creation)) : null
  }

  /** `[…, ...normalizedShape]` → the same shape. */
  forward(x: Tensor): Tensor {
    const { normalizedShape, weight, bias, eps } = this
    return layerNorm(x, { normalizedShape, weight, bias, eps })
  }
}

/**
 * (x − mean)/√(variance + eps) · weight + bias, with mean and variance over each of `numGroups` groups of neighbouring
 * channels and all positions of an example; weight and bias by channel.
 *
 * @example
 * ```ts
 * import { nn, randn } from 'tilegrad'
 * const layer = new nn.GroupNorm(4, 16)
 * console.log(layer.forward(randn([8, 16, 5, 5])).shape, layer.weight?.shape) // [8, 16, 5, 5] [16]
 * ```
 */
export class GroupNorm extends Module {
  readonly numGroups: number
  readonly numChannels: number
  readonly eps: number
  readonly affine: boolean
  readonly weight: Parameter | null
  readonly bias: Parameter | null

  /**
   * @param numGroups into how many groups the channels are cut
   * @param numChannels size of axis 1 of the input; a multiple of `numGroups`
   */
  constructor(numGroups: number, numChannels: number, options: GroupNormLayerOptions = {}) {
    super()
    checkOptions('GroupNorm', options, GROUP_NORM)
    const { eps = 1e-5, affine = true, ...creation } = options
    checkGroups('GroupNorm', numGroups)
    if (!Number.isInteger(numChannels) || numChannels < 0)
      throw expected('GroupNorm: numChannels', 'a whole number ≥ 0', numChannels)
    checkDivides('GroupNorm', numChannels, numGroups)
    this.numGroups = numGroups
    this.numChannels = numChannels
    this.eps = checkEps('GroupNorm', eps)
    this.affine = checkFlag('GroupNorm: affine', affine)
    this.weight = affine ? new Parameter(ones([numChannels], creation)) : null
    this.bias = affine ? new Parameter(zeros([numChannels], creation)) : null
  }

  /** `[N, numChannels, …]` → the same shape. */
  forward(x: Tensor): Tensor {
    const { numGroups, numChannels, weight, bias, eps } = this
    checkTensor('GroupNorm', 'x', x)
    // Without parameters the operation has nothing to hold the channels against.
    if (x.shape[1] !== numChannels) {
      throw new TilegradError(
        'ERR_SHAPE',
        `GroupNorm: x ${showShape(x.shape)} does not have ${numChannels} channels on axis 1`,
      )
    }
    return groupNorm(x, { groups: numGroups, weight, bias, eps })
  }
}

/**
 * x/√(mean of x² + eps) · weight over the trailing axes of `normalizedShape`.
 *
 * @example
 * ```ts
 * import { nn, randn } from 'tilegrad'
 * const layer = new nn.RMSNorm(64, { eps: 1e-6 })
 * console.log(layer.forward(randn([32, 64])).shape) // [32, 64]
 * ```
 */
export class RMSNorm extends Module {
  readonly normalizedShape: Shape
  readonly eps: number | null
  readonly elementwiseAffine: boolean
  readonly weight: Parameter | null

  /** @param normalizedShape sizes of the trailing axes that are normalised together; a number is the last axis alone */
  constructor(normalizedShape: number | Shape, options: RMSNormLayerOptions = {}) {
    super()
    checkOptions('RMSNorm', options, RMS_NORM)
    const { eps = null, elementwiseAffine = true, ...creation } = options
    this.normalizedShape = checkNormalizedShape('RMSNorm', normalizedShape)
    this.eps = eps === null ? null : checkEps('RMSNorm', eps)
    this.elementwiseAffine = checkFlag('RMSNorm: elementwiseAffine', elementwiseAffine)
    this.weight = elementwiseAffine ? new Parameter(ones(this.normalizedShape, creation)) : null
  }

  /** `[…, ...normalizedShape]` → the same shape. */
  forward(x: Tensor): Tensor {
    const { normalizedShape, weight, eps } = this
    return rmsNorm(x, { normalizedShape, weight, eps })
  }
}

function checkFlag(what: string, flag: unknown): boolean {
  if (typeof flag !== 'boolean') throw expected(what, 'true or false', flag)
  return flag
}
