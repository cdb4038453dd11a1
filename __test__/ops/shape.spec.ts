/** Operations that move elements, and taking slices by index: the case table, and that views share memory. */

import { scope } from '../../ts/index.ts'
import { FAMILIES } from '../helpers/cases.ts'
import { random, upload } from '../helpers/data.ts'
import { onDevices, open } from '../helpers/devices.ts'
import { declareForward } from '../helpers/run.ts'

declareForward(FAMILIES.move)

onDevices('a view takes no memory of its own and outlives what it looks at', async (t, { kind }) => {
  const device = await open({ kind })
  const x = upload(random('f32', [256, 256]), device)
  const values = await x.data()
  await device.sync()
  const before = device.stats().liveBytes
  const view = scope(() => x.reshape([65536]).reshape([2, -1]).detach())
  await device.sync()
  t.is(device.stats().liveBytes, before)
  x.dispose()
  t.deepEqual(await view.data(), values)
  view.dispose()
  await device.sync()
  t.is(device.stats().liveBytes, 0)
})

onDevices('transposing twice, cutting and joining, padding and cutting give back the tensor', async (t, device) => {
  const x = upload(random('f32', [33, 7, 5]), device)
  const values = await x.data()
  t.deepEqual(await x.transpose([2, 0, 1]).transpose([1, 2, 0]).data(), values)
  const padded = x.pad(
    [
      [1, 2],
      [0, 3],
      [4, 0],
    ],
    9,
  )
  t.deepEqual(await padded.slice([1, 0, 4], [33, 7, 5]).data(), values)
})
