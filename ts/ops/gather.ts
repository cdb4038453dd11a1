/** Taking slices of a tensor by index, adding them back, and indices as rows of zeros with a one. */

import { track } from '../autograd/tape.ts'
import { type Dtype, checkDtype } from '../dtype.ts'
import { type Names, TilegradError, checkOptions, expected } from '../errors.ts'
import { INDEXED } from '../program/words.ts'
import { scope } from '../scope.ts'
import { type Shape, MAX_ELEMENTS, checkShape, normalizeAxis, sameShape, showShape } from '../shape.ts'
import { Tensor } from '../tensor.ts'
import { checkTensor, sharedDevice } from './apply.ts'
import { cast, equal } from './elementwise.ts'
import { positions } from './positions.ts'
import { reshape } from './shape.ts'

/** @internal What an index is called when it is out of range. */
export type Indexed = (typeof INDEXED)[number]

/**
 * Slices of `x` along `axis`, in the order of `indices` (NumPy's `take`, ONNX's `Gather`): with axis 0 and a matrix, the
 * rows of an embedding. The result has the shape of `x` with `axis` replaced by the shape of `indices`.
 *
 * @param indices i32, any shape, each in [0, size of the axis)
 * @param axis default 0
 * @throws `ERR_ARGUMENT` when the result is read and an index was out of range; `ERR_SHAPE` at once where no index can be
 *   in range because the axis is empty
 *
 * @example
 * ```ts
 * import { gather, tensor } from 'tilegrad'
 * const x = tensor([[1, 2], [3, 4]])
 * const last = tensor([1, 0], { dtype: 'i32' })
 * console.log(await gather(x, last).array(), await x.gather(last, 1).array()) // [[3, 4], [1, 2]] [[2, 1], [4, 3]]
 * ```
 */
export function gather(x: Tensor, indices: Tensor, axis = 0): Tensor {
  return gatherOf('index', x, indices, axis)
}

/** @internal {@link gather} as a part of another operation, which an error about an index then names. */
export function gatherOf(what: Indexed, x: Tensor, indices: Tensor, axis = 0): Tensor {
  checkTensor('gather', 'x', x)
  const device = checkIndices('gather', x, indices)
  const at = normalizeAxis('gather', axis, x.shape.length)
  const shape = checkShape('gather', [...x.shape.slice(0, at), ...indices.shape, ...x.shape.slice(at + 1)])
  checkNotEmpty('gather', x.shape, at, shape)
  const value = device.recorder.emit('gather', [x.value, indices.value], { dtype: x.dtype, shape }, [
    at,
    INDEXED.indexOf(what),
  ])
  return track(new Tensor(device, value), 'gather', [x], [indices], (dy, [indices]) => [
    scatterAddOf(what, dy, indices!, x.shape, at),
  ])
}

/**
 * The reverse of {@link gather}: zeros of `shape`, to which every slice of `updates` is added at its index. Slices with
 * the same index are added in order of position, so the result is the same every time.
 *
 * @param updates what gather would give: `shape` with `axis` replaced by the shape of `indices`
 * @param indices i32
 * @param shape of the result
 * @param axis default 0
 *
 * @example
 * ```ts
 * import { scatterAdd, tensor } from 'tilegrad'
 * const rows = tensor([1, 1], { dtype: 'i32' })
 * console.log(await scatterAdd(tensor([[1, 2], [3, 4]]), rows, [3, 2]).array()) // [[0, 0], [4, 6], [0, 0]]
 * ```
 */
export function scatterAdd(updates: Tensor, indices: Tensor, shape: Shape, axis = 0): Tensor {
  return scatterAddOf('index', updates, indices, shape, axis)
}

/** @internal {@link scatterAdd} as {@link gatherOf}. */
export function scatterAddOf(what: Indexed, updates: Tensor, indices: Tensor, shape: Shape, axis = 0): Tensor {
  checkTensor('scatterAdd', 'updates', updates)
  const device = checkIndices('scatterAdd', updates, indices)
  const wanted = checkShape('scatterAdd', shape)
  const at = normalizeAxis('scatterAdd', axis, wanted.length)
  const fits = [...wanted.slice(0, at), ...indices.shape, ...wanted.slice(at + 1)]
  if (!sameShape(fits, updates.shape)) {
    throw new TilegradError(
      'ERR_SHAPE',
      `scatterAdd: updates ${showShape(updates.shape)} have to be ${showShape(fits)} for a result of ${showShape(wanted)}`,
    )
  }
  checkNotEmpty('scatterAdd', wanted, at, updates.shape)
  if (updates.dtype === 'bool') throw new TilegradError('ERR_DTYPE', 'scatterAdd: bool cannot be added; cast() it')
  const value = device.recorder.emit(
    'scatterAdd',
    [updates.value, indices.value],
    { dtype: updates.dtype, shape: wanted },
    [at, INDEXED.indexOf(what)],
  )
  return track(new Tensor(device, value), 'scatterAdd', [updates], [indices], (dy, [indices]) => [
    gatherOf(what, dy, indices!, at),
  ])
}

/** Options of {@link oneHot}. */
export interface OneHotOptions {
  /** Element type of the result. Default `'f32'`, what losses and products take. */
  readonly dtype?: Dtype
}

/**
 * For every index a row of `classes` zeros with a one at the index: `[…]` → `[…, classes]`.
 *
 * @param indices i32, any shape, each in [0, classes)
 * @param classes length of the rows; always given, since the largest index is known to the device alone
 * @throws `ERR_ARGUMENT` when the result is read and an index was out of range; `ERR_SHAPE` at once where there are indices
 *   and no class
 *
 * @example
 * ```ts
 * import { oneHot, tensor } from 'tilegrad'
 * const labels = tensor([2, 0], { dtype: 'i32' })
 * console.log(await oneHot(labels, 3).array()) // [[0, 0, 1], [1, 0, 0]]
 * ```
 */
export function oneHot(indices: Tensor, classes: number, options: OneHotOptions = {}): Tensor {
  checkTensor('oneHot', 'indices', indices)
  checkIndices('oneHot', indices, indices)
  checkOptions('oneHot', options, { dtype: true } satisfies Names<OneHotOptions>)
  const { dtype = 'f32' } = options
  checkDtype('oneHot', dtype)
  if (!Number.isInteger(classes) || classes < 0 || classes > MAX_ELEMENTS)
    throw expected('oneHot: classes', 'a whole number ≥ 0', classes)
  checkShape('oneHot', [...indices.shape, classes])
  if (classes === 0 && indices.size > 0)
    throw new TilegradError('ERR_SHAPE', `oneHot: with 0 classes no index of ${showShape(indices.shape)} is in range`)
  return scope(() => {
    const places = positions(indices.device, classes)
    // Gathering from the places gives the index itself, or the error of one that is out of range.
    const checked = gatherOf('oneHot: index', places, indices)
    return cast(equal(reshape(checked, [...indices.shape, 1]), places), dtype)
  })
}

/** @internal Throws unless these are indices beside `x`; gives their device. */
export function checkIndices(op: string, x: Tensor, indices: Tensor): Tensor['device'] {
  checkTensor(op, 'indices', indices)
  if (indices.dtype !== 'i32')
    throw new TilegradError('ERR_DTYPE', `${op}: indices are i32, not ${indices.dtype}; cast('i32') them`)
  return sharedDevice(op, x, indices)
}

/** Devices clamp a wrong index before they complain about it: there has to be something to clamp to. */
function checkNotEmpty(op: string, shape: Shape, axis: number, slices: Shape): void {
  if (shape[axis] === 0 && !slices.includes(0))
    throw new TilegradError('ERR_SHAPE', `${op}: axis ${axis} of ${showShape(shape)} is empty: no index is in range`)
}
