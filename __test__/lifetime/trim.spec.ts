/** What a device says of its memory, and giving back what it does not need: the numbers, and that nothing else changes. */

import test, { type ExecutionContext } from 'ava'

import {
  type Device,
  type DeviceStats,
  type Tensor,
  compile,
  full,
  matmul,
  noGrad,
  randn,
  scope,
  tensor,
  zeros,
} from '../../ts/index.ts'
import { isRight, workFor } from '../helpers/busy.ts'
import { DEVICES } from '../helpers/devices.ts'
import { rejectionOf } from '../helpers/errors.ts'
import { openDevice } from '../helpers/open.ts'
import { trainee } from '../helpers/trainee.ts'
import { random } from '../helpers/values.ts'

/** Declares a test for each kind of device, on one of its own. One at a time: devices of a process share scratch memory. */
function onEach(title: string, body: (t: ExecutionContext, device: Device) => Promise<void>): void {
  for (const { kind } of DEVICES) {
    test.serial(`${title} [${kind}]`, async (t) => {
      t.timeout(60_000)
      const device = await openDevice(kind)
      await body(t, device)
      await device.close()
    })
  }
}

onEach('what a device holds is counted by what it is for', async (t, device) => {
  const zero = device.stats()
  t.deepEqual([zero.liveBytes, zero.arenaBytes, zero.poolBytes, zero.packedBytes, zero.peakBytes], [0, 0, 0, 0, 0])
  t.deepEqual([zero.queuedJobs, zero.queuedBytes], [0, 0])
  const n = 512
  const bytes = n * n * 4
  const x = tensor(random([n, n], { seed: 1 }), { shape: [n, n], device })
  await device.sync()
  t.is(device.stats().liveBytes, bytes)
  // One intermediate: a product that only another product reads. cpu packs what lies across and is large.
  const y = scope(() => matmul(matmul(x, x, { transposeA: true }), x))
  await y.data()
  const used = device.stats()
  t.is(used.liveBytes, 2 * bytes)
  // What js used is free again at once: nothing else runs before it is.
  t.deepEqual([used.arenaBytes, used.poolBytes], device.kind === 'js' ? [0, bytes] : [bytes, 0])
  t.is(used.peakBytes, 3 * bytes)
  t.true(used.scratchBytes > 0, 'packed operands, or what was read')
  y.dispose()
  await device.sync()
  const freed = device.stats()
  t.is(freed.liveBytes, bytes)
  t.is(freed.arenaBytes + freed.poolBytes, 2 * bytes)
  t.is(freed.peakBytes, 3 * bytes)
})

onEach(
  'a weight that is used again unchanged is copied into the order in which products read it',
  async (t, device) => {
    const n = 128
    const [x, w] = [randn([8, n], { device }), randn([n, n], { device })]
    for (let i = 0; i < 4; i++) await matmul(x, w).data()
    const { packedBytes } = device.stats()
    t.is(packedBytes, device.kind === 'cpu' ? n * n * 4 : 0)
    await device.trim()
    t.is(device.stats().packedBytes, 0)
  },
)

onEach('trim gives back all that only makes later work faster, and training goes on as before', async (t, device) => {
  const other = await openDevice(device.kind)
  const [one, twin] = [trainee(device), trainee(other)]
  const losses: [number, number][] = []
  const steps = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) losses.push([await one.loss(), await twin.loss()])
  }
  await steps(3)
  const used = async (): Promise<DeviceStats> => {
    const large: Tensor[] = Array.from({ length: 3 }, () => zeros([1 << 18], { device }))
    await device.sync()
    for (const x of large) x.dispose()
    await steps(1)
    await device.sync()
    return device.stats()
  }
  let before = await used()
  // A device that rests for a second trims itself, and a second is not much where other tests run.
  for (let i = 0; i < 5 && before.poolBytes < 3 << 20; i++) before = await used()
  t.true(before.poolBytes >= 3 << 20, `${before.poolBytes} bytes in the pool`)
  t.true(before.arenaBytes > 0 || device.kind === 'js')
  await device.trim()
  const after = device.stats()
  t.deepEqual([after.arenaBytes, after.poolBytes, after.packedBytes, after.scratchBytes], [0, 0, 0, 0])
  t.deepEqual([after.liveBytes, after.liveSlots], [before.liveBytes, before.liveSlots])
  t.deepEqual(await one.state(), await twin.state())
  await steps(3)
  t.deepEqual(await one.state(), await twin.state())
  t.true(losses.every(([a, b]) => a === b && Number.isFinite(a)))
  t.true(losses.at(-1)![0] < losses[0]![0])
  await other.close()
})

onEach('trim comes after the work that has been recorded', async (t, device) => {
  const start = await workFor(device, device.kind === 'js' ? 20 : 200)
  const y = start()
  await device.trim()
  const { arenaBytes, poolBytes, queuedJobs } = device.stats()
  t.deepEqual([arenaBytes, poolBytes, queuedJobs], [0, 0, 0])
  t.true(isRight(await y.data()))
})

onEach('trimming in the middle of work, over and over, changes no result', async (t, device) => {
  const start = await workFor(device, 20)
  const results: Tensor[] = []
  const trims: Promise<void>[] = []
  for (let i = 0; i < 5; i++) {
    results.push(start())
    trims.push(device.trim())
    noGrad(() => results[0]!.mul(2)).dispose()
  }
  await Promise.all(trims)
  for (const y of results) t.true(isRight(await y.data()))
})

onEach('a compiled step runs on as before when its memory has been given back between runs', async (t, device) => {
  const other = await openDevice(device.kind)
  const losses: number[][] = []
  for (const [on, trims] of [
    [device, true],
    [other, false],
  ] as const) {
    const model = trainee(on)
    const step = compile(() => model.record())
    const read: number[] = []
    for (let i = 0; i < 6; i++) {
      using loss = step()
      read.push(await loss.item())
      if (trims) await on.trim()
    }
    if (trims) t.is(on.stats().arenaBytes, 0)
    losses.push(
      read,
      (await model.state()).flatMap((data) => [...data]),
    )
  }
  t.deepEqual(losses.slice(0, 2), losses.slice(2))
  t.true(losses[0]!.at(-1)! < losses[0]![0]!)
  await other.close()
})

onEach('a closed device has nothing to trim', async (t, device) => {
  await device.close()
  t.is(await rejectionOf(device.trim()), 'ERR_DEVICE_LOST')
})

test.serial('memory that cpu gives back is the system\u2019s again', async (t) => {
  const device = await openDevice('cpu')
  const count = 192
  await device.sync()
  const before = process.memoryUsage.rss()
  // Of a mebibyte each: small enough for the allocator of the process to want to keep them.
  const blocks = Array.from({ length: count }, (_, i) => full([1 << 18], i, { device }))
  await device.sync()
  const held = process.memoryUsage.rss()
  for (const x of blocks) x.dispose()
  await device.sync()
  t.true(device.stats().poolBytes >= count << 20)
  await device.trim()
  const after = process.memoryUsage.rss()
  const [grown, left] = [(held - before) / 2 ** 20, (after - before) / 2 ** 20]
  t.log(`${grown.toFixed(0)} MiB more while they lived, ${left.toFixed(0)} MiB more after trim`)
  t.true(grown >= count * 0.9 && left <= count * 0.2, `${grown} MiB, then ${left} MiB`)
  await device.close()
})
