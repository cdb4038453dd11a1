/**
 * What is linear has to be: a gradient in the function that is differentiated, a layer without bias in its input; and a
 * batch is its rows. On whole numbers, whose sums all stay below 2²⁴, to the bit.
 */

import test from 'ava'
import * as fc from 'fast-check'
import { type Device, type Tensor, concat, grad, linear, nn, scope, slice } from '../../ts/index.ts'
import { differentBits } from '../helpers/compare.ts'
import { random, upload, whole } from '../helpers/data.ts'
import { JS, onDevices } from '../helpers/devices.ts'
import { near, values } from '../helpers/values.ts'

/** Sizes of a layer and its batch, two factors, and what tells one draw of numbers from another. */
const WORK = fc.record({
  m: fc.integer({ min: 1, max: 40 }),
  k: fc.integer({ min: 1, max: 70 }),
  n: fc.integer({ min: 1, max: 40 }),
  a: fc.integer({ min: -20, max: 20 }),
  b: fc.integer({ min: -20, max: 20 }),
  salt: fc.nat(1000),
})

const RUNS = { numRuns: 25, seed: 6 }

type Work = typeof WORK extends fc.Arbitrary<infer W> ? W : never

/** Two batches and a weight of whole numbers in ±30: |Σ| ≤ 70·30·30·40 < 2²⁴. */
function operands({ m, k, n, salt }: Work, device: Device): [Tensor, Tensor, Tensor] {
  const at = (shape: number[], more: number): Tensor => upload(whole('f32', shape, -30, 30, salt + more), device)
  return [at([m, k], 0), at([m, k], 2000), at([k, n], 4000)]
}

onDevices('linear(αx + βy) is α·linear(x) + β·linear(y), without a bias', async (t, device) => {
  await fc.assert(
    fc.asyncProperty(WORK, async (work) => {
      const [left, right] = scope(() => {
        const [x, y, w] = operands(work, device)
        const { a, b } = work
        return [linear(x.mul(a).add(y.mul(b)), w), linear(x, w).mul(a).add(linear(y, w).mul(b))]
      })
      t.deepEqual(await values(left), await values(right))
    }),
    RUNS,
  )
})

onDevices(
  'a batch is its rows, in the layer and in the gradient of its input; dW is the sum over them',
  async (t, device) => {
    await fc.assert(
      fc.asyncProperty(WORK, async (work) => {
        const [x, , w] = operands(work, device)
        const slopes = (rows: Tensor): [Tensor, Tensor, Tensor] => {
          const [dx, dw] = grad((v, u) => linear(v, u).sum())(rows, w)
          return [linear(rows, w), dx!, dw!]
        }
        const whole = slopes(x)
        const rows = Array.from({ length: work.m }, (_, i) => slopes(slice(x, [i], [1])))
        for (const part of [0, 1] as const) {
          const joined = await concat(rows.map((row) => row[part])).data()
          t.is(differentBits(joined, await whole[part].data()), null)
        }
        const sum = rows.map((row) => row[2]).reduce((p, q) => p.add(q))
        t.deepEqual(await values(sum), await values(whole[2]))
      }),
      { ...RUNS, numRuns: 10 },
    )
  },
)

onDevices(
  'the gradient of a sum of losses is the sum of their gradients, on whole numbers to the bit',
  async (t, device) => {
    await fc.assert(
      fc.asyncProperty(WORK, async (work) => {
        const [x, y, w] = operands(work, device)
        const { a, b } = work
        const first = (v: Tensor): Tensor => linear(x, v).sum().mul(a)
        const second = (v: Tensor): Tensor => linear(y, v, null, { activation: 'relu' }).sum().mul(b)
        const [together] = grad((v) => first(v).add(second(v)))(w)
        const [one, other] = [grad(first)(w)[0]!, grad(second)(w)[0]!]
        t.deepEqual(await values(together), await values(one.add(other)))
      }),
      RUNS,
    )
  },
)

onDevices('backward of several losses, one after the other, adds up to backward of their sum', async (t, device) => {
  const x = upload(random('f32', [16, 12]), device)
  const target = upload(random('f32', [16, 5], { salt: 1 }), device)
  const weight = random('f32', [12, 5], { salt: 2 })
  const [apart, together] = [upload(weight, device, true), upload(weight, device, true)]
  const losses = (w: Tensor): Tensor[] => {
    const y = linear(x, w, null, { activation: 'tanh' })
    return [nn.mse(y, target), y.logSumExp(1).mean(), y.norm()]
  }
  for (const loss of losses(apart)) loss.backward({ retainGraph: true })
  losses(together)
    .reduce((p, q) => p.add(q))
    .backward()
  near(t, await values(apart.grad), await values(together.grad), 2e-6)
})

test('in f64 the gradient of a sum is the sum of gradients to rounding, for losses that are not linear', async (t) => {
  const x = upload(random('f64', [9, 7]), JS)
  const w = upload(random('f64', [7, 4], { salt: 3 }), JS)
  const parts = [
    (v: Tensor): Tensor => linear(x, v, null, { activation: 'gelu' }).square().mean(),
    (v: Tensor): Tensor => linear(x, v).logSumExp(1).sum(),
    (v: Tensor): Tensor => v.norm({ p: 3 }),
  ]
  const [together] = grad((v) => parts.map((f) => f(v)).reduce((p, q) => p.add(q)))(w)
  const apart = parts.map((f) => grad(f)(w)[0]!).reduce((p, q) => p.add(q))
  near(t, await values(together), await values(apart), 1e-14)
})
