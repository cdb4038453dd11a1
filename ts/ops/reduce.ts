/**
 * Reductions over one axis, several or all. A device reduces the middle of [outer, count, inner]; axes that do not lie
 * side by side are brought together by a transpose first. Softmax has a file of its own.
 */

import { track, type Vjp } from '../autograd/tape.ts'
import { type Names, TilegradError, checkOptions, expected } from '../errors.ts'
import { OPCODES, type OpcodeName } from '../program/opcodes.ts'
import type { Attribute } from '../program/code.ts'
import { scope } from '../scope.ts'
import { type Shape, normalizeAxes, normalizeAxis, numel, showShape } from '../shape.ts'
import { Tensor } from '../tensor.ts'
import { checkDtypeClass, checkTensor } from './apply.ts'
import { cast, div, equal, mul, sub } from './elementwise.ts'
import { expand, reshape, transpose } from './shape.ts'

/** An axis, several, or all when left out. Negative ones count from the end. */
export type Axis = number | readonly number[]

/** Options of reductions. */
export interface ReduceOptions {
  /** Keep reduced axes with size 1. Default false. */
  readonly keepDims?: boolean
}

/** @internal The options of all reductions; those of one are these and its own. */
export const REDUCE_OPTIONS: Names<ReduceOptions> = { keepDims: true }

/**
 * Sum over `axis` (default: all). Nothing sums to 0.
 *
 * @example
 * ```ts
 * import { sum, tensor } from 'tilegrad'
 * const x = tensor([[1, 5], [7, 2]])
 * console.log(await sum(x).item(), await x.sum(0).array(), x.sum(1, { keepDims: true }).shape) // 15 [8, 7] [2, 1]
 * ```
 */
export function sum(x: Tensor, axis?: Axis, options: ReduceOptions = {}): Tensor {
  return reduce(
    'sum',
    x,
    axis,
    options,
    [],
    () => [],
    (dy) => dy,
  )
}

/**
 * Mean over `axis` (default: all). The mean of nothing is NaN.
 *
 * @example
 * ```ts
 * import { mean, tensor } from 'tilegrad'
 * const x = tensor([[1, 5], [7, 2]])
 * console.log(await mean(x).item(), await x.mean(1).array()) // 3.75 [3, 4.5]
 * ```
 */
export function mean(x: Tensor, axis?: Axis, options: ReduceOptions = {}): Tensor {
  return reduce(
    'mean',
    x,
    axis,
    options,
    [],
    () => [],
    (dy, count) => mul(dy, 1 / count),
  )
}

/**
 * Largest element over `axis` (default: all); NaN if there is one. Equal maxima share the gradient.
 *
 * @example
 * ```ts
 * import { max, tensor } from 'tilegrad'
 * const x = tensor([[1, 5], [7, 2]])
 * console.log(await max(x).item(), await x.max(1).array()) // 7 [5, 7]
 * ```
 */
export function max(x: Tensor, axis?: Axis, options: ReduceOptions = {}): Tensor {
  return reduce('max', x, axis, options, [], (y) => [x, y], extremumGrad)
}

/**
 * Smallest element over `axis` (default: all); NaN if there is one. Equal minima share the gradient.
 *
 * @example
 * ```ts
 * import { min, tensor } from 'tilegrad'
 * const x = tensor([[1, 5], [7, 2]])
 * console.log(await min(x).item(), await x.min(1).array()) // 1 [1, 2]
 * ```
 */
export function min(x: Tensor, axis?: Axis, options: ReduceOptions = {}): Tensor {
  return reduce('min', x, axis, options, [], (y) => [x, y], extremumGrad)
}

/**
 * Σ(x − mean)² / (n − correction) over `axis` (default: all), in two passes.
 *
 * @param options.correction 1 (default, the unbiased estimate, as in PyTorch) or 0
 *
 * @example
 * ```ts
 * import { tensor, variance } from 'tilegrad'
 * const x = tensor([[1, 5], [7, 2]])
 * console.log(await variance(x, 1).array(), await x.variance(1, { correction: 0 }).array()) // [8, 12.5] [4, 6.25]
 * ```
 */
export function variance(x: Tensor, axis?: Axis, options: ReduceOptions & { correction?: number } = {}): Tensor {
  checkOptions('variance', options, { ...REDUCE_OPTIONS, correction: true } satisfies Names<typeof options>)
  const { correction = 1, ...shared } = options
  if (!(Number.isFinite(correction) && correction >= 0))
    throw expected('variance: correction', 'a number ≥ 0', correction)
  return reduce(
    'variance',
    x,
    axis,
    shared,
    [correction],
    () => [x],
    (dy, count, [x], axes) => {
      const centred = sub(x!, mean(x!, axes, { keepDims: true }))
      return mul(mul(dy, 2 / Math.max(count - correction, 0)), centred)
    },
  )
}

/**
 * Index (i32) of the largest element along `axis`, the first of equals; a NaN counts as largest. Without an axis: into the flattened tensor.
 *
 * @example
 * ```ts
 * import { argmax, tensor } from 'tilegrad'
 * const x = tensor([[1, 5], [7, 2]])
 * console.log(await argmax(x).item(), await x.argmax(1).array()) // 2 [1, 0]
 * ```
 */
export function argmax(x: Tensor, axis?: number, options: ReduceOptions = {}): Tensor {
  return arg('argmax', x, axis, options)
}

/**
 * Index (i32) of the smallest element along `axis`, the first of equals; a NaN counts as smallest.
 *
 * @example
 * ```ts
 * import { argmin, tensor } from 'tilegrad'
 * const x = tensor([[1, 5], [7, 2]])
 * console.log(await argmin(x).item(), await x.argmin(1).array()) // 0 [0, 1]
 * ```
 */
export function argmin(x: Tensor, axis?: number, options: ReduceOptions = {}): Tensor {
  return arg('argmin', x, axis, options)
}

/** @internal Sums a gradient over the axes along which an operand of `shape` was stretched. */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  const lead = x.shape.length - shape.length
  const axes = x.shape.map((_, i) => i).filter((i) => i < lead || (shape[i - lead] === 1 && x.shape[i] !== 1))
  return scope(() => reshape(axes.length === 0 ? x : sum(x, axes, { keepDims: true }), shape))
}

/** Gradient towards x before it is stretched: from dy (with kept axes), how many elements met, and what was saved. */
type ReduceGrad = (dy: Tensor, count: number, saved: readonly Tensor[], axes: readonly number[]) => Tensor

function extremumGrad(dy: Tensor, _count: number, [x, y]: readonly Tensor[], axes: readonly number[]): Tensor {
  const kept = x!.shape.map((d, i) => (axes.includes(i) ? 1 : d))
  const hits = cast(equal(x!, reshape(y!, kept)), x!.dtype)
  return mul(hits, div(dy, sum(hits, axes, { keepDims: true })))
}

function reduce(
  op: OpcodeName,
  x: Tensor,
  axis: Axis | undefined,
  options: ReduceOptions,
  attributes: readonly Attribute[],
  saved: (y: Tensor) => readonly Tensor[],
  gradient: ReduceGrad,
): Tensor {
  checkTensor(op, 'x', x)
  checkOptions(op, options, REDUCE_OPTIONS)
  checkDtypeClass(op, OPCODES[op].dtypes, x.dtype)
  const axes = normalizeAxes(op, axis, x.shape.length)
  const kept = x.shape.map((d, i) => (axes.includes(i) ? 1 : d))
  const count = axes.reduce((n, a) => n * x.shape[a]!, 1)
  if ((op === 'max' || op === 'min') && count === 0 && numel(kept) > 0) {
    throw new TilegradError('ERR_SHAPE', `${op}: an empty axis of ${showShape(x.shape)} has no ${op}imum`)
  }
  const out = record(
    op,
    x,
    axes,
    options.keepDims ? kept : x.shape.filter((_, i) => !axes.includes(i)),
    attributes,
    x.dtype,
  )
  if (!x.requiresGrad) return out
  const vjp: Vjp = (dy, s) => [expand(gradient(reshape(dy, kept), count, s, axes), x.shape)]
  return track(out, op, [x], saved(out), vjp)
}

function arg(op: 'argmax' | 'argmin', x: Tensor, axis: number | undefined, options: ReduceOptions): Tensor {
  checkTensor(op, 'x', x)
  checkOptions(op, options, REDUCE_OPTIONS)
  checkDtypeClass(op, OPCODES[op].dtypes, x.dtype)
  const axes = axis === undefined ? x.shape.map((_, i) => i) : [normalizeAxis(op, axis, x.shape.length)]
  const kept = x.shape.map((d, i) => (axes.includes(i) ? 1 : d))
  if (numel(kept) > 0 && x.size === 0) {
    throw new TilegradError('ERR_SHAPE', `${op}: an empty axis of ${showShape(x.shape)} has no ${op}`)
  }
  return record(op, x, axes, options.keepDims ? kept : x.shape.filter((_, i) => !axes.includes(i)), [], 'i32')
}

/** One instruction over [outer, count, inner], after a transpose where the axes do not lie side by side. */
function record(
  op: OpcodeName,
  x: Tensor,
  axes: readonly number[],
  shape: Shape,
  attributes: readonly Attribute[],
  dtype: Tensor['dtype'],
): Tensor {
  const first = axes[0] ?? x.shape.length
  const sideBySide = axes.every((a, i) => a === first + i)
  if (!sideBySide) {
    const rest = x.shape.map((_, i) => i).filter((i) => !axes.includes(i))
    return scope(() => {
      const moved = transpose(x.detach(), [...rest, ...axes])
      return record(
        op,
        moved,
        axes.map((_, i) => rest.length + i),
        shape,
        attributes,
        dtype,
      )
    })
  }
  const outer = numel(x.shape.slice(0, first))
  const inner = numel(x.shape.slice(first + axes.length))
  const count = numel(x.shape.slice(first, first + axes.length))
  return new Tensor(
    x.device,
    x.device.recorder.emit(op, [x.value], { dtype, shape }, [outer, count, inner, ...attributes]),
  )
}
