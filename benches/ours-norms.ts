/**
 * tilegrad's normalisations and softmax as contestants, forward and backward, eager. The works and their operands are
 * those of `peer_numpy_norms.py` and `onnx-norms.ts`.
 */

import { type Device, type Tensor, batchNorm, groupNorm, layerNorm, rmsNorm, softmax, tensor } from 'tilegrad'
import { type Contestant, numbers } from './measure.ts'
import { contestant } from './ours.ts'

/** What is normalised how. Sizes are `[rows, columns]`, and where `groupNorm` says so `[rows, channels, positions]`. */
export const NORMS = [
  'softmax',
  'maskedSoftmax',
  'layerNorm',
  'rmsNorm',
  'groupNorm',
  'batchNormTraining',
  'batchNormEvaluation',
] as const

/** One of {@link NORMS}. */
export type Norm = (typeof NORMS)[number]

/** Groups of groupNorm. */
export const GROUPS = 8

/** An operation with its operands: those whose gradients are wanted, and what makes the result of them. */
interface Operation {
  readonly leaves: readonly Tensor[]
  readonly call: () => Tensor
}

function operation(norm: Norm, device: Device, shape: readonly number[]): Operation {
  const size = shape.reduce((a, b) => a * b, 1)
  const channels = shape[1]!
  const each = (step: number) => tensor(numbers(channels, step), { device })
  const given = (scale: number) =>
    tensor(
      numbers(size, 7).map((v) => v * scale),
      { shape, device },
    )
  if (norm === 'softmax') {
    const x = given(8)
    return { leaves: [x], call: () => softmax(x) }
  }
  if (norm === 'maskedSoftmax') {
    const x = given(8)
    const mask = tensor(
      Array.from({ length: size }, (_, i) => i % 3 !== 1),
      { device },
    ).reshape(shape)
    return { leaves: [x], call: () => softmax(x, -1, { mask }) }
  }
  const [x, weight, bias] = [given(1), each(11), each(13)]
  if (norm === 'rmsNorm')
    return { leaves: [x, weight], call: () => rmsNorm(x, { normalizedShape: channels, weight, eps: 1e-5 }) }
  const leaves = [x, weight, bias]
  if (norm === 'layerNorm') return { leaves, call: () => layerNorm(x, { normalizedShape: channels, weight, bias }) }
  if (norm === 'groupNorm') return { leaves, call: () => groupNorm(x, { groups: GROUPS, weight, bias }) }
  if (norm === 'batchNormTraining') return { leaves, call: () => batchNorm(x, { weight, bias, training: true }) }
  const [runningMean, runningVar] = [each(17), each(19).add(1)]
  return { leaves, call: () => batchNorm(x, { weight, bias, runningMean, runningVar }) }
}

/** The result alone. */
export function forward(norm: Norm, device: Device, shape: readonly number[], name = 'tilegrad'): Contestant {
  return contestant(name, device, operation(norm, device, shape).call)
}

/** The gradients of all operands alone; the forward pass has been before. */
export function backward(norm: Norm, device: Device, shape: readonly number[], name = 'tilegrad'): Contestant {
  const { leaves, call } = operation(norm, device, shape)
  for (const leaf of leaves) leaf.requiresGrad = true
  const y = call()
  const gradient = tensor(numbers(y.size, 23), { shape, device })
  return contestant(name, device, () => {
    y.backward({ gradient, retainGraph: true })
    const [dx, ...others] = leaves.map((leaf) => leaf.grad!)
    for (const other of others) other.dispose()
    for (const leaf of leaves) leaf.grad = null
    return dx!
  })
}
