/** Attention with several heads, as a layer: projections around `scaledDotProductAttention`. */

import { TilegradError, checkOptions, expected } from '../errors.ts'
import { type AttentionMasks, scaledDotProductAttention } from '../ops/attention.ts'
import { type CreationOptions, initUniform, zeros } from '../ops/creation.ts'
import { checkProbability } from '../ops/dropout.ts'
import { logicalAnd, where } from '../ops/elementwise.ts'
import { linear } from '../ops/linear.ts'
import { reshape, slice, transpose } from '../ops/shape.ts'
import { RandomSite } from '../random-site.ts'
import { scope } from '../scope.ts'
import { showShape } from '../shape.ts'
import { Tensor } from '../tensor.ts'
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
  /** Bool `[B, Tk]`: true for real keys, false for padding, as `padSequences` gives. */
  readonly keyMask?: Tensor
}

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
    checkOptions('MultiHeadAttention', options)
    const { dropout = 0, bias = true, kdim = embedDim, vdim = embedDim, ...creation } = options
    for (const [name, size] of Object.entries({ embedDim, numHeads, kdim, vdim })) {
      if (!Number.isInteger(size) || size < 1) throw expected(`MultiHeadAttention: ${name}`, 'a whole number ≥ 1', size)
    }
    if (embedDim % numHeads !== 0)
      throw new TilegradError(
        'ERR_ARGUMENT',
        `MultiHeadAttention: ${numHeads} heads do not divide embedDim ${embedDim} into equal parts`,
      )
    checkProbability('MultiHeadAttention: dropout', dropout)
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
   * @param query `[B, Tq, embedDim]`, or without B
   * @param key `[B, Tk, kdim]`
   * @param value `[B, Tk, vdim]`
   * @returns `[B, Tq, embedDim]`
   */
  attend(query: Tensor, key: Tensor, value: Tensor, masks: MultiHeadMasks = {}): Tensor {
    checkOptions('MultiHeadAttention', masks)
    for (const [name, x] of Object.entries({ query, key, value })) {
      if (!(x instanceof Tensor)) throw expected(`MultiHeadAttention: ${name}`, 'a tensor', x)
      if (x.shape.length !== query.shape.length || x.shape.length < 2 || x.shape.length > 3)
        throw new TilegradError(
          'ERR_SHAPE',
          `MultiHeadAttention: ${name} should be [B, T, E], or like the others [T, E], not ${showShape(x.shape)}`,
        )
    }
    return scope(() => {
      const [q, k, v] = this.#project(query, key, value)
      const { keyMask, mask, ...rest } = masks
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
    if (!(keyMask instanceof Tensor)) throw expected('MultiHeadAttention: keyMask', 'a tensor', keyMask)
    const { shape, dtype } = keyMask
    if (dtype !== 'bool')
      throw new TilegradError('ERR_DTYPE', `MultiHeadAttention: keyMask is bool, not ${dtype}; cast('bool') it`)
    const keys = reshape(keyMask, [...shape.slice(0, -1), ...shape.slice(0, -1).map(() => 1), 1, shape.at(-1) ?? 1])
    if (mask === undefined) return keys
    return mask.dtype === 'bool' ? logicalAnd(keys, mask) : where(keys, mask, -Infinity)
  }
}
