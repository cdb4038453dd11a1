/**
 * How many programs a compiled function keeps, which ones go, what it tells of them, and that it holds no more memory
 * than it needs: not after thousands of runs, not of arguments that are gone, and nothing once it is gone itself.
 */

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import test from 'ava'

import { type Device, Parameter, type Tensor, compile, full, nn, optim, rand, randn, scalar, tensor, train } from '../../ts/index.ts' // prettier-ignore
import { JS, onDevices } from '../helpers/devices.ts'
import { values } from '../helpers/values.ts'
import { liveSlots, onFreshDevices } from '../lifetime/fresh.ts'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** Collects garbage until `done` says so; gives whether it ever did. Finalisers run between macrotasks. */
async function collected(done: () => Promise<boolean>): Promise<boolean> {
  for (let i = 0; i < 50; i++) {
    collectGarbage()
    await new Promise((resolve) => setImmediate(resolve))
    if (await done()) return true
  }
  return false
}

/** Warnings about the compiled function of a name from here on. */
function warnings(name: string): Error[] {
  const seen: Error[] = []
  process.on('warning', (warning) => {
    const { code } = warning as Error & { code?: string }
    if (code === 'TILEGRAD_COMPILE' && warning.message.includes(`(${name})`)) seen.push(warning)
  })
  return seen
}

test('at most 64 programs are kept: the one that was not run for the longest goes', async (t) => {
  const seen = warnings('scaled')
  const f = compile((x: Tensor, k: number) => x.mul(k), { name: 'scaled' })
  const x = tensor([1], { device: JS })
  const run = async (k: number): Promise<boolean> => t.deepEqual(await values(f(x, k)), [k])
  for (let k = 0; k < 31; k++) await run(k)
  await new Promise((resolve) => setImmediate(resolve))
  t.is(seen.length, 0)
  for (let k = 31; k < 64; k++) await run(k)
  await new Promise((resolve) => setImmediate(resolve))
  t.is(seen.length, 1)
  t.regex(seen[0]!.message, /^compile\(scaled\) has recorded 32 different programs.*f32 \[1\], 31.*scalar\(\)/s)
  t.like(f.stats(), { calls: 64, recordings: 64, dropped: 0 })
  // 0 and 1 are young again, so 2 and 3 go.
  await run(1)
  await run(0)
  await run(64)
  await run(65)
  t.like(f.stats(), { calls: 68, recordings: 66, dropped: 2 })
  const kept = f.stats().signatures.map(({ signature }) => Number(signature.split(', ')[1]))
  t.deepEqual(kept.slice(0, 5), [65, 64, 0, 1, 63])
  t.is(kept.length, 64)
  t.false(kept.includes(2) || kept.includes(3))
  await run(2)
  await run(0)
  t.is(f.stats().recordings, 67)
})

test('stats() tell what there is, and clear() forgets it', async (t) => {
  const w = new Parameter([2], { device: JS })
  const f = compile((x: Tensor, o: { k: unknown; list?: unknown[] }) => (o.k === 'none' ? null : x.mul(w).sum()))
  t.deepEqual(f.stats(), { calls: 0, recordings: 0, dropped: 0, signatures: [] })
  const x = tensor([[1, 2]], { device: JS })
  f(x, { k: 1 })
  f(x, { k: scalar(1) })
  f(x, { k: scalar(2) })
  f(tensor([1], { device: JS, requiresGrad: true }), { k: 'a', list: [true, null] })
  f(x, { k: 'none' })
  const { signatures, ...counts } = f.stats()
  t.deepEqual(counts, { calls: 5, recordings: 4, dropped: 0 })
  t.deepEqual(
    signatures.map(({ signature, runs, instructions }) => [signature, runs, instructions]),
    [
      ["f32 [1, 2], { k: 'none' }", 1, 0],
      ["f32 [1] requires grad, { k: 'a', list: [true, null] }", 1, 2],
      ['f32 [1, 2], { k: scalar }', 2, 2],
      ['f32 [1, 2], { k: 1 }', 1, 2],
    ],
  )
  t.is(signatures[0]!.plan, null)
  for (const { plan } of signatures.slice(1)) {
    t.true(plan!.steps >= 1 && plan!.planMilliseconds >= 0 && plan!.arenaBytes >= plan!.liveBytes)
  }
  t.true(signatures.every(({ recordMilliseconds }) => recordMilliseconds > 0 && recordMilliseconds < 10_000))
  f.clear()
  t.like(f.stats(), { calls: 5, recordings: 4, dropped: 4, signatures: [] })
  t.is(await f(x, { k: 1 })!.item(), 6)
  t.like(f.stats(), { calls: 6, recordings: 5 })
  f.clear()
  f.clear()
  t.is(f.stats().dropped, 5)
})

/** One training step with everything in it, disposing of what it gives. */
function everything(device: Device): () => void {
  const model = new nn.Sequential(new nn.Linear(3, 8, { activation: 'gelu', device }), new nn.Linear(8, 2, { device }))
  const optimizer = new optim.AdamW(model.parameters(), { lr: (step) => 1 / (step + 10) })
  const acc = new train.GradientAccumulator(optimizer)
  const factor = scalar(1)
  const micro = compile((x: Tensor, y: Tensor, k: typeof factor) => {
    const noisy = model
      .forward(x.add(randn([4, 3], { device })))
      .mul(rand([4, 2], { device }))
      .mul(k)
    acc.add(nn.crossEntropy(noisy, y, { reduction: 'parts' }))
    return [noisy, x, y.reshape([2, 2])]
  })
  const update = compile(() => acc.step())
  return () => {
    using x = full([4, 3], 0.5, { device })
    using y = full([4], 1, { device, dtype: 'i32' })
    factor.value += 0.25
    for (let i = 0; i < 2; i++) for (const result of micro(x, y, factor)) result.dispose()
    for (const result of Object.values(update()) as Tensor[]) result.dispose()
  }
}

onFreshDevices('2,000 runs leave the memory as it was', async (t, device) => {
  t.timeout(100_000)
  const step = everything(device)
  for (let i = 0; i < 5; i++) step()
  const before = await liveSlots(device)
  const { liveBytes, peakBytes } = device.stats()
  // Three runs a step: two micro-batches and an update.
  for (let i = 0; i < 667; i++) {
    step()
    if (i % 100 === 0) t.is(await liveSlots(device), before, `step ${i}`)
  }
  t.is(await liveSlots(device), before)
  t.is(device.stats().liveBytes, liveBytes)
  t.true(device.stats().peakBytes <= 1.5 * peakBytes, `${device.stats().peakBytes} after ${peakBytes}`)
})

onFreshDevices('results that nobody disposes of are collected, and so are arguments', async (t, device) => {
  const f = compile((x: Tensor) => ({ y: x.mul(2), z: x.reshape([2, 1]) }))
  const before = await liveSlots(device)
  for (let i = 0; i < 50; i++) f(tensor([i, i], { device }))
  t.true(await collected(async () => (await liveSlots(device)) === before))
  t.is(f.stats().recordings, 1)
})

onFreshDevices('a compiled function that is gone takes its programs and constants with it', async (t, device) => {
  let released = 0
  const release = device.backend.release.bind(device.backend)
  device.backend.release = (program) => {
    released++
    release(program)
  }
  const before = await liveSlots(device)
  const use = async (): Promise<void> => {
    const f = compile((x: Tensor, k: number) => x.mul(tensor([k, k], { device })))
    const constant = compile(() => tensor([1, 2], { device }))
    using x = tensor([1, 2], { device })
    for (let k = 0; k < 3; k++) {
      using y = f(x, k)
      t.deepEqual(await values(y), [k, 2 * k])
      constant().dispose()
    }
    t.is(await liveSlots(device), before + 3 + 1 + 1)
    // Those that are dropped are released at once.
    f.clear()
    t.is(released, 3)
    using y = f(x, 7)
    t.deepEqual(await values(y), [7, 14])
  }
  await use()
  t.true(await collected(async () => (await liveSlots(device)) === before && released === 4), `${released}`)
})

onFreshDevices('a failed recording leaves nothing behind', async (t, device) => {
  const w = new Parameter([1, 2], { device })
  const x = tensor([1, 2], { device })
  const f = compile((y: Tensor) => {
    w.mul(y)
      .add(tensor([3, 4], { device }))
      .add(randn([2], { device }))
      .square()
      .sum()
      .backward()
    throw new RangeError('no')
  })
  const before = await liveSlots(device)
  const { version } = w.value.storage
  for (let i = 0; i < 10; i++) t.throws(() => f(x), { instanceOf: RangeError })
  t.is(await liveSlots(device), before)
  t.is(w.value.storage.version, version)
  t.is(f.stats().recordings, 0)
})

onDevices('a program that is dropped while its results wait to be read', async (t, device) => {
  const f = compile((x: Tensor, k: number) => x.mul(k))
  const x = tensor([3], { device })
  const results = Array.from({ length: 20 }, (_, k) => f(x, k))
  f.clear()
  t.deepEqual(await Promise.all(results.map((y) => y.item())), results.map((_, k) => 3 * k)) // prettier-ignore
})
