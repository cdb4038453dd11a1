/** Batch normalisation when gradients are accumulated: the ways of updating running statistics, and re-estimation. */

import {
  type Device,
  type Tensor,
  TilegradError,
  compile,
  data,
  manualSeed,
  nn,
  noGrad,
  optim,
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
