/**
 * Batch normalisation as a function: checks, and which statistics are used. The instructions behind it, the gradient
 * rule, and how statistics are brought together stand in `batch-statistics.ts`; the layer is `nn/batch-norm.ts`.
 */

import { type Names, TilegradError, checkOptions, expected } from '../errors.ts'
import { normalizeAxis, numel, sameShape, showShape } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { checkDtypeClass, checkSameDtype, checkTensor, sharedDevice } from './apply.ts'
import {
  type Affine,
  type Estimate,
  type Running,
  type Statistics,
  type Sums,
  type View,
  enough,
  normalised,
  runningSpread,
  spreadOf,
  statisticsOf,
  updateRunning,
} from './batch-statistics.ts'

/** Options of {@link batchNorm}. */
export interface BatchNormOptions {
  /** Multiplies each channel: `[channels]`. Default: nothing. */
  readonly weight?: Tensor | null
  /** Is added to each channel: `[channels]`. Default: nothing. */
  readonly bias?: Tensor | null
  /** Mean to use outside training: `[channels]`. In training it is updated in place. */
  readonly runningMean?: Tensor | null
  /** Variance to use outside training: `[channels]`. In training it is updated in place. */
  readonly runningVar?: Tensor | null
  /** Normalise with the statistics of this batch. Default false: with the running ones. */
  readonly training?: boolean
  /** Weight of this batch in the running statistics. Default 0.1. */
  readonly momentum?: number
  /** Is added to the variance inside the root. Default 1e-5. */
  readonly eps?: number
  /** Whether the running variance takes in M2/(m − 1) (default, as in PyTorch) or M2/m. Normalisation always uses M2/m. */
  readonly estimate?: Estimate
  /** Bool, of x's shape without the channels: what is false counts for nothing, and is 0 in the result. */
  readonly mask?: Tensor | null
  /** Where the channels are. Default 1, the second axis; −1 for features last. */
  readonly axis?: number
}

const OPTIONS: Names<BatchNormOptions> = {
  weight: true,
  bias: true,
  runningMean: true,
  runningVar: true,
  training: true,
  momentum: true,
  eps: true,
  estimate: true,
  mask: true,
  axis: true,
}

/**
 * γ(x − μ)/√(σ² + eps) + β with one μ, σ², γ and β for each channel: σ² is the biased variance. In training the statistics
 * are those of x, and gradients flow through them; otherwise those given as running ones, so that every row has the
 * bits that it has alone.
 *
 * @param x `[N, channels]`, `[N, channels, …]`, or with channels at another `axis`
 * @throws `ERR_SHAPE` for operands that do not fit, and in training for fewer than 2 values per channel: at once where
 * shapes tell, when a result is read where only the mask does; `ERR_DTYPE`, `ERR_DEVICE_MISMATCH`; `ERR_ARGUMENT` for
 * running statistics that are missing
 *
 * @example
 * ```ts
 * import { batchNorm, tensor } from 'tilegrad'
 * const y = batchNorm(tensor([[1, 10], [3, 30]]), { training: true })
 * console.log(await y.array()) // [[-0.999995, -1], [0.999995, 1]]
 * ```
 */
export function batchNorm(x: Tensor, options: BatchNormOptions = {}): Tensor {
  checkOptions('batchNorm', options, OPTIONS)
  const { runningMean = null, runningVar = null, training = false, momentum = 0.1, estimate = 'unbiased' } = options
  const operands = checkOperands('batchNorm', x, options)
  if ((runningMean === null) !== (runningVar === null))
    throw new TilegradError('ERR_ARGUMENT', 'batchNorm: runningMean and runningVar are given together, or neither is')
  checkMomentum('batchNorm: momentum', momentum)
  checkEstimate('batchNorm: estimate', estimate)
  let running: Running | null = null
  if (runningMean !== null && runningVar !== null) {
    if (training && runningMean.value.storage === runningVar.value.storage)
      throw new TilegradError('ERR_ARGUMENT', 'batchNorm: runningMean and runningVar are the same memory')
    running = { mean: runningMean, variance: runningVar, updates: null }
  }
  if (!training) {
    if (running === null) {
      throw new TilegradError(
        'ERR_ARGUMENT',
        'batchNorm: outside training it needs runningMean and runningVar; with training: true it uses those of the batch',
      )
    }
    return withRunning(operands, running)
  }
  return withBatch(operands, (batch) => {
    if (running !== null) updateRunning(running, batch, { momentum, estimate })
  })
}

/** @internal Operands that have been checked. */
export interface Operands extends Affine {
  readonly x: Tensor
  readonly view: View
  readonly mask: Tensor | null
  readonly eps: number
}

/** @internal Normalises with running statistics. */
export function withRunning(operands: Operands, { mean, variance }: Running): Tensor {
  const istd = runningSpread(variance, operands.eps)
  const y = normalised(operands, { mean, istd, count: null })
  istd.dispose()
  return y
}

/** @internal What a batch leaves for running statistics. */
export interface Batch extends Statistics {
  /** M2/count. */
  readonly variance: Tensor
}

/**
 * @internal Normalises with the statistics of the batch, which `use` may look at. `ERR_SHAPE` for fewer than 2 values per
 * channel.
 */
export function withBatch(operands: Operands, use: (batch: Batch) => void): Tensor {
  const { x, view, mask, eps } = operands
  const most = view.outer * view.inner
  if (most < 2) {
    throw new TilegradError(
      'ERR_SHAPE',
      `batchNorm: more than 1 value per channel needed in training, x ${showShape(x.shape)} has ${most}; use a larger batch, or eval()`,
    )
  }
  const found = statisticsOf(x, view, mask)
  const statistics = mask === null ? found : enough(found)
  const { variance, istd } = spreadOf(statistics, eps)
  use({ ...statistics, variance })
  const y = normalised(operands, { mean: statistics.mean, istd, count: statistics.count })
  for (const tensor of [found.count, statistics.count, statistics.mean, statistics.m2, variance, istd]) tensor.dispose()
  return y
}

/**
 * @internal Normalises one of several batches with the statistics of all of them.
 *
 * @param join takes the statistics of this one and gives what the others have to do with it
 */
export function withAll(
  operands: Operands,
  join: (part: Statistics) => { readonly statistics: Statistics; readonly exchange: (sums: Sums) => Sums },
): Tensor {
  const { x, view, mask, eps } = operands
  const part = statisticsOf(x, view, mask)
  const { statistics, exchange } = join(part)
  // Shapes do not tell how many values all of them have together.
  const { variance, istd } = spreadOf(enough(statistics), eps)
  const y = normalised(operands, { mean: statistics.mean, istd, count: statistics.count, exchange })
  variance.dispose()
  istd.dispose()
  return y
}

/** @internal Everything about the operands that can be checked now. */
export function checkOperands(
  op: string,
  x: Tensor,
  options: BatchNormOptions & { readonly channels?: number },
): Operands {
  const { weight = null, bias = null, mask = null, runningMean = null, runningVar = null, eps = 1e-5 } = options
  checkTensor(op, 'x', x)
  checkDtypeClass(op, 'float', x.dtype)
  if (x.shape.length < 2) {
    throw new TilegradError(
      'ERR_SHAPE',
      `${op}: x ${showShape(x.shape)} has no channels beside the batch; it has to be [N, channels, …]`,
    )
  }
  const at = normalizeAxis(op, options.axis ?? 1, x.shape.length)
  checkEps(`${op}: eps`, eps)
  const view: View = {
    axis: at,
    outer: numel(x.shape.slice(0, at)),
    channels: x.shape[at]!,
    inner: numel(x.shape.slice(at + 1)),
  }
  if (options.channels !== undefined && options.channels !== view.channels) {
    throw new TilegradError(
      'ERR_SHAPE',
      `${op}: x ${showShape(x.shape)} has ${view.channels} channels at axis ${at}, not ${options.channels}`,
    )
  }
  for (const [name, operand] of Object.entries({ weight, bias, runningMean, runningVar }))
    if (operand !== null) checkChannels(op, x, name, operand, view)
  if (mask !== null) checkMask(op, x, mask, at)
  return { x, view, weight, bias, mask, eps }
}

function checkChannels(op: string, x: Tensor, name: string, operand: Tensor, { channels }: View): void {
  checkTensor(op, name, operand)
  checkSameDtype(op, x, operand)
  if (operand.shape.length !== 1 || operand.shape[0] !== channels) {
    throw new TilegradError(
      'ERR_SHAPE',
      `${op}: ${name} ${showShape(operand.shape)} does not fit x ${showShape(x.shape)}: it has to be [${channels}]`,
    )
  }
  sharedDevice(op, x, operand)
}

function checkMask(op: string, x: Tensor, mask: Tensor, axis: number): void {
  checkTensor(op, 'mask', mask)
  if (mask.dtype !== 'bool')
    throw new TilegradError('ERR_DTYPE', `${op}: mask is bool, not ${mask.dtype}; cast('bool') it`)
  const shape = x.shape.filter((_, i) => i !== axis)
  if (!sameShape(mask.shape, shape)) {
    throw new TilegradError(
      'ERR_SHAPE',
      `${op}: mask ${showShape(mask.shape)} does not fit x ${showShape(x.shape)}: it has to be ${showShape(shape)}, without the channels`,
    )
  }
  sharedDevice(op, x, mask)
}

/** @internal */
export function checkMomentum(what: string, momentum: unknown): void {
  if (typeof momentum !== 'number' || !(momentum >= 0 && momentum <= 1))
    throw expected(what, 'a number from 0 to 1', momentum)
}

/** @internal */
export function checkEps(what: string, eps: unknown): void {
  if (typeof eps !== 'number' || !(eps >= 0 && Number.isFinite(eps))) throw expected(what, 'a finite number ≥ 0', eps)
}

/** @internal */
export function checkEstimate(what: string, estimate: unknown): void {
  if (estimate !== 'unbiased' && estimate !== 'biased') throw expected(what, "'unbiased' or 'biased'", estimate)
}
