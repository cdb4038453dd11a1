/**
 * Softmax and its logarithm along one axis, forward and backward in one instruction each. A mask is selections around
 * these: elements outside it are put where no exponential reaches, and so are their results and gradients. What backward
 * needs is the result, 0 outside the mask.
 */

import { noGrad, recording, track } from '../autograd/tape.ts'
import { type Names, TilegradError, checkOptions } from '../errors.ts'
import { OPCODES, type OpcodeName } from '../program/opcodes.ts'
import { scope } from '../scope.ts'
import { broadcastsTo, normalizeAxis, numel, showShape } from '../shape.ts'
import { Tensor } from '../tensor.ts'
import { checkDtypeClass, checkTensor, sharedDevice } from './apply.ts'
import { exp, mul, sub, where } from './elementwise.ts'
import { max, sum } from './reduce.ts'

/** Options of {@link softmax} and {@link logSoftmax}. */
export interface SoftmaxOptions {
  /**
   * Bool, broadcast to the shape of x: which elements take part. The others are 0, pass no gradient on and may hold
   * anything; so a row without any is all 0. Default: all.
   */
  readonly mask?: Tensor
}

const OPTIONS: Names<SoftmaxOptions> = { mask: true }

/**
 * e^(x − m) / Σ e^(x − m) with m the maximum along `axis`.
 *
 * @param axis default −1, the last
 * @throws `ERR_DTYPE` unless the mask is bool; `ERR_SHAPE` unless it stretches to the shape of x
 *
 * @example
 * ```ts
 * import { softmax, tensor } from 'tilegrad'
 * const x = tensor([[0, 0, NaN], [1, 2, 3]])
 * const mask = tensor([[true, true, false], [false, false, false]])
 * console.log(await softmax(x, -1, { mask }).array()) // [[0.5, 0.5, 0], [0, 0, 0]]
 * ```
 */
export function softmax(x: Tensor, axis = -1, options: SoftmaxOptions = {}): Tensor {
  return along('softmax', 'softmaxGrad', x, axis, options, (dy, y, at) => {
    const weighted = mul(dy, y)
    return sub(weighted, mul(y, sum(weighted, at, { keepDims: true })))
  })
}

/**
 * x − m − log Σ e^(x − m) with m the maximum along `axis`.
 *
 * @param axis default −1, the last
 * @throws as {@link softmax}
 *
 * @example
 * ```ts
 * import { logSoftmax, tensor } from 'tilegrad'
 * console.log(await logSoftmax(tensor([1000, 1000])).array()) // [-0.693147, -0.693147]
 * ```
 */
export function logSoftmax(x: Tensor, axis = -1, options: SoftmaxOptions = {}): Tensor {
  return along('logSoftmax', 'logSoftmaxGrad', x, axis, options, (dy, y, at) =>
    sub(dy, mul(exp(y), sum(dy, at, { keepDims: true }))),
  )
}

function along(
  op: OpcodeName,
  gradOp: OpcodeName,
  x: Tensor,
  axis: number,
  options: SoftmaxOptions,
  decomposed: (dy: Tensor, y: Tensor, at: number) => Tensor,
): Tensor {
  checkTensor(op, 'x', x)
  checkDtypeClass(op, OPCODES[op].dtypes, x.dtype)
  checkOptions(op, options, OPTIONS)
  const mask = checkMask(op, x, options)
  const at = normalizeAxis(op, axis, x.shape.length)
  const attributes = [numel(x.shape.slice(0, at)), x.shape[at]!, numel(x.shape.slice(at + 1))]
  const { device, dtype, shape } = x
  const emit = (op: OpcodeName, ...inputs: readonly Tensor[]): Tensor =>
    new Tensor(device, device.recorder.emit(op, inputs.map(({ value }) => value), { dtype, shape }, attributes)) // prettier-ignore
  if (mask === null) {
    const y = emit(op, x)
    return track(y, op, [x], [y], (dy, [y]) => [recording() ? decomposed(dy, y!, at) : emit(gradOp, dy, y!)])
  }
  const y = noGrad(() => scope(() => where(mask, emit(op, within(mask, x, at)), 0)))
  return track(y, op, [x], [y, mask], (dy, [y, mask]) => {
    const own = where(mask!, dy, 0)
    return [where(mask!, recording() ? decomposed(own, y!, at) : emit(gradOp, own, y!), 0)]
  })
}

function checkMask(op: OpcodeName, x: Tensor, { mask }: SoftmaxOptions): Tensor | null {
  if (mask === undefined) return null
  checkTensor(op, 'mask', mask)
  if (mask.dtype !== 'bool')
    throw new TilegradError('ERR_DTYPE', `${op}: the mask is ${mask.dtype}, not bool; cast('bool') it`)
  sharedDevice(op, x, mask)
  if (!broadcastsTo(mask.shape, x.shape))
    throw new TilegradError(
      'ERR_SHAPE',
      `${op}: mask ${showShape(mask.shape)} does not stretch to ${showShape(x.shape)}`,
    )
  return x.size === 0 ? null : mask
}

/** x, and where the mask says so something whose exponential is 0 beside that of any x. */
function within(mask: Tensor, x: Tensor, at: number): Tensor {
  if (x.device.kind !== 'gpu') return where(mask, x, -Infinity)
  // No finite number lies below the lowest x, so distances from the highest come first: what takes the place of the rest can
  // then be finite, which shaders may rely on. A row of −∞ only has NaN for its distances, as without a mask.
  const highest = max(where(mask, x, -Infinity), at, { keepDims: true })
  return where(mask, sub(x, highest), OUT_OF_REACH)
}

/** Where e^x is 0, when the largest x is 0. */
const OUT_OF_REACH = -1e4
