/**
 * Bits that have to be the same everywhere: a perceptron in whole numbers, and the row of a batch against the row alone,
 * whatever the batch, the activation and the number of threads.
 */

import test from 'ava'
import {
  type ActivationName,
  type Device,
  heaviside,
  linear,
  scatterAdd,
  scope,
  slice,
  tensor,
} from '../../ts/index.ts'
import { differentBits } from '../helpers/compare.ts'
import { random, upload } from '../helpers/data.ts'
import { DEVICES, onDevices, open } from '../helpers/devices.ts'
import { ACTIVATION_FORMULAS } from '../helpers/formulas.ts'

const WEIGHT = [
  [-2, -3, 3],
  [1522, 111, -3263],
  [8, 23, 0],
]
const BIAS = [10, 0, -44]
const ROWS = [
  [10000, 10, 2000],
  [5500, 15, 1988],
  [78000, 32, 2021],
  [100000, 25, 1999],
]
const SUMS = [
  [11230, 17110, -2674],
  [27744, 30889, -32489],
  [-91118, -183965, 129540],
  [-145948, -251248, 218381],
]
const STEPS = [
  [1, 1, 0],
  [1, 1, 0],
  [0, 0, 1],
  [0, 0, 1],
]

onDevices('a perceptron of whole numbers is exact, as a batch and row by row', async (t, device) => {
  const weight = tensor(WEIGHT, { device })
  const bias = tensor(BIAS, { device })
  const x = tensor(ROWS, { device })
  t.deepEqual(await linear(x, weight, bias).array(), SUMS)
  t.deepEqual(await linear(x, weight, bias, { activation: 'heaviside' }).array(), STEPS)
  t.deepEqual(await heaviside(linear(x, weight, bias)).array(), STEPS)
  for (const [i, row] of ROWS.entries()) {
    const alone = tensor([row], { device })
    t.deepEqual(await linear(alone, weight, bias).array(), [SUMS[i]])
    t.deepEqual(await linear(alone, weight, bias, { activation: 'heaviside' }).array(), [STEPS[i]])
  }
})

const ACTIVATIONS = [undefined, ...(Object.keys(ACTIVATION_FORMULAS) as ActivationName[])]

async function rowsStandAlone(device: Device, activation: ActivationName | undefined): Promise<string | null> {
  const [m, k, n] = [257, 300, 129]
  const x = upload(random('f32', [m, k], { salt: 1 }), device)
  const weight = upload(random('f32', [k, n], { low: -0.2, high: 0.2, salt: 2 }), device)
  const bias = upload(random('f32', [n], { salt: 3 }), device)
  const options = activation === undefined ? {} : { activation }
  const batch = await linear(x, weight, bias, options).data()
  // All rows are recorded before the first is read.
  const rows = Array.from({ length: m }, (_, i) => scope(() => linear(slice(x, [i], [1]), weight, bias, options)))
  for (const [i, row] of rows.entries()) {
    const different = differentBits(await row.data(), batch.slice(i * n, (i + 1) * n))
    row.dispose()
    if (different !== null) return `row ${i}: ${different}`
  }
  for (const size of [2, 7, 16, 33, 100]) {
    const part = scope(() => linear(slice(x, [5], [size]), weight, bias, options))
    const different = differentBits(await part.data(), batch.slice(5 * n, (5 + size) * n))
    if (different !== null) return `a batch of ${size}: ${different}`
  }
  return null
}

for (const { kind } of DEVICES) {
  for (const threads of kind === 'js' ? [1] : [1, 2]) {
    test(`every row of a layer has the bits of the row alone, each activation [${kind}, threads ${threads}]`, async (t) => {
      const device = await open({ kind, threads })
      for (const activation of ACTIVATIONS) t.is(await rowsStandAlone(device, activation), null, activation ?? 'none')
    })
  }
}

onDevices('one thread and several give the same bits, also for sums over the batch', async (t, { kind }) => {
  const run = async (threads: number): Promise<unknown[]> => {
    const device = await open({ kind, threads })
    const x = upload(random('f32', [257, 300], { salt: 1 }), device)
    const weight = upload(random('f32', [300, 129], { salt: 2 }), device, true)
    const bias = upload(random('f32', [129], { salt: 3 }), device, true)
    const y = linear(x, weight, bias, { activation: 'gelu' })
    y.softmax().square().mean().backward()
    const wide = upload(random('f32', [1031, 521], { salt: 4 }), device)
    const at = tensor(
      Int32Array.from({ length: 1031 }, (_, i) => (i * 7919) % 97),
      { device },
    )
    const sums = [wide.sum(), wide.sum(0), wide.sum(1), wide.mean(0), wide.variance(0), wide.variance(1)]
    const lines = [wide.softmax(0), wide.softmax(1), scatterAdd(wide, at, [97, 521])]
    return Promise.all([y, weight.grad!, bias.grad!, ...sums, ...lines].map((v) => v.data()))
  }
  const [one, two, three] = [await run(1), await run(2), await run(3)]
  t.deepEqual(two, one)
  t.deepEqual(three, one)
})
