/**
 * `GradientAccumulator.window`: with BatchNorm layers of `accumulation: 'sync'`, all micro-batches of a window are
 * normalised together, so gradients, running statistics and what training makes of them are those of the one large batch.
 */

import { type Device, type Dtype, type Tensor, compile, manualSeed, nn, optim, tensor, train } from '../../ts/index.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf, rejectionOf } from '../helpers/errors.ts'
import { distance, largest, random, values } from '../helpers/values.ts'

const TOTAL = 19
const SPLITS: readonly (readonly number[])[] = [[19], [8, 8, 3], [1, 5, 2, 4, 1, 3, 2, 1]]
const CLASSES = Int32Array.from({ length: TOTAL }, (_, i) => (5 * i + (i >> 1)) % 4)

/** Two layers that are normalised over the window, the second one twice in each forward pass. */
class Net extends nn.Module {
  first: nn.Linear
  norm: nn.BatchNorm
  second: nn.Linear
  shared: nn.BatchNorm
  last: nn.Linear

  constructor(device: Device, dtype: Dtype, accumulation: 'micro' | 'sync') {
    super()
    manualSeed(3)
    // No bias: behind it the mean is taken off, so its gradient would be rounding, which Adam makes as large as any other.
    this.first = new nn.Linear(6, 9, { bias: false, device, dtype })
    this.norm = new nn.BatchNorm(9, { device, dtype, accumulation })
    this.second = new nn.Linear(9, 9, { activation: 'tanh', device, dtype })
    this.shared = new nn.BatchNorm(9, { device, dtype, accumulation })
    this.last = new nn.Linear(9, 4, { device, dtype })
  }

  override forward(x: Tensor): Tensor {
    const h = this.norm.forward(this.first.forward(x)).relu()
    const once = this.shared.forward(this.second.forward(h))
    return this.last.forward(this.shared.forward(once.add(h)))
  }
}

interface Trained {
  readonly weights: number[][]
  readonly buffers: number[][]
  readonly norms: number[]
}

interface TrainedOptions {
  readonly windows?: number
  readonly sparse?: boolean
  readonly accumulation?: 'micro' | 'sync'
  readonly make?: (model: nn.Module) => optim.Optimizer
}

/** Trains for some windows, each of which is split into micro-batches of these sizes. */
async function trained(
  device: Device,
  dtype: Dtype,
  sizes: readonly number[],
  { windows = 1, sparse = false, accumulation = 'sync', make = adamw }: TrainedOptions = {},
): Promise<Trained> {
  const model = new Net(device, dtype, accumulation)
  const acc = new train.GradientAccumulator(make(model), { clipNorm: 0.8 })
  const micro = (x: Tensor, y: Tensor): nn.Parts => nn.crossEntropy(model.forward(x), y, { reduction: 'parts' })
  const norms: number[] = []
  for (let w = 0; w < windows; w++) {
    const x = tensor(random([TOTAL, 6], { seed: 100 + w }), { shape: [TOTAL, 6], dtype, device })
    const targets = sparse ? CLASSES.map((c, i) => (i % 3 === 0 || i > 14 ? -100 : c)) : CLASSES
    let start = 0
    const batches = sizes.map((size): [Tensor, Tensor] => {
      const rows = x.slice([start], [size])
      const y = tensor(targets.slice(start, start + size), { device })
      start += size
      return [rows, y]
    })
    norms.push(await acc.window(batches, micro).norm.item())
  }
  return {
    weights: await Promise.all(model.parameters().map(values)),
    buffers: await Promise.all([...model.buffers().values()].map(values)),
    norms,
  }
}

function adamw(model: nn.Module): optim.Optimizer {
  return new optim.AdamW(model.parameters(), { lr: 0.01 })
}

/** Plain gradient descent: differences of weights are those of gradients. */
function sgd(model: nn.Module): optim.Optimizer {
  return new optim.SGD(model.parameters(), { lr: 1 })
}

for (const sparse of [false, true]) {
  onDevices(
    `a window${sparse ? ' with ignored items' : ''} is the one large batch, however it is split`,
    async (t, device) => {
      const rules: [Dtype, number][] = device.kind === 'js' ? [['f64', 1e-12], ['f32', 1e-5]] : [['f32', 1e-5]] // prettier-ignore
      for (const [dtype, tolerance] of rules) {
        // The batch as it is, in one piece.
        const model = new Net(device, dtype, 'micro')
        const acc = new train.GradientAccumulator(sgd(model), { clipNorm: 0.8 })
        const x = tensor(random([TOTAL, 6], { seed: 100 }), { shape: [TOTAL, 6], dtype, device })
        const targets = sparse ? CLASSES.map((c, i) => (i % 3 === 0 || i > 14 ? -100 : c)) : CLASSES
        acc.add(nn.crossEntropy(model.forward(x), tensor(targets, { device }), { reduction: 'parts' }))
        const norm = await acc.step().norm.item()
        const weights = await Promise.all(model.parameters().map(values))
        const buffers = await Promise.all([...model.buffers().values()].map(values))
        for (const sizes of SPLITS) {
          const got = await trained(device, dtype, sizes, { sparse, make: sgd })
          const near = (a: number[], b: number[], what: string): unknown =>
          t.true(distance(a, b) <= tolerance * Math.max(largest(b), 1), `${dtype} [${sizes.join()}] ${what}: ${distance(a, b)}`) // prettier-ignore
          near(got.norms, [norm], 'norm')
          got.weights.forEach((w, i) => near(w, weights[i]!, `weight ${i}`))
          got.buffers.forEach((b, i) => near(b, buffers[i]!, `buffer ${i}`))
        }
        // And it matters: normalised by themselves, micro-batches give something else.
        const apart = await trained(device, dtype, [8, 8, 3], { sparse, make: sgd, accumulation: 'micro' })
        t.true(distance(apart.weights[0]!, weights[0]!) > 1e-3)
      }
    },
  )
}

onDevices('fifty windows of AdamW end where large batches end', async (t, device) => {
  const [dtype, tolerance]: [Dtype, number] = device.kind === 'js' ? ['f64', 1e-9] : ['f32', 2e-3]
  const options = { windows: device.kind === 'js' ? 50 : 10 }
  const whole = await trained(device, dtype, [TOTAL], options)
  const split = await trained(device, dtype, SPLITS[2]!, options)
  split.weights.forEach((w, i) =>
    t.true(distance(w, whole.weights[i]!) <= tolerance, `weight ${i}: ${distance(w, whole.weights[i]!)}`),
  )
})

onDevices('masked micro-batches count for what is active, down to nothing', async (t, device) => {
  const run = async (sizes: readonly number[]): Promise<number[][]> => {
    const norm = new nn.BatchNorm(3, { device, accumulation: 'sync' })
    const acc = new train.GradientAccumulator(new optim.SGD(norm.parameters(), { lr: 1 }))
    const x = random([8, 3], { seed: 9 })
    // Two positions in the middle hold what must not reach anything.
    for (const i of [2, 3]) x.fill(Number.NaN, 3 * i, 3 * i + 3)
    const active = Array.from({ length: 8 }, (_, i) => i !== 2 && i !== 3)
    let start = 0
    const batches = sizes.map((size): [Tensor, Tensor] => {
      const rows = tensor(x.slice(3 * start, 3 * (start + size)), { shape: [size, 3], device })
      const mask = tensor(active.slice(start, start + size), { shape: [size], dtype: 'bool', device })
      start += size
      return [rows, mask]
    })
    acc.window(batches, (rows, mask) => ({
      sum: norm.forward(rows, mask).square().mul(rows.isFinite().cast('f32')).sum(),
      count: mask.cast('f32').sum(),
    }))
    return Promise.all([...norm.parameters(), ...norm.buffers().values()].map(values))
  }
  const whole = await run([8])
  for (const sizes of [
    [2, 2, 4],
    [1, 1, 1, 1, 4],
    [4, 0, 4],
  ]) {
    const split = await run(sizes)
    split.forEach((v, i) => t.true(distance(v, whole[i]!) <= 1e-5 * Math.max(largest(whole[i]!), 1), `[${sizes.join()}] ${i}: ${v.join()} and ${whole[i]!.join()}`)) // prettier-ignore
  }
})

onDevices(
  'a window is recorded once, may be part of a compiled function, and goes on from its last state',
  async (t, device) => {
    const model = new Net(device, 'f32', 'sync')
    const acc = new train.GradientAccumulator(sgd(model))
    const whole = compile((x: Tensor, y: Tensor) =>
      acc.window(
        [0, 10].map((start): [Tensor, Tensor] => [x.slice([start], [9]), y.slice([start], [9])]),
        (rows, targets) => nn.crossEntropy(model.forward(rows), targets, { reduction: 'parts' }),
      ),
    )
    const [x, y] = [tensor(random([TOTAL, 6], { seed: 1 }), { shape: [TOTAL, 6], device }), tensor(CLASSES, { device })]
    const norms = []
    for (let i = 0; i < 3; i++) norms.push(await whole(x, y).norm.item())
    t.is(new Set(norms).size, 3)
    t.is(whole.stats().recordings, 1)
    t.is(await model.norm.num_batches_tracked!.item(), 3)
    t.is(await model.shared.num_batches_tracked!.item(), 6)
  },
)

onDevices('fewer than two values in a whole window fail what depends on them', async (t, device) => {
  const norm = new nn.BatchNorm(2, { device, accumulation: 'sync' })
  const acc = new train.GradientAccumulator(sgd(norm))
  const one = tensor([[1, 2]], { device })
  const micro = (x: Tensor): nn.Parts => ({ sum: norm.forward(x).sum(), count: tensor(1, { device }) })
  const { norm: length } = acc.window([[one]], micro)
  t.is(await rejectionOf(length.data()), 'ERR_ARGUMENT')
  t.deepEqual(await values(norm.running_mean), [0, 0])
  await rejectionOf(device.sync())
  await acc.window([[one], [tensor([[3, 5]], { device })]], micro).norm.item()
  t.is(await norm.num_batches_tracked!.item(), 1)
})

onDevices('what is no window is refused, and add() of such layers says what to do', (t, device) => {
  const norm = new nn.BatchNorm(2, { device, accumulation: 'sync' })
  const acc = new train.GradientAccumulator(sgd(norm))
  const x = tensor([[1, 2], [3, 4]], { device }) // prettier-ignore
  const micro = (rows: Tensor): nn.Parts => ({ sum: norm.forward(rows).sum(), count: tensor(1, { device }) })
  t.is(codeOf(() => acc.add(micro(x))), 'ERR_UNSUPPORTED') // prettier-ignore
  for (const bad of [[], [x], null, 4]) t.is(codeOf(() => acc.window(bad as never, micro)), 'ERR_ARGUMENT') // prettier-ignore
  t.is(codeOf(() => acc.window([[x]], null as never)), 'ERR_ARGUMENT') // prettier-ignore
  const plain = new train.GradientAccumulator(sgd(norm))
  plain.add({ sum: norm.weight!.sum(), count: tensor(1, { device }) })
  t.is(codeOf(() => plain.window([[x]], micro)), 'ERR_ARGUMENT') // prettier-ignore
  t.is(codeOf(() => acc.window([[x]], (rows: Tensor) => acc.window([[rows]], micro) as never)), 'ERR_UNSUPPORTED') // prettier-ignore
})
