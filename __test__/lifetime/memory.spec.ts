/** Memory that is not there: the limit, what an error spoils and what not, who hears of it, and going on afterwards. */

import test from 'ava'

import {
  type Device,
  Parameter,
  type Tensor,
  full,
  matmul,
  nn,
  ones,
  optim,
  scope,
  tensor,
  zeros,
} from '../../ts/index.ts'
import { DEVICES, onDevices } from '../helpers/devices.ts'
import { rejectionOf } from '../helpers/errors.ts'
import { openDevice } from '../helpers/open.ts'
import { random, values } from '../helpers/values.ts'
import { liveSlots, onFreshDevices } from './fresh.ts'

const LIMIT = 4 << 20

/** A product of whole numbers, so that every device gives it exactly. */
async function productIsRight(device: Device): Promise<boolean> {
  const [m, k, n] = [65, 33, 47]
  const [a, b] = [random([m, k], { seed: 1, integers: 5 }), random([k, n], { seed: 2, integers: 5 })]
  using c = matmul(tensor(a, { shape: [m, k], device }), tensor(b, { shape: [k, n], device }))
  const actual = await values(c)
  return actual.every((v, at) => {
    let sum = 0
    for (let i = 0; i < k; i++) sum += a[Math.floor(at / n) * k + i]! * b[i * n + (at % n)]!
    return v === sum
  })
}

onFreshDevices(
  'above the memory limit results are ERR_OUT_OF_MEMORY, and the device goes on',
  async (t, device) => {
    const small = ones([10], { device })
    // On the device before anything fails: the results of one stream are allocated together.
    await device.sync()
    for (const make of [
      () => zeros([2_000_000], { device }),
      () => small.expand([200_000, 10]).add(1),
      () => tensor(new Float32Array(2_000_000), { device }),
      () => matmul(ones([1200, 1], { device }), ones([1, 1200], { device })),
    ]) {
      const x = make()
      t.is(await rejectionOf(x.data()), 'ERR_OUT_OF_MEMORY', make.toString())
      x.dispose()
      t.true(await productIsRight(device))
    }
    t.deepEqual(await values(small), Array<number>(10).fill(1))
    t.true(device.stats().peakBytes <= LIMIT)
    await device.sync()
  },
  { memoryLimit: LIMIT },
)

onFreshDevices(
  'memory that was freed can be had again, as often as one likes',
  async (t, device) => {
    for (let i = 0; i < 40; i++) {
      const x = full([500_000], i, { device })
      t.is((await x.data())[499_999], i)
      x.dispose()
    }
    // And in pieces of every size, which a pool must not hoard.
    for (let size = 1000; size < 800_000; size = Math.floor(size * 1.7)) {
      using x = full([size], size % 97, { device })
      t.is((await x.data())[size - 1], size % 97)
    }
    t.true(device.stats().peakBytes <= LIMIT)
  },
  { memoryLimit: LIMIT },
)

onFreshDevices(
  'what depends on a failed result fails with its error, and nothing else does',
  async (t, device) => {
    const fine = tensor([1, 2, 3], { device })
    const failed = zeros([2_000_000], { device })
    const sum = failed.sum()
    const mixed = sum.add(fine)
    const other = fine.mul(2)
    t.is(await rejectionOf(sum.data()), 'ERR_OUT_OF_MEMORY')
    t.is(await rejectionOf(mixed.data()), 'ERR_OUT_OF_MEMORY')
    // All of one stream is allocated before any of it runs, so this one shares its fate; the next stream does not.
    other.dispose()
    t.deepEqual(await values(fine.mul(2)), [2, 4, 6])
    t.deepEqual(await values(fine), [1, 2, 3])
  },
  { memoryLimit: LIMIT },
)

onFreshDevices(
  'an update with a failed gradient is not applied, and training goes on',
  async (t, device) => {
    const p = new Parameter([1, 2], { device })
    const optimizer = new optim.SGD([p], { lr: 1, momentum: 0.9 })
    await device.sync()
    const state = await optimizer.stateDict()
    p.expand([800_000, 2]).sum().backward()
    optimizer.step()
    t.is(await rejectionOf(p.grad!.data()), 'ERR_OUT_OF_MEMORY')
    optimizer.zeroGrad()
    t.deepEqual(await values(p), [1, 2])
    t.deepEqual(await optimizer.stateDict(), { ...state, step: 1 })
    p.mul(1).sum().backward()
    optimizer.step()
    t.deepEqual(await values(p), [0, 1])
  },
  { memoryLimit: LIMIT },
)

onFreshDevices('an error that data show spoils what follows from it, and nothing else', async (t, device) => {
  const x = tensor([[1, 2], [3, 4]], { device, requiresGrad: true }) // prettier-ignore
  const optimizer = new optim.SGD([x], { lr: 1 })
  const targets = tensor([0, 9], { device, dtype: 'i32' })
  const loss = nn.crossEntropy(x, targets)
  loss.backward()
  optimizer.step()
  t.is(await rejectionOf(loss.data()), 'ERR_ARGUMENT')
  t.is(await rejectionOf(x.grad!.data()), 'ERR_ARGUMENT')
  t.deepEqual(await values(x), [1, 2, 3, 4])
  const rows = x.detach().reshape([2, 2])
  t.deepEqual(await values(rows.mul(2)), [2, 4, 6, 8])
})

for (const kind of DEVICES.map((d) => d.kind)) {
  const bad = (device: Device): Tensor =>
    nn.crossEntropy(ones([1, 2], { device }), tensor([5], { device, dtype: 'i32' }))

  test(`an error nobody has read comes out of sync, once [${kind}]`, async (t) => {
    const device = await openDevice(kind)
    const x = bad(device)
    t.is(await rejectionOf(device.sync()), 'ERR_ARGUMENT')
    t.is(await rejectionOf(device.sync()), 'nothing')
    t.is(await rejectionOf(x.data()), 'ERR_ARGUMENT')
    t.is(await rejectionOf(device.close()), 'nothing')
  })

  test(`an error nobody has read comes out of close [${kind}]`, async (t) => {
    const device = await openDevice(kind)
    bad(device)
    t.is(await rejectionOf(device.close()), 'ERR_ARGUMENT')
    t.true(device.closed)
  })

  test(`an error that has been read is not told again [${kind}]`, async (t) => {
    const device = await openDevice(kind)
    t.is(await rejectionOf(bad(device).data()), 'ERR_ARGUMENT')
    t.is(await rejectionOf(device.sync()), 'nothing')
    t.is(await rejectionOf(device.close()), 'nothing')
  })
}

onFreshDevices('errors say where they come from', async (t, device) => {
  const loss = nn.crossEntropy(ones([3, 2], { device }), tensor([0, 1, 7], { device, dtype: 'i32' }))
  const error = await t.throwsAsync(loss.data(), { code: 'ERR_ARGUMENT' })
  t.regex(error.message, /crossEntropy/)
  t.regex(error.message, /7/)
})

onFreshDevices('failed results hold no memory and can be disposed', async (t, device) => {
  const before = await liveSlots(device)
  const bytes = device.stats().liveBytes
  const inputs = Array.from(
    { length: 5 },
    () => [ones([1, 2], { device }), tensor([5], { device, dtype: 'i32' })] as const,
  )
  const losses = inputs.map(([logits, targets]) => nn.crossEntropy(logits, targets))
  for (const loss of losses) t.is(await rejectionOf(loss.data()), 'ERR_ARGUMENT')
  for (const loss of losses) loss.dispose()
  t.is((await liveSlots(device)) - before, 10)
  t.true(device.stats().liveBytes - bytes <= 5 * (8 + 4) * 16)
  for (const input of inputs.flat()) input.dispose()
  t.is(await liveSlots(device), before)
})

onFreshDevices('statistics count what there is', async (t, device) => {
  const zero = device.stats()
  t.deepEqual([zero.liveSlots, zero.liveBytes, zero.planHits, zero.planMisses], [0, 0, 0, 0])
  const x = tensor(new Float32Array(1000), { device })
  for (let i = 0; i < 3; i++) {
    using y = scope(() => x.add(1).mul(2))
    await y.data()
  }
  await device.sync()
  const { liveSlots: slots, liveBytes, peakBytes, plans, planHits, planMisses } = device.stats()
  t.is(slots, 1)
  t.true(liveBytes >= 4000 && liveBytes < 8000, `${liveBytes}`)
  t.true(peakBytes >= liveBytes && peakBytes < 64_000, `${peakBytes}`)
  // The same work three times: the frees at the end of each round are not part of what is planned.
  t.true(plans >= 1 && planMisses === plans && planHits >= 2, JSON.stringify(device.stats()))
})

onDevices('a limit of nothing is a limit', async (t, { kind }) => {
  const device = await openDevice({ kind, memoryLimit: 16 })
  t.is(await rejectionOf(ones([1000], { device }).data()), 'ERR_OUT_OF_MEMORY')
  await device.close()
})
