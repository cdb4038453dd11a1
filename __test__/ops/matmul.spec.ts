/** Matrix products and the fused layer: the case table with the textbook bound, and large shapes by Freivalds' check. */

import { linear, matmul, relu, tensor } from '../../ts/index.ts'
import { FAMILIES } from '../helpers/cases.ts'
import { gamma } from '../helpers/compare.ts'
import { type Data, random, upload } from '../helpers/data.ts'
import { onDevices } from '../helpers/devices.ts'
import { declareForward } from '../helpers/run.ts'

declareForward(FAMILIES.matrix)

/** Matrix times vector in f64; with absolute values if wanted. */
function apply(matrix: Data, vector: Float64Array, f: (x: number) => number = (x) => x): Float64Array {
  const [rows, columns] = matrix.shape as [number, number]
  return Float64Array.from({ length: rows }, (_, i) => {
    let sum = 0
    for (let j = 0; j < columns; j++) sum += f(matrix.values[i * columns + j]!) * f(vector[j]!)
    return sum
  })
}

onDevices('a large product times a random vector is the product of the products', async (t, device) => {
  for (const [m, k, n] of [
    [513, 700, 257],
    [129, 2500, 65],
    [1, 3000, 1100],
  ] as const) {
    const [a, b] = [random('f32', [m, k], { salt: 1 }), random('f32', [k, n], { salt: 2 })]
    const c = await matmul(upload(a, device), upload(b, device)).data()
    const x = random('f64', [n], { salt: 3 }).values
    const got = apply({ dtype: 'f64', shape: [m, n], values: Float64Array.from(c) }, x)
    const wanted = apply(a, apply(b, x))
    const magnitude = apply(a, apply(b, x, Math.abs), Math.abs)
    for (let i = 0; i < m; i++) {
      const limit = gamma(k + 3, 'f32') * magnitude[i]!
      if (!(Math.abs(got[i]! - wanted[i]!) <= limit))
        t.fail(`[${m}, ${k}, ${n}], row ${i}: ${got[i]} instead of ${wanted[i]}`)
    }
    t.pass()
  }
})

onDevices('partial sums below 2²⁴ are exact in any order', async (t, device) => {
  const a = random('i32', [65, 300], { low: -90, high: 90, salt: 1 })
  const b = random('i32', [300, 33], { low: -90, high: 90, salt: 2 })
  const [x, y] = [upload(a, device).cast('f32'), upload(b, device).cast('f32')]
  const exact = Array.from({ length: 65 * 33 }, (_, p) => {
    const [i, j] = [Math.floor(p / 33), p % 33]
    let sum = 0
    for (let k = 0; k < 300; k++) sum += a.values[i * 300 + k]! * b.values[k * 33 + j]!
    return sum
  })
  t.deepEqual([...(await matmul(x, y).data())], exact)
  t.deepEqual([...(await matmul(y, x, { transposeA: true, transposeB: true }).transpose().data())], exact)
})

onDevices('a product over nothing is the bias, and NaN and Infinity reach only their row', async (t, device) => {
  const nothing = linear(
    tensor([[], []], { device }),
    tensor([], { shape: [0, 3], device }),
    tensor([1, 2, 3], { device }),
  )
  t.deepEqual(await nothing.array(), [
    [1, 2, 3],
    [1, 2, 3],
  ])
  const x = tensor(
    [
      [NaN, 1],
      [Infinity, 1],
      [1, 1],
    ],
    { device },
  )
  const w = tensor(
    [
      [1, 0],
      [1, 1],
    ],
    { device },
  )
  const y = await relu(linear(x, w)).array()
  t.deepEqual(y, [
    [NaN, NaN],
    [Infinity, NaN],
    [2, 1],
  ])
})
