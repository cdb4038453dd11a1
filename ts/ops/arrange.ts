/**
 * Dimensions added and taken away, tensors stacked and cut apart. All of it is made of the operations of `shape.ts`, which
 * bring the gradients: no instruction stands behind these alone.
 */

import { TilegradError, expected } from '../errors.ts'
import { normalizeAxes, normalizeAxis, sameShape, showShape } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { scope } from '../scope.ts'
import { checkTensor } from './apply.ts'
import { concat, reshape, slice } from './shape.ts'

/** How many pieces of nothing there may be. */
const MOST_EMPTY = 2 ** 16

/**
 * Takes away dimensions of size 1; no copy.
 *
 * @param axis which one, or several; default: every one of size 1
 * @throws `ERR_SHAPE` when a named dimension has another size (as NumPy does; PyTorch leaves it)
 *
 * @example
 * ```ts
 * import { squeeze, zeros } from 'tilegrad'
 * const x = zeros([1, 3, 1])
 * console.log(squeeze(x).shape, x.squeeze(-1).shape) // [3] [1, 3]
 * ```
 */
export function squeeze(x: Tensor, axis?: number | readonly number[]): Tensor {
  checkTensor('squeeze', 'x', x)
  const { shape } = x
  const axes =
    axis === undefined ? shape.flatMap((d, i) => (d === 1 ? [i] : [])) : normalizeAxes('squeeze', axis, shape.length)
  for (const a of axes) {
    if (shape[a] !== 1) {
      throw new TilegradError(
        'ERR_SHAPE',
        `squeeze: axis ${a} of ${showShape(shape)} has size ${shape[a]}; only axes of size 1 can be taken away`,
      )
    }
  }
  return reshape(
    x,
    shape.filter((_, i) => !axes.includes(i)),
  )
}

/**
 * Adds a dimension of size 1; no copy.
 *
 * @param axis its place in the result, from −(rank + 1) to rank
 *
 * @example
 * ```ts
 * import { unsqueeze, zeros } from 'tilegrad'
 * const x = zeros([2, 3])
 * console.log(unsqueeze(x, 1).shape, x.unsqueeze(-1).shape) // [2, 1, 3] [2, 3, 1]
 * ```
 */
export function unsqueeze(x: Tensor, axis: number): Tensor {
  checkTensor('unsqueeze', 'x', x)
  const at = normalizeAxis('unsqueeze', axis, x.shape.length + 1)
  return reshape(x, [...x.shape.slice(0, at), 1, ...x.shape.slice(at)])
}

/**
 * Joins tensors of one shape along a new axis; {@link concat} joins along one that exists.
 *
 * @param tensors at least one
 * @param axis place of the new axis in the result; default 0
 * @throws `ERR_SHAPE` when the shapes differ
 *
 * @example
 * ```ts
 * import { stack, tensor } from 'tilegrad'
 * console.log(await stack([tensor([1, 2]), tensor([3, 4])], 1).array()) // [[1, 3], [2, 4]]
 * ```
 */
export function stack(tensors: readonly Tensor[], axis = 0): Tensor {
  if (!Array.isArray(tensors) || tensors.length === 0)
    throw expected('stack: tensors', 'a list of at least one tensor', tensors)
  const list = tensors as readonly Tensor[]
  for (const t of list) checkTensor('stack', 'tensors', t)
  const { shape } = list[0]!
  for (const t of list) {
    if (!sameShape(t.shape, shape)) {
      throw new TilegradError(
        'ERR_SHAPE',
        `stack: ${showShape(shape)} and ${showShape(t.shape)} differ; concat() joins along an axis in which tensors may`,
      )
    }
  }
  const at = normalizeAxis('stack', axis, shape.length + 1)
  return scope(() =>
    concat(
      list.map((t) => unsqueeze(t, at)),
      at,
    ),
  )
}

/**
 * Cuts a tensor into pieces along an axis; {@link concat} puts them together again.
 *
 * @param parts how many equal pieces (as in NumPy; PyTorch takes their size), or the size of each piece
 * @param axis default 0
 * @throws `ERR_SHAPE` when the axis has no such pieces
 *
 * @example
 * ```ts
 * import { split, zeros } from 'tilegrad'
 * const [a, b] = split(zeros([6, 2]), 2)
 * const [c, d] = split(zeros([6, 2]), [5, 1])
 * console.log(a!.shape, b!.shape, c!.shape, d!.shape) // [3, 2] [3, 2] [5, 2] [1, 2]
 * ```
 */
export function split(x: Tensor, parts: number | readonly number[], axis = 0): Tensor[] {
  checkTensor('split', 'x', x)
  const at = normalizeAxis('split', axis, x.shape.length)
  const size = x.shape[at]!
  const sizes = typeof parts === 'number' ? equalParts(x, at, parts) : parts
  if (!Array.isArray(sizes) || !sizes.every((n) => Number.isInteger(n) && n >= 0))
    throw expected('split: parts', 'a number of pieces, or a list of sizes ≥ 0', parts)
  const total = (sizes as readonly number[]).reduce((a, b) => a + b, 0)
  if (total !== size) {
    throw new TilegradError(
      'ERR_SHAPE',
      `split: the sizes [${sizes.join(', ')}] add up to ${total}, axis ${at} of ${showShape(x.shape)} has ${size}`,
    )
  }
  let start = 0
  return (sizes as readonly number[]).map((n) => {
    const begin = x.shape.map((_, i) => (i === at ? start : 0))
    start += n
    return slice(
      x,
      begin,
      x.shape.map((d, i) => (i === at ? n : d)),
    )
  })
}

function equalParts(x: Tensor, axis: number, count: number): number[] {
  // An axis of size 0 has any number of equal pieces: what is far too many has to end somewhere.
  if (!Number.isInteger(count) || count < 1 || count > Math.max(x.shape[axis]!, MOST_EMPTY))
    throw expected('split: parts', 'a number of pieces ≥ 1 that the axis can have', count)
  const size = x.shape[axis]!
  if (size % count !== 0) {
    throw new TilegradError(
      'ERR_SHAPE',
      `split: axis ${axis} of ${showShape(x.shape)} has no ${count} equal pieces; give the size of each`,
    )
  }
  return new Array<number>(count).fill(size / count)
}
