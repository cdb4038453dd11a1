/**
 * Softmax and its logarithm along one axis, forward and backward in one instruction each. With a mask they are made of
 * others: elements outside the mask are put where no exponential reaches, by selection, and so are their results.
 */

import { noGrad, recording, track } from '../autograd/tape.ts'
import { TilegradError, checkOptions } from '../errors.ts'
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
  return within('softmax', x, axis, options, (x, axis) =>
    along('softmax', 'softmaxGrad', x, axis, (dy, y, at) => {
      const weighted = mul(dy, y)
      return sub(weighted, mul(y, sum(weighted, at, { keepDims: true })))
    }),
  )
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
  return within('logSoftmax', x, axis, options, (x, axis) =>
    along('logSoftmax', 'logSoftmaxGrad', x, axis, (dy, y, at) =>
      sub(dy, mul(exp(y), sum(dy, at, { keepDims: true }))),
    ),
  )
}

/** Where e^x is 0 in every dtype, when the largest x is 0. */
const OUT_OF_REACH = -1e4

/** Applies `fn` to the elements within the mask. */
function within(
  op: OpcodeName,
  x: Tensor,
  axis: number,
  options: SoftmaxOptions,
  fn: (x: Tensor, axis: number) => Tensor,
): Tensor {
  checkOptions(op, options)
  const { mask } = options
  if (mask === undefined) return fn(x, axis)
  checkTensor(op, 'x', x)
  checkTensor(op, 'mask', mask)
  checkDtypeClass(op, OPCODES[op].dtypes, x.dtype)
  if (mask.dtype !== 'bool')
    throw new TilegradError('ERR_DTYPE', `${op}: the mask is ${mask.dtype}, not bool; cast('bool') it`)
  sharedDevice(op, x, mask)
  if (!broadcastsTo(mask.shape, x.shape))
    throw new TilegradError(
      'ERR_SHAPE',
      `${op}: mask ${showShape(mask.shape)} does not stretch to ${showShape(x.shape)}`,
    )
  const at = normalizeAxis(op, axis, x.shape.length)
  if (x.size === 0) return fn(x, at)
  return scope(() => {
    // No finite logit lies below this, however low those within the mask are.
    const lowest = x.dtype === 'f64' ? -Number.MAX_VALUE : -LARGEST_F32
    const highest = noGrad(() => max(where(mask, x, lowest), at, { keepDims: true }))
    return where(mask, fn(where(mask, sub(x, highest), OUT_OF_REACH), at), 0)
  })
}

const LARGEST_F32 = (2 - 2 ** -23) * 2 ** 127

function along(
  op: OpcodeName,
  gradOp: OpcodeName,
  x: Tensor,
  axis: number,
  decomposed: (dy: Tensor, y: Tensor, at: number) => Tensor,
): Tensor {
  checkTensor(op, 'x', x)
  checkDtypeClass(op, OPCODES[op].dtypes, x.dtype)
  const at = normalizeAxis(op, axis, x.shape.length)
  const attributes = [numel(x.shape.slice(0, at)), x.shape[at]!, numel(x.shape.slice(at + 1))]
  const { device, dtype, shape } = x
  const y = new Tensor(device, device.recorder.emit(op, [x.value], { dtype, shape }, attributes))
  return track(y, op, [x], [y], (dy, [y]) => {
    if (recording()) return [decomposed(dy, y!, at)]
    return [new Tensor(device, device.recorder.emit(gradOp, [dy.value, y!.value], { dtype, shape }, attributes))]
  })
}
