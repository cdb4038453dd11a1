/** Reductions: the case table, ties, and the promise that padding with zeros changes no bit of a sum. */

import { concat, scope, sum, tensor, zeros } from '../../ts/index.ts'
import { FAMILIES } from '../helpers/cases.ts'
import { differentBits } from '../helpers/compare.ts'
import { SIZES, random, upload } from '../helpers/data.ts'
import { onDevices } from '../helpers/devices.ts'
import { declareForward } from '../helpers/run.ts'

declareForward(FAMILIES.reduce)

onDevices('argmax and argmin take the first of equals, and NaN before everything', async (t, device) => {
  const x = tensor(
    [
      [2, 5, 5, 1, 1],
      [5, NaN, 9, NaN, -9],
      [0, -0, 0, -0, 0],
      [-Infinity, -Infinity, -Infinity, -Infinity, -Infinity],
    ],
    { device },
  )
  t.deepEqual([...(await x.argmax(1).data())], [1, 1, 0, 0])
  t.deepEqual([...(await x.argmin(1).data())], [3, 1, 0, 0])
  t.is(x.argmax(1).dtype, 'i32')
  // A row as long as several vectors, with ties across them.
  const long = new Float32Array(1009)
  for (const i of [700, 400, 33]) long[i] = 7
  t.is(await tensor(long, { device }).argmax().item(), 33)
  t.is(await tensor(long.with(900, NaN), { device }).argmax().item(), 900)
  t.is(
    await tensor(
      long.map((v) => -v),
      { device },
    )
      .argmin()
      .item(),
    33,
  )
})

onDevices('nothing sums to 0, and the mean and variance of nothing are NaN', async (t, device) => {
  const nothing = zeros([0], { device })
  t.is(await nothing.sum().item(), 0)
  t.is(await nothing.mean().item(), NaN)
  t.is(await nothing.variance().item(), NaN)
  t.deepEqual(await zeros([0, 3], { device }).sum(0).array(), [0, 0, 0])
  t.deepEqual(zeros([0, 3], { device }).max(1).shape, [0])
})

onDevices('appended zeros change no bit of a sum', async (t, device) => {
  for (const n of [...SIZES, 64, 1000, 4097]) {
    const x = upload(random('f32', [5, n], { salt: 8 }), device)
    const rows = await sum(x, 1).data()
    const columns = await sum(x.transpose(), 0).data()
    for (const more of [1, 3, 16, 250, 4096]) {
      const [padded, turned] = scope(() => {
        const wide = concat([x, zeros([5, more], { device })], 1)
        return [sum(wide, 1), sum(wide.transpose(), 0)]
      })
      t.is(differentBits(await padded.data(), rows), null, `${n} and ${more} zeros`)
      t.is(differentBits(await turned.data(), columns), null, `${n} and ${more} zeros in columns`)
    }
  }
})
