/**
 * What layers, losses, optimisers and accumulators do not take, given as users of other libraries would: a typed error at the
 * call that names the layer, not what it is made of, with what does not fit. Options that there are not, of any function.
 * What only the device finds is at the end.
 */

import { inspect } from 'node:util'
import {
  type Device,
  type ErrorCode,
  type Tensor,
  TilegradError,
  arange,
  argmax,
  argmin,
  batchNorm,
  compile,
  cumprod,
  cumsum,
  data,
  dropout,
  embedding,
  eye,
  full,
  gelu,
  groupNorm,
  layerNorm,
  linear,
  logSumExp,
  matmul,
  max,
  mean,
  min,
  nn,
  norm,
  oneHot,
  ones,
  openDevice,
  optim,
  pickDevice,
  prod,
  profile,
  rand,
  randn,
  rmsNorm,
  scaledDotProductAttention,
  scope,
  softplus,
  sum,
  tensor,
  train,
  variance,
  zeros,
} from '../../ts/index.ts'
import { onDevices, open } from '../helpers/devices.ts'

type Misuse = readonly [ErrorCode, RegExp, (device: Device) => unknown]

/** TypeScript would refuse it; JavaScript does not. */
function any(x: unknown): never {
  return x as never
}

const f = (device: Device, ...shape: number[]): Tensor => zeros(shape, { device })
const i = (device: Device, ...shape: number[]): Tensor => zeros(shape, { device, dtype: 'i32' })
const b = (device: Device, ...shape: number[]): Tensor => zeros(shape, { device, dtype: 'bool' })

/** Attention of 2 heads over 3 tokens of 2 sequences, with these masks. */
const attend = (device: Device, masks: object): Tensor => {
  const x = f(device, 2, 3, 6)
  return new nn.MultiHeadAttention(6, 2, { device }).attend(x, x, x, masks)
}

const ATTENTION: readonly Misuse[] = [
  [
    'ERR_SHAPE',
    /^MultiHeadAttention: query \[2, 3, 5\] does not end with embedDim, which is 6/,
    (d) => new nn.MultiHeadAttention(6, 2, { device: d }).forward(f(d, 2, 3, 5)),
  ],
  [
    'ERR_SHAPE',
    /^MultiHeadAttention: key \[2, 3, 6\] does not end with kdim, which is 4/,
    (d) => new nn.MultiHeadAttention(6, 2, { kdim: 4, device: d }).forward(f(d, 2, 3, 6)),
  ],
  [
    'ERR_SHAPE',
    /^MultiHeadAttention: value \[2, 3, 6\] does not end with vdim, which is 5/,
    (d) => new nn.MultiHeadAttention(6, 2, { vdim: 5, device: d }).forward(f(d, 2, 3, 6)),
  ],
  [
    'ERR_SHAPE',
    /^MultiHeadAttention: query \[2, 3, 6\], key \[3, 3, 6\] and value \[3, 3, 6\] do not fit: they have one batch/,
    (d) => new nn.MultiHeadAttention(6, 2, { device: d }).forward(f(d, 2, 3, 6), f(d, 3, 3, 6)),
  ],
  [
    'ERR_SHAPE',
    /^MultiHeadAttention: .* do not fit: .*keys and values one length/,
    (d) => new nn.MultiHeadAttention(6, 2, { device: d }).forward(f(d, 2, 3, 6), f(d, 2, 4, 6), f(d, 2, 5, 6)),
  ],
  [
    'ERR_ARGUMENT',
    /^MultiHeadAttention: key must be a tensor/,
    (d) => new nn.MultiHeadAttention(6, 2, { device: d }).attend(f(d, 2, 3, 6), any(undefined), any(undefined)),
  ],
  ['ERR_SHAPE', /^MultiHeadAttention: keyMask \[2, 2\] should be \[2, 3\]/, (d) => attend(d, { keyMask: b(d, 2, 2) })],
  ['ERR_SHAPE', /^MultiHeadAttention: keyMask \[\] should be/, (d) => attend(d, { keyMask: b(d) })],
  ['ERR_DTYPE', /^MultiHeadAttention: keyMask is bool, not f32/, (d) => attend(d, { keyMask: f(d, 2, 3) })],
  ['ERR_ARGUMENT', /^MultiHeadAttention: keyMask must be a tensor/, (d) => attend(d, { keyMask: [[true]] })],
  [
    'ERR_SHAPE',
    /^MultiHeadAttention: mask \[2, 2\] does not stretch to \[2, 2, 3, 3\]/,
    (d) => attend(d, { mask: b(d, 2, 2) }),
  ],
  [
    'ERR_SHAPE',
    /^MultiHeadAttention: mask \[2, 2\] does not stretch/,
    (d) => attend(d, { mask: b(d, 2, 2), keyMask: b(d, 2, 3) }),
  ],
  [
    'ERR_DTYPE',
    /^MultiHeadAttention: a mask is bool or f32 here, not i32/,
    (d) => attend(d, { mask: i(d, 3, 3), keyMask: b(d, 2, 3) }),
  ],
]

const LAYERS: readonly Misuse[] = [
  ['ERR_ARGUMENT', /^GroupNorm: x must be a tensor/, (d) => new nn.GroupNorm(2, 4, { device: d }).forward(any([1, 2]))],
  ['ERR_SHAPE', /^GroupNorm: x \[4\] does not have 4/, (d) => new nn.GroupNorm(2, 4, { device: d }).forward(f(d, 4))],
  ['ERR_DTYPE', /^embedding: indices are i32, not f32/, (d) => embedding(f(d, 3), f(d, 4, 2))],
  ['ERR_DTYPE', /^embedding: /, (d) => new nn.Embedding(4, 2, { paddingIdx: 0, device: d }).forward(f(d, 3))],
  [
    'ERR_ARGUMENT',
    /^BatchNorm: affine must be true or false/,
    (d) => new nn.BatchNorm(3, any({ affine: 1, device: d })),
  ],
  [
    'ERR_ARGUMENT',
    /^BatchNorm: trackRunningStats must be true or false/,
    (d) => new nn.BatchNorm(3, any({ trackRunningStats: 'no', device: d })),
  ],
  [
    'ERR_FORMAT',
    /^loadStateDict: weight is \[4, 3\] and has 5 values/,
    (d) =>
      new nn.Linear(4, 3, { bias: false, device: d }).loadStateDict({
        weight: { shape: [4, 3], data: new Float32Array(5) },
      }),
  ],
]

const LOSSES: readonly Misuse[] = [null, '0.1', Number.NaN, 2].map((labelSmoothing) => [
  'ERR_ARGUMENT',
  /^crossEntropy: labelSmoothing must be a number from 0 to 1/,
  (d) => nn.crossEntropy(f(d, 2, 3), [0, 1], any({ labelSmoothing })),
])

/** An accumulator with its layer. */
function accumulator(d: Device, options: object = {}): { layer: nn.Linear; acc: train.GradientAccumulator } {
  const layer = new nn.Linear(3, 2, { device: d })
  return { layer, acc: new train.GradientAccumulator(new optim.SGD(layer.parameters(), { lr: 1 }), options) }
}

const TRAINING: readonly Misuse[] = [
  [
    'ERR_ARGUMENT',
    /^SGD: nesterov must be a boolean/,
    (d) =>
      new optim.SGD(new nn.Linear(1, 1, { device: d }).parameters(), any({ lr: 1, momentum: 0.9, nesterov: 'no' })),
  ],
  [
    'ERR_ARGUMENT',
    /^GradientAccumulator\.window: the function must be synchronous/,
    (d) => {
      const { layer, acc } = accumulator(d)
      // What it waits for is refused, which must not end the process.
      const micro = async (x: Tensor): Promise<nn.Parts> => {
        await x.data()
        return nn.mse(layer.forward(x), f(d, 4, 2), { reduction: 'parts' })
      }
      return acc.window([[f(d, 4, 3)]], any(micro))
    },
  ],
  [
    'ERR_ARGUMENT',
    /^GradientAccumulator: reduce: the function must be synchronous/,
    (d) => {
      const { layer, acc } = accumulator(d, { reduce: () => Promise.reject(new Error('nobody hears of it')) })
      acc.add(nn.mse(layer.forward(f(d, 4, 3)), f(d, 4, 2), { reduction: 'parts' }))
      return acc.step()
    },
  ],
  ...[5, undefined, null, {}].map((loader): Misuse => [
    'ERR_ARGUMENT',
    /^updateBatchNorm: loader must be a loader or a list of batches/,
    (d) => train.updateBatchNorm(new nn.Sequential(new nn.BatchNorm(3, { device: d })), any(loader)),
  ]),
]

for (const [topic, misuses] of Object.entries({
  attention: ATTENTION,
  layers: LAYERS,
  losses: LOSSES,
  training: TRAINING,
}))
  onDevices(`${topic}: what does not fit is refused in words of the one who is asked`, async (t, device) => {
    for (const [code, says, call] of misuses) {
      let error: unknown
      try {
        let result: unknown
        scope(() => {
          result = call(device)
        })
        await result
      } catch (thrown) {
        error = thrown
      }
      if (!(error instanceof TilegradError)) t.fail(`${says}: ${inspect(error)}`)
      else {
        t.is(error.code, code, error.message)
        t.regex(error.message, says)
      }
    }
    t.is(await f(device, 2).add(1).sum().item(), 2)
  })

/** Names of other libraries, which read as nothing would train something else than what was meant. */
const MISSPELT: Readonly<Record<string, (device: Device, options: object) => unknown>> = {
  Linear: (d, options) => new nn.Linear(2, 2, any({ device: d, ...options })),
  BatchNorm: (d, options) => new nn.BatchNorm(2, any({ device: d, ...options })),
  LayerNorm: (d, options) => new nn.LayerNorm(2, any({ device: d, ...options })),
  GroupNorm: (d, options) => new nn.GroupNorm(1, 2, any({ device: d, ...options })),
  RMSNorm: (d, options) => new nn.RMSNorm(2, any({ device: d, ...options })),
  Embedding: (d, options) => new nn.Embedding(2, 2, any({ device: d, ...options })),
  Perceptron: (d, options) => new nn.Perceptron(2, 2, any({ device: d, ...options })),
  'Perceptron.learn': (d, options) =>
    new nn.Perceptron(2, 2, { device: d }).learn(f(d, 1, 2), f(d, 1, 2), any(options)),
  MultiHeadAttention: (d, options) => attend(d, options),
  scaledDotProductAttention: (d, options) =>
    scaledDotProductAttention(f(d, 2, 2), f(d, 2, 2), f(d, 2, 2), any(options)),
  batchNorm: (d, options) => batchNorm(f(d, 2, 2), any({ training: true, ...options })),
  layerNorm: (d, options) => layerNorm(f(d, 2, 2), any({ normalizedShape: 2, ...options })),
  groupNorm: (d, options) => groupNorm(f(d, 2, 2), any({ groups: 1, ...options })),
  rmsNorm: (d, options) => rmsNorm(f(d, 2, 2), any({ normalizedShape: 2, ...options })),
  dropout: (d, options) => dropout(f(d, 2, 2), any(options)),
  embedding: (d, options) => embedding(i(d, 2), f(d, 2, 2), any(options)),
  crossEntropy: (d, options) => nn.crossEntropy(f(d, 2, 2), [0, 1], any(options)),
  nll: (d, options) => nn.nll(f(d, 2, 2), [0, 1], any(options)),
  mse: (d, options) => nn.mse(f(d, 2), f(d, 2), any(options)),
  mae: (d, options) => nn.mae(f(d, 2), f(d, 2), any(options)),
  huber: (d, options) => nn.huber(f(d, 2), f(d, 2), any(options)),
  bceWithLogits: (d, options) => nn.bceWithLogits(f(d, 2), f(d, 2), any(options)),
  SGD: (d, options) => new optim.SGD(new nn.Linear(1, 1, { device: d }).parameters(), any({ lr: 1, ...options })),
  Adam: (d, options) => new optim.Adam(new nn.Linear(1, 1, { device: d }).parameters(), any(options)),
  AdamW: (d, options) => new optim.AdamW(new nn.Linear(1, 1, { device: d }).parameters(), any(options)),
  RMSprop: (d, options) => new optim.RMSprop(new nn.Linear(1, 1, { device: d }).parameters(), any(options)),
  'AdamW: group': (d, options) =>
    new optim.AdamW([any({ params: new nn.Linear(1, 1, { device: d }).parameters(), ...options })]),
  EMA: (d, options) => new optim.EMA(new nn.Linear(1, 1, { device: d }), any(options)),
  clipGradNorm: (d, options) => optim.clipGradNorm(new nn.Linear(1, 1, { device: d }).parameters(), 1, any(options)),
  noDecayOnBiasAndNorm: (d, options) => optim.noDecayOnBiasAndNorm(new nn.Linear(1, 1, { device: d }), any(options)),
  GradientAccumulator: (d, options) => accumulator(d, options),
  DataLoader: (d, options) => new data.DataLoader(new data.TensorDataset(f(d, 2)), any(options)),
  GELU: (_, options) => new nn.GELU(any(options)),
  Softplus: (_, options) => new nn.Softplus(any(options)),
  gelu: (d, options) => gelu(f(d, 2), any(options)),
  softplus: (d, options) => softplus(f(d, 2), any(options)),
  tensor: (d, options) => tensor([1, 2], any({ device: d, ...options })),
  full: (d, options) => full([2], 1, any({ device: d, ...options })),
  rand: (d, options) => rand([2], any({ device: d, ...options })),
  randn: (d, options) => randn([2], any({ device: d, ...options })),
  arange: (d, options) => arange(2, any({ device: d, start: 1, ...options })),
  eye: (d, options) => eye(2, any({ device: d, ...options })),
  sum: (d, options) => sum(f(d, 2, 2), 1, any(options)),
  mean: (d, options) => mean(f(d, 2, 2), 1, any(options)),
  max: (d, options) => max(f(d, 2, 2), 1, any(options)),
  min: (d, options) => min(f(d, 2, 2), 1, any(options)),
  variance: (d, options) => variance(f(d, 2, 2), 1, any({ correction: 0, ...options })),
  argmax: (d, options) => argmax(f(d, 2, 2), 1, any(options)),
  argmin: (d, options) => argmin(f(d, 2, 2), 1, any(options)),
  norm: (d, options) => norm(f(d, 2, 2), any({ axis: 1, ...options })),
  logSumExp: (d, options) => logSumExp(f(d, 2, 2), 1, any(options)),
  prod: (d, options) => prod(f(d, 2, 2), 1, any(options)),
  cumsum: (d, options) => cumsum(f(d, 2, 2), 1, any(options)),
  cumprod: (d, options) => cumprod(f(d, 2, 2), 1, any(options)),
  matmul: (d, options) => matmul(f(d, 2, 2), f(d, 2, 2), any(options)),
  linear: (d, options) => linear(f(d, 2, 2), f(d, 2, 2), null, any(options)),
  oneHot: (d, options) => oneHot(i(d, 2), 2, any(options)),
  backward: (d, options) => tensor(1, { device: d, requiresGrad: true }).mul(2).backward(any(options)),
  loadStateDict: (_, options) => new nn.ReLU().loadStateDict({}, any(options)),
  compile: (_, options) => compile(() => 0, any(options)),
  profile: (d, options) => profile(() => 0, any({ device: d, ...options })),
  pickDevice: async (_, options) => {
    const { device } = await pickDevice(() => () => zeros([2]), any({ candidates: ['js'], runs: 1, ...options }))
    await device.close()
  },
  openDevice: async (_, options) => (await openDevice(any({ kind: 'js', ...options }))).close(),
  data: (d, options) => f(d, 2).data(any(options)),
  item: (d, options) => f(d).item(any(options)),
  updateBatchNorm: (d, options) => train.updateBatchNorm(new nn.Sequential(new nn.Linear(1, 1, { device: d })), [], any(options)), // prettier-ignore
}

onDevices('an option that there is not is refused with the names of those that there are', async (t, device) => {
  for (const [name, call] of Object.entries(MISSPELT)) {
    await t.notThrowsAsync(async () => call(device, {}), name)
    // As good as left out: what somebody hands on without knowing whether it is there.
    await t.notThrowsAsync(async () => call(device, { weight_decay: undefined }), name)
    const error = await t.throwsAsync(
      async () => call(device, { weight_decay: 0 }),
      { instanceOf: TilegradError },
      name,
    )
    t.is(error.code, 'ERR_ARGUMENT')
    t.true(error.message.startsWith(`${name}: there is no option 'weight_decay'; there are `), error.message)
  }
  for (const make of [zeros, ones])
    t.throws(() => make([2], any({ device, weight_decay: 0 })), { message: /^full: there is no option 'weight_decay'/ })
  t.throws(() => nn.crossEntropy(f(device, 2, 2), [0, 1], any({ toString: 1 })), { message: /no option 'toString'/ })
})

onDevices('settings of a BatchNorm that are changed are looked at when they are used', async (t, device) => {
  const x = tensor([[1], [3]], { device })
  for (const [name, value] of Object.entries({
    momentum: 5,
    eps: -1,
    runningVar: 'best',
    accumulation: 'synch',
    runningUpdate: 'never',
    microBatches: 0,
  })) {
    const layer = new nn.BatchNorm(1, { device })
    Object.assign(layer, { [name]: value })
    t.throws(() => layer.forward(x), { code: 'ERR_ARGUMENT', message: new RegExp(`^BatchNorm: ${name} must be`) })
    t.deepEqual(await layer.running_mean!.array(), [0], name)
  }
  const layer = new nn.BatchNorm(1, { momentum: null, device })
  layer.runningUpdate = 'rescaled'
  t.throws(() => layer.forward(x), { code: 'ERR_ARGUMENT', message: /^BatchNorm: momentum must be a number with/ })
})

onDevices('what the device finds names the operation, too', async (t, { kind }) => {
  const device = await open({ kind })
  const nothing = b(device, 2)
  const [x, y] = [f(device, 2, 2), f(device, 2, 2)]
  const options = { mask: nothing, emptyMask: 'throw' } as const
  const elements = { mask: nothing.reshape([2, 1]), emptyMask: 'throw' } as const
  const losses: Record<string, Tensor> = {
    crossEntropy: nn.crossEntropy(x, i(device, 2), options),
    nll: nn.nll(x, i(device, 2), options),
    mse: nn.mse(x, y, elements),
    mae: nn.mae(x, y, elements),
    huber: nn.huber(x, y, elements),
    bceWithLogits: nn.bceWithLogits(x, y, elements),
  }
  for (const [name, loss] of Object.entries(losses))
    await t.throwsAsync(loss.data(), { code: 'ERR_ARGUMENT', message: new RegExp(`${name}: nothing is counted`) })
  const layer = new nn.BatchNorm(2, { device })
  const normal = layer.forward(x, nothing)
  await t.throwsAsync(normal.data(), { message: /batchNorm: more than 1 value per channel needed in training/ })
  const { layer: linear, acc } = accumulator(device, { onNonFinite: 'throw' })
  acc.add(nn.mse(linear.forward(f(device, 4, 3).add(Infinity)), f(device, 4, 2), { reduction: 'parts' }))
  for (const result of Object.values(acc.step()) as Tensor[])
    await t.throwsAsync(result.data(), { message: /GradientAccumulator: a gradient of the window is not finite/ })
  linear.weight.grad = f(device, 3, 2).add(Infinity)
  const total = optim.clipGradNorm([linear.weight], 1, { errorIfNonFinite: true })
  await t.throwsAsync(total.data(), { message: /clipGradNorm: a gradient is not finite/ })
  // Errors of values that nobody has read come up here.
  await device.sync().catch(() => undefined)
  await device.close().catch(() => undefined)
})
