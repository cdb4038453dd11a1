/**
 * Products over axes, and running sums and products along one. The running ones are instructions; `prod` is a composition
 * of elementwise work and moves, a tree of neighbours over [outer, count, inner]. Which elements meet in which order
 * follows from their positions alone, so what is appended changes no earlier bit, and a row has the bits it has alone. No
 * gradient here divides by an element: zeros need no care. Sums over axes are in `reduce.ts`.
 */

import { track } from '../autograd/tape.ts'
import { type Names, checkOptions, expected } from '../errors.ts'
import { scope } from '../scope.ts'
import { normalizeAxes, normalizeAxis, numel } from '../shape.ts'
import { Tensor } from '../tensor.ts'
import { checkDtypeClass, checkTensor } from './apply.ts'
import { full } from './creation.ts'
import { add, mul } from './elementwise.ts'
import { type Axis, REDUCE_OPTIONS, type ReduceOptions } from './reduce.ts'
import { concat, pad, reshape, slice, transpose } from './shape.ts'

/** Options of {@link cumsum} and {@link cumprod}. */
export interface ScanOptions {
  /** From the last element to the first. Default false. */
  readonly reverse?: boolean
  /** Each result leaves out the element at its own place, so that the first one is of nothing. Default false. */
  readonly exclusive?: boolean
}

const SCAN: Names<ScanOptions> = { reverse: true, exclusive: true }

/**
 * Product over `axis` (default: all). The product of nothing is 1; i32 wraps around.
 *
 * The gradient of an element is the product of the others, right where some of them are 0, and has derivatives itself.
 *
 * @example
 * ```ts
 * import { prod, tensor } from 'tilegrad'
 * const x = tensor([[1, 2, 3], [4, 0, 6]])
 * console.log(await prod(x, 1).array(), await x.prod(0, { keepDims: true }).array()) // [6, 0] [[4, 0, 18]]
 * ```
 */
export function prod(x: Tensor, axis?: Axis, options: ReduceOptions = {}): Tensor {
  checkTensor('prod', 'x', x)
  checkOptions('prod', options, REDUCE_OPTIONS)
  checkDtypeClass('prod', 'number', x.dtype)
  const axes = normalizeAxes('prod', axis, x.shape.length)
  const shape = options.keepDims
    ? x.shape.map((d, i) => (axes.includes(i) ? 1 : d))
    : x.shape.filter((_, i) => !axes.includes(i))
  const rest = x.shape.map((_, i) => i).filter((i) => !axes.includes(i))
  return scope(() => {
    const first = axes[0] ?? x.shape.length
    const sideBySide = axes.every((a, i) => a === first + i)
    const outer = numel(sideBySide ? x.shape.slice(0, first) : rest.map((a) => x.shape[a]!))
    const inner = sideBySide ? numel(x.shape.slice(first + axes.length)) : 1
    let count = axes.reduce((n, a) => n * x.shape[a]!, 1)
    let y = reshape(sideBySide ? x : transpose(x, [...rest, ...axes]), [outer, count, inner])
    if (count === 0) {
      // One factor of 1 in an empty axis; what has no element either way stays without.
      y = pad(
        y,
        [
          [0, 0],
          [0, 1],
          [0, 0],
        ],
        1,
      )
      count = 1
    }
    while (count > 1) {
      const half = Math.ceil(count / 2)
      // A factor of 1 changes no bit, so an odd last element has a neighbour as well.
      const even =
        count === 2 * half
          ? y
          : pad(
              y,
              [
                [0, 0],
                [0, 1],
                [0, 0],
              ],
              1,
            )
      const pairs = reshape(even, [outer, half, 2, inner])
      const size = [outer, half, 1, inner]
      y = reshape(mul(slice(pairs, [0, 0, 0, 0], size), slice(pairs, [0, 0, 1, 0], size)), [outer, half, inner])
      count = half
    }
    return reshape(y, shape)
  })
}

/**
 * Running sum along an axis: element i is the sum of the elements up to and with i. i32 wraps around.
 *
 * @param axis counts from the end where negative
 * @param options.reverse sums from the end: element i is the sum of i and what follows
 * @param options.exclusive leaves element i itself out
 *
 * @example
 * ```ts
 * import { cumsum, tensor } from 'tilegrad'
 * const x = tensor([1, 2, 3])
 * console.log(await cumsum(x, 0).array(), await x.cumsum(0, { exclusive: true }).array()) // [1, 3, 6] [0, 1, 3]
 * ```
 */
export function cumsum(x: Tensor, axis: number, options: ScanOptions = {}): Tensor {
  const way = checkScan('cumsum', x, axis, options)
  return track(running('cumsum', x, axis, way), 'cumsum', [x], [], (dy) => [
    cumsum(dy, axis, { ...way, reverse: !way.reverse }),
  ])
}

/**
 * Running product along an axis: element i is the product of the elements up to and with i. i32 wraps around. The
 * gradient is right where elements are 0.
 *
 * @param axis counts from the end where negative
 * @param options.reverse multiplies from the end: element i is the product of i and what follows
 * @param options.exclusive leaves element i itself out
 *
 * @example
 * ```ts
 * import { cumprod, tensor } from 'tilegrad'
 * const x = tensor([2, 3, 4])
 * console.log(await cumprod(x, 0).array(), await x.cumprod(0, { reverse: true }).array()) // [2, 6, 24] [24, 12, 4]
 * ```
 */
export function cumprod(x: Tensor, axis: number, options: ScanOptions = {}): Tensor {
  const way = checkScan('cumprod', x, axis, options)
  return track(running('cumprod', x, axis, way), 'cumprod', [x], [x], (dy, [x]) => [
    scope(() => productGrad(dy, x!, axis, way)),
  ])
}

function checkScan(op: string, x: Tensor, axis: number, options: ScanOptions): Required<ScanOptions> {
  checkTensor(op, 'x', x)
  checkOptions(op, options, SCAN)
  checkDtypeClass(op, 'number', x.dtype)
  normalizeAxis(op, axis, x.shape.length)
  const { reverse = false, exclusive = false } = options
  if (typeof reverse !== 'boolean') throw expected(`${op}: reverse`, 'a boolean', reverse)
  if (typeof exclusive !== 'boolean') throw expected(`${op}: exclusive`, 'a boolean', exclusive)
  return { reverse, exclusive }
}

/** Records the instruction. */
function running(
  op: 'cumsum' | 'cumprod',
  x: Tensor,
  axis: number,
  { reverse, exclusive }: Required<ScanOptions>,
): Tensor {
  const at = normalizeAxis(op, axis, x.shape.length)
  const [outer, inner] = [numel(x.shape.slice(0, at)), numel(x.shape.slice(at + 1))]
  const attributes = [outer, x.shape[at]!, inner, +reverse, +exclusive]
  return new Tensor(x.device, x.device.recorder.emit(op, [x.value], { dtype: x.dtype, shape: x.shape }, attributes))
}

/**
 * dx_i = (Π of what precedes i) · r_i, with r_i = Σ_j dy_j · Π of what lies between i and j, over j from i on: so
 * r_i = dy_i + x_{i+1}·r_{i+1}. Without the element itself, dy_i counts for what precedes i. After the step of distance d,
 * r has the terms of 2·d elements, and `far` is the product that those further away have to be multiplied by.
 */
function productGrad(dy: Tensor, x: Tensor, axis: number, way: Required<ScanOptions>): Tensor {
  const { reverse, exclusive } = way
  const before = cumprod(x, axis, { reverse, exclusive: true })
  const at = normalizeAxis('cumprod', axis, x.shape.length)
  const sizes = [numel(x.shape.slice(0, at)), x.shape[at]!, numel(x.shape.slice(at + 1))] as const
  const [outer, count, inner] = sizes
  if (count === 0) return dy
  /** Of `size` elements, those from the `skip`-th on, in the order in which they are multiplied; `most` at most. */
  const part = (y: Tensor, skip: number, most: number): Tensor => {
    const size = y.shape[1]!
    const taken = Math.min(most, size - skip)
    return slice(y, [0, reverse ? size - skip - taken : skip, 0], [outer, taken, inner])
  }
  const joined = (first: Tensor, second: Tensor): Tensor => concat(reverse ? [second, first] : [first, second], 1)
  let r = reshape(dy, sizes)
  if (exclusive) r = joined(part(r, 1, count), full([outer, 1, inner], 0, { device: x.device, dtype: x.dtype }))
  let far = part(reshape(x, sizes), 1, count)
  for (let distance = 1; distance < count; distance *= 2) {
    const left = count - distance
    const met = add(part(r, 0, left), mul(far, part(r, distance, left)))
    r = joined(met, part(r, left, distance))
    if (2 * distance < count) far = mul(part(far, 0, left - distance), part(far, distance, left - distance))
  }
  return mul(before, reshape(r, x.shape))
}
