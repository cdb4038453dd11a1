/** Attention and embeddings with their gradients beside PyTorch's, from `scripts/golden/attention.py`. */

import { type Device, type Tensor, embedding, nn, scaledDotProductAttention } from '../../ts/index.ts'
import { declareGolden } from '../helpers/golden.ts'

interface Sizes {
  readonly embedDim: number
  readonly numHeads: number
  readonly bias: boolean
  readonly kdim?: number
  readonly vdim?: number
}

/** A layer whose weights are those of the case, under their names in the state. */
function layerOf(inputs: Readonly<Record<string, Tensor>>, options: Sizes, device: Device): nn.MultiHeadAttention {
  const { embedDim, numHeads, ...rest } = options
  const layer = new nn.MultiHeadAttention(embedDim, numHeads, { ...rest, device })
  for (const name of layer.namedParameters().keys()) {
    const [field, owner] = name.split('.').toReversed() as [string, string?]
    Object.assign(owner === undefined ? layer : layer.out_proj, { [field]: inputs[name]! })
  }
  return layer
}

declareGolden(
  'attention',
  {
    attention: ({ q, k, v, ...masks }, options) => ({
      y: scaledDotProductAttention(q, k, v, { ...masks, ...options }),
    }),
    multiHeadAttention(inputs, options, device) {
      const { query, key = query, value = key, mask, keyMask } = inputs
      const masks = { ...(mask === undefined ? {} : { mask }), ...(keyMask === undefined ? {} : { keyMask }) }
      return { y: layerOf(inputs, options, device).attend(query, key, value, masks) }
    },
    embedding: ({ indices, weight }, options) => ({ y: embedding(indices, weight, options) }),
  },
  // Layers are made outside of compiled functions.
  { eagerOnly: ['multiHeadAttention'] },
)
