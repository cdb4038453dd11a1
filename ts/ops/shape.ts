/**
 * Operations that move elements without computing: views (`reshape`), broadcasts, transposes, joining and cutting.
 */

import { track } from '../autograd/tape.ts'
import { TilegradError, expected } from '../errors.ts'
import {
  type Shape,
  MAX_ELEMENTS,
  broadcastsTo,
  checkShape,
  normalizeAxis,
  numel,
  sameShape,
  showShape,
} from '../shape.ts'
import { Tensor } from '../tensor.ts'
import { checkNumber, checkSameDtype, checkTensor, sharedDevice, unary } from './apply.ts'
import { sumTo } from './reduce.ts'

/**
 * The same elements under another shape; no copy. One dimension may be −1: it takes what is left.
 *
 * @throws `ERR_SHAPE` when the number of elements differs
 *
 * @example
 * ```ts
 * import { reshape, tensor } from 'tilegrad'
 * const x = tensor([1, 2, 3, 4, 5, 6])
 * console.log(reshape(x, [3, -1]).shape, await x.reshape([2, 3]).array()) // [3, 2] [[1, 2, 3], [4, 5, 6]]
 * ```
 */
export function reshape(x: Tensor, shape: Shape): Tensor {
  checkTensor('reshape', 'x', x)
  const wanted = infer(x, shape)
  if (sameShape(wanted, x.shape)) return track(x.detach(), 'reshape', [x], [], (dy) => [dy])
  return viewOf(x, wanted)
}

function viewOf(x: Tensor, shape: Shape): Tensor {
  const { value } = x
  const view = x.device.recorder.emit('view', [value], { dtype: x.dtype, shape, storage: value.storage }, [0])
  return track(new Tensor(x.device, view), 'reshape', [x], [], (dy) => [viewOf(dy, x.shape)])
}

function infer(x: Tensor, shape: Shape): number[] {
  const holes = Array.isArray(shape) ? shape.filter((d) => d === -1).length : 0
  if (holes > 1) throw new TilegradError('ERR_SHAPE', `reshape: at most one dimension of ${showShape(shape)} may be -1`)
  const wanted = checkShape('reshape', holes === 0 ? shape : shape.map((d) => (d === -1 ? 1 : d)))
  const size = numel(wanted)
  if (holes === 1) {
    if (size === 0 || x.size % size !== 0) {
      throw new TilegradError(
        'ERR_SHAPE',
        `reshape: ${showShape(x.shape)} has no whole number of elements left for -1 in ${showShape(shape)}`,
      )
    }
    wanted[shape.indexOf(-1)] = x.size / size
  } else if (size !== x.size) {
    throw new TilegradError(
      'ERR_SHAPE',
      `reshape: ${showShape(x.shape)} has ${x.size} elements, ${showShape(shape)} needs ${size}`,
    )
  }
  return wanted
}

/**
 * Stretches dimensions of size 1, and adds leading ones, to `shape` (NumPy's broadcasting). A dimension of −1 keeps the size
 * it has; a leading one that is added has none to keep.
 *
 * @throws `ERR_SHAPE` when a dimension other than 1 would have to change
 *
 * @example
 * ```ts
 * import { expand, tensor } from 'tilegrad'
 * const column = tensor([[1], [2]])
 * console.log(await expand(column, [2, 3]).array(), column.expand([4, -1, 3]).shape) // [[1, 1, 1], [2, 2, 2]] [4, 2, 3]
 * ```
 */
export function expand(x: Tensor, shape: Shape): Tensor {
  checkTensor('expand', 'x', x)
  const lead = Array.isArray(shape) ? shape.length - x.shape.length : 0
  const wanted = checkShape(
    'expand',
    Array.isArray(shape) ? shape.map((d: number, i) => (d === -1 ? (x.shape[i - lead] ?? d) : d)) : shape,
  )
  if (!broadcastsTo(x.shape, wanted)) {
    throw new TilegradError('ERR_SHAPE', `expand: ${showShape(x.shape)} does not stretch to ${showShape(wanted)}`)
  }
  if (sameShape(x.shape, wanted)) return track(x.detach(), 'expand', [x], [], (dy) => [dy])
  return unary(
    'expand',
    x,
    { shape: wanted },
    [],
    () => [],
    (dy) => [sumTo(dy, x.shape)],
  )
}

/**
 * Axes in another order.
 *
 * @param axes which axis of x comes at each place; default: the reverse order, so a matrix is transposed
 *
 * @example
 * ```ts
 * import { tensor, transpose } from 'tilegrad'
 * const x = tensor([[1, 2, 3], [4, 5, 6]])
 * console.log(await transpose(x).array(), x.reshape([1, 2, 3]).transpose([1, 0, 2]).shape) // [[1, 4], [2, 5], [3, 6]] [2, 1, 3]
 * ```
 */
export function transpose(x: Tensor, axes?: readonly number[]): Tensor {
  checkTensor('transpose', 'x', x)
  if (axes !== undefined && !Array.isArray(axes)) throw expected('transpose: axes', 'a list of axes', axes)
  const rank = x.shape.length
  const order =
    axes === undefined ? x.shape.map((_, i) => rank - 1 - i) : axes.map((a) => normalizeAxis('transpose', a, rank))
  if (order.length !== rank || new Set(order).size !== rank) {
    throw expected(`transpose: axes of a tensor of rank ${rank}`, 'each of its axes once', axes)
  }
  const inverse: number[] = []
  order.forEach((axis, place) => (inverse[axis] = place))
  return unary(
    'transpose',
    x,
    { shape: order.map((a) => x.shape[a]!) },
    [order],
    () => [],
    (dy) => [transpose(dy, inverse)],
  )
}

/**
 * Joins tensors along an existing axis.
 *
 * @param tensors at least one; equal but for `axis`
 * @param axis default 0
 *
 * @example
 * ```ts
 * import { concat, tensor } from 'tilegrad'
 * const [a, b] = [tensor([[1], [2]]), tensor([[3], [4]])]
 * console.log(await concat([a, b]).array(), await concat([a, b], 1).array()) // [[1], [2], [3], [4]] [[1, 3], [2, 4]]
 * ```
 */
export function concat(tensors: readonly Tensor[], axis = 0): Tensor {
  if (!Array.isArray(tensors) || tensors.length === 0)
    throw expected('concat: tensors', 'a list of at least one tensor', tensors)
  const list = tensors as readonly Tensor[]
  for (const t of list) checkTensor('concat', 'tensors', t)
  const first = list[0]!
  const at = normalizeAxis('concat', axis, first.shape.length)
  for (const t of list) {
    checkSameDtype('concat', first, t)
    if (t.shape.length !== first.shape.length || t.shape.some((d, i) => i !== at && d !== first.shape[i])) {
      throw new TilegradError(
        'ERR_SHAPE',
        `concat: ${showShape(first.shape)} and ${showShape(t.shape)} differ outside axis ${at}`,
      )
    }
  }
  const device = sharedDevice('concat', first, ...list)
  const joined = list.reduce((n, t) => n + t.shape[at]!, 0)
  const shape = checkShape(
    'concat',
    first.shape.map((d, i) => (i === at ? joined : d)),
  )
  const value = device.recorder.emit(
    'concat',
    list.map((t) => t.value),
    { dtype: first.dtype, shape },
    [at],
  )
  return track(new Tensor(device, value), 'concat', list, [], (dy, _, needs) => {
    let start = 0
    return list.map((t, i) => {
      const begin = dy.shape.map((_, d) => (d === at ? start : 0))
      start += t.shape[at]!
      return needs[i] ? slice(dy, begin, t.shape) : null
    })
  })
}

/**
 * A block of a tensor.
 *
 * @param begin first index per axis; axes left out start at 0
 * @param size elements per axis; −1 or left out: all that are left
 * @throws `ERR_SHAPE` when the block leaves the tensor
 *
 * @example
 * ```ts
 * import { slice, tensor } from 'tilegrad'
 * const x = tensor([[1, 2], [3, 4], [5, 6]])
 * console.log(await slice(x, [1]).array(), await x.slice([0, 1], [2, 1]).array()) // [[3, 4], [5, 6]] [[2], [4]]
 * ```
 */
export function slice(x: Tensor, begin: readonly number[], size: readonly number[] = []): Tensor {
  checkTensor('slice', 'x', x)
  if (!Array.isArray(begin) || begin.length > x.shape.length)
    throw expected('slice: begin', `at most ${x.shape.length} whole numbers`, begin)
  if (!Array.isArray(size) || size.length > x.shape.length)
    throw expected('slice: size', `at most ${x.shape.length} whole numbers`, size)
  const starts = x.shape.map((_, i) => (begin as readonly number[])[i] ?? 0)
  const shape = x.shape.map((d, i) => {
    const wanted = (size as readonly number[])[i] ?? -1
    return wanted === -1 ? d - starts[i]! : wanted
  })
  x.shape.forEach((d, i) => {
    const [start, count] = [starts[i]!, shape[i]!]
    if (!Number.isInteger(start) || !Number.isInteger(count) || start < 0 || count < 0 || start + count > d) {
      throw new TilegradError(
        'ERR_SHAPE',
        `slice: ${count} elements from ${start} leave axis ${i} of ${showShape(x.shape)}`,
      )
    }
  })
  return unary(
    'slice',
    x,
    { shape },
    [starts],
    () => [],
    (dy) => [
      pad(
        dy,
        x.shape.map((d, i) => [starts[i]!, d - starts[i]! - shape[i]!]),
      ),
    ],
  )
}

/**
 * Adds elements around a tensor.
 *
 * @param paddings for each axis how many come before and after
 * @param value what they hold; default 0
 * @throws `ERR_ARGUMENT` for a negative number of elements: slice() takes away
 *
 * @example
 * ```ts
 * import { pad, tensor } from 'tilegrad'
 * console.log(await pad(tensor([1, 2]), [[1, 2]], 9).array()) // [9, 1, 2, 9, 9]
 * ```
 */
export function pad(
  x: Tensor,
  paddings: readonly (readonly [number, number] | readonly number[])[],
  value = 0,
): Tensor {
  checkTensor('pad', 'x', x)
  if (!Array.isArray(paddings) || paddings.length !== x.shape.length) {
    throw expected(`pad: paddings of a tensor of rank ${x.shape.length}`, 'one [before, after] per axis', paddings)
  }
  const pairs = paddings as readonly (readonly number[])[]
  for (const pair of pairs) {
    if (
      !Array.isArray(pair) ||
      pair.length !== 2 ||
      !pair.every((p) => Number.isInteger(p) && p >= 0 && p <= MAX_ELEMENTS)
    ) {
      throw expected('pad: paddings', 'pairs of whole numbers ≥ 0', pair)
    }
  }
  if (typeof value !== 'number') throw expected('pad: value', 'a number', value)
  if (x.dtype === 'bool' && value !== 0 && value !== 1) throw expected('pad: value in a bool tensor', '0 or 1', value)
  checkNumber('pad', value, x.dtype)
  const before = pairs.map((p) => p[0]!)
  const shape = checkShape(
    'pad',
    x.shape.map((d, i) => d + before[i]! + pairs[i]![1]!),
  )
  return unary(
    'pad',
    x,
    { shape },
    [before, value],
    () => [],
    (dy) => [slice(dy, before, x.shape)],
  )
}
