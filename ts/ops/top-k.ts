/**
 * The largest elements along an axis. A device gives their places beside them, so that a gradient finds its way back by
 * one `scatterAdd`. The largest one alone is `max`, where equals share the gradient; here one of them has it.
 */

import { track } from '../autograd/tape.ts'
import { TilegradError, expected } from '../errors.ts'
import { normalizeAxis, numel, showShape } from '../shape.ts'
import { Tensor } from '../tensor.ts'
import { checkDtypeClass, checkTensor } from './apply.ts'
import { scatterAdd } from './gather.ts'
import { reshape } from './shape.ts'

/** What {@link topK} gives: two tensors of x's shape with k elements along the axis. */
export interface TopK {
  /** The elements, of x's dtype. */
  readonly values: Tensor
  /** Where along the axis they stand, i32. */
  readonly indices: Tensor
}

/**
 * The `k` largest elements along an axis, the largest first, and where they stand. Of equals the one with the lower index
 * comes first (−0 equals 0); NaN counts as larger than everything. `k` may be 0, and the size of the axis, which sorts it.
 *
 * The gradient of a value goes to the element that it was; indices have none.
 *
 * @param axis counts from the end where negative. Default −1
 * @throws `ERR_SHAPE` when the axis has fewer than `k` elements; `ERR_ARGUMENT` when `k` is no whole number ≥ 0; `ERR_DTYPE`
 *   for bool
 *
 * @example
 * ```ts
 * import { tensor, topK } from 'tilegrad'
 * const scores = tensor([[0.1, 0.7, 0.2], [0.5, 0.1, 0.4]])
 * const { values, indices } = topK(scores, 2)
 * console.log(await indices.array()) // [[1, 2], [0, 2]]
 * console.log(await values.sum(1).array(), await scores.topK(1, 0).indices.array()) // [0.9, 0.9] [[1, 0, 1]]
 * ```
 */
export function topK(x: Tensor, k: number, axis = -1): TopK {
  checkTensor('topK', 'x', x)
  checkDtypeClass('topK', 'number', x.dtype)
  const at = normalizeAxis('topK', axis, x.shape.length)
  const count = x.shape[at]!
  if (!Number.isInteger(k) || k < 0) throw expected('topK: k', 'a whole number ≥ 0', k)
  if (k > count) {
    throw new TilegradError(
      'ERR_SHAPE',
      `topK: axis ${at} of ${showShape(x.shape)} has ${count} elements, fewer than k = ${k}; take k ≤ ${count}`,
    )
  }
  const { device, dtype } = x
  const shape = x.shape.with(at, k)
  const [outer, inner] = [numel(x.shape.slice(0, at)), numel(x.shape.slice(at + 1))]
  const [largest, along, all] = device.recorder.emitMany(
    'topK',
    [x.value],
    [{ dtype, shape }, { dtype: 'i32', shape }, { dtype: 'i32', shape }], // prettier-ignore
    [outer, count, inner, k],
  )
  const places = new Tensor(device, all!, false)
  const values = track(new Tensor(device, largest!), 'topK', [x], [places], (dy, [places]) => {
    const size = [dy.size]
    return [reshape(scatterAdd(reshape(dy, size), reshape(places!, size), [x.size]), x.shape)]
  })
  places.dispose()
  return { values, indices: new Tensor(device, along!) }
}
