/**
 * Scaled dot-product attention, made of products, a masked softmax and dropout. Queries and keys that a mask leaves without
 * a partner are selected away, not multiplied by 0, so that padding may hold anything. Every sum goes by position: what
 * stands behind the real keys changes no bit of a real result.
 */

import { TilegradError, checkOptions, expected } from '../errors.ts'
import type { RandomSite } from '../random-site.ts'
import { scope } from '../scope.ts'
import { broadcastShapes, broadcastsTo, showShape } from '../shape.ts'
import { Tensor } from '../tensor.ts'
import { checkSameDtype, checkTensor, sharedDevice } from './apply.ts'
import { tensor } from './creation.ts'
import { checkProbability, dropout } from './dropout.ts'
import { add, cast, equal, greater, greaterEqual, less, logicalAnd, logicalNot, mul, where } from './elementwise.ts'
import { matmul } from './matmul.ts'
import { max } from './reduce.ts'
import { reshape } from './shape.ts'
import { softmax } from './softmax.ts'

/** Which keys a query may attend to; all conditions that are given hold at once. */
export interface AttentionMasks {
  /**
   * Broadcast to `[…, Tq, Tk]`. Bool: true where a query may attend to a key. Float: added to the scaled scores; −∞ excludes.
   */
  readonly mask?: Tensor
  /** A query attends to keys at its own position and before: key j ≤ query i. Default false. */
  readonly causal?: boolean
  /**
   * i32 `[batch…, T]`, of queries and keys alike, or of each: a query attends to keys of its own segment; 0 is padding, which
   * nothing attends to and which attends to nothing. Dimensions that are missing before T, such as heads, are inserted there.
   */
  readonly segmentIds?: Tensor | readonly [queries: Tensor, keys: Tensor]
}

/** Options of {@link scaledDotProductAttention}. */
export interface AttentionOptions extends AttentionMasks {
  /** Factor of the scores. Default 1/√D. */
  readonly scale?: number
  /** Probability of leaving out a weight, as in training. Default 0. */
  readonly dropout?: number
  /** Whose random numbers dropout uses; see {@link RandomSite}. */
  readonly site?: RandomSite
}

/**
 * softmax(q·kᵀ · scale)·v over the keys that each query may attend to. A query with none gives zeros.
 *
 * @param q `[…, Tq, D]`; leading dimensions broadcast
 * @param k `[…, Tk, D]`
 * @param v `[…, Tk, Dv]`
 * @returns `[…, Tq, Dv]`
 * @throws `ERR_SHAPE`, `ERR_DTYPE`, `ERR_DEVICE_MISMATCH` when operands or masks do not fit; `ERR_ARGUMENT` for other options
 *
 * @example
 * ```ts
 * import { randn, scaledDotProductAttention } from 'tilegrad'
 * const [q, k, v] = [randn([2, 4, 10, 16]), randn([2, 4, 10, 16]), randn([2, 4, 10, 16])]
 * console.log(scaledDotProductAttention(q, k, v, { causal: true }).shape) // [2, 4, 10, 16]
 * ```
 */
export function scaledDotProductAttention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  const shape = scoresShape(q, k, v)
  checkOptions(OP, options)
  const { scale = 1 / Math.sqrt(Math.max(1, q.shape.at(-1)!)), dropout: p = 0, site } = options
  if (!Number.isFinite(scale)) throw expected(`${OP}: scale`, 'a finite number', scale)
  checkProbability(`${OP}: dropout`, p)
  const { mask, causal = false, segmentIds } = options
  if (typeof causal !== 'boolean') throw expected(`${OP}: causal`, 'true or false', causal)
  if (mask !== undefined) checkMask(q, mask, shape)
  return scope(() => {
    const added = mask !== undefined && mask.dtype !== 'bool' ? mask : null
    const given = [
      ...(mask === undefined ? [] : [added === null ? mask : logicalNot(less(added, lowest(added)))]),
      ...(segmentIds === undefined ? [] : [sameSegment(q, segmentIds, shape)]),
    ]
    const real = given.length === 0 ? null : given.reduce(logicalAnd)
    const allowed = causal ? (real === null ? lower(q, shape) : logicalAnd(real, lower(q, shape))) : real
    // What no mask lets in may hold anything, which a product with a weight of 0 would let in.
    const [queries, keys] = real === null ? [null, null] : [anyAlong(real, -1), columns(anyAlong(real, -2))]
    const within = (x: Tensor, some: Tensor | null): Tensor => (some === null ? x : where(some, x, 0))
    const scaled = mul(within(q, queries), scale)
    const products = matmul(scaled, within(k, keys), { transposeB: true })
    const scores = added === null ? products : add(products, added)
    const weights = softmax(scores, -1, allowed === null ? {} : { mask: allowed })
    const left = p === 0 ? weights : dropout(weights, { p, ...(site === undefined ? {} : { site }) })
    return within(matmul(left, within(v, keys)), queries)
  })
}

const OP = 'scaledDotProductAttention'

/** `[…, Tq, Tk]`. */
function scoresShape(q: Tensor, k: Tensor, v: Tensor): number[] {
  for (const [name, x] of Object.entries({ q, k, v })) {
    checkTensor(OP, name, x)
    if (x.shape.length < 2)
      throw new TilegradError('ERR_SHAPE', `${OP}: ${name} should be […, T, D], not ${showShape(x.shape)}`)
  }
  checkSameDtype(OP, q, k)
  checkSameDtype(OP, q, v)
  sharedDevice(OP, q, k, v)
  if (q.shape.at(-1) !== k.shape.at(-1) || k.shape.at(-2) !== v.shape.at(-2)) {
    throw new TilegradError(
      'ERR_SHAPE',
      `${OP}: q ${showShape(q.shape)}, k ${showShape(k.shape)} and v ${showShape(v.shape)} do not fit: q and k should end with one size, k and v have as many keys`,
    )
  }
  const batch = broadcastShapes(
    OP,
    broadcastShapes(OP, q.shape.slice(0, -2), k.shape.slice(0, -2)),
    v.shape.slice(0, -2),
  )
  return [...batch, q.shape.at(-2)!, k.shape.at(-2)!]
}

function checkMask(q: Tensor, mask: Tensor, shape: readonly number[]): void {
  checkTensor(OP, 'mask', mask)
  sharedDevice(OP, q, mask)
  if (mask.dtype !== 'bool') checkSameDtype(OP, q, mask)
  if (!broadcastsTo(mask.shape, shape))
    throw new TilegradError('ERR_SHAPE', `${OP}: mask ${showShape(mask.shape)} does not stretch to ${showShape(shape)}`)
}

/** The least number that is finite: only −∞ is less. */
function lowest({ dtype }: Tensor): number {
  return dtype === 'f64' ? -Number.MAX_VALUE : -(2 - 2 ** -23) * 2 ** 127
}

/** `[Tq, Tk]`: key j ≤ query i. */
function lower({ device }: Tensor, shape: readonly number[]): Tensor {
  const [rows, columns] = [shape.at(-2)!, shape.at(-1)!].map((size) => Int32Array.from({ length: size }, (_, i) => i))
  const [i, j] = [tensor(rows!, { shape: [rows!.length, 1], device }), tensor(columns!, { device })]
  return greaterEqual(i, j)
}

/** Queries and keys of one segment, as `[…, Tq, Tk]`. */
function sameSegment(
  q: Tensor,
  segmentIds: Tensor | readonly [queries: Tensor, keys: Tensor],
  shape: readonly number[],
): Tensor {
  const [queries, keys] = segmentIds instanceof Tensor ? [segmentIds, segmentIds] : segmentIds
  const [a, b] = [
    segments('queries', queries, q, shape, shape.at(-2)!),
    segments('keys', keys, q, shape, shape.at(-1)!),
  ]
  const [rows, columns] = [reshape(a, [...a.shape, 1]), reshape(b, [...b.shape.slice(0, -1), 1, b.shape.at(-1)!])]
  return logicalAnd(equal(rows, columns), greater(columns, 0))
}

/** Segments with a dimension for each of the batch. */
function segments(name: string, ids: Tensor, q: Tensor, shape: readonly number[], length: number): Tensor {
  checkTensor(OP, `segmentIds of ${name}`, ids)
  sharedDevice(OP, q, ids)
  if (ids.dtype !== 'i32')
    throw new TilegradError('ERR_DTYPE', `${OP}: segmentIds are i32, not ${ids.dtype}; cast('i32') them`)
  const before = ids.shape.slice(0, -1)
  const missing = Math.max(0, shape.length - 2 - before.length)
  const wide = [...before, ...new Array<number>(missing).fill(1), ids.shape.at(-1) ?? 0]
  const wanted = [...shape.slice(0, -2), length]
  if (!broadcastsTo(wide, wanted) || wide.at(-1) !== length) {
    throw new TilegradError(
      'ERR_SHAPE',
      `${OP}: segmentIds of ${name} ${showShape(ids.shape)} should be [batch…, ${length}] for scores ${showShape(shape)}`,
    )
  }
  return reshape(ids, wide)
}

/** Whether anything along an axis is true; the axis stays with size 1. */
function anyAlong(mask: Tensor, axis: number): Tensor {
  // A dimension that the mask does not have stretches: all of it is alike.
  const wide =
    mask.shape.length < 2 ? reshape(mask, [...new Array<number>(2 - mask.shape.length).fill(1), ...mask.shape]) : mask
  if (wide.shape.at(axis) === 0) return cast(tensor(new Int32Array(1), { device: mask.device }), 'bool')
  return cast(max(cast(wide, 'i32'), axis, { keepDims: true }), 'bool')
}

/** `[…, 1, T]` as `[…, T, 1]`. */
function columns(x: Tensor): Tensor {
  return x.shape.length < 2 ? x : reshape(x, [...x.shape.slice(0, -2), x.shape.at(-1)!, 1])
}
