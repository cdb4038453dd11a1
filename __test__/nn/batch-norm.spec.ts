/** Batch normalisation as a layer: values, running statistics, modes, masks, state, and what it refuses. */

import {
  type Device,
  type ErrorCode,
  TilegradError,
  type Tensor,
  compile,
  nn,
  noGrad,
  ones,
  randn,
  tensor,
} from '../../ts/index.ts'
import { onDevices } from '../helpers/devices.ts'
import { agree } from '../helpers/compiled.ts'
import { codeOf, rejectionOf } from '../helpers/errors.ts'
import { near, random, values } from '../helpers/values.ts'

/** Running mean, variance and number of updates. */
async function state(layer: nn.BatchNorm): Promise<[number[], number[], number]> {
  const { running_mean: mean, running_var: variance, num_batches_tracked: updates } = layer
  return [await values(mean), await values(variance), await updates!.item()]
}

function input(device: Device, shape: readonly number[], seed = 1): Tensor {
  return tensor(random(shape, { seed }), { shape: [...shape], dtype: 'f32', device })
}

onDevices('the channel [1, 3]: normalised, and the running statistics after it', async (t, device) => {
  for (const [runningVar, variance] of [
    ['unbiased', 1.1],
    ['biased', 1],
  ] as const) {
    const layer = new nn.BatchNorm(1, { runningVar, device })
    t.deepEqual(await state(layer), [[0], [1], 0])
    const y = layer.forward(tensor([[1], [3]], { device }))
    near(t, await values(y), [-0.999995, 0.999995], 1e-6, 'y')
    const [mean, spread, updates] = await state(layer)
    near(t, mean, [0.2], 1e-6, 'running mean')
    near(t, spread, [variance], 1e-6, `running variance, ${runningVar}`)
    t.is(updates, 1)
  }
})

onDevices('in evaluation a row has the bits it has alone, and nothing changes', async (t, device) => {
  for (const shape of [
    [5, 7],
    [4, 3, 6],
  ]) {
    const layer = new nn.BatchNorm(shape[1]!, { device })
    layer.forward(input(device, shape, 2))
    layer.eval()
    const before = await state(layer)
    const x = input(device, shape)
    const all = await layer.forward(x).data()
    const size = all.length / shape[0]!
    for (let row = 0; row < shape[0]!; row++) {
      const one = await layer.forward(x.slice([row, ...shape.slice(1).map(() => 0)], [1, ...shape.slice(1)])).data()
      t.deepEqual(one, all.slice(row * size, (row + 1) * size))
    }
    t.deepEqual(await state(layer), before)
  }
})

onDevices('channels second with any spatial rank, and features last, are the same numbers', async (t, device) => {
  const x = input(device, [4, 3, 5, 2])
  const [second, last] = [new nn.BatchNorm(3, { device }), new nn.BatchNorm(3, { device, axis: -1 })]
  const y = second.forward(x).transpose([0, 2, 3, 1])
  near(t, await values(last.forward(x.transpose([0, 2, 3, 1]))), await values(y), 1e-6, 'y')
  const [a, b] = [await state(second), await state(last)]
  near(t, b[0], a[0], 1e-6, 'running mean')
  near(t, b[1], a[1], 1e-6, 'running variance')
})

onDevices('momentum null is the mean over all batches, a number the weight of the newest', async (t, device) => {
  const batches = [1, 2, 3].map((seed) => input(device, [6, 4], seed))
  const means = await Promise.all(batches.map((x) => values(x.mean(0))))
  const variances = await Promise.all(batches.map((x) => values(x.variance(0))))
  const average = (lists: number[][]): number[] => lists[0]!.map((_, c) => lists.reduce((s, l) => s + l[c]! / 3, 0))
  const cumulative = new nn.BatchNorm(4, { momentum: null, device })
  const weighted = new nn.BatchNorm(4, { momentum: 0.25, device })
  for (const x of batches) {
    cumulative.forward(x)
    weighted.forward(x)
  }
  const [mean, variance, updates] = await state(cumulative)
  near(t, mean, average(means), 1e-6, 'mean of means')
  near(t, variance, average(variances), 1e-6, 'mean of variances')
  t.is(updates, 3)
  const blended = (lists: number[][], start: number): number[] =>
    lists[0]!.map((_, c) => lists.reduce((r, l) => 0.75 * r + 0.25 * l[c]!, start))
  near(t, (await state(weighted))[0], blended(means, 0), 1e-6, 'weighted mean')
  near(t, (await state(weighted))[1], blended(variances, 1), 1e-6, 'weighted variance')
})

onDevices('without running statistics a batch is normalised by its own in evaluation too', async (t, device) => {
  const layer = new nn.BatchNorm(3, { trackRunningStats: false, affine: false, device })
  t.deepEqual([layer.running_mean, layer.running_var, layer.num_batches_tracked], [null, null, null])
  t.deepEqual([...layer.buffers().keys(), ...layer.namedParameters().keys()], [])
  const x = input(device, [6, 3])
  const y = await values(layer.forward(x))
  t.deepEqual(await values(layer.eval().forward(x)), y)
})

onDevices('a mask leaves padding without any influence', async (t, device) => {
  const [x, dy] = [random([5, 3], { seed: 3 }), random([5, 3], { seed: 4 })]
  // Rows 1 and 3 are padding, with what would spoil everything.
  const padded = x.map((v, i) => ([1, 3].includes(Math.floor(i / 3)) ? NaN : v))
  const kept = (list: ArrayLike<number>): number[] =>
    Array.from(list).filter((_, i) => ![1, 3].includes(Math.floor(i / 3)))
  const run = async (data: ArrayLike<number>, weights: ArrayLike<number>, mask?: boolean[]) => {
    const layer = new nn.BatchNorm(3, { device })
    const shape = [data.length / 3, 3]
    const leaf = tensor(Float64Array.from(data), { shape, dtype: 'f32', device, requiresGrad: true })
    const y = layer.forward(leaf, mask === undefined ? undefined : tensor(mask, { device }))
    y.backward({ gradient: tensor(Float64Array.from(weights), { shape, dtype: 'f32', device }) })
    return {
      y: await values(y),
      dx: await values(leaf.grad),
      parameters: [await values(layer.weight!.grad), await values(layer.bias!.grad)],
      state: await state(layer),
    }
  }
  const spoiled = dy.map((v, i) => ([1, 3].includes(Math.floor(i / 3)) ? NaN : v))
  const masked = await run(padded, spoiled, [true, false, true, false, true])
  const alone = await run(kept(x), kept(dy))
  near(t, kept(masked.y), alone.y, 1e-6, 'y')
  near(t, kept(masked.dx), alone.dx, 1e-5, 'dx')
  masked.parameters.forEach((gradient, i) => near(t, gradient, alone.parameters[i]!, 1e-6, 'parameters'))
  near(t, masked.state[0], alone.state[0], 1e-6, 'running mean')
  near(t, masked.state[1], alone.state[1], 1e-6, 'running variance')
  const padding = [3, 4, 5, 9, 10, 11]
  t.deepEqual(
    padding.flatMap((i) => [masked.y[i], masked.dx[i]]),
    padding.flatMap(() => [0, 0]),
  )
})

onDevices('fewer than two values per channel are an error, at once or when the result is read', async (t, device) => {
  const layer = new nn.BatchNorm(3, { device })
  const one = input(device, [1, 3])
  const error = t.throws(() => layer.forward(one), { instanceOf: TilegradError })
  t.is(error?.code, 'ERR_SHAPE')
  t.regex(error?.message ?? '', /more than 1 value per channel needed/)
  t.is(
    codeOf(() => layer.forward(input(device, [0, 3]))),
    'ERR_SHAPE',
  )
  t.deepEqual(await state(layer), [[0, 0, 0], [1, 1, 1], 0])
  const mask = tensor([false, true, false], { device })
  const x = tensor(random([3, 3], { seed: 1 }), { shape: [3, 3], dtype: 'f32', device, requiresGrad: true })
  const y = layer.forward(x, mask)
  y.sum().backward()
  t.regex(await rejectionOf(() => y.data()), /ERR_ARGUMENT/)
  await t.throwsAsync(x.grad!.data(), { message: /more than 1 value per channel needed/ })
  t.deepEqual(await state(layer), [[0, 0, 0], [1, 1, 1], 0], 'the running statistics stay')
  // One value is enough where nothing is estimated.
  t.is((await layer.eval().forward(one).data()).length, 3)
  t.is((await layer.forward(input(device, [0, 3])).data()).length, 0)
})

onDevices('inside a compiled step everything is what it is outside', async (t, device) => {
  for (const options of [{}, { momentum: null }, { runningVar: 'biased', affine: false }] as const) {
    const [eager, recorded] = [0, 1].map(() => new nn.BatchNorm(4, { ...options, device })) as [
      nn.BatchNorm,
      nn.BatchNorm,
    ]
    const step = (layer: nn.BatchNorm, x: Tensor, mask: Tensor): Tensor[] => {
      const y = layer.forward(x, mask)
      if (layer.weight === null) return [y]
      layer.weight.clearGrad()
      y.square().sum().backward()
      return [y, layer.weight.grad!.detach()]
    }
    const compiled = compile((x: Tensor, mask: Tensor) => step(recorded, x, mask))
    const compare = async (seed: number): Promise<void> => {
      const x = input(device, [6, 4], seed)
      const mask = tensor([true, true, false, true, true, true], { device })
      const [wanted, got] = [step(eager, x, mask), compiled(x, mask)]
      for (const [i, tensor] of got.entries()) await agree(t, tensor, wanted[i]!, `result ${i}`)
      for (const name of ['running_mean', 'running_var', 'num_batches_tracked'] as const)
        await agree(t, recorded[name]!, eager[name]!, name)
    }
    await compare(1)
    await compare(2)
    t.is(compiled.stats().recordings, eager.weight === null ? 1 : compiled.stats().recordings)
    t.is(await recorded.num_batches_tracked!.item(), 2)
    eager.eval()
    recorded.eval()
    await compare(3)
    t.is(await recorded.num_batches_tracked!.item(), 2)
    eager.train()
    recorded.train()
    await compare(4)
    t.is(await recorded.num_batches_tracked!.item(), 3)
  }
})

onDevices('a compiled step with too few values leaves the running statistics as they are', async (t, device) => {
  const layer = new nn.BatchNorm(2, { device })
  const forward = compile((x: Tensor, mask: Tensor) => noGrad(() => layer.forward(x, mask)))
  const x = input(device, [3, 2])
  const bad = forward(x, tensor([true, false, false], { device }))
  await t.throwsAsync(bad.data(), { message: /more than 1 value per channel needed/ })
  t.deepEqual(await state(layer), [[0, 0], [1, 1], 0])
  await forward(x, tensor([true, false, true], { device })).data()
  t.is((await state(layer))[2], 1)
})

onDevices('the state has the names of PyTorch and comes back', async (t, device) => {
  const model = new nn.Sequential(new nn.Linear(3, 4, { device }), new nn.BatchNorm(4, { device }))
  model.forward(input(device, [5, 3]))
  const saved = await model.stateDict()
  t.deepEqual(Object.keys(saved), [
    '0.weight',
    '0.bias',
    '1.weight',
    '1.bias',
    '1.running_mean',
    '1.running_var',
    '1.num_batches_tracked',
  ])
  t.deepEqual(saved['1.num_batches_tracked'], { shape: [], data: Int32Array.of(1) })
  const other = new nn.Sequential(new nn.Linear(3, 4, { device }), new nn.BatchNorm(4, { device }))
  other.loadStateDict(saved)
  const x = input(device, [2, 3], 9)
  t.deepEqual(await values(other.eval().forward(x)), await values(model.eval().forward(x)))
  const layer = other.children().get('layers.1') ?? [...other.children().values()][1]!
  ;(layer as nn.BatchNorm).resetRunningStats()
  t.deepEqual(await state(layer as nn.BatchNorm), [[0, 0, 0, 0], [1, 1, 1, 1], 0])
})

onDevices('what does not fit is refused with both shapes', (t, device) => {
  const layer = new nn.BatchNorm(3, { device })
  const bad = (fn: () => unknown, code: ErrorCode, text: RegExp): void => {
    const error = t.throws(fn, { instanceOf: TilegradError })
    t.is(error?.code, code)
    t.regex(error?.message ?? '', text)
  }
  bad(() => layer.forward(input(device, [2, 4])), 'ERR_SHAPE', /BatchNorm: x \[2, 4\] has 4 channels at axis 1, not 3/)
  bad(() => layer.forward(ones([3], { device })), 'ERR_SHAPE', /\[3\] has no channels/)
  bad(() => layer.forward(ones([2, 3], { device, dtype: 'i32' })), 'ERR_DTYPE', /cast/)
  const x = input(device, [2, 3])
  bad(() => layer.forward(x, ones([2], { device })), 'ERR_DTYPE', /mask is bool, not f32/)
  bad(() => layer.forward(x, tensor([[true]], { device })), 'ERR_SHAPE', /mask \[1, 1\] does not fit x \[2, 3\].*\[2\]/)
  const make = (options: object) => (): unknown => new nn.BatchNorm(3, { device, ...options })
  bad(make({ eps: -1 }), 'ERR_ARGUMENT', /eps/)
  bad(make({ momentum: 2 }), 'ERR_ARGUMENT', /momentum/)
  bad(make({ runningVar: 'both' }), 'ERR_ARGUMENT', /runningVar/)
  bad(make({ accumulation: 'all' }), 'ERR_ARGUMENT', /accumulation/)
  bad(make({ runningUpdate: 'never' }), 'ERR_ARGUMENT', /runningUpdate/)
  bad(make({ runningUpdate: 'rescaled', momentum: null }), 'ERR_ARGUMENT', /momentum/)
  bad(make({ microBatches: 0 }), 'ERR_ARGUMENT', /microBatches/)
  bad(() => new nn.BatchNorm(-1), 'ERR_ARGUMENT', /numFeatures/)
  bad(() => x.batchNorm(), 'ERR_ARGUMENT', /training: true/)
  bad(() => x.batchNorm({ runningMean: ones([3], { device }) }), 'ERR_ARGUMENT', /together/)
  bad(() => x.batchNorm({ training: true, weight: ones([2], { device }) }), 'ERR_SHAPE', /weight \[2\] does not fit/)
  bad(() => x.batchNorm({ training: true, momentum: NaN }), 'ERR_ARGUMENT', /momentum/)
  const shared = ones([3], { device })
  bad(() => x.batchNorm({ training: true, runningMean: shared, runningVar: shared }), 'ERR_ARGUMENT', /the same memory/)
})

onDevices('as a function it updates the running statistics it is given, in place', async (t, device) => {
  const [runningMean, runningVar] = [tensor([0, 0], { device }), tensor([1, 1], { device })]
  const x = tensor(
    [
      [1, 10],
      [3, 30],
    ],
    { device },
  )
  x.batchNorm({ training: true, runningMean, runningVar, momentum: 0.5, estimate: 'biased' })
  near(t, await values(runningMean), [1, 10], 1e-6)
  near(t, await values(runningVar), [1, 50.5], 1e-6)
})

onDevices('a layer made and used in a scope keeps its state beyond it', async (t, device) => {
  const { scope } = await import('../../ts/index.ts')
  let layer: nn.BatchNorm | undefined
  scope(() => {
    layer = new nn.BatchNorm(2, { device })
    layer.forward(randn([4, 2], { device }))
  })
  t.is((await state(layer!))[2], 1)
})

onDevices('a layer starts as the identity, and its options have these defaults', async (t, device) => {
  const layer = new nn.BatchNorm(2, { device })
  t.deepEqual([await values(layer.weight), await values(layer.bias)], [[1, 1], [0, 0]]) // prettier-ignore
  t.deepEqual(await state(layer), [[0, 0], [1, 1], 0])
  const { eps, momentum, runningVar, accumulation, runningUpdate, microBatches, axis, training } = layer
  t.deepEqual(
    { eps, momentum, runningVar, accumulation, runningUpdate, microBatches, axis, training },
    {
      eps: 1e-5,
      momentum: 0.1,
      runningVar: 'unbiased',
      accumulation: 'micro',
      runningUpdate: 'each',
      microBatches: 1,
      axis: 1,
      training: true,
    },
  )
  // Mean 0 and variance 1 with weight 1 and bias 0: x/√(1 + eps).
  const x = tensor([[1, -2], [3, 0.5]], { device }) // prettier-ignore
  near(t, await values(layer.eval().forward(x)), [1, -2, 3, 0.5].map((v) => v / Math.sqrt(1 + 1e-5)), 1e-6) // prettier-ignore
  t.deepEqual(
    [...new nn.BatchNorm(2, { affine: false, device }).namedParameters().keys()],
    [],
    'without affine there is nothing to learn',
  )
})

/**
 * How libraries keep running statistics: which variance goes in, whether momentum is the weight of the old value, its
 * default and that of eps. Normalisation uses M2/m in all of them.
 */
const LIBRARIES = [
  { name: 'PyTorch, tinygrad, candle', variance: 'unbiased', weighs: 'new', momentum: 0.1, eps: 1e-5 },
  { name: 'Burn', variance: 'biased', weighs: 'new', momentum: 0.1, eps: 1e-5 },
  { name: 'Keras, tfjs', variance: 'biased', weighs: 'old', momentum: 0.99, eps: 1e-3 },
  { name: 'ONNX', variance: 'biased', weighs: 'old', momentum: 0.9, eps: 1e-5 },
] as const

onDevices('the conventions of other libraries are options', async (t, device) => {
  const batches = [[1, 3, 8], [-2, 0, 5]] // prettier-ignore
  for (const { name, variance, weighs, momentum, eps } of LIBRARIES) {
    const layer = new nn.BatchNorm(1, {
      eps,
      momentum: weighs === 'new' ? momentum : 1 - momentum,
      runningVar: variance,
      device,
    })
    let [mean, spread] = [0, 1]
    for (const batch of batches) {
      const m = batch.reduce((s, v) => s + v, 0) / 3
      const m2 = batch.reduce((s, v) => s + (v - m) ** 2, 0)
      const y = await values(layer.forward(tensor(batch.map((v) => [v]), { device }))) // prettier-ignore
      near(t, y, batch.map((v) => (v - m) / Math.sqrt(m2 / 3 + eps)), 2e-6, name) // prettier-ignore
      const blend = (old: number, fresh: number): number =>
        weighs === 'old' ? momentum * old + (1 - momentum) * fresh : (1 - momentum) * old + momentum * fresh
      mean = blend(mean, m)
      spread = blend(spread, m2 / (variance === 'biased' ? 3 : 2))
    }
    const [runningMean, runningVar] = await state(layer)
    near(t, runningMean, [mean], 2e-6, `running mean, ${name}`)
    near(t, runningVar, [spread], 2e-6, `running variance, ${name}`)
  }
})

onDevices('positions count as values: one example is enough where it has several', async (t, device) => {
  const layer = new nn.BatchNorm(2, { device })
  const y = layer.forward(tensor([[[1, 3], [10, 30]]], { device })) // prettier-ignore
  near(t, await values(y), [-0.999995, 0.999995, -1, 1], 1e-6)
  const [mean, variance] = await state(layer)
  near(t, mean, [0.2, 2], 1e-6)
  // m is 2: M2/(m − 1) is 2 and 200.
  near(t, variance, [1.1, 20.9], 1e-6)
  const error = t.throws(() => layer.forward(ones([1, 2, 1, 1], { device })), { instanceOf: TilegradError })
  t.is(error?.code, 'ERR_SHAPE')
})

onDevices('in training dβ = Σdy, dγ = Σdy·x̂, and dx has lost its mean and what goes along x̂', async (t, device) => {
  const [x, g] = [[1, 3, 8, -2], [1, -0.5, 0.25, 2]] // prettier-ignore
  const column = (list: number[]): Tensor => tensor(list.map((v) => [v]), { device }) // prettier-ignore
  const m = 2.5
  const istd = 1 / Math.sqrt(x.reduce((s, v) => s + (v - m) ** 2, 0) / 4 + 1e-5)
  const normal = x.map((v) => (v - m) * istd)
  const sum = g.reduce((s, v) => s + v, 0)
  const product = g.reduce((s, v, i) => s + v * normal[i]!, 0)
  const layer = new nn.BatchNorm(1, { device })
  layer.loadStateDict({ weight: { shape: [1], data: Float32Array.of(1.5) } }, { strict: false })
  const run = async (): Promise<number[][]> => {
    const leaf = column(x)
    leaf.requiresGrad = true
    for (const p of layer.parameters()) p.clearGrad()
    layer.forward(leaf).backward({ gradient: column(g) })
    return [await values(leaf.grad), await values(layer.weight!.grad), await values(layer.bias!.grad)]
  }
  const [dx, dweight, dbias] = await run()
  near(t, dx!, g.map((v, i) => ((1.5 * istd) / 4) * (4 * v - sum - normal[i]! * product)), 2e-6, 'dx') // prettier-ignore
  near(t, dweight!, [product], 2e-6, 'dγ')
  near(t, dbias!, [sum], 2e-6, 'dβ')
  // In evaluation the statistics are constants: dx = γ·istd·dy.
  layer.eval()
  const [mean, variance] = await state(layer)
  const [ex, eweight, ebias] = await run()
  const scale = 1 / Math.sqrt(variance[0]! + 1e-5)
  near(t, ex!, g.map((v) => 1.5 * scale * v), 2e-6, 'dx in evaluation') // prettier-ignore
  near(t, eweight!, [g.reduce((s, v, i) => s + v * (x[i]! - mean[0]!) * scale, 0)], 2e-6, 'dγ in evaluation')
  near(t, ebias!, [sum], 2e-6, 'dβ in evaluation')
})
