/**
 * Tensors larger than one binding of a shader reaches (128 MiB at least, 2 GiB at most): kernels go over them in windows.
 * What lies on both sides of an edge between windows has to be right, and what an index means has to be the same.
 */

import test from 'ava'

import { type Device, matmul, scope, tensor } from '../../ts/index.ts'
import { DEVICES } from '../helpers/devices.ts'

/** 200 MiB, as a matrix whose rows divide no window. */
const [ROWS, COLUMNS] = [52_429, 1000]
const SIZE = ROWS * COLUMNS

const gpu: readonly Device[] = DEVICES.filter((d) => d.kind === 'gpu')

/** Small whole numbers, so that sums are exact; every row has another pattern. Their mean is a tenth, so that none is missed unseen. */
const numberAt = (i: number): number =>
  (((i % COLUMNS) * 7 + Math.floor(i / COLUMNS) * 3) % 17) - 8 + (i % 10 === 0 ? 1 : 0)
const HOST = gpu.length === 0 ? new Float32Array(0) : Float32Array.from({ length: SIZE }, (_, i) => numberAt(i))

for (const device of gpu) {
  test.serial(`200 MiB go there and back, computed with [${device.kind}]`, async (t) => {
    t.timeout(110_000)
    using x = tensor(HOST, { shape: [ROWS, COLUMNS], device })
    t.true(Buffer.from((await x.data()).buffer).equals(Buffer.from(HOST.buffer)))
    {
      using doubled = scope(() => x.mul(2).add(1))
      const data = await doubled.data()
      t.is(data.findIndex((v, i) => v !== 2 * HOST[i]! + 1), -1) // prettier-ignore
    }
    {
      // Whole numbers below 2^24 at every partial sum.
      const wanted = HOST.reduce((sum, v) => sum + v, 0)
      t.is(await x.sum().item(), wanted)
      const columns = await x.slice([0, 0], [ROWS, 3]).sum(0).array()
      const sums = [0, 1, 2].map((c) => Array.from({ length: ROWS }, (_, r) => HOST[r * COLUMNS + c]!).reduce((a, b) => a + b)) // prettier-ignore
      t.deepEqual(columns, sums)
    }
    {
      using product = matmul(x, tensor(Float32Array.from({ length: COLUMNS }, (_, i) => (i % 5) - 2), { shape: [COLUMNS, 1], device })) // prettier-ignore
      const data = await product.data()
      const wrong = data.findIndex((v, r) => {
        let sum = 0
        for (let c = 0; c < COLUMNS; c++) sum += HOST[r * COLUMNS + c]! * ((c % 5) - 2)
        return v !== sum
      })
      t.is(wrong, -1)
    }
    {
      // Rows from everywhere, the last one included.
      const at = Int32Array.from({ length: 100 }, (_, i) => (i === 0 ? ROWS - 1 : (i * 7919) % ROWS))
      using rows = x.gather(tensor(at, { device }))
      const data = await rows.data()
      t.is(data.findIndex((v, i) => v !== HOST[at[Math.floor(i / COLUMNS)]! * COLUMNS + (i % COLUMNS)]!), -1) // prettier-ignore
      using largest = x.max(1)
      const most = await largest.data()
      t.is(most.findIndex((v, r) => v !== HOST.subarray(r * COLUMNS, (r + 1) * COLUMNS).reduce((a, b) => Math.max(a, b))), -1) // prettier-ignore
    }
  })
}
