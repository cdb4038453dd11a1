/**
 * Limits for gradients, between backward and the step. Norm and factor stay on the device: nothing is read back, so both
 * belong into compiled steps. With accumulation limits belong to the window, which `GradientAccumulator` sees to.
 */

import { noGrad } from '../autograd/tape.ts'
import { type Names, checkOptions, expected } from '../errors.ts'
import { checkSameDtype, sharedDevice } from '../ops/apply.ts'
import { full } from '../ops/creation.ts'
import { abs, add, clip, div, isFinite, maximum, minimum, mul, pow, sqrt } from '../ops/elementwise.ts'
import { max, sum } from '../ops/reduce.ts'
import { require } from '../ops/require.ts'
import { scope } from '../scope.ts'
import { Tensor } from '../tensor.ts'
import { atLeastZero } from './schedule.ts'

/** Options of {@link clipGradNorm}. */
export interface ClipGradNormOptions {
  /** Which norm: 2 (the default), 1, `Infinity`, or any other number > 0. */
  readonly normType?: number
  /**
   * Whether a norm that is not finite is an error (`ERR_ARGUMENT`). Nobody waits for the norm, so the error is that of the next read
   * of the norm or of a gradient, and a step with such gradients is not applied. Default false, as in PyTorch: a norm of NaN
   * makes all gradients NaN; an infinite one makes them 0, and NaN where they are infinite.
   */
  readonly errorIfNonFinite?: boolean
}

/**
 * Scales the gradients so that the norm of all of them together is at most `maxNorm`: g ·= min(1, maxNorm / (norm + 1e-6)).
 *
 * @param parameters those whose gradients count; the ones without a gradient do not
 * @param maxNorm the limit; `Infinity` for the norm alone
 * @returns the norm before, of rank 0; reading it is up to the caller
 * @throws `ERR_DEVICE_MISMATCH`, `ERR_DTYPE` when the gradients differ in these; `ERR_ARGUMENT` for a limit or a norm that is none
 *
 * @example
 * ```ts
 * import { nn, optim, randn } from 'tilegrad'
 * const model = new nn.Linear(4, 1)
 * const optimizer = new optim.SGD(model.parameters(), { lr: 0.1 })
 * model.forward(randn([8, 4])).square().mean().backward()
 * const norm = optim.clipGradNorm(model.parameters(), 1)
 * optimizer.step()
 * console.log(norm.shape) // []
 * ```
 */
export function clipGradNorm(
  parameters: Iterable<Tensor> | Tensor,
  maxNorm: number,
  options: ClipGradNormOptions = {},
): Tensor {
  checkOptions('clipGradNorm', options, { normType: true, errorIfNonFinite: true } satisfies Names<ClipGradNormOptions>)
  const { normType = 2, errorIfNonFinite = false } = options
  if (typeof maxNorm !== 'number' || !(maxNorm >= 0)) throw expected('clipGradNorm: maxNorm', 'a number ≥ 0', maxNorm)
  if (typeof normType !== 'number' || !(normType > 0))
    throw expected('clipGradNorm: normType', 'a number > 0', normType)
  const list = checkParameters('clipGradNorm', parameters)
  const gradients = gradientsOf(list)
  return noGrad(() =>
    scope(() => {
      const norm = gradientNorm('clipGradNorm', list[0]!, gradients, normType)
      const total = errorIfNonFinite ? require(norm, isFinite(norm), 'clipGradNorm: a gradient is not finite') : norm
      // Against infinity nothing is scaled, whatever the norm; but a norm that is an error has to reach the gradients.
      if (maxNorm < Infinity || errorIfNonFinite) {
        const factor = clipFactor(total, Math.min(maxNorm, Number.MAX_VALUE))
        replace(gradients, (gradient) => mul(gradient, factor))
      }
      return total
    }),
  )
}

/**
 * Holds every element of the gradients between −`limit` and `limit`. NaN stays.
 *
 * @param parameters those whose gradients are limited; the ones without a gradient are left alone
 * @param limit a finite number ≥ 0
 *
 * @example
 * ```ts
 * import { nn, optim, randn } from 'tilegrad'
 * const model = new nn.Linear(4, 1)
 * const optimizer = new optim.SGD(model.parameters(), { lr: 0.1 })
 * model.forward(randn([8, 4])).square().mean().backward()
 * optim.clipGradValue(model.parameters(), 0.5)
 * optimizer.step()
 * ```
 */
export function clipGradValue(parameters: Iterable<Tensor> | Tensor, limit: number): void {
  atLeastZero('clipGradValue: limit', limit)
  const gradients = gradientsOf(checkParameters('clipGradValue', parameters))
  noGrad(() => scope(() => replace(gradients, (gradient) => clip(gradient, -limit, limit))))
}

/** @internal min(1, maxNorm / (total + 1e-6)), of rank 0. */
export function clipFactor(total: Tensor, maxNorm: number): Tensor {
  return minimum(div(maxNorm, add(total, 1e-6)), 1)
}

/** @internal The norm of all gradients together; 0, where `like` lives, if there are none. */
export function gradientNorm(op: string, like: Tensor, gradients: readonly Tensor[], normType: number): Tensor {
  const [first, ...others] = gradients.filter(({ size }) => size > 0)
  if (first === undefined) return full([], 0, { device: like.device, dtype: like.dtype })
  const { dtype } = first
  const device = sharedDevice(op, first, ...others)
  for (const other of others) checkSameDtype(op, first, other)
  const all = [first, ...others]
  if (normType === 2) {
    const values = all.map(({ value }) => value)
    return sqrt(new Tensor(device, device.recorder.emit('squaredNorm', values, { dtype, shape: [] })))
  }
  if (normType === Infinity) return all.map((gradient) => max(abs(gradient))).reduce((a, b) => maximum(a, b))
  if (normType === 1) return all.map((gradient) => sum(abs(gradient))).reduce((a, b) => add(a, b))
  return pow(
    all.map((gradient) => sum(pow(abs(gradient), normType))).reduce((a, b) => add(a, b)),
    1 / normType,
  )
}

function checkParameters(op: string, parameters: unknown): Tensor[] {
  if (parameters instanceof Tensor) return [parameters]
  if (typeof parameters !== 'object' || parameters === null || !(Symbol.iterator in parameters))
    throw expected(`${op}: parameters`, 'a list of parameters, such as model.parameters()', parameters)
  const list: unknown[] = [...(parameters as Iterable<unknown>)]
  for (const p of list) if (!(p instanceof Tensor)) throw expected(`${op}: parameters`, 'tensors', p)
  if (list.length === 0) throw expected(`${op}: parameters`, 'at least one parameter', list)
  return list as Tensor[]
}

/** Each gradient once, also if a parameter is listed twice. */
function gradientsOf(parameters: readonly Tensor[]): Tensor[] {
  const gradients = parameters.map(({ grad }) => grad)
  return [...new Set(gradients.filter((grad): grad is Tensor => grad !== null && !grad.disposed))]
}

/** A new value behind each gradient's handle, as backward does it: a poisoned factor then poisons the gradient. */
function replace(gradients: readonly Tensor[], by: (gradient: Tensor) => Tensor): void {
  const values = gradients.map((gradient) => by(gradient))
  gradients.forEach((gradient, i) => gradient.replaceValue(values[i]!.value.retain()))
}
