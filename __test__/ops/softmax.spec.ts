/** Softmax and its logarithm: the case table, and what holds for every row. */

import { type Tensor, concat, grad, scope, slice, tensor, where } from '../../ts/index.ts'
import { FAMILIES } from '../helpers/cases.ts'
import { compare, differentBits } from '../helpers/compare.ts'
import { LOSS } from '../helpers/cases/case.ts'
import { array, random, upload } from '../helpers/data.ts'
import { onDevices } from '../helpers/devices.ts'
import { logSoftmax, softmax, total } from '../helpers/reference.ts'
import { declareForward } from '../helpers/run.ts'
import { near, values } from '../helpers/values.ts'

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

onDevices('long rows, forward and backward, which no workgroup holds at once', async (t, device) => {
  for (const size of [4096, 4097, 8193, 20_011, 100_003]) {
    // Rising, so that the maximum of what has been seen moves all the time; and one row that falls.
    const x = random('f32', [2, size], { low: -1, high: 1 })
    const data = { ...x, values: x.values.map((v, i) => Math.fround(v + (i < size ? i : 2 * size - i) / (size / 40))) }
    const dy = random('f32', [2, size], { salt: 1 })
    const rows = [0, 1].map((r) => [...data.values.subarray(r * size, (r + 1) * size)])
    const slopes = [0, 1].map((r) => [...dy.values.subarray(r * size, (r + 1) * size)])
    const [leaf, weights] = [upload(data, device), upload(dy, device)]
    for (const op of ['softmax', 'logSoftmax'] as const) {
      const y = rows.map(op === 'softmax' ? softmax : logSoftmax)
      const dx = y.map((line, r) => {
        const weight = op === 'softmax' ? line : line.map(Math.exp)
        const sum = total(slopes[r]!.map((g, i) => (op === 'softmax' ? g * line[i]! : g)))
        return line.map((v, i) => (op === 'softmax' ? v * (slopes[r]![i]! - sum) : slopes[r]![i]! - weight[i]! * sum))
      })
      const got = leaf[op]()
      const slope = grad((x) => x[op]().mul(weights).sum())(leaf)[0]!
      for (const [result, want] of [
        [got, y],
        [slope, dx],
      ] as const) {
        // prettier-ignore
        const exact = { ...array('f64', [2, size], want.flat()), dtype: 'f32' } as const
        t.is(compare(await result.data(), result.shape, 'f32', exact, LOSS).problem, null, `${op} of ${size}`)
      }
    }
  }
})

/** What a part of a row knows of itself: its maximum m, l = Σe^(x − m), and e^(x − m)/l. */
function partOf(x: Tensor): { m: Tensor; l: Tensor; y: Tensor } {
  const m = x.max(-1, { keepDims: true })
  return { m, l: x.sub(m).exp().sum(-1, { keepDims: true }), y: x.softmax() }
}

onDevices('parts of a softmax can be put together, but not without the factor between them', async (t, device) => {
  const x = upload(random('f32', [5, 64], { low: -6, high: 6 }), device)
  const cuts = [0, 7, 40, 64]
  const parts = cuts.slice(1).map((end, i) => partOf(x.slice([0, cuts[i]!], [5, end - cuts[i]!])))
  // m' = max(m₁, m₂), l' = l₁e^(m₁ − m') + l₂e^(m₂ − m').
  const joined = parts.slice(1).reduce((a, b) => {
    const m = a.m.maximum(b.m)
    return { m, l: a.l.mul(a.m.sub(m).exp()).add(b.l.mul(b.m.sub(m).exp())), y: b.y }
  }, parts[0]!)
  const whole = await values(x.softmax())
  const rescaled = parts.map(({ m, l, y }) => y.mul(l.mul(m.sub(joined.m).exp()).div(joined.l)))
  near(t, await values(concat(rescaled, 1)), whole, 1e-6)
  const without = await values(concat(parts.map(({ l, y }) => y.mul(l.div(joined.l))), 1)) // prettier-ignore
  t.true(Math.max(...without.map((v, i) => Math.abs(v - whole[i]!))) > 0.1)
})

onDevices(
  'a softmax within a mask is that of the row without what the mask leaves out, with its gradient',
  async (t, device) => {
    // prettier-ignore
    const [kept, size] = [[0, 2, 3, 6, 7], 9]
    const mask = tensor(Array.from({ length: size }, (_, i) => kept.includes(i)), { device }) // prettier-ignore
    const rows = random('f32', [3, kept.length], { low: -4, high: 4 })
    const slopes = random('f32', [3, kept.length], { salt: 1 })
    const spread = (data: typeof rows): Tensor =>
    tensor(Array.from({ length: 3 }, (_, r) => Array.from({ length: size }, (_, i) => {
      const at = kept.indexOf(i)
      return at < 0 ? [NaN, Infinity, -Infinity][i % 3]! : data.values[r * kept.length + at]!
    })), { device }) // prettier-ignore
    const gathered = (list: number[]): number[] => list.filter((_, i) => kept.includes(i % size))
    const others = (list: number[]): number[] => list.filter((_, i) => !kept.includes(i % size))
    for (const op of ['softmax', 'logSoftmax'] as const) {
      const alone = (x: Tensor): Tensor => x[op]().mul(upload(slopes, device)).sum()
      const masked = (x: Tensor): Tensor =>
        x[op](-1, { mask })
          .mul(where(mask, spread(slopes), 0))
          .sum()
      const [x, leaf] = [upload(rows, device), spread(rows)]
      const y = await values(leaf[op](-1, { mask }))
      near(t, gathered(y), await values(x[op]()), 2e-6, op)
      t.deepEqual(others(y), others(y).map(() => 0)) // prettier-ignore
      const dx = await values(grad(masked)(leaf)[0])
      near(t, gathered(dx), await values(grad(alone)(x)[0]), 2e-6, `gradient of ${op}`)
      t.deepEqual(others(dx), others(dx).map(() => 0)) // prettier-ignore
      // Nothing left of any row.
      const none = tensor([false], { device })
      t.deepEqual(await values(leaf[op](-1, { mask: none })), Array.from({ length: 27 }, () => 0)) // prettier-ignore
      const slope = grad((x) => x[op](-1, { mask: none }).sum())(leaf)[0]
      t.deepEqual(await values(slope), Array.from({ length: 27 }, () => 0)) // prettier-ignore
    }
  },
)
