/** What counts in a loss: masks, ignored targets, weights, and what happens when nothing does. */

import { type Device, type Tensor, compile, grad, nn, optim, scalar, square, tensor, train } from '../../ts/index.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf, rejectionOf } from '../helpers/errors.ts'
import { near, values } from '../helpers/values.ts'

const NOTHING = [[NaN, Infinity, -Infinity, NaN], [NaN, NaN, NaN, NaN], [1, NaN, Infinity, 0]] // prettier-ignore

type Call = (prediction: Tensor, target: Tensor, options: nn.LossOptions) => Tensor | nn.Parts

interface Loss {
  readonly name: string
  readonly call: (prediction: Tensor, target: Tensor, options: nn.LossOptions) => Tensor
  readonly parts: (prediction: Tensor, target: Tensor, options: nn.LossOptions) => nn.Parts
  /** Predictions and targets of three rows of four columns, the second row and the last row harmless. */
  readonly target: (device: Device) => Tensor
  readonly perRow: boolean
}

const numbers = (device: Device): Tensor => tensor([[NaN, 1, 2, 3], [0, 1, 0.5, 0.25], [NaN, NaN, NaN, NaN]], { device }) // prettier-ignore
const classes = (device: Device): Tensor => tensor([99, 2, -5], { dtype: 'i32', device })

function lossOf(name: string, call: Call, target: (device: Device) => Tensor, perRow: boolean): Loss {
  return {
    name,
    call: (p, t, o) => call(p, t, o) as Tensor,
    parts: (p, t, o) => call(p, t, { ...o, reduction: 'parts' }) as nn.Parts,
    target,
    perRow,
  }
}

const LOSSES: readonly Loss[] = [
  lossOf('mse', nn.mse, numbers, false),
  lossOf('mae', nn.mae, numbers, false),
  lossOf('huber', nn.huber, numbers, false),
  lossOf('bceWithLogits', nn.bceWithLogits, numbers, false),
  lossOf('crossEntropy', nn.crossEntropy, classes, true),
  lossOf('crossEntropy, smoothed', (p, t, o) => nn.crossEntropy(p, t, { ...o, labelSmoothing: 0.1 }), classes, true),
  lossOf('crossEntropy of probabilities', nn.crossEntropy, numbers, true),
  lossOf('nll', nn.nll, classes, true),
]

const one = (result: Tensor | nn.Parts): Tensor => result as Tensor

/** A mask of the three rows. */
function rows(list: (number | boolean)[], device: Device, { perRow }: Loss): Tensor {
  const mask = tensor(list, { device })
  return perRow ? mask : mask.reshape([3, 1])
}

for (const loss of LOSSES) {
  onDevices(`${loss.name}: what is masked reaches neither loss nor gradients, whatever it holds`, async (t, device) => {
    const data = [NOTHING[0]!, [0.5, -1, 2, 0.25], NOTHING[2]!]
    for (const mask of [
      [false, true, false],
      [0, 0.5, 0],
    ]) {
      const x = tensor(data, { device, requiresGrad: true })
      const options = { mask: rows(mask, device, loss) }
      const mean = loss.call(x, loss.target(device), options)
      mean.backward()
      // The one row that counts, alone.
      const row = tensor([data[1]!], { device, requiresGrad: true })
      const target = loss.target(device).slice([1], [1])
      const alone = loss.call(row, target, {})
      alone.backward()
      near(t, await values(mean), await values(alone), 1e-6, 'mean')
      const { sum, count } = loss.parts(x.detach(), loss.target(device), options)
      t.deepEqual(await values(count), [Number(mask[1]) * (loss.perRow ? 1 : 4)])
      near(t, await values(sum), await values(alone.mul(count)), 1e-6, 'sum')
      const slopes = await values(x.grad)
      near(t, slopes.slice(4, 8), await values(row.grad), 1e-6, 'gradient')
      t.deepEqual([...slopes.slice(0, 4), ...slopes.slice(8)], Array.from({ length: 8 }, () => 0)) // prettier-ignore
      const items = await values(loss.call(x, loss.target(device), { ...options, reduction: 'none' }))
      const width = items.length / 3
      t.deepEqual(
        [...items.slice(0, width), ...items.slice(2 * width)].filter((item) => item !== 0),
        [],
      )
      // One derivative later.
      const second = grad((x) => square(grad((x) => loss.call(x, loss.target(device), options))(x)[0]!).sum())(
        x.detach(),
      )
      const curvature = await values(second[0])
      t.deepEqual(
        [...curvature.slice(0, 4), ...curvature.slice(8)].filter((v) => v !== 0),
        [],
      )
      t.true(curvature.every((v) => Number.isFinite(v)))
    }
  })

  onDevices(`${loss.name}: with nothing to count it is 0, NaN or an error, as asked for`, async (t, device) => {
    for (const none of [
      [false, false, false],
      [0, 0, 0],
    ]) {
      const mask = rows(none, device, loss)
      const run = (options: nn.LossOptions): [Tensor, Tensor] => {
        const x = tensor(NOTHING, { device, requiresGrad: true })
        const y = loss.call(x, loss.target(device), { mask, ...options })
        y.backward()
        return [y, x.grad!]
      }
      for (const reduction of ['mean', 'sum'] as const) {
        const [zero, slope] = run({ reduction })
        t.deepEqual([await values(zero), await values(slope)], [[0], Array.from({ length: 12 }, () => 0)], reduction)
      }
      for (const emptyMask of ['zero', 'nan', 'throw'] as const) {
        const x = tensor(NOTHING, { device })
        const { sum, count } = loss.parts(x, loss.target(device), { mask, emptyMask })
        t.deepEqual(await values(count), [0], `count, ${emptyMask}`)
        if (emptyMask === 'throw') t.is(await rejectionOf(sum.data()), 'ERR_ARGUMENT')
        else t.deepEqual(await values(sum), [0], `sum, ${emptyMask}`)
      }
      const [nan, slope] = run({ emptyMask: 'nan' })
      t.deepEqual([await values(nan), await values(slope)], [[NaN], Array.from({ length: 12 }, () => 0)])
      for (const reduction of ['mean', 'sum'] as const) {
        const [bad, slope] = run({ emptyMask: 'throw', reduction })
        const error = await t.throwsAsync(bad.data(), { code: 'ERR_ARGUMENT' })
        t.regex(error.message, /nothing is counted/)
        t.is(await rejectionOf(slope.data()), 'ERR_ARGUMENT')
      }
    }
    const some = rows([false, true, false], device, loss)
    const x = tensor([NOTHING[0]!, [0.5, -1, 2, 0.25], NOTHING[2]!], { device })
    const [strict, plain] = (['throw', 'zero'] as const).map((emptyMask) =>
      loss.call(x, loss.target(device), { mask: some, emptyMask }),
    )
    t.deepEqual(await values(strict), await values(plain))
  })

  onDevices(`${loss.name}: compiled it gives what it gives eagerly, mask by mask`, async (t, device) => {
    const data = tensor([NOTHING[0]!, [0.5, -1, 2, 0.25], NOTHING[2]!], { device })
    const target = loss.target(device)
    const step = (x: Tensor, mask: Tensor): Tensor[] => {
      const fn = (x: Tensor): Tensor => loss.call(x, target, { mask })
      return [fn(x), grad(fn)(x)[0]!]
    }
    const compiled = compile(step)
    for (const mask of [
      [0, 1, 0],
      [0, 0, 0],
      [0, 0.25, 0],
    ]) {
      const [a, b] = [step(data, rows(mask, device, loss)), compiled(data, rows(mask, device, loss))]
      t.deepEqual(await Promise.all(b.map(values)), await Promise.all(a.map(values)))
    }
    t.is(compiled.stats().recordings, 1)
  })
}

onDevices('losses of tokens {4} and {1 nine times} are 1.3 on average by parts, 2.5 by means', async (t, device) => {
  // |0 − 4| of one token, |0 − 1| of nine; the rest is padding.
  const batches = [[4, ...Array.from({ length: 8 }, () => NaN)], Array.from({ length: 9 }, () => 1)] // prettier-ignore
  const masks = [[true, ...Array.from({ length: 8 }, () => false)], Array.from({ length: 9 }, () => true)] // prettier-ignore
  const parts = batches.map((batch, i) => {
    const target = tensor(batch, { device })
    const zero = tensor(batch.map(() => 0), { device }) // prettier-ignore
    return nn.mae(zero, target, { mask: tensor(masks[i]!, { device }), reduction: 'parts' })
  })
  const [sums, counts] = [await Promise.all(parts.map(({ sum }) => sum.item())), await Promise.all(parts.map(({ count }) => count.item()))] // prettier-ignore
  t.deepEqual([sums, counts], [[4, 9], [1, 9]]) // prettier-ignore
  const total = (list: number[]): number => list.reduce((a, b) => a + b)
  t.is(total(sums) / total(counts), 1.3)
  t.is(total(sums.map((sum, i) => sum / counts[i]!)) / 2, 2.5)
})

onDevices('micro-batches of masked, weighted, smoothed targets accumulate to the one batch', async (t, device) => {
  const weight = tensor([1, 2, 0.5], { device })
  const data = Array.from({ length: 30 }, (_, i) => Math.sin(i * 7))
  const targets = Array.from({ length: 10 }, (_, i) => (i % 4 === 2 ? -100 : i % 3))
  const factors = [1, 0, 0.5, 2, 1, 0, 0, 0.25, 1, 1]
  const gradient = async (sizes: number[]): Promise<number[]> => {
    const layer = new nn.Linear(3, 3, { device })
    layer.loadStateDict({
      weight: { data: Float32Array.from({ length: 9 }, (_, i) => Math.cos(i)), shape: [3, 3] },
      bias: { data: new Float32Array(3), shape: [3] },
    })
    const before = await values(layer.weight)
    const acc = new train.GradientAccumulator(new optim.SGD(layer.parameters(), { lr: 1 }))
    let start = 0
    for (const size of sizes) {
      const x = tensor(data.slice(3 * start, 3 * (start + size)), { device }).reshape([size, 3])
      const mask = tensor(factors.slice(start, start + size), { device })
      const options = { weight, mask, labelSmoothing: 0.2, reduction: 'parts' } as const
      acc.add(nn.crossEntropy(layer.forward(x), targets.slice(start, start + size), options))
      start += size
    }
    acc.step()
    return (await values(layer.weight)).map((w, i) => before[i]! - w)
  }
  const whole = await gradient([10])
  for (const sizes of [[3, 1, 6], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]]) near(t, await gradient(sizes), whole, 1e-5) // prettier-ignore
})

onDevices("with 'throw' an all-padding batch changes no parameter, and the step does not wait", async (t, device) => {
  const layer = new nn.Linear(2, 2, { device })
  const optimizer = new optim.AdamW(layer.parameters(), { lr: 0.1 })
  const x = tensor([[1, 2], [3, 4]], { device }) // prettier-ignore
  const step = compile((mask: Tensor) => {
    optimizer.zeroGrad()
    const loss = nn.crossEntropy(layer.forward(x), tensor([0, 1], { dtype: 'i32', device }), {
      mask,
      emptyMask: 'throw',
    })
    loss.backward()
    optimizer.step()
    return loss
  })
  await step(tensor([true, true], { device })).item()
  const before = await values(layer.weight)
  t.is(await rejectionOf(step(tensor([false, false], { device })).data()), 'ERR_ARGUMENT')
  t.deepEqual(await values(layer.weight), before)
  await step(tensor([false, true], { device })).item()
  t.notDeepEqual(await values(layer.weight), before)
})

onDevices('a step for which nothing counts is skipped where the count is its gate', async (t, device) => {
  for (const make of [
    (p: Tensor[]) => new optim.SGD(p, { lr: 0.1, momentum: 0.9, weightDecay: 0.1 }),
    (p: Tensor[]) => new optim.AdamW(p, { lr: 0.1 }),
    (p: Tensor[]) => new optim.RMSprop(p, { lr: 0.1, momentum: 0.9, weightDecay: 0.1 }),
  ]) {
    const layer = new nn.Linear(2, 3, { device })
    const optimizer = make(layer.parameters())
    const x = tensor([[1, 2], [3, 4]], { device }) // prettier-ignore
    const step = async (targets: number[], gated: boolean): Promise<boolean> => {
      optimizer.zeroGrad()
      const { sum, count } = nn.crossEntropy(layer.forward(x), targets, { reduction: 'parts' })
      sum.div(count.maximum(1)).backward()
      const ok = count.greater(0)
      optimizer.step(gated ? { ok } : {})
      return (await ok.item()) === 1
    }
    const state = async (): Promise<unknown[]> => [await values(layer.weight), (await optimizer.stateDict()).groups]
    t.true(await step([0, 2], true))
    const before = await state()
    t.false(await step([-100, -100], true))
    t.deepEqual(await state(), before, 'parameters, momentum and the counter of steps')
    await step([-100, -100], false)
    t.notDeepEqual(await values(layer.weight), before[0], 'momentum and decay go on with gradients of 0')
    const after = await state()
    t.true(await step([1, -100], true))
    t.notDeepEqual(await state(), after)
  }
})

onDevices('of no elements at all losses are 0, NaN, or an error at once', async (t, device) => {
  const nothing = tensor(new Float32Array(0), { shape: [0, 3], device })
  const none = tensor(new Int32Array(0), { shape: [0], device })
  const losses: ((options: nn.LossOptions) => Tensor)[] = [
    (o) => one(nn.mse(nothing, nothing, o)),
    (o) => one(nn.huber(nothing, nothing, o)),
    (o) => one(nn.bceWithLogits(nothing, nothing, o)),
    (o) => one(nn.crossEntropy(nothing, nothing, o)),
  ]
  for (const loss of losses) {
    t.is(await loss({}).item(), 0)
    t.is(await loss({ emptyMask: 'nan' }).item(), NaN)
    t.is(codeOf(() => loss({ emptyMask: 'throw' })), 'ERR_ARGUMENT') // prettier-ignore
  }
  for (const loss of [nn.crossEntropy, nn.nll]) {
    t.is(await loss(nothing, none).item(), 0)
    t.is(await loss(nothing, none, { emptyMask: 'nan' }).item(), NaN)
    t.is(await rejectionOf(loss(nothing, none, { emptyMask: 'throw' }).data()), 'ERR_ARGUMENT')
  }
})

onDevices('a loss scaled by a number that changes stays one program', async (t, device) => {
  const factor = scalar(1)
  const loss = compile((x: Tensor, y: Tensor) => nn.huber(x, y).mul(factor))
  const [x, y] = [tensor([3], { device }), tensor([0], { device })]
  t.is(await loss(x, y).item(), 2.5)
  factor.value = 2
  t.is(await loss(x, y).item(), 5)
  t.is(loss.stats().recordings, 1)
})

onDevices('masks are refused that do not fit', (t, device) => {
  const [x, y] = [tensor([[1, 2], [3, 4]], { device }), tensor([[0, 0], [0, 0]], { device })] // prettier-ignore
  const mse = (mask: unknown): string => codeOf(() => nn.mse(x, y, { mask: mask as Tensor }))
  t.is(mse(tensor([true, false, true], { device })), 'ERR_SHAPE')
  t.is(mse(tensor([[[true, false]]], { device })), 'ERR_SHAPE')
  t.is(mse([true, false]), 'ERR_ARGUMENT')
  t.is(mse(tensor([true, false], { device })), 'nothing')
  t.is(mse(tensor([1, 0], { dtype: 'i32', device })), 'nothing')
  if (device.dtypes.includes('f64')) t.is(mse(tensor([1, 0], { dtype: 'f64', device })), 'ERR_DTYPE')
  const wide = tensor([[true, false], [true, true]], { device }) // prettier-ignore
  t.is(
    codeOf(() => nn.crossEntropy(x, tensor([0, 1], { dtype: 'i32', device }), { mask: wide })),
    'ERR_SHAPE',
  )
})
