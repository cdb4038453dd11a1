/**
 * Linear, activations, softmax, and what runs along an axis, with their gradients beside PyTorch's; dropout beside its
 * definition: from `scripts/golden/layer.py`.
 */

import {
  Parameter,
  type Tensor,
  cumprod,
  cumsum,
  elu,
  gelu,
  leakyRelu,
  linear,
  logSoftmax,
  logSumExp,
  manualSeed,
  nn,
  norm,
  optim,
  prod,
  relu,
  sigmoid,
  silu,
  softmax,
  softplus,
  tanh,
} from '../../ts/index.ts'
import { type GoldenCall, declareGolden } from '../helpers/golden.ts'

const along =
  (fn: (x: Tensor, axis: number) => Tensor): GoldenCall =>
  ({ x }, { axis }) => ({ y: fn(x, axis) })

/** The activations by their names, with the one thing that some can be told. */
const ACTIVATIONS: Readonly<Record<string, (x: Tensor, setting?: never) => Tensor>> = {
  relu,
  leakyRelu,
  elu,
  sigmoid,
  tanh,
  silu,
  softplus,
  gelu,
  geluTanh: (x) => gelu(x, { approximate: 'tanh' }),
}

/** Two layers made one after the other, and the first one again after a window has ended. */
const dropout: GoldenCall = ({ x }: { x: Tensor }, { p, seed }: { p: number; seed: number }, device) => {
  manualSeed(seed)
  const layers = [new nn.Dropout(p), new nn.Dropout(p)] as const
  const [first, second] = layers.map((layer) => layer.forward(x))
  new optim.SGD([new Parameter([0], { device })], { lr: 0 }).step()
  return { first: first!, second: second!, later: layers[0].forward(x) }
}

declareGolden(
  'layer',
  {
    linear: ({ x, weight, bias = null }, options) => ({ y: linear(x, weight, bias, options) }),
    activation: ({ x }, { name, setting }) => ({ y: ACTIVATIONS[name as string]!(x, setting) }),
    softmax: along(softmax),
    logSoftmax: along(logSoftmax),
    logSumExp: along(logSumExp),
    norm: ({ x }, { axis, p }) => ({ y: norm(x, { axis, p: Number(p) }) }),
    cumsum: along(cumsum),
    cumprod: along(cumprod),
    prod: along(prod),
    dropout,
  },
  // Seeds are set and layers made outside of compiled functions.
  { eagerOnly: ['dropout'] },
)
