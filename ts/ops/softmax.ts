/** Softmax and its logarithm along one axis, forward and backward in one instruction each. */

import { recording, track } from '../autograd/tape.ts'
import { OPCODES, type OpcodeName } from '../program/opcodes.ts'
import { normalizeAxis, numel } from '../shape.ts'
import { Tensor } from '../tensor.ts'
import { checkDtypeClass, checkTensor } from './apply.ts'
import { exp, mul, sub } from './elementwise.ts'
import { sum } from './reduce.ts'

/**
 * e^(x − m) / Σ e^(x − m) with m the maximum along `axis`.
 *
 * @param axis default −1, the last
 */
export function softmax(x: Tensor, axis = -1): Tensor {
  return along('softmax', 'softmaxGrad', x, axis, (dy, y, at) => {
    const weighted = mul(dy, y)
    return sub(weighted, mul(y, sum(weighted, at, { keepDims: true })))
  })
}

/**
 * x − m − log Σ e^(x − m) with m the maximum along `axis`.
 *
 * @param axis default −1, the last
 */
export function logSoftmax(x: Tensor, axis = -1): Tensor {
  return along('logSoftmax', 'logSoftmaxGrad', x, axis, (dy, y, at) =>
    sub(dy, mul(exp(y), sum(dy, at, { keepDims: true }))),
  )
}

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
