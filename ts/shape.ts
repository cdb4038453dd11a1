/**
 * Shapes: the checks and the arithmetic that operations share. A shape is a list of whole numbers, row-major, at most
 * 8 dimensions, fewer than 2³¹ elements. Nothing here knows tensors or devices.
 */

import { TilegradError, expected, show } from './errors.ts'

/** Dimensions of a tensor; `[]` is one number (rank 0). */
export type Shape = readonly number[]

/** The largest number of dimensions. */
export const MAX_RANK = 8

/** The largest number of elements: indices fit a signed 32-bit word on every device. */
export const MAX_ELEMENTS = 2 ** 31 - 1

/** Number of elements; `1` for rank 0. */
export function numel(shape: Shape): number {
  let n = 1
  for (let i = 0; i < shape.length; i++) n *= shape[i]!
  return n
}

/** Copies and checks a shape given by the user. */
export function checkShape(op: string, shape: unknown): number[] {
  if (!Array.isArray(shape))
    throw new TilegradError('ERR_SHAPE', `${op}: a shape is an array of whole numbers, not ${show(shape)}`)
  if (shape.length > MAX_RANK) {
    throw new TilegradError('ERR_SHAPE', `${op}: ${shape.length} dimensions are more than the ${MAX_RANK} supported`)
  }
  let size = 1
  let empty = false
  const copy = shape.map((d: unknown) => {
    if (typeof d !== 'number' || !Number.isInteger(d) || d < 0) {
      throw new TilegradError('ERR_SHAPE', `${op}: dimensions are whole numbers ≥ 0, not ${show(d)} in ${show(shape)}`)
    }
    if (d === 0) empty = true
    else size *= d
    return d
  })
  // A zero elsewhere must not hide a dimension that no device can index.
  if (size > MAX_ELEMENTS) {
    throw new TilegradError(
      'ERR_SHAPE',
      `${op}: shape ${showShape(copy)} has ${empty ? 'a dimension' : `${size} elements, which is`} above the limit of ${MAX_ELEMENTS}`,
    )
  }
  return copy
}

/** `[2, 3]` */
export function showShape(shape: Shape): string {
  return `[${shape.join(', ')}]`
}

/** Whether two shapes are equal. */
export function sameShape(a: Shape, b: Shape): boolean {
  if (a === b) return true
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

/** Turns an axis that may count from the end into one that counts from the start. */
export function normalizeAxis(op: string, axis: unknown, rank: number): number {
  if (typeof axis !== 'number' || !Number.isInteger(axis)) throw expected(`${op}: axis`, 'a whole number', axis)
  const from = axis < 0 ? axis + rank : axis
  if (from < 0 || from >= rank) {
    throw new TilegradError('ERR_SHAPE', `${op}: axis ${axis} is outside a tensor of rank ${rank}`)
  }
  return from
}

/** Sorted, distinct axes; every axis when none is given. */
export function normalizeAxes(op: string, axis: number | readonly number[] | undefined, rank: number): number[] {
  if (axis === undefined) return Array.from({ length: rank }, (_, i) => i)
  const axes = (Array.isArray(axis) ? axis : [axis]).map((a: unknown) => normalizeAxis(op, a, rank))
  axes.sort((a, b) => a - b)
  for (let i = 1; i < axes.length; i++) {
    if (axes[i] === axes[i - 1]) throw expected(`${op}: axes`, 'distinct', axis)
  }
  return axes
}

/** The shape both operands stretch to by NumPy's rules: trailing dimensions align, 1 stretches. */
export function broadcastShapes(op: string, a: Shape, b: Shape): Shape {
  if (sameShape(a, b)) return a
  const rank = Math.max(a.length, b.length)
  const out: number[] = new Array<number>(rank)
  for (let i = 1; i <= rank; i++) {
    const x = i <= a.length ? a[a.length - i]! : 1
    const y = i <= b.length ? b[b.length - i]! : 1
    if (x !== y && x !== 1 && y !== 1) {
      throw new TilegradError(
        'ERR_SHAPE',
        `${op}: shapes ${showShape(a)} and ${showShape(b)} do not broadcast: ${x} ≠ ${y}`,
      )
    }
    out[rank - i] = x === 1 ? y : x
  }
  return out
}

/** Whether `from` can be stretched to `to`. */
export function broadcastsTo(from: Shape, to: Shape): boolean {
  if (from.length > to.length) return false
  for (let i = 1; i <= from.length; i++) {
    const d = from[from.length - i]!
    if (d !== 1 && d !== to[to.length - i]) return false
  }
  return true
}
