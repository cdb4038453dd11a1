/** topK: the case table, order of equals, rows alone and in batches, the way back, compiled functions, and what is refused. */

import test from 'ava'
import { compile, grad, keep, scope, tensor, topK, zeros } from '../../ts/index.ts'
import { FAMILIES } from '../helpers/cases.ts'
import { differentBits } from '../helpers/compare.ts'
import { random, upload } from '../helpers/data.ts'
import { JS, onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { declareForward } from '../helpers/run.ts'
import { values } from '../helpers/values.ts'

declareForward(FAMILIES.topK)

onDevices('equals come in the order of their indices, NaN first, zeros of both signs as equals', async (t, device) => {
  const x = tensor(
    [
      [2, 5, 5, 1, 5],
      [5, NaN, 9, NaN, -9],
      [0, -0, 0, -0, 0],
      [-Infinity, 1, -Infinity, Infinity, 1],
    ],
    { device },
  )
  const { values: best, indices } = topK(x, 4)
  t.deepEqual(await indices.array(), [
    [1, 2, 4, 0],
    [1, 3, 2, 0],
    [0, 1, 2, 3],
    [3, 1, 4, 0],
  ])
  t.is(indices.dtype, 'i32')
  // Zeros keep their signs.
  const signs = Array.from(await best.data()).slice(8, 12).map((v) => Object.is(v, -0)) // prettier-ignore
  t.deepEqual(signs, [false, true, false, true])
  t.deepEqual(await values(x.topK(1).indices), await values(x.argmax(1)))
})

onDevices('all of them is a sort, and none has a shape', async (t, device) => {
  const x = upload(random('f32', [3, 130]), device)
  const { values: sorted, indices } = x.topK(130)
  const rows = (await x.array()) as number[][]
  t.deepEqual(await sorted.array(), rows.map((row) => row.toSorted((a, b) => b - a))) // prettier-ignore
  t.deepEqual((await indices.array() as number[][]).map((row) => row.toSorted((a, b) => a - b)), rows.map((row) => row.map((_, i) => i))) // prettier-ignore
  const none = x.topK(0, 0)
  t.deepEqual([none.values.shape, none.indices.shape], [[0, 130], [0, 130]]) // prettier-ignore
  t.is((await none.indices.data()).length, 0)
})

onDevices('a row alone has the bits that it has in a batch, in rows and in columns', async (t, device) => {
  for (const [rows, count, k] of [
    [37, 100, 7],
    [5, 2500, 1200],
    [9, 64, 64],
  ] as const) {
    // prettier-ignore
    const x = upload(random('f32', [rows, count], { salt: 4 }), device)
    const all = topK(x, k)
    const turned = scope(() => {
      const { values, indices } = topK(x.transpose(), k, 0)
      return [values.transpose(), indices.transpose()]
    })
    const alone = topK(x.slice([rows - 1, 0]), k)
    for (const [i, part] of [all.values, all.indices].entries()) {
      const batch = await part.data()
      t.is(differentBits(await turned[i]!.data(), batch), null)
      t.is(differentBits(await [alone.values, alone.indices][i]!.data(), batch.slice(-k)), null)
    }
  }
})

onDevices('appended elements that are smaller change nothing', async (t, device) => {
  for (const n of [31, 256, 1023, 1024, 1025]) {
    const x = upload(random('f32', [2, n], { salt: 9 }), device)
    const padded = topK(x.pad([[0, 0], [0, 700]], -3), n) // prettier-ignore
    const exact = topK(x, n)
    t.is(differentBits(await padded.indices.data(), await exact.indices.data()), null)
    t.is(differentBits(await padded.values.data(), await exact.values.data()), null)
  }
})

onDevices('the gradient goes to the elements that were chosen, and to the first of equals', async (t, device) => {
  const x = tensor(
    [
      [1, 4, 4, 2],
      [4, NaN, 3, 1],
    ],
    { device },
  )
  const weight = tensor(
    [
      [10, 20, 30],
      [40, 50, 60],
    ],
    { device },
  )
  const [slope] = grad((x) => topK(x, 3).values.mul(weight).sum())(x)
  t.deepEqual(await slope!.array(), [
    [0, 10, 20, 30],
    [50, 40, 60, 0],
  ])
  const [one] = grad((x) => topK(x, 1).values.sum())(x)
  t.deepEqual(await one!.array(), [[0, 1, 0, 0], [0, 1, 0, 0]]) // prettier-ignore
  const [nothing] = grad((x) => topK(x, 0).values.sum())(x)
  t.deepEqual(await values(nothing), [0, 0, 0, 0, 0, 0, 0, 0])
  const { indices, values: best } = topK(keep(tensor([3, 1], { device, requiresGrad: true })), 1)
  t.deepEqual([indices.requiresGrad, best.requiresGrad], [false, true])
})

onDevices('gradients over long lines and many of them are exact', async (t, device) => {
  for (const [shape, k, axis] of [
    [[50, 1030], 300, 1],
    [[1030, 50], 300, 0],
    [[3, 200, 4], 20, 1],
  ] as const) {
    // prettier-ignore
    const x = upload(random('f32', shape), device)
    const [slope] = grad((x) => topK(x, k, axis).values.square().sum())(x)
    const given = await x.data()
    const chosen = await topK(x, k, axis).values.data()
    const found = await slope!.data()
    t.is(found.filter((v) => v !== 0).length, chosen.length)
    t.true(found.every((v, i) => v === 0 || v === 2 * given[i]!))
  }
})

onDevices('compiled it gives the same bits, forward and back, and again with other numbers', async (t, device) => {
  const step = (x: Parameters<typeof topK>[0]): readonly ReturnType<typeof tensor>[] => {
    const { values, indices } = topK(x, 9, 1)
    const [slope] = grad((x) => topK(x, 9, 1).values.square().sum())(x)
    return [values, indices, slope!]
  }
  const compiled = compile(step)
  for (const salt of [1, 2, 3]) {
    const x = upload(random('f32', [17, 70, 3], { salt }), device)
    const [eager, replayed] = [step(x), compiled(x)]
    for (const [i, part] of eager.entries())
      t.is(differentBits(await replayed[i]!.data(), await part.data()), null, `result ${i}, salt ${salt}`)
  }
})

test('derivatives of any order go through it', async (t) => {
  // Σ of the two largest cubes: x³ of them; the second derivative is 6x there, and 0 elsewhere.
  const x = tensor([3, 1, 2], { dtype: 'f64', device: JS })
  const first = (x: ReturnType<typeof tensor>): ReturnType<typeof tensor> =>
    grad((v: typeof x) => topK(v.pow(3), 2).values.sum())(x)[0]!
  t.deepEqual(await values(first(x)), [27, 0, 12])
  t.deepEqual(await values(grad((v) => first(v).sum())(x)[0]), [18, 0, 12])
})

test('what topK refuses', (t) => {
  const x = zeros([2, 3], { device: JS })
  const any = (value: unknown): never => value as never
  const error = t.throws(() => topK(x, 4))
  t.is(error?.message, 'topK: axis 1 of [2, 3] has 3 elements, fewer than k = 4; take k ≤ 3')
  t.is(codeOf(() => topK(x, 4)), 'ERR_SHAPE') // prettier-ignore
  t.is(codeOf(() => topK(x, 3, 0)), 'ERR_SHAPE') // prettier-ignore
  t.is(codeOf(() => topK(x, 1, 2)), 'ERR_SHAPE') // prettier-ignore
  t.is(codeOf(() => topK(tensor(1, { device: JS }), 1)), 'ERR_SHAPE') // prettier-ignore
  for (const k of [-1, 1.5, NaN, Infinity, '1', undefined])
    t.is(codeOf(() => topK(x, any(k))), 'ERR_ARGUMENT', String(k)) // prettier-ignore
  t.is(codeOf(() => topK(x, 1, any([1]))), 'ERR_ARGUMENT') // prettier-ignore
  t.is(codeOf(() => topK(any([1, 2]), 1)), 'ERR_ARGUMENT') // prettier-ignore
  t.is(codeOf(() => topK(x.greater(0), 1)), 'ERR_DTYPE') // prettier-ignore
})
