/**
 * Exact accumulation: micro-batches of any sizes give the gradient of the one batch, windows may be partial, and a
 * window that cannot be applied changes nothing.
 */

import {
  type Device,
  type Dtype,
  Parameter,
  manualSeed,
  nn,
  ones,
  openDevice,
  optim,
  scope,
  tensor,
  train,
} from '../../ts/index.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { Recording } from '../helpers/recording.ts'
import { distance, largest, near, random, values } from '../helpers/values.ts'

const ROWS = [8, 8, 8, 8, 8, 7, 2, 1]
const TOTAL = ROWS.reduce((a, b) => a + b)

function mlp(device: Device, dtype: Dtype): nn.Sequential {
  manualSeed(21)
  return new nn.Sequential(
    new nn.Linear(9, 17, { activation: 'gelu', device, dtype }),
    new nn.Linear(17, 13, { activation: 'tanh', device, dtype }),
    new nn.Linear(13, 5, { device, dtype }),
  )
}

/** Gradients of the mean over all rows, added up over windows of these sizes. */
async function gradients(
  device: Device,
  dtype: Dtype,
  sizes: readonly number[],
  targets: Int32Array,
): Promise<number[][]> {
  const model = mlp(device, dtype)
  const optimizer = new Recording(model.parameters(), { lr: 1 })
  const acc = new train.GradientAccumulator(optimizer)
  const x = tensor(random([TOTAL, 9], { seed: 5 }), { shape: [TOTAL, 9], dtype, device })
  let start = 0
  for (const size of sizes) {
    const y = tensor(targets.slice(start, start + size), { device })
    acc.add(nn.crossEntropy(model.forward(x.slice([start], [size])), y, { reduction: 'parts' }))
    start += size
  }
  acc.step()
  return optimizer.gradients()
}

const CLASSES = Int32Array.from({ length: TOTAL }, (_, i) => (7 * i + (i >> 2)) % 5)
// About a third of the rows are not counted, one whole micro-batch among them.
const SPARSE = CLASSES.map((c, i) => (i % 3 === 0 || (i >= 8 && i < 16) ? -100 : c))

for (const [name, targets] of [
  ['all rows counted', CLASSES],
  ['ignored rows among them', SPARSE],
] as const) {
  onDevices(`eight micro-batches of unequal sizes have the gradient of one batch, ${name}`, async (t, device) => {
    const rules: [Dtype, number][] = device.kind === 'js' ? [['f64', 1e-13], ['f32', 1e-6]] : [['f32', 1e-6]] // prettier-ignore
    for (const [dtype, tolerance] of rules) {
      const whole = await gradients(device, dtype, [TOTAL], targets)
      const parts = await gradients(device, dtype, ROWS, targets)
      t.is(parts.length, 6)
      parts.forEach((g, i) => {
        t.true(largest(whole[i]!) > 1e-4)
        t.true(
          distance(g, whole[i]!) <= tolerance * largest(whole[i]!),
          `${dtype} parameter ${i}: ${distance(g, whole[i]!) / largest(whole[i]!)}`,
        )
      })
    }
  })
}

onDevices('the mean over the window is the gradient of the mean loss', async (t, device) => {
  const model = mlp(device, 'f32')
  const x = tensor(random([TOTAL, 9], { seed: 5 }), { shape: [TOTAL, 9], device })
  nn.crossEntropy(model.forward(x), tensor(CLASSES, { device })).backward()
  const parts = await gradients(device, 'f32', ROWS, CLASSES)
  for (const [i, p] of model.parameters().entries()) near(t, parts[i]!, await values(p.grad), 1e-6)
})

onDevices('token losses of {4} and {1 × 9} have the mean 1.3, not 2.5', async (t, device) => {
  const w = new Parameter([1], { device })
  const acc = new train.GradientAccumulator(new optim.SGD([w], { lr: 1 }))
  // The loss of an item is its number times w, so the gradient of the mean is the mean of the numbers.
  for (const items of [[4], Array<number>(9).fill(1)]) {
    acc.add({ sum: tensor(items, { device }).mul(w).sum(), count: tensor(items.length, { device }) })
  }
  t.is(acc.microBatches, 2)
  const { norm, count, applied } = acc.step()
  near(t, await values(norm), [1.3], 1e-6)
  t.deepEqual(await values(count), [10])
  t.deepEqual(await applied.array(), true)
  near(t, await values(w), [-0.3], 1e-6)
  t.is(acc.microBatches, 0)
})

onDevices('accumulated steps are those of the one batch, window after window', async (t, device) => {
  const run = async (sizes: readonly number[]): Promise<number[][]> => {
    const model = mlp(device, 'f32')
    const acc = new train.GradientAccumulator(new optim.AdamW(model.parameters(), { lr: 0.01 }))
    for (let window = 0; window < 5; window++) {
      const x = tensor(random([TOTAL, 9], { seed: window }), { shape: [TOTAL, 9], device })
      let start = 0
      for (const size of sizes) {
        const y = tensor(CLASSES.slice(start, start + size), { device })
        acc.add(nn.crossEntropy(model.forward(x.slice([start], [size])), y, { reduction: 'parts' }))
        start += size
      }
      acc.step()
    }
    return Promise.all(model.parameters().map(values))
  }
  const [whole, parts] = [await run([TOTAL]), await run(ROWS)]
  // Adam divides by the root of v, so tiny differences of tiny gradients grow: the bound is that of the weights' scale.
  parts.forEach((p, i) => near(t, p, whole[i]!, 1e-4, `parameter ${i}`))
})

onDevices('a partial window weighs by its own count', async (t, device) => {
  const w = new Parameter([0], { device })
  const acc = new train.GradientAccumulator(new optim.SGD([w], { lr: 1 }))
  acc.add({ sum: w.mul(6).sum(), count: tensor(2, { device }) })
  t.not(acc.flush(), null)
  t.deepEqual(await values(w), [-3])
  t.is(acc.flush(), null)
  t.is(codeOf(() => acc.step()), 'ERR_ARGUMENT') // prettier-ignore
  t.deepEqual(await values(w), [-3])
})

for (const [name, make] of [
  ['SGD', (p: Parameter[]): optim.Optimizer => new optim.SGD(p, { lr: 0.1, weightDecay: 0.1, momentum: 0.9 })],
  ['AdamW', (p: Parameter[]): optim.Optimizer => new optim.AdamW(p, { lr: 0.1, weightDecay: 0.1 })],
] as const) {
  onDevices(`${name}: a window in which nothing counts changes nothing`, async (t, device) => {
    const layer = new nn.Linear(3, 4, { device })
    const optimizer = make(layer.parameters())
    const acc = new train.GradientAccumulator(optimizer)
    const step = (targets: number[]): train.StepResult => {
      for (const target of targets) {
        const y = tensor([target], { device, dtype: 'i32' })
        acc.add(nn.crossEntropy(layer.forward(tensor([[1, 2, 3]], { device })), y, { reduction: 'parts' }))
      }
      return acc.step()
    }
    t.is(await step([1, 2]).applied.array(), true)
    const [model, state] = [await layer.stateDict(), await optimizer.stateDict()]
    const empty = step([-100, -100])
    t.is(await empty.applied.array(), false)
    t.deepEqual(await values(empty.count), [0])
    t.deepEqual(await values(empty.norm), [0])
    t.deepEqual(await layer.stateDict(), model)
    // The step is counted: a schedule goes on.
    t.deepEqual(await optimizer.stateDict(), { ...state, step: state.step + 1 })
    t.is(await step([0, -100]).applied.array(), true)
    t.notDeepEqual(await layer.stateDict(), model)
  })

  onDevices(`${name}: a window with a gradient that is not finite changes nothing and says so`, async (t, device) => {
    for (const bad of [Number.NaN, Infinity, -Infinity]) {
      const layer = new nn.Linear(2, 2, { device })
      const optimizer = make(layer.parameters())
      const acc = new train.GradientAccumulator(optimizer)
      const add = (row: number[]): void =>
        acc.add(nn.mse(layer.forward(tensor([row], { device })), ones([1, 2], { device }), { reduction: 'parts' }))
      add([1, 2])
      acc.step()
      const [model, state] = [await layer.stateDict(), await optimizer.stateDict()]
      add([1, 2])
      add([bad, 1])
      add([3, 4])
      const { applied, norm, count } = acc.step()
      t.is(await applied.array(), false)
      t.false(Number.isFinite(await norm.item()))
      t.is(await count.item(), 6)
      t.deepEqual(await layer.stateDict(), model)
      // The step is counted: a schedule goes on.
      t.deepEqual(await optimizer.stateDict(), { ...state, step: state.step + 1 })
      add([1, 2])
      t.is(await acc.step().applied.array(), true)
      t.true((await values(layer.weight)).every(Number.isFinite))
    }
  })
}

onDevices('the norm is that of all gradients together, divided by the count', async (t, device) => {
  const [a, b] = [new Parameter([1, 1], { device }), new Parameter([[1]], { device })]
  const acc = new train.GradientAccumulator(new optim.SGD([a, b], { lr: 0 }))
  const sum = a
    .mul(tensor([6, 0], { device }))
    .sum()
    .add(b.mul(8).sum())
  acc.add({ sum, count: tensor(2, { device }) })
  near(t, await values(acc.step().norm), [5], 1e-6)
})

onDevices('gradients are dropped at the end of a window', async (t, device) => {
  const w = new Parameter([1], { device })
  const acc = new train.GradientAccumulator(new optim.SGD([w], { lr: 1 }))
  for (let i = 0; i < 3; i++) {
    acc.add({ sum: w.mul(1).sum(), count: tensor(1, { device }) })
    t.not(w.grad, null)
    acc.step()
    t.is(w.grad, null)
  }
  t.deepEqual(await values(w), [-2])
})

onDevices('accumulation works inside scopes', async (t, device) => {
  const w = new Parameter([0], { device })
  const acc = new train.GradientAccumulator(new optim.SGD([w], { lr: 1 }))
  for (const x of [1, 5]) scope(() => acc.add({ sum: w.mul(x).sum(), count: tensor(1, { device }) }))
  const { count } = scope(() => acc.step())
  t.deepEqual(await values(count), [2])
  t.deepEqual(await values(w), [-3])
})

onDevices('what is no pair of sum and count is refused, and the window goes on', async (t, device) => {
  const w = new Parameter([2], { device })
  const acc = new train.GradientAccumulator(new optim.SGD([w], { lr: 1 }))
  const one = tensor(1, { device })
  const add = (parts: unknown): string => codeOf(() => acc.add(parts as nn.Parts))
  t.is(add(w.mul(1).sum()), 'ERR_ARGUMENT')
  t.throws(() => acc.add(w.mul(1).sum() as unknown as nn.Parts), { message: /not one tensor; use reduction: 'parts'/ })
  t.is(add({ sum: w.mul(1).sum() }), 'ERR_ARGUMENT')
  t.is(add({ sum: w.mul(1).sum(), count: 1 }), 'ERR_ARGUMENT')
  t.is(add(null), 'ERR_ARGUMENT')
  t.is(add({ sum: w.expand([2]), count: one }), 'ERR_SHAPE')
  t.is(add({ sum: w.mul(1).sum(), count: ones([2], { device }) }), 'ERR_SHAPE')
  t.is(add({ sum: one, count: one }), 'ERR_ARGUMENT')
  t.is(acc.microBatches, 0)
  t.is(w.grad, null)
  acc.add({ sum: w.mul(3).sum(), count: one })
  acc.step()
  t.deepEqual(await values(w), [-1])
  t.is(
    codeOf(() => new train.GradientAccumulator(null as unknown as optim.Optimizer)),
    'ERR_ARGUMENT',
  )
})

onDevices('the handles of the caller stay the caller’s', async (t, device) => {
  const w = new Parameter([2], { device })
  const acc = new train.GradientAccumulator(new optim.SGD([w], { lr: 1 }))
  const [sum, count] = [w.mul(3).sum(), tensor(1, { device })]
  acc.add({ sum, count })
  acc.step()
  t.deepEqual([...(await values(sum)), ...(await values(count))], [6, 1])
  acc.add({ sum: w.mul(1).sum(), count })
  count.dispose()
  acc.step()
  t.deepEqual(await values(w), [-2])
})

onDevices('parameters of another device than the loss are refused, not mixed', async (t, device) => {
  const js = await openDevice('js')
  const [here, there] = [new Parameter([1], { device }), new Parameter([1], { device: js })]
  const acc = new train.GradientAccumulator(new optim.SGD([here, there], { lr: 1 }))
  there.grad = ones([1], { device: js })
  acc.add({ sum: here.mul(2).sum(), count: tensor(1, { device }) })
  t.is(codeOf(() => acc.step()), 'ERR_DEVICE_MISMATCH') // prettier-ignore
  await js.close()
})
