/**
 * Streams: the same work is the same words, whatever the garbage collector does meanwhile, so plans are made once. And
 * work that is never waited for does not pile up.
 */

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

import { type Device, type Tensor, data, matmul, nn, ones, optim, scope, tensor, train } from '../../ts/index.ts'
import { readStream } from '../../ts/program/decode.ts'
import { MAX_INSTRUCTIONS } from '../../ts/program/record.ts'
import { capture } from '../helpers/capture.ts'
import { random, values } from '../helpers/values.ts'
import { liveSlots, onFreshDevices } from './fresh.ts'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** Collects, and lets finalisers run. */
async function collect(): Promise<void> {
  for (let i = 0; i < 3; i++) {
    collectGarbage()
    await new Promise((resolve) => setImmediate(resolve))
  }
}

/** The code words of every stream that a device gets from now on, since the last call. */
function spy(device: Device): () => string[] {
  const { sent } = capture(device)
  return () => sent.splice(0).flatMap((s) => (s.kind === 'submit' ? [readStream(s.words).code.join(' ')] : []))
}

function classifier(device: Device) {
  const model = new nn.Sequential(
    new nn.Linear(12, 20, { activation: 'relu', device }),
    new nn.Linear(20, 4, { device }),
  )
  const x = tensor(random([64, 12], { seed: 1 }), { shape: [64, 12], device })
  const y = tensor(
    Int32Array.from({ length: 64 }, (_, i) => i % 4),
    { device },
  )
  const loader = new data.DataLoader(new data.TensorDataset(x, y), { batchSize: 8, shuffle: true })
  return { model, loader }
}

onFreshDevices('a training loop is the same words in every step, however the collector runs', async (t, device) => {
  const { model, loader } = classifier(device)
  const optimizer = new optim.AdamW(model.parameters())
  const streams = spy(device)
  const steps: string[][] = []
  for (let epoch = 0; epoch < 6; epoch++) {
    for await (const [x, y] of loader) {
      steps.push(streams())
      optimizer.zeroGrad()
      const loss = nn.crossEntropy(model.forward(x), y)
      loss.backward()
      optimizer.step()
      if (steps.length % 5 === 2) collectGarbage()
      if (steps.length % 7 === 3) await collect()
      optimizer.lr *= 0.99
    }
    // Finalisers free in streams of their own, without code.
    if (epoch === 1) t.true(steps.flat().includes(''))
  }
  // The first step has no gradients to drop and the optimiser's parameters to move; then all are alike.
  const steady = steps.slice(3).map((list) => list.filter((code) => code !== '').join('|'))
  t.is(steady.length, 45)
  t.is(new Set(steady).size, 1)
  t.true(steady[0]!.length > 100)
})

onFreshDevices('once it runs, a training loop plans nothing any more', async (t, device) => {
  const { model, loader } = classifier(device)
  const acc = new train.GradientAccumulator(new optim.SGD(model.parameters(), { lr: 0.1 }))
  const epoch = async (): Promise<void> => {
    for await (const [x, y] of loader) {
      acc.add(nn.crossEntropy(model.forward(x), y, { reduction: 'parts' }))
      if (acc.microBatches === 4) acc.step()
      await collect()
    }
    await device.sync()
  }
  await epoch()
  await epoch()
  const before = device.stats()
  await epoch()
  await epoch()
  const after = device.stats()
  t.is(after.planMisses, before.planMisses)
  t.is(after.plans, before.plans)
  t.true(after.planHits >= before.planHits + 16, `${after.planHits - before.planHits} hits`)
})

onFreshDevices('numbers that change from step to step are not part of the words', async (t, device) => {
  const p = tensor([1, 2], { device, requiresGrad: true })
  const optimizer = new optim.SGD([p], { lr: 1 })
  const streams = spy(device)
  for (let i = 0; i < 4; i++) {
    optimizer.lr = 1 / (i + 1)
    scope(() => p.mul(i + 0.5).sub(i).clip(-i, 10 * i).sum().backward()) // prettier-ignore
    optimizer.step()
    optimizer.zeroGrad()
    await device.sync()
  }
  t.is(new Set(streams().slice(1)).size, 1)
})

onFreshDevices('tensors nobody holds are freed when the event loop turns', async (t, device) => {
  const x = ones([100], { device })
  const before = await liveSlots(device)
  for (let round = 0; round < 5; round++) {
    for (let i = 0; i < 50; i++) x.add(i)
    await device.sync()
  }
  const deadline = performance.now() + 10_000
  let slots = Infinity
  while (slots > before && performance.now() < deadline) {
    await collect()
    slots = await liveSlots(device)
  }
  t.is(slots, before)
  t.deepEqual((await values(x)).slice(0, 2), [1, 1])
})

onFreshDevices('an optimiser nobody holds is freed with its state', async (t, device) => {
  const make = async (): Promise<void> => {
    const layer = new nn.Linear(30, 30, { device })
    const optimizer = new optim.AdamW(layer.parameters())
    scope(() => layer.forward(ones([2, 30], { device })).sum().backward()) // prettier-ignore
    optimizer.step()
    await device.sync()
  }
  const before = await liveSlots(device)
  for (let i = 0; i < 10; i++) await make()
  const deadline = performance.now() + 10_000
  let slots = Infinity
  while (slots > before && performance.now() < deadline) {
    await collect()
    slots = await liveSlots(device)
  }
  t.is(slots, before)
})

onFreshDevices('long work is handed over in parts, unasked', (t, device) => {
  const streams = spy(device)
  let y: Tensor = ones([2], { device })
  for (let i = 0; i < 3 * MAX_INSTRUCTIONS; i++) y = scope(() => y.add(1))
  const parts = streams().length
  t.true(parts >= 3, `${parts} streams`)
  const big = ones([1024, 1024], { device })
  if (device.kind === 'js') return
  for (let i = 0; i < 3; i++) matmul(big, big).dispose()
  const products = streams().length
  t.true(products >= 3, `${products} streams for three big products`)
})

onFreshDevices('work begins without being asked for, once the macrotask is over', async (t, device) => {
  const streams = spy(device)
  const x = ones([2], { device }).add(1)
  t.is(streams().length, 0)
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
  t.is(streams().length, 1)
  t.deepEqual(await values(x), [2, 2])
  // What finalisers free meanwhile comes in streams without code.
  t.deepEqual(streams().filter((code) => code !== ''), []) // prettier-ignore
})

onFreshDevices('what is uploaded and disposed in a loop that never yields does not pile up', (t, device) => {
  const chunk = new Float32Array(250_000)
  let highest = 0
  for (let i = 0; i < 300; i++) {
    tensor(chunk, { device }).dispose()
    if (i % 50 === 49) highest = Math.max(highest, device.stats().liveBytes)
  }
  t.true(highest <= 100e6, `${highest} bytes are alive`)
})

onFreshDevices('uploads that nobody waits for are bounded by the room that the device gives', async (t, device) => {
  // Every round uploads, computes and disposes; nothing yields to the event loop.
  const w = ones([256, 256], { device })
  const chunk = new Float32Array(256 * 256).fill(1)
  let last = 0
  for (let i = 0; i < 400; i++) {
    scope(() => void matmul(tensor(chunk, { shape: [256, 256], device }), w))
    last = Math.max(last, device.stats().liveBytes)
  }
  t.true(last <= 400e6, `${last} bytes are alive`)
  t.is((await values(w))[0], 1)
})
