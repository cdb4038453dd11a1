/** Attention with several heads, as a layer: projections around `scaledDotProductAttention`. */

import { type Names, TilegradError, checkOptions, expected } from '../errors.ts'
import { checkTensor, sharedDevice } from '../ops/apply.ts'
import { type AttentionMasks, checkAttentionMask, scaledDotProductAttention } from '../ops/attention.ts'
import { type CreationOptions, initUniform, zeros } from '../ops/creation.ts'
import { checkProbability } from '../ops/dropout.ts'
import { logicalAnd, where } from '../ops/elementwise.ts'
import { linear } from '../ops/linear.ts'
import { reshape, slice, transpose } from '../ops/shape.ts'
import { RandomSite } from '../random-site.ts'
import { scope } from '../scope.ts'
import { broadcastsTo, showShape } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { Linear } from './linear.ts'
import { Module } from './module.ts'
import { Parameter } from './parameter.ts'

/** Options of {@link MultiHeadAttention}. */
export interface MultiHeadAttentionOptions extends Omit<CreationOptions, 'requiresGrad'> {
  /** Probability of leaving out an attention weight in training. Default 0. */
  readonly dropout?: number
  /** Add biases to all projections. Default true. */
  readonly bias?: boolean
  /** Last dimension of the keys. Default: that of the queries. */
  readonly kdim?: number
  /** Last dimension of the values. Default: that of the queries. */
  readonly vdim?: number
}

/** What a query of {@link MultiHeadAttention} may attend to; all that is given holds at once. */
export interface MultiHeadMasks extends AttentionMasks {
  /**
   * Broadcast to `[B, heads, Tq, Tk]`, of one sequence to `[heads, Tq, Tk]`: three dimensions are those of the heads, so
   * masks of each sequence are `[B, 1, Tq, Tk]`. Bool: true where a query may attend to a key. Float: added to the scaled
   * scores; −∞ excludes.
   */
  readonly mask?: Tensor
  /** Bool `[B, Tk]`, of one sequence `[Tk]`: true for real keys, false for padding. */
  readonly keyMask?: Tensor
}

const OP = 'MultiHeadAttention'

const OPTIONS: Names<MultiHeadAttentionOptions> = {
  dropout: true,
  bias: true,
  kdim: true,
  vdim: true,
  dtype: true,
  device: true,
}
const MASKS: Names<MultiHeadMasks> = { mask: true, causal: true, segmentIds: true, keyMask: true }

/**
 * Projects queries, keys and values, lets each of `numHeads` parts attend by itself, joins them and projects again.
 * Batches come first: `[B, T, embedDim]`, or `[T, embedDim]` for one sequence.
 *
 * Parameters have PyTorch's names, transposed as in all layers here: `in_proj_weight` `[embedDim, 3·embedDim]` (queries,
 * keys, values side by side), or with `kdim` or `vdim` `q_proj_weight`, `k_proj_weight` and `v_proj_weight`, each
 * `[in, embedDim]`; `in_proj_bias` `[3·embedDim]`; `out_proj.weight` and `out_proj.bias`.
 *
 * @example
 * ```ts
 * import { nn, randn } from 'tilegrad'
 * const attention = new nn.MultiHeadAttention(32, 4, { dropout: 0.1 })
 * const x = randn([2, 10, 32])
 * console.log(attention.forward(x).shape) // [2, 10, 32]
 * console.log(attention.attend(x, x, x, { causal: true }).shape) // [2, 10, 32]
 * ```
 */
export class MultiHeadAttention extends Module {
  readonly embedDim: number
  readonly numHeads: number
  readonly dropout: number
  readonly in_proj_weight: Parameter | null
  readonly q_proj_weight: Parameter | null
  readonly k_proj_weight: Parameter | null
  readonly v_proj_weight: Parameter | null
  readonly in_proj_bias: Parameter | null
  readonly out_proj: Linear
  readonly #site = new RandomSite()

  /**
   * @param embedDim last dimension of queries and results
   * @param numHeads a divisor of it
   */
  constructor(embedDim: number, numHeads: number, options: MultiHeadAttentionOptions = {}) {
    super()
    checkOptions(OP, options, OPTIONS)
    const { dropout = 0, bias = true, kdim = embedDim, vdim = embedDim, ...creation } = options
    for (const [name, size] of Object.entries({ embedDim, numHeads, kdim, vdim })) {
      if (!Number.isInteger(size) || size < 1) throw expected(`${OP}: ${name}`, 'a whole number ≥ 1', size)
    }
    if (embedDim % numHeads !== 0)
      throw new TilegradError(
        'ERR_ARGUMENT',
        `${OP}: ${numHeads} heads do not divide embedDim ${embedDim} into equal parts`,
      )
    checkProbability(`${OP}: dropout`, dropout)
    this.embedDim = embedDim
    this.numHeads = numHeads
    this.dropout = dropout
    // Xavier's bound, as in PyTorch: over the joined weight where there is one.
    const weight = (from: number, to: number): Parameter =>
      new Parameter(initUniform([from, to], Math.sqrt(6 / (from + to)), creation))
    const joined = kdim === embedDim && vdim === embedDim
    this.in_proj_weight = joined ? weight(embedDim, 3 * embedDim) : null
    this.q_proj_weight = joined ? null : weight(embedDim, embedDim)
    this.k_proj_weight = joined ? null : weight(kdim, embedDim)
    this.v_proj_weight = joined ? null : weight(vdim, embedDim)
    this.in_proj_bias = bias ? new Parameter(zeros([3 * embedDim], creation)) : null
    this.out_proj = new Linear(embedDim, embedDim, { bias, ...creation })
    // As in PyTorch, biases begin at 0 here.
    if (bias)
      this.out_proj.loadStateDict({ bias: { shape: [embedDim], data: new Float32Array(embedDim) } }, { strict: false })
  }

  /**
   * {@link attend} without masks.
   *
   * @param key default: the queries (self-attention)
   * @param value default: the keys
   */
  forward(query: Tensor, key: Tensor = query, value: Tensor = key): Tensor {
    return this.attend(query, key, value)
  }

  /**
   * Lets every query attend to the keys that the masks allow; one that may attend to none gets the output of zeros, which
   * is the bias of `out_proj`.
   *
   * @param query `[B, Tq, embedDim]`, or without B
   * @param key `[B, Tk, kdim]`
   * @param value `[B, Tk, vdim]`
   * @returns `[B, Tq, embedDim]`
   * @throws `ERR_SHAPE`, `ERR_DTYPE`, `ERR_DEVICE_MISMATCH` when these or the masks do not fit
   */
  attend(query: Tensor, key: Tensor, value: Tensor, masks: MultiHeadMasks = {}): Tensor {
    checkOptions(OP, masks, MASKS)
    const { keyMask, mask, ...rest } = masks
    const scores = this.#scoresShape(query, key, value)
    if (mask !== undefined) checkAttentionMask(OP, query, mask, scores)
    if (keyMask !== undefined) checkKeyMask(query, keyMask, scores)
    return scope(() => {
      const [q, k, v] = this.#project(query, key, value)
      const joined = keyMask === undefined ? mask : this.#masked(keyMask, mask)
      const heads = scaledDotProductAttention(q, k, v, {
        ...rest,
        ...(joined === undefined ? {} : { mask: joined }),
        ...(this.training && this.dropout > 0 ? { dropout: this.dropout, site: this.#site } : {}),
      })
      const back = transpose(heads, heads.shape.length === 4 ? [0, 2, 1, 3] : [1, 0, 2])
      return this.out_proj.forward(reshape(back, [...query.shape.slice(0, -1), this.embedDim]))
    })
  }

  /** `[B, heads, Tq, Tk]`, after a look at everything that the products would complain about in words of their own. */
  #scoresShape(query: Tensor, key: Tensor, value: Tensor): number[] {
    const { embedDim, numHeads, k_proj_weight: ofKeys, v_proj_weight: ofValues } = this
    const sizes = { embedDim, kdim: ofKeys?.shape[0] ?? embedDim, vdim: ofValues?.shape[0] ?? embedDim }
    const own = { query: 'embedDim', key: 'kdim', value: 'vdim' } as const
    for (const [name, x] of Object.entries({ query, key, value })) checkTensor(OP, name, x)
    for (const [name, x] of Object.entries({ query, key, value }) as [keyof typeof own, Tensor][]) {
      if (x.shape.length !== query.shape.length || x.shape.length < 2 || x.shape.length > 3)
        throw new TilegradError(
          'ERR_SHAPE',
          `${OP}: ${name} should be [B, T, E], or like the others [T, E], not ${showShape(x.shape)}`,
        )
      const size = sizes[own[name]]
      if (x.shape.at(-1) !== size)
        throw new TilegradError(
          'ERR_SHAPE',
          `${OP}: ${name} ${showShape(x.shape)} does not end with ${own[name]}, which is ${size}`,
        )
    }
    const batch = query.shape.slice(0, -2)
    const keys = key.shape.at(-2)!
    if (value.shape.at(-2) !== keys || [key, value].some((x) => !broadcastsTo(x.shape.slice(0, -2), batch)))
      throw new TilegradError(
        'ERR_SHAPE',
        `${OP}: query ${showShape(query.shape)}, key ${showShape(key.shape)} and value ${showShape(value.shape)} do not fit: they have one batch, keys and values one length`,
      )
    return [...batch, numHeads, query.shape.at(-2)!, keys]
  }

  /** `[B, heads, T, part]` each. */
  #project(query: Tensor, key: Tensor, value: Tensor): [Tensor, Tensor, Tensor] {
    const { embedDim, in_proj_weight: joined, in_proj_bias: bias } = this
    if (joined !== null && query === key && key === value) {
      const all = linear(query, joined, bias)
      const part = (i: number): Tensor =>
        slice(all, [...all.shape.slice(0, -1).map(() => 0), i * embedDim], [...query.shape.slice(0, -1), embedDim])
      return [this.#heads(part(0)), this.#heads(part(1)), this.#heads(part(2))]
    }
    const own = [this.q_proj_weight, this.k_proj_weight, this.v_proj_weight]
    const project = (x: Tensor, i: number): Tensor => {
      const weight = own[i] ?? slice(joined!, [0, i * embedDim], [embedDim, embedDim])
      return this.#heads(linear(x, weight, bias === null ? null : slice(bias, [i * embedDim], [embedDim])))
    }
    return [project(query, 0), project(key, 1), project(value, 2)]
  }

  #heads(x: Tensor): Tensor {
    const split = reshape(x, [...x.shape.slice(0, -1), this.numHeads, this.embedDim / this.numHeads])
    return transpose(split, split.shape.length === 4 ? [0, 2, 1, 3] : [1, 0, 2])
  }

  /** The mask of keys as one of scores, with the other one. */
  #masked(keyMask: Tensor, mask: Tensor | undefined): Tensor {
    const { shape } = keyMask
    const keys = reshape(keyMask, [...shape.slice(0, -1), ...shape.slice(0, -1).map(() => 1), 1, shape.at(-1) ?? 1])
    if (mask === undefined) return keys
    return mask.dtype === 'bool' ? logicalAnd(keys, mask) : where(keys, mask, -Infinity)
  }
}

function checkKeyMask(query: Tensor, keyMask: Tensor, scores: readonly number[]): void {
  checkTensor(OP, 'keyMask', keyMask)
  sharedDevice(OP, query, keyMask)
  const { shape, dtype } = keyMask
  if (dtype !== 'bool') throw new TilegradError('ERR_DTYPE', `${OP}: keyMask is bool, not ${dtype}; cast('bool') it`)
  const wanted = [...scores.slice(0, -3), scores.at(-1)!]
  if (shape.length === 0 || !broadcastsTo(shape, wanted))
    throw new TilegradError('ERR_SHAPE', `${OP}: keyMask ${showShape(shape)} should be ${showShape(wanted)}`)
}
