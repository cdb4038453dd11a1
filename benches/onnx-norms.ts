/** Normalisations and softmax as nodes of an ONNX model, for both of onnxruntime's devices. */

import { numbers } from './measure.ts'
import type { OnnxGraph, OnnxNode } from './onnx.ts'
import { GROUPS, type Norm } from './ours-norms.ts'

/** What a graph needs to have a normalisation in it. */
export interface OnnxNorm {
  readonly nodes: readonly OnnxNode[]
  readonly constants: NonNullable<OnnxGraph['constants']>
  /** The numbers that are to be normalised. */
  readonly x: Float32Array<ArrayBuffer>
  readonly opset: number
}

/**
 * The nodes that make `y` from `x`.
 *
 * @param shape `[rows, columns]`; of groupNorm also `[rows, channels, …]`
 */
export function onnxNorm(norm: Norm, shape: readonly number[], x: string, y: string): OnnxNorm {
  const given = numbers(
    shape.reduce((a, b) => a * b, 1),
    7,
  )
  const channels = shape[1]!
  const each = (step: number, add = 0) => ({ shape: [channels], data: numbers(channels, step).map((v) => v + add) })
  const [weight, bias] = [each(11), each(13)]
  const one = (op: string, constants: OnnxNorm['constants'], attributes: Record<string, number> = {}): OnnxNorm => ({
    nodes: [{ op, inputs: [x, ...Object.keys(constants)], outputs: [y], attributes }],
    constants,
    x: given,
    opset: 17,
  })
  switch (norm) {
    case 'softmax':
      return { ...one('Softmax', {}, { axis: -1 }), x: given.map((v) => v * 8) }
    case 'layerNorm':
      return one('LayerNormalization', { weight, bias }, { axis: -1 })
    case 'rmsNorm':
      // Its name among onnxruntime's own operators.
      return one('SimplifiedLayerNormalization', { weight }, { axis: -1 })
    case 'groupNorm':
      return { ...one('GroupNormalization', { weight, bias }, { num_groups: GROUPS }), opset: 21 }
    case 'batchNormEvaluation':
      return one('BatchNormalization', { weight, bias, mean: each(17), variance: each(19, 1) })
    default:
      throw new Error(`onnxruntime has no ${norm}`)
  }
}
