/** What operations compare places and classes with: uploaded once, kept in bounds, let go of when asked or when something fails. */

import { compile, nn, oneHot, scaledDotProductAttention, scope, tensor, zeros } from '../../ts/index.ts'
import { positions } from '../../ts/ops/positions.ts'
import { onDevices, open } from '../helpers/devices.ts'
import { rejectionOf } from '../helpers/errors.ts'
import { values } from '../helpers/values.ts'

onDevices('a loop of causal attention, nll and oneHot uploads nothing after its first round', async (t, { kind }) => {
  const device = await open({ kind })
  const x = zeros([2, 5, 4], { device })
  const [scores, targets] = [zeros([3, 7], { device }), tensor([1, 0, 6], { dtype: 'i32', device })]
  const round = (): unknown =>
    scope(() => [
      scaledDotProductAttention(x, x, x, { causal: true }).sum().dataSync(),
      nn.nll(scores, targets).dataSync(),
      oneHot(targets, 7).sum().dataSync(),
    ])
  const first = round()
  let uploads = 0
  const upload = device.recorder.upload.bind(device.recorder)
  device.recorder.upload = (...args) => {
    uploads++
    return upload(...args)
  }
  for (let i = 0; i < 3; i++) t.deepEqual(round(), first)
  t.is(uploads, 0)
})

onDevices('few of them are kept, and none after trim() or a failure', async (t, { kind }) => {
  const device = await open({ kind })
  const before = device.stats().liveBytes
  const lists = Array.from({ length: 30 }, (_, i) => positions(device, 100 + i))
  t.is(device.positions.size, 8)
  for (const [i, list] of lists.entries())
    t.deepEqual(await values(list), Array.from({ length: 100 + i }, (_, j) => j)) // prettier-ignore
  for (const list of lists) list.dispose()
  await device.sync()
  // The device may round sizes up.
  const kept = device.stats().liveBytes - before
  t.true(kept > 0 && kept < 8 * 1024, `${kept}`)
  await device.trim()
  t.is(device.positions.size, 0)
  await device.sync()
  t.is(device.stats().liveBytes, before)
  positions(device, 3).dispose()
  t.is(device.positions.size, 1)
  const bad = oneHot(tensor([3], { dtype: 'i32', device }), 3)
  t.is(await rejectionOf(bad.data()), 'ERR_ARGUMENT')
  t.is(device.positions.size, 0)
  positions(device, 3).dispose()
  t.throws(() => oneHot(tensor([3], { dtype: 'i32', device }), 3).dataSync(), { code: 'ERR_ARGUMENT' })
  t.is(device.positions.size, 0)
})

onDevices('compiled functions and long lists have their own', async (t, { kind }) => {
  const device = await open({ kind })
  const count = compile(() => positions(device, 4).sum())
  t.deepEqual([await count().item(), await count().item()], [6, 6])
  t.is(await positions(device, 20_000).max().item(), 19_999)
  t.is(device.positions.size, 0)
})
