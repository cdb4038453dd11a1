/** Batch normalisation when gradients are accumulated: the ways of updating running statistics, and re-estimation. */

import {
  type Device,
  type Tensor,
  TilegradError,
  compile,
  concat,
  data,
  manualSeed,
  nn,
  noGrad,
  optim,
  scope,
  tensor,
  train,
} from '../../ts/index.ts'
import { onDevices } from '../helpers/devices.ts'
import { rejectionOf } from '../helpers/errors.ts'
import { near, random, values } from '../helpers/values.ts'

const SIZES = [4, 2, 5]
const CHANNELS = 3

function batches(device: Device, seed = 7): Tensor[] {
  return SIZES.map((rows, i) =>
    tensor(random([rows, CHANNELS], { seed: seed + i }), { shape: [rows, CHANNELS], dtype: 'f32', device }),
  )
}

/** Mean and unbiased variance of each channel over all rows of some batches. */
async function together(list: readonly Tensor[]): Promise<[number[], number[]]> {
  const rows = (await Promise.all(list.map((x) => values(x)))).flat()
  const of = (c: number): number[] => rows.filter((_, i) => i % CHANNELS === c)
  const mean = [0, 1, 2].map((c) => of(c).reduce((s, v) => s + v, 0) / of(c).length)
  const variance = [0, 1, 2].map((c) => of(c).reduce((s, v) => s + (v - mean[c]!) ** 2, 0) / (of(c).length - 1))
  return [mean, variance]
}

interface Setup {
  readonly norm: nn.BatchNorm
  readonly acc: train.GradientAccumulator
  readonly micro: (x: Tensor) => void
  readonly step: () => train.StepResult
}

function setup(device: Device, options: nn.BatchNormLayerOptions, how: 'eager' | 'compiled'): Setup {
  manualSeed(3)
  const norm = new nn.BatchNorm(CHANNELS, { ...options, device })
  const model = new nn.Sequential(norm, new nn.Linear(CHANNELS, 2, { device }))
  const acc = new train.GradientAccumulator(new optim.SGD(model.parameters(), { lr: 0.1 }))
  const micro = (x: Tensor): void => {
    const y = tensor(
      Int32Array.from({ length: x.shape[0]! }, (_, i) => i % 2),
      { device },
    )
    acc.add(nn.crossEntropy(model.forward(x), y, { reduction: 'parts' }))
  }
  const step = (): train.StepResult => acc.step()
  return how === 'eager' ? { norm, acc, micro, step } : { norm, acc, micro: compile(micro), step: compile(step) }
}

for (const how of ['eager', 'compiled'] as const) {
  onDevices(`'each' updates K times, 'rescaled' as much as one batch does, ${how}`, async (t, device) => {
    const list = batches(device)
    const means = await Promise.all(list.map((x) => values(x.mean(0))))
    for (const [options, factor] of [
      [{ runningUpdate: 'each', momentum: 0.2 }, 0.2],
      [{ runningUpdate: 'rescaled', momentum: 0.2, microBatches: 3 }, 1 - 0.8 ** (1 / 3)],
    ] as const) {
      const { norm, micro, step } = setup(device, options, how)
      for (const x of list) micro(x)
      step()
      const want = means[0]!.map((_, c) => means.reduce((r, m) => r + factor * (m[c]! - r), 0))
      near(t, await values(norm.running_mean), want, 1e-5, options.runningUpdate)
      t.is(await norm.num_batches_tracked!.item(), 3)
    }
  })

  onDevices(`'window' updates once, by the statistics of all micro-batches together, ${how}`, async (t, device) => {
    const { norm, micro, step } = setup(device, { runningUpdate: 'window', momentum: 0.25 }, how)
    const windows = [batches(device), batches(device, 70), batches(device, 700)]
    let [mean, variance] = [[0, 0, 0], [1, 1, 1]] // prettier-ignore
    for (const [w, list] of windows.entries()) {
      for (const x of list) {
        micro(x)
        t.is(await norm.num_batches_tracked!.item(), w, 'nothing changes inside a window')
      }
      step()
      const [m, v] = await together(list)
      mean = mean.map((r, c) => r + 0.25 * (m[c]! - r))
      variance = variance.map((r, c) => r + 0.25 * (v[c]! - r))
      near(t, await values(norm.running_mean), mean, 1e-5, `mean after window ${w}`)
      near(t, await values(norm.running_var), variance, 1e-5, `variance after window ${w}`)
      t.is(await norm.num_batches_tracked!.item(), w + 1)
    }
  })
}

onDevices('a window that is not applied leaves the running statistics as they are', async (t, device) => {
  const { norm, acc, step } = setup(device, { runningUpdate: 'window' }, 'eager')
  const model = new nn.Sequential(norm)
  const x = batches(device)[0]!
  // Nothing is counted.
  const targets = tensor(new Int32Array(4).fill(-100), { device })
  acc.add(nn.crossEntropy(model.forward(x), targets, { reduction: 'parts' }))
  const { applied } = step()
  t.is(await applied.item(), 0)
  t.deepEqual(await values(norm.running_mean), [0, 0, 0])
  t.is(await norm.num_batches_tracked!.item(), 0)
  acc.add(nn.crossEntropy(model.forward(x), tensor([0, 1, 2, 0], { dtype: 'i32', device }), { reduction: 'parts' }))
  step()
  near(
    t,
    await values(norm.running_mean),
    (await values(x.mean(0))).map((m) => 0.1 * m),
    1e-5,
    'the next window',
  )
})

onDevices('each accumulator ends the windows of the layers that its optimiser learns', async (t, device) => {
  const [a, b] = [0, 1].map(() => setup(device, { runningUpdate: 'window' }, 'eager')) as [Setup, Setup]
  const [x, y] = batches(device) as [Tensor, Tensor]
  a.micro(x)
  b.micro(y)
  a.step()
  t.deepEqual([await a.norm.num_batches_tracked!.item(), await b.norm.num_batches_tracked!.item()], [1, 0])
  b.step()
  t.deepEqual([await a.norm.num_batches_tracked!.item(), await b.norm.num_batches_tracked!.item()], [1, 1])
  near(
    t,
    await values(b.norm.running_mean),
    (await values(y.mean(0))).map((m) => 0.1 * m),
    1e-5,
  )
})

onDevices("add() refuses a layer with accumulation: 'sync' and says what to use", (t, device) => {
  for (const how of ['eager', 'compiled'] as const) {
    const { micro, norm } = setup(device, { accumulation: 'sync' }, how)
    const error = t.throws(() => micro(batches(device)[0]!), { instanceOf: TilegradError })
    t.is(error?.code, 'ERR_UNSUPPORTED')
    t.regex(error?.message ?? '', /accumulator\.window\(microBatches, fn\)/)
    // Frozen, it is exact.
    norm.eval()
    t.notThrows(() => micro(batches(device)[0]!))
  }
})

onDevices('outside accumulation a synchronised layer is a plain one', async (t, device) => {
  const [sync, plain] = [new nn.BatchNorm(3, { accumulation: 'sync', device }), new nn.BatchNorm(3, { device })]
  const x = batches(device)[0]!
  t.deepEqual(await values(sync.forward(x)), await values(plain.forward(x)))
  t.deepEqual(await values(sync.running_var), await values(plain.running_var))
})

onDevices('updateBatchNorm takes the mean over all batches and restores modes and options', async (t, device) => {
  const norm = new nn.BatchNorm(CHANNELS, { momentum: 0.3, runningUpdate: 'window', device })
  const frozen = new nn.BatchNorm(CHANNELS, { trackRunningStats: false, affine: false, device }).eval()
  const model = new nn.Sequential(norm, frozen)
  const list = batches(device)
  model.forward(list[2]!)
  norm.eval()
  const before = await values(norm.weight)
  await train.updateBatchNorm(model, list)
  const average = (lists: number[][]): number[] => lists[0]!.map((_, c) => lists.reduce((s, l) => s + l[c]! / 3, 0))
  near(t, await values(norm.running_mean), average(await Promise.all(list.map((x) => values(x.mean(0))))), 1e-5)
  near(t, await values(norm.running_var), average(await Promise.all(list.map((x) => values(x.variance(0))))), 1e-5)
  t.is(await norm.num_batches_tracked!.item(), 3)
  t.deepEqual(
    [model.training, norm.training, frozen.training, norm.momentum, norm.runningUpdate],
    [true, false, false, 0.3, 'window'],
  )
  t.deepEqual(await values(norm.weight), before)
  t.is(norm.weight!.grad, null)
})

onDevices('updateBatchNorm takes loaders, lists and a forward of your own', async (t, device) => {
  const norm = new nn.BatchNorm(CHANNELS, { device })
  const x = tensor(random([8, CHANNELS], { seed: 2 }), { shape: [8, CHANNELS], dtype: 'f32', device })
  const loader = new data.DataLoader(new data.TensorDataset(x, x), { batchSize: 4 })
  await train.updateBatchNorm(norm, loader)
  t.is(await norm.num_batches_tracked!.item(), 2)
  const mask = tensor([true, true, true, true, false, false, false, false], { device })
  await train.updateBatchNorm(norm, [{ x }], { forward: (batch) => norm.forward(batch.x, mask) })
  near(t, await values(norm.running_mean), await values(x.slice([0, 0], [4, CHANNELS]).mean(0)), 1e-5)
  t.is(await rejectionOf(() => train.updateBatchNorm(norm, [{ x }])), 'ERR_ARGUMENT')
  t.true(norm.training)
  t.is(norm.momentum, 0.1)
  await train.updateBatchNorm(norm, [])
  t.deepEqual(await values(norm.running_mean), [0, 0, 0])
  t.is(await rejectionOf(() => train.updateBatchNorm({} as nn.Module, [])), 'ERR_ARGUMENT')
})

onDevices('evaluation does not depend on how the batch was cut in training', async (t, device) => {
  const norm = new nn.BatchNorm(CHANNELS, { device })
  for (const x of batches(device)) norm.forward(x)
  norm.eval()
  const x = batches(device)[2]!
  const whole = await values(noGrad(() => norm.forward(x)))
  const parts = await Promise.all([0, 1, 2, 3, 4].map((i) => values(norm.forward(x.slice([i, 0], [1, CHANNELS])))))
  t.deepEqual(parts.flat(), whole)
})

onDevices("of K equal micro-batches 'each' takes 1 − (1 − f)^K, 'rescaled' f", async (t, device) => {
  const x = batches(device)[0]!
  const [mean, variance] = await together([x])
  for (const [options, share] of [
    [{ runningUpdate: 'each', momentum: 0.2 }, 1 - 0.8 ** 4],
    [{ runningUpdate: 'rescaled', momentum: 0.2, microBatches: 4 }, 0.2],
    [{ runningUpdate: 'window', momentum: 0.2 }, 0.2],
  ] as const) {
    const { norm, micro, step } = setup(device, options, 'eager')
    for (let i = 0; i < 4; i++) micro(x)
    step()
    near(t, await values(norm.running_mean), mean.map((m) => share * m), 1e-5, options.runningUpdate) // prettier-ignore
    if (options.runningUpdate === 'window') continue
    near(t, await values(norm.running_var), variance.map((v) => 1 + share * (v - 1)), 1e-5, options.runningUpdate) // prettier-ignore
  }
})

onDevices("'window' pools what masks leave, with momentum null and biased variance as well", async (t, device) => {
  // Rows that are masked hold what would spoil everything.
  const rows = random([9, CHANNELS], { seed: 21 })
  const active = [true, true, false, true, true, false, false, true, true]
  const kept = tensor(Array.from(rows).filter((_, i) => active[Math.floor(i / CHANNELS)]), { device }).reshape([6, CHANNELS]) // prettier-ignore
  const [mean, variance] = await together([kept])
  const spoiled = rows.map((v, i) => (active[Math.floor(i / CHANNELS)] ? v : NaN))
  for (const [options, share, correction] of [
    [{ momentum: 0.3 }, 0.3, 1],
    [{ momentum: 0.3, runningVar: 'biased' }, 0.3, 5 / 6],
    [{ momentum: null }, 1, 1],
  ] as const) {
    const norm = new nn.BatchNorm(CHANNELS, { runningUpdate: 'window', ...options, device })
    const acc = new train.GradientAccumulator(new optim.SGD(norm.parameters(), { lr: 0.1 }))
    for (const [start, end] of [
      [0, 3],
      [3, 5],
      [5, 9],
    ] as const) {
      // prettier-ignore
      const x = tensor(spoiled.slice(CHANNELS * start, CHANNELS * end), { shape: [end - start, CHANNELS], device })
      const mask = tensor(active.slice(start, end), { device })
      acc.add({ sum: norm.forward(x, mask).sum(), count: mask.cast('f32').sum() })
    }
    acc.step()
    near(t, await values(norm.running_mean), mean.map((m) => share * m), 1e-5, 'mean') // prettier-ignore
    const wanted = variance.map((v) => 1 + share * (v * correction - 1))
    near(t, await values(norm.running_var), wanted, 1e-5, 'variance')
    t.is(await norm.num_batches_tracked!.item(), 1)
  }
})

onDevices(
  'pooled statistics are those of the large batch for the first layer that normalises, and for no other',
  async (t, device) => {
    // prettier-ignore
    const run = async (parts: readonly Tensor[]): Promise<number[][]> => {
    manualSeed(5)
    const norms = [0, 1].map(() => new nn.BatchNorm(CHANNELS, { runningUpdate: 'window', momentum: 0.5, device }))
    const layers = [norms[0]!, new nn.Linear(CHANNELS, CHANNELS, { activation: 'tanh', device }), norms[1]!]
    const model = new nn.Sequential(...layers)
    const acc = new train.GradientAccumulator(new optim.SGD(model.parameters(), { lr: 0.1 }))
    for (const x of parts) acc.add({ sum: model.forward(x).square().sum(), count: tensor(x.shape[0]!, { device }) })
    acc.step()
    return Promise.all(norms.map((norm) => values(norm.running_mean)))
  }
    const list = batches(device)
    const [split, whole] = [await run(list), await run([concat(list, 0)])]
    near(t, split[0]!, whole[0]!, 1e-5, 'the first')
    t.true(Math.max(...split[1]!.map((v, i) => Math.abs(v - whole[1]![i]!))) > 1e-3)
  },
)

onDevices('a frozen layer is exact under accumulation', async (t, device) => {
  const list = batches(device)
  const whole = concat(list, 0)
  const gradient = async (parts: readonly Tensor[], freeze: boolean): Promise<number[]> => {
    const norm = new nn.BatchNorm(CHANNELS, { device })
    const acc = new train.GradientAccumulator(new optim.SGD(norm.parameters(), { lr: 0.1 }))
    norm.forward(whole)
    if (freeze) norm.eval()
    const before = await Promise.all([norm.weight, norm.bias].map(values))
    // Targets go on from micro-batch to micro-batch, whatever the cut.
    let start = 0
    for (const x of parts) {
      const y = tensor(Float32Array.from({ length: x.size }, (_, i) => Math.sin(start * CHANNELS + i)), { shape: [...x.shape], device }) // prettier-ignore
      start += x.shape[0]!
      acc.add(nn.mse(norm.forward(x), y, { reduction: 'parts' }))
    }
    acc.step()
    const after = await Promise.all([norm.weight, norm.bias].map(values))
    return after.flatMap((p, i) => p.map((v, j) => before[i]![j]! - v))
  }
  near(t, await gradient(list, true), await gradient([whole], true), 1e-5)
  const [apart, together] = [await gradient(list, false), await gradient([whole], false)]
  t.true(Math.max(...apart.map((v, i) => Math.abs(v - together[i]!))) > 1e-3, 'in training it is not')
})

onDevices('running statistics that are set back forget the window that has begun', async (t, device) => {
  const { norm, micro, step } = setup(device, { runningUpdate: 'window' }, 'eager')
  const [before, after] = batches(device) as [Tensor, Tensor]
  micro(before)
  norm.resetRunningStats()
  micro(after)
  step()
  near(t, await values(norm.running_mean), (await values(after.mean(0))).map((m) => 0.1 * m), 1e-5) // prettier-ignore
  t.is(await norm.num_batches_tracked!.item(), 1)
})

onDevices('a window outlives the scopes of its micro-batches', async (t, device) => {
  const { norm, micro, step } = setup(device, { runningUpdate: 'window' }, 'eager')
  const list = batches(device)
  for (const x of list) scope(() => micro(x))
  step()
  const [mean] = await together(list)
  near(t, await values(norm.running_mean), mean.map((m) => 0.1 * m), 1e-5) // prettier-ignore
})

onDevices('a compiled step hears of a layer that has been seen since', async (t, device) => {
  const { norm, acc } = setup(device, { runningUpdate: 'window', affine: false }, 'eager')
  const linear = acc.optimizer.parameters
  const step = compile(() => acc.step())
  const x = batches(device)[0]!
  const add = (): void => acc.add({ sum: norm.forward(x).mul(linear[0]!.sum()).sum(), count: tensor(1, { device }) })
  norm.eval()
  add()
  step()
  norm.train()
  for (let w = 1; w < 3; w++) {
    add()
    step()
    t.is(await norm.num_batches_tracked!.item(), w)
  }
  t.is(step.stats().recordings, 2)
})
