/**
 * What batch normalisation is made of, one instruction each: statistics of a batch, their spread, normalisation with any
 * statistics, the sums of its gradient, the gradient itself, the update of running statistics. They are apart so that
 * several batches can be normalised together: statistics are brought together ({@link merged}) before any of them is
 * normalised, and the sums of the gradients before any of them is applied. Nothing here checks what users give.
 */

import { TilegradError } from '../errors.ts'
import { noGrad, recording, track } from '../autograd/tape.ts'
import type { OutputSpec } from '../program/code.ts'
import { scope } from '../scope.ts'
import { Tensor } from '../tensor.ts'
import { add, div, greater, greaterEqual, mul, rsqrt, square, sub, where } from './elementwise.ts'
import { sum } from './reduce.ts'
import { require } from './require.ts'
import { reshape } from './shape.ts'

/** A tensor seen as [outer, channels, inner], its channels at `axis`. */
export interface View {
  readonly axis: number
  readonly outer: number
  readonly channels: number
  readonly inner: number
}

/** How many values each channel has (of one element), their mean, and Σ(x − mean)²: `[channels]`. */
export interface Statistics {
  readonly count: Tensor
  readonly mean: Tensor
  readonly m2: Tensor
}

/** What every channel is multiplied by, and what is added: `[channels]`. */
export interface Affine {
  readonly weight: Tensor | null
  readonly bias: Tensor | null
}

/** What to normalise with; `count` is `null` for statistics that do not depend on x. */
export interface Center {
  readonly mean: Tensor
  readonly istd: Tensor
  readonly count: Tensor | null
  /** Where the statistics are of several batches: takes the sums of the gradient of one, gives those of all. */
  readonly exchange?: (sums: Sums) => Sums
}

/** Σdy and Σdy·x̂ of each channel. */
export type Sums = readonly [Tensor, Tensor]

/** Running statistics with the number of their updates, i32 of one element. */
export interface Running {
  readonly mean: Tensor
  readonly variance: Tensor
  readonly updates: Tensor | null
}

/** How a variance is estimated: M2/(m − 1), or M2/m. */
export type Estimate = 'unbiased' | 'biased'

/** How running statistics take in new ones; momentum `null`: the mean of all updates. */
export interface Update {
  readonly momentum: number | null
  readonly estimate: Estimate
  /** Bool of one element: when false, nothing changes. */
  readonly ok?: Tensor
}

function attributesOf({ outer, channels, inner }: View): number[] {
  return [outer, channels, inner]
}

/** Statistics of what the mask leaves, outside the graph. */
export function statisticsOf(x: Tensor, view: View, mask: Tensor | null): Statistics {
  const { device, dtype } = x
  const each: OutputSpec = { dtype, shape: [view.channels] }
  const values = device.recorder.emitMany(
    'batchNormStatistics',
    [x.value, mask?.value ?? null],
    [{ dtype, shape: [] }, each, each],
    attributesOf(view),
  )
  const [count, mean, m2] = values.map((value) => new Tensor(device, value)) as [Tensor, Tensor, Tensor]
  return { count, mean, m2 }
}

/**
 * The statistics of both together (Chan): n = n₁ + n₂, δ = μ₂ − μ₁, μ = μ₁ + δn₂/n, M2 = M2₁ + M2₂ + δ²n₁n₂/n. Either may
 * be of nothing.
 */
export function merged(a: Statistics, b: Statistics): Statistics {
  return noGrad(() =>
    scope(() => {
      const count = add(a.count, b.count)
      const share = where(greater(count, 0), div(b.count, count), 0)
      const delta = sub(b.mean, a.mean)
      const between = mul(square(delta), mul(a.count, share))
      return { count, mean: add(a.mean, mul(delta, share)), m2: add(add(a.m2, b.m2), between) }
    }),
  )
}

/** The statistics, poisoned where a mask leaves fewer than 2 values per channel: only the device knows. */
export function enough(statistics: Statistics): Statistics {
  const least = noGrad(() => greaterEqual(statistics.count, 2))
  const count = require(statistics.count, least, 'batchNorm: more than 1 value per channel needed in training: a channel has fewer active ones')
  least.dispose()
  return { ...statistics, count }
}

/** The biased variance and 1/√(variance + eps). */
export function spreadOf(
  { m2, count }: Pick<Statistics, 'm2' | 'count'>,
  eps: number,
): { readonly variance: Tensor; readonly istd: Tensor } {
  const { device, dtype, shape } = m2
  const spec: OutputSpec = { dtype, shape }
  const values = device.recorder.emitMany('batchNormVariance', [m2.value, count.value], [spec, spec], [eps])
  const [variance, istd] = values.map((value) => new Tensor(device, value)) as [Tensor, Tensor]
  return { variance, istd }
}

/** 1/√(variance + eps) of a running variance. */
export function runningSpread(variance: Tensor, eps: number): Tensor {
  return noGrad(() => scope(() => rsqrt(add(variance, eps))))
}

/** Takes new statistics into running ones, in place. A poisoned variance leaves them as they are. */
export function updateRunning(
  running: Running,
  batch: { readonly mean: Tensor; readonly variance: Tensor; readonly count: Tensor },
  { momentum, estimate, ok }: Update,
): void {
  running.mean.device.recorder.emitMany(
    'batchNormUpdate',
    [
      running.mean.value,
      running.variance.value,
      running.updates?.value ?? null,
      batch.mean.value,
      batch.variance.value,
      batch.count.value,
      ok?.value ?? null,
    ],
    [],
    [momentum ?? 0, +(momentum === null), +(estimate === 'unbiased')],
  )
}

/** What is normalised. */
interface Subject extends Affine {
  readonly x: Tensor
  readonly view: View
  readonly mask: Tensor | null
  readonly eps: number
}

/** (x − mean)·istd·weight + bias, and 0 where the mask says so. Gradients flow through mean and istd if they are of x. */
export function normalised(
  { x, view, weight, bias, mask, eps }: Subject,
  { mean, istd, count, exchange }: Center,
): Tensor {
  const { device, dtype, shape } = x
  const y = new Tensor(
    device,
    device.recorder.emit(
      'batchNorm',
      [x.value, mean.value, istd.value, weight?.value ?? null, bias?.value ?? null, mask?.value ?? null],
      { dtype, shape },
      attributesOf(view),
    ),
  )
  const optional = [weight, mask, count]
  const saved = [x, mean, istd, ...optional.filter((t) => t !== null)]
  return track(y, 'batchNorm', [x, weight, bias], saved, (dy, [x, mean, istd, ...present], needs) => {
    const [weight, mask, count] = optional.map((t) => (t === null ? null : present.shift()!))
    const forward: Forward = {
      x: x!,
      mean: mean!,
      istd: istd!,
      weight: weight!,
      mask: mask!,
      count: count!,
      view,
      eps,
      ...(exchange !== undefined && { exchange }),
    }
    return recording() ? written(dy, forward, needs) : fused(dy, forward, needs)
  })
}

/** What the forward pass has left for the gradient. */
interface Forward extends Center {
  readonly x: Tensor
  readonly weight: Tensor | null
  readonly mask: Tensor | null
  readonly view: View
  readonly eps: number
}

/** Σdy and Σdy·x̂ of each channel: the gradients of bias and weight, and what the gradient of x needs. */
export function gradientSums(dy: Tensor, { x, mean, istd, mask, view }: Forward): Sums {
  const { device, dtype } = x
  const each: OutputSpec = { dtype, shape: [view.channels] }
  const values = device.recorder.emitMany(
    'batchNormGradSums',
    [dy.value, x.value, mean.value, istd.value, mask?.value ?? null],
    [each, each],
    attributesOf(view),
  )
  return values.map((value) => new Tensor(device, value)) as [Tensor, Tensor]
}

/** dx = weight·istd·(dy − Σdy/count − x̂·Σdy·x̂/count). */
export function gradientOfX(
  dy: Tensor,
  { x, mean, istd, weight, mask, view }: Forward,
  [sums, products]: Sums,
  count: Tensor,
): Tensor {
  const { device, dtype, shape } = x
  const inputs = [dy, x, mean, istd, weight, sums, products, count, mask]
  return new Tensor(
    device,
    device.recorder.emit(
      'batchNormGrad',
      inputs.map((t) => t?.value ?? null),
      { dtype, shape },
      attributesOf(view),
    ),
  )
}

function fused(dy: Tensor, forward: Forward, needs: readonly boolean[]): (Tensor | null)[] {
  const { count } = forward
  const [needsX, needsWeight, needsBias] = needs
  if (needsX && !needsWeight && !needsBias && count === null) return [throughConstants(dy, forward), null, null]
  const totals = gradientSums(dy, forward)
  const [dbias, dweight] = totals
  let dx: Tensor | null = null
  if (needsX)
    dx =
      count === null
        ? throughConstants(dy, forward)
        : gradientOfX(dy, forward, forward.exchange?.(totals) ?? totals, count)
  return [dx, needsWeight ? dweight : null, needsBias ? dbias : null]
}

/** dx where the statistics do not depend on x: weight·istd·dy. */
function throughConstants(dy: Tensor, { istd, weight, mask, view, x }: Forward): Tensor {
  const dx = mul(dy, perChannel(weight === null ? istd : mul(weight, istd), view, x))
  return mask === null ? dx : where(active(mask, view, x), dx, 0)
}

/** The same from differentiable operations, for second derivatives. */
function written(dy: Tensor, forward: Forward, needs: readonly boolean[]): (Tensor | null)[] {
  if (forward.exchange !== undefined) {
    throw new TilegradError(
      'ERR_UNSUPPORTED',
      "batchNorm: there are no second derivatives through accumulation: 'sync'; use 'micro'",
    )
  }
  const { x, mean, istd, weight, mask, count, view, eps } = forward
  const on = mask === null ? null : active(mask, view, x)
  // Selected on both sides: what is masked must not meet a multiplication, here or one derivative later.
  const only = (t: Tensor): Tensor => (on === null ? t : where(on, t, 0))
  const axes = x.shape.flatMap((_, i) => (i === view.axis ? [] : [i]))
  const total = (t: Tensor): Tensor => sum(t, axes, { keepDims: true })
  const g = only(dy)
  let normal: Tensor
  let inverse: Tensor
  if (count === null) {
    inverse = perChannel(istd, view, x)
    normal = mul(only(sub(x, perChannel(mean, view, x))), inverse)
  } else {
    // Mean and spread once more, from x, so that their derivatives are there.
    const centred = only(sub(x, div(total(only(x)), count)))
    inverse = rsqrt(add(div(total(square(centred)), count), eps))
    normal = mul(centred, inverse)
  }
  let dx: Tensor | null = null
  if (needs[0]) {
    const scaled = weight === null ? g : mul(g, perChannel(weight, view, x))
    const centred =
      count === null
        ? scaled
        : sub(sub(scaled, div(total(scaled), count)), mul(normal, div(total(mul(scaled, normal)), count)))
    dx = only(mul(centred, inverse))
  }
  return [
    dx,
    needs[1] ? reshape(total(mul(g, normal)), [view.channels]) : null,
    needs[2] ? reshape(total(g), [view.channels]) : null,
  ]
}

/** `[channels]` in the place of the channels. */
function perChannel(t: Tensor, { axis, channels }: View, x: Tensor): Tensor {
  return reshape(
    t,
    x.shape.map((_, i) => (i === axis ? channels : 1)),
  )
}

/** The mask with one element for all channels. */
function active(mask: Tensor, { axis }: View, x: Tensor): Tensor {
  return reshape(
    mask,
    x.shape.map((d, i) => (i === axis ? 1 : d)),
  )
}
