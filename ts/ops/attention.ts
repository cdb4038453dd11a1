/**
 * Scaled dot-product attention, made of products, a masked softmax and dropout. What a mask keeps apart is kept apart to
 * the last: products would carry NaN and infinities of a key to queries that give it the weight 0, forward and backward.
 * So where there is a mask they see 0 in place of what is not finite, and the queries that may attend to it become NaN
 * afterwards; those that may attend to nothing give 0, so that padding may hold anything. Every sum goes by position: what
 * stands behind the real keys changes no bit of a real result.
 */

import { type Names, TilegradError, checkOptions, expected } from '../errors.ts'
import type { RandomSite } from '../random-site.ts'
import { scope } from '../scope.ts'
import { broadcastShapes, broadcastsTo, showShape } from '../shape.ts'
import { Tensor } from '../tensor.ts'
import { noGrad } from '../autograd/tape.ts'
import { checkSameDtype, checkTensor, sharedDevice } from './apply.ts'
import { full } from './creation.ts'
import { checkProbability, dropout } from './dropout.ts'
import {
  abs,
  add,
  equal,
  greater,
  greaterEqual,
  isFinite,
  less,
  logicalAnd,
  logicalNot,
  maximum,
  mul,
  where,
} from './elementwise.ts'
import { matmul } from './matmul.ts'
import { positions } from './positions.ts'
import { max, sum } from './reduce.ts'
import { cumsum } from './scan.ts'
import { pad, reshape, slice } from './shape.ts'
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
 * softmax(q·kᵀ · scale)·v over the keys that each query may attend to. A query with none gives zeros. What a query may not
 * attend to contributes nothing to it and its gradients, NaN and infinities included; where a mask lets a query attend to a row
 * that holds them, its result is NaN.
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
  checkOptions(OP, options, OPTIONS)
  const { scale = 1 / Math.sqrt(Math.max(1, q.shape.at(-1)!)), dropout: p = 0, site } = options
  if (!Number.isFinite(scale)) throw expected(`${OP}: scale`, 'a finite number', scale)
  checkProbability(`${OP}: dropout`, p)
  const { mask, causal = false, segmentIds } = options
  if (typeof causal !== 'boolean') throw expected(`${OP}: causal`, 'true or false', causal)
  if (mask !== undefined) checkAttentionMask(OP, q, mask, shape)
  return scope(() => {
    const added = mask !== undefined && mask.dtype !== 'bool' ? mask : null
    const given = [
      ...(mask === undefined ? [] : [added === null ? mask : logicalNot(less(added, lowest(added)))]),
      ...(segmentIds === undefined ? [] : [sameSegment(q, segmentIds, shape)]),
    ]
    const real = given.length === 0 ? null : given.reduce(logicalAnd)
    const allowed = causal ? (real === null ? lower(q, shape) : logicalAnd(real, lower(q, shape))) : real
    const attend = (q: Tensor, k: Tensor, v: Tensor): Tensor => {
      const products = matmul(mul(q, scale), k, { transposeB: true })
      const scores = added === null ? products : add(products, added)
      const weights = softmax(scores, -1, allowed === null ? {} : { mask: allowed })
      return matmul(p === 0 ? weights : dropout(weights, { p, ...(site === undefined ? {} : { site }) }), v)
    }
    if (allowed === null) return attend(q, k, v)
    // First, so that the last product can take the selection in.
    const isCausal = real === null && shape.at(-1)! > 0
    const { fine, otherwise } = meetings(q, maximum(spoilt(k), spoilt(v)), isCausal ? 'causal' : allowed)
    return where(fine, attend(held(q), held(k), held(v)), otherwise)
  })
}

const OP = 'scaledDotProductAttention'

const OPTIONS: Names<AttentionOptions> = {
  mask: true,
  causal: true,
  segmentIds: true,
  scale: true,
  dropout: true,
  site: true,
}

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

/** @internal Throws unless a mask is one of scores of this shape. */
export function checkAttentionMask(op: string, q: Tensor, mask: Tensor, shape: readonly number[]): void {
  checkTensor(op, 'mask', mask)
  sharedDevice(op, q, mask)
  if (mask.dtype !== 'bool' && mask.dtype !== q.dtype)
    throw new TilegradError('ERR_DTYPE', `${op}: a mask is bool or ${q.dtype} here, not ${mask.dtype}; cast() it`)
  if (!broadcastsTo(mask.shape, shape))
    throw new TilegradError('ERR_SHAPE', `${op}: mask ${showShape(mask.shape)} does not stretch to ${showShape(shape)}`)
}

/** The least number that is finite: only −∞ is less. */
function lowest({ dtype }: Tensor): number {
  return dtype === 'f64' ? -Number.MAX_VALUE : -(2 - 2 ** -23) * 2 ** 127
}

/** `[Tq, Tk]`: key j ≤ query i. */
function lower({ device }: Tensor, shape: readonly number[]): Tensor {
  const [queries, keys] = [shape.at(-2)!, shape.at(-1)!]
  return greaterEqual(reshape(positions(device, queries), [queries, 1]), positions(device, keys))
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

/** What is finite of it; 0 for the rest. */
function held(x: Tensor): Tensor {
  return where(isFinite(x), x, 0)
}

/** What a row that holds something that is not finite counts for: more than there are keys, and whole sums of both are exact. */
const SPOILT = 2 ** 30

/** {@link SPOILT} for rows that hold something that is not finite, 0 for the others, as `[…, T, 1]`. */
function spoilt(x: Tensor): Tensor {
  const { dtype, device } = x
  const shape = [...x.shape.slice(0, -1), 1]
  if (x.shape.at(-1) === 0) return full(shape, 0, { dtype, device })
  return noGrad(() => where(isFinite(max(abs(x), -1, { keepDims: true })), full(shape, 0, { dtype, device }), SPOILT))
}

/** Which queries, `[…, Tq, 1]`, are not spoilt and meet keys of which none is; and what becomes of others: 0 where they meet none. */
function meetings(q: Tensor, keys: Tensor, allowed: Tensor | 'causal'): { fine: Tensor; otherwise: Tensor } {
  const nan = full([], Number.NaN, { dtype: q.dtype, device: q.device })
  // There is a first key, every query meets it, and it meets what those before it have met.
  if (allowed === 'causal')
    return { fine: less(add(running(keys, q.shape.at(-2)!), spoilt(q)), SPOILT), otherwise: nan }
  const met = sum(where(allowed, rows(add(keys, 1)), 0), -1, { keepDims: true })
  const fine = logicalAnd(logicalAnd(greater(met, 0), less(met, SPOILT)), less(spoilt(q), SPOILT))
  return { fine, otherwise: where(equal(met, 0), 0, nan) }
}

/** What queries at positions 0, 1, … count when they meet the keys up to theirs: `[…, Tk, 1]` as `[…, Tq, 1]`. */
function running(keys: Tensor, queries: number): Tensor {
  const { shape } = keys
  const [count, batch] = [shape.at(-2)!, shape.slice(0, -2)]
  const behind = Math.max(0, queries - count)
  const all = behind === 0 ? keys : pad(keys, [...batch.map(() => [0, 0]), [0, behind], [0, 0]])
  const sums = cumsum(all, -2)
  return queries === all.shape.at(-2) ? sums : slice(sums, shape.map(() => 0), [...batch, queries, 1]) // prettier-ignore
}

/** `[…, T, 1]` as `[…, 1, T]`. */
function rows(x: Tensor): Tensor {
  return reshape(x, [...x.shape.slice(0, -2), 1, x.shape.at(-2)!])
}
