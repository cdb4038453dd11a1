/** Softmax and its logarithm: the case table, and what holds for every row. */

import { scope, slice, tensor } from '../../ts/index.ts'
import { FAMILIES } from '../helpers/cases.ts'
import { differentBits } from '../helpers/compare.ts'
import { random, upload } from '../helpers/data.ts'
import { onDevices } from '../helpers/devices.ts'
import { declareForward } from '../helpers/run.ts'

declareForward(FAMILIES.softmax)

onDevices('a row sums to 1 and does not change when a number is added to all of it', async (t, device) => {
  const x = upload(random('f32', [7, 300], { low: -8, high: 8 }), device)
  for (const s of await x.softmax().sum(1).data()) t.true(Math.abs(s - 1) < 1e-6, `${s}`)
  // Whole numbers on a grid of 1/8: adding 1024 is exact.
  const grid = upload(random('f32', [7, 300], { low: -8, high: 8 }), device)
    .mul(8)
    .floor()
    .mul(0.125)
  t.is(differentBits(await grid.softmax().data(), await grid.add(1024).softmax().data()), null)
})

onDevices('logits of any size give finite numbers', async (t, device) => {
  const x = tensor(
    [
      [1e30, -1e30, 0],
      [-3e38, -3e38, -3e38],
      [88.8, 90, 100],
    ],
    { device },
  )
  for (const y of [x.softmax(), x.logSoftmax()]) t.true([...(await y.data())].every((v) => !Number.isNaN(v)))
  t.deepEqual([...(await x.softmax().data())].slice(0, 3), [1, 0, 0])
})

onDevices('a row of a batch has the bits of the row alone', async (t, device) => {
  const x = upload(random('f32', [33, 129]), device)
  for (const op of ['softmax', 'logSoftmax'] as const) {
    const all = await x[op]().data()
    for (const i of [0, 1, 15, 16, 32]) {
      const one = scope(() => slice(x, [i], [1])[op]())
      t.is(differentBits(await one.data(), all.slice(i * 129, (i + 1) * 129)), null, `${op}, row ${i}`)
    }
  }
})
