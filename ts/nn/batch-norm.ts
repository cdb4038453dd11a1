/**
 * Batch normalisation as a layer: parameters, running statistics that live on the device, and how they are updated when
 * gradients of several micro-batches are accumulated. What is computed is `ops/batch-norm.ts`.
 */

import { type Names, checkOptions, expected } from '../errors.ts'
import {
  type Operands,
  checkEps,
  checkEstimate,
  checkMomentum,
  checkOperands,
  withAll,
  withBatch,
  withRunning,
} from '../ops/batch-norm.ts'
import {
  type Estimate,
  type Running,
  type Statistics,
  enough,
  merged,
  spreadOf,
  updateRunning,
} from '../ops/batch-statistics.ts'
import { type CreationOptions, ones, tensor, zeros } from '../ops/creation.ts'
import { Cell } from '../program/cell.ts'
import { keep } from '../scope.ts'
import type { Tensor } from '../tensor.ts'
import { touched } from './accumulating.ts'
import { Module } from './module.ts'
import { Parameter } from './parameter.ts'
import { type Together, together } from './together.ts'

/** Options of {@link BatchNorm}. */
export interface BatchNormLayerOptions extends Omit<CreationOptions, 'requiresGrad'> {
  /** Is added to the variance inside the root. Default 1e-5. */
  readonly eps?: number
  /** Weight of a new batch in the running statistics; `null` for the mean of all batches. Default 0.1. */
  readonly momentum?: number | null
  /** Learn a weight and a bias for each channel. Default true. */
  readonly affine?: boolean
  /** Keep running statistics, for evaluation. Default true; without them a batch's own are used there too. */
  readonly trackRunningStats?: boolean
  /** What the running variance takes in: M2/(m − 1) (default, PyTorch's) or M2/m (Keras', ONNX'). */
  readonly runningVar?: Estimate
  /**
   * What is normalised together when gradients are accumulated: each micro-batch by itself (default, what data-parallel
   * frameworks do; not equal to the large batch), or `'sync'`: all micro-batches of a window.
   */
  readonly accumulation?: 'micro' | 'sync'
  /**
   * How the running statistics change when gradients are accumulated: with each micro-batch (default; K of them weigh
   * 1 − (1 − momentum)^K together), with each by 1 − (1 − momentum)^(1/K), K being `microBatches` (`'rescaled'`), or once per
   * window, by the statistics of all micro-batches together, in `GradientAccumulator.step()` (`'window'`).
   */
  readonly runningUpdate?: 'each' | 'rescaled' | 'window'
  /** Micro-batches of a window, for `runningUpdate: 'rescaled'`. Default 1. */
  readonly microBatches?: number
  /** Where the channels are. Default 1: `[N, C]` and `[N, C, …]`; −1 for features last. */
  readonly axis?: number
}

const OPTIONS: Names<BatchNormLayerOptions> = {
  eps: true,
  momentum: true,
  affine: true,
  trackRunningStats: true,
  runningVar: true,
  accumulation: true,
  runningUpdate: true,
  microBatches: true,
  axis: true,
  dtype: true,
  device: true,
}

/**
 * Normalises each channel over all else, as PyTorch's `BatchNorm1d` to `BatchNorm3d` do: by the statistics of the batch in
 * training, by running ones in evaluation. Those are updated in place on the device, inside compiled functions too, and
 * are part of the state as `running_mean`, `running_var` and `num_batches_tracked`.
 *
 * @example
 * ```ts
 * import { nn, tensor } from 'tilegrad'
 * const norm = new nn.BatchNorm(1)
 * console.log(await norm.forward(tensor([[1], [3]])).array()) // [[-0.999995], [0.999995]]
 * console.log(await norm.running_mean!.item(), await norm.running_var!.item()) // 0.2 1.1
 * console.log(await norm.eval().forward(tensor([[0.2]])).array()) // [[0]]
 * ```
 */
export class BatchNorm extends Module {
  readonly weight: Parameter | null
  readonly bias: Parameter | null
  /** Running mean, `[numFeatures]`. */
  readonly running_mean: Tensor | null
  /** Running variance, `[numFeatures]`. */
  readonly running_var: Tensor | null
  /** How often the running statistics have been updated: i32, one element. */
  readonly num_batches_tracked: Tensor | null
  readonly numFeatures: number
  eps: number
  momentum: number | null
  runningVar: Estimate
  accumulation: 'micro' | 'sync'
  runningUpdate: 'each' | 'rescaled' | 'window'
  microBatches: number
  readonly axis: number
  /** Statistics of the micro-batches of this window, for `runningUpdate: 'window'`. */
  readonly #window = { count: new Cell(), mean: new Cell(), m2: new Cell() }

  /** @param numFeatures number of channels */
  constructor(numFeatures: number, options: BatchNormLayerOptions = {}) {
    super()
    checkOptions('BatchNorm', options, OPTIONS)
    if (!Number.isInteger(numFeatures) || numFeatures < 0)
      throw expected('BatchNorm: numFeatures', 'a whole number ≥ 0', numFeatures)
    const {
      eps = 1e-5,
      momentum = 0.1,
      affine = true,
      trackRunningStats = true,
      runningVar = 'unbiased',
      accumulation = 'micro',
      runningUpdate = 'each',
      microBatches = 1,
      axis = 1,
      ...creation
    } = options
    checkSettings({ eps, momentum, runningVar, accumulation, runningUpdate, microBatches })
    if (!Number.isInteger(axis)) throw expected('BatchNorm: axis', 'a whole number', axis)
    for (const [name, flag] of Object.entries({ affine, trackRunningStats }))
      if (typeof flag !== 'boolean') throw expected(`BatchNorm: ${name}`, 'true or false', flag)
    const shape = [numFeatures]
    this.weight = affine ? new Parameter(ones(shape, creation)) : null
    this.bias = affine ? new Parameter(zeros(shape, creation)) : null
    // They outlive every scope, as parameters do.
    this.running_mean = trackRunningStats ? keep(zeros(shape, creation)) : null
    this.running_var = trackRunningStats ? keep(ones(shape, creation)) : null
    this.num_batches_tracked = trackRunningStats ? keep(tensor(0, { ...creation, dtype: 'i32' })) : null
    this.numFeatures = numFeatures
    this.eps = eps
    this.momentum = momentum
    this.runningVar = runningVar
    this.accumulation = accumulation
    this.runningUpdate = runningUpdate
    this.microBatches = microBatches
    this.axis = axis
  }

  /**
   * Normalises a batch.
   *
   * @param mask bool, of x's shape without the channels: what is false counts for nothing, and is 0 in the result
   * @throws `ERR_SHAPE` for other channels, and in training for fewer than 2 values per channel; see `batchNorm`
   */
  forward(x: Tensor, mask?: Tensor): Tensor {
    // They are fields, which may have been set since.
    if (this.training) checkSettings(this)
    const running = this.#running()
    const operands: Operands = checkOperands('BatchNorm', x, {
      weight: this.weight,
      bias: this.bias,
      runningMean: running?.mean ?? null,
      runningVar: running?.variance ?? null,
      mask: mask ?? null,
      eps: this.eps,
      axis: this.axis,
      channels: this.numFeatures,
    })
    if (!this.training && running !== null) return withRunning(operands, running)
    const window = this.training && this.accumulation === 'sync' ? together() : null
    if (window !== null) return this.#withWindow(operands, window)
    return withBatch(operands, (batch) => {
      if (!this.training) return
      if (this.accumulation === 'sync' || this.runningUpdate === 'window') touched(this)
      if (running === null) return
      if (this.runningUpdate === 'window') this.#pool(batch)
      else updateRunning(running, batch, { momentum: this.#factor(), estimate: this.runningVar })
    })
  }

  /** Sets the running statistics to those of nothing: mean 0, variance 1, no updates. */
  resetRunningStats(): void {
    const running = this.#running()
    if (running === null) return
    const { recorder } = running.mean.device
    recorder.overwrite(running.mean.value, new Float64Array(this.numFeatures))
    recorder.overwrite(running.variance.value, new Float64Array(this.numFeatures).fill(1))
    recorder.overwrite(running.updates!.value, new Int32Array(1))
    for (const cell of Object.values(this.#window)) cell.clear()
  }

  /**
   * @internal The end of a window of micro-batches: for `runningUpdate: 'window'`, one update by the statistics of all of
   * them. Where `ok` is false, nothing changes.
   */
  finishWindow(ok: Tensor): void {
    const { count, mean, m2 } = this.#window
    const running = this.#running()
    if (running === null || count.tensor === null) return
    const pooled = { count: count.tensor, mean: mean.tensor!, m2: m2.tensor! }
    const { variance, istd } = spreadOf(pooled, this.eps)
    updateRunning(running, { ...pooled, variance }, { momentum: this.momentum, estimate: this.runningVar, ok })
    variance.dispose()
    istd.dispose()
    for (const cell of [count, mean, m2]) cell.clear()
  }

  /** Normalises a micro-batch with the statistics of all of its window, which change the running ones once. */
  #withWindow(operands: Operands, window: Together): Tensor {
    const running = this.#running()
    return withAll(operands, (part) => {
      const meeting = window.meeting(this, part, (all) => {
        if (running === null) return
        const { variance } = spreadOf(enough(all), this.eps)
        updateRunning(running, { ...all, variance }, { momentum: this.momentum, estimate: this.runningVar })
      })
      return { statistics: meeting.join(part), exchange: (sums) => meeting.exchange(sums) }
    })
  }

  #running(): Running | null {
    const { running_mean: mean, running_var: variance, num_batches_tracked: updates } = this
    return mean === null || variance === null ? null : { mean, variance, updates }
  }

  /** The weight of one micro-batch. */
  #factor(): number | null {
    if (this.runningUpdate !== 'rescaled' || this.momentum === null) return this.momentum
    return -Math.expm1(Math.log1p(-this.momentum) / this.microBatches)
  }

  #pool(batch: Statistics): void {
    const { count, mean, m2 } = this.#window
    const before = count.tensor === null ? null : { count: count.tensor, mean: mean.tensor!, m2: m2.tensor! }
    const after =
      before === null
        ? { count: batch.count.detach(), mean: batch.mean.detach(), m2: batch.m2.detach() }
        : merged(before, batch)
    count.tensor = keep(after.count)
    mean.tensor = keep(after.mean)
    m2.tensor = keep(after.m2)
    for (const tensor of Object.values(before ?? {})) tensor.dispose()
  }
}

type Settings = Required<
  Pick<BatchNormLayerOptions, 'eps' | 'momentum' | 'runningVar' | 'accumulation' | 'runningUpdate' | 'microBatches'>
>

/** Throws `ERR_ARGUMENT` unless the settings that can be changed are what they can be. */
function checkSettings({ eps, momentum, runningVar, accumulation, runningUpdate, microBatches }: Settings): void {
  checkEps('BatchNorm: eps', eps)
  checkEstimate('BatchNorm: runningVar', runningVar)
  if (momentum !== null) checkMomentum('BatchNorm: momentum', momentum)
  if (accumulation !== 'micro' && accumulation !== 'sync')
    throw expected('BatchNorm: accumulation', "'micro' or 'sync'", accumulation)
  if (runningUpdate !== 'each' && runningUpdate !== 'rescaled' && runningUpdate !== 'window')
    throw expected('BatchNorm: runningUpdate', "'each', 'rescaled' or 'window'", runningUpdate)
  if (!Number.isInteger(microBatches) || microBatches < 1)
    throw expected('BatchNorm: microBatches', 'a whole number ≥ 1', microBatches)
  if (runningUpdate === 'rescaled' && momentum === null)
    throw expected('BatchNorm: momentum', "a number with runningUpdate: 'rescaled'", momentum)
}
