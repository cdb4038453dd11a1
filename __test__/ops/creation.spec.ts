/** Making tensors and reading them: dtypes by the data, shapes by the nesting, random numbers by the seed. */

import test from 'ava'
import {
  type Dtype,
  type TensorData,
  arange,
  eye,
  full,
  manualSeed,
  ones,
  onesLike,
  rand,
  randn,
  tensor,
  zeros,
  zerosLike,
} from '../../ts/index.ts'
import { DEVICES, onDevices } from '../helpers/devices.ts'

const DATA: readonly (readonly [string, TensorData, Dtype, readonly number[]])[] = [
  ['a number', 5, 'f32', []],
  ['a boolean', true, 'bool', []],
  ['a list', [1, 2, 3], 'f32', [3]],
  [
    'nested lists',
    [
      [1, 2],
      [3, 4],
      [5, 6],
    ],
    'f32',
    [3, 2],
  ],
  ['nested booleans', [[true, false]], 'bool', [1, 2]],
  ['an empty list', [], 'f32', [0]],
  ['empty lists', [[], []], 'f32', [2, 0]],
  ['Float32Array', Float32Array.of(1, 2), 'f32', [2]],
  ['Float64Array', Float64Array.of(1, 2), 'f32', [2]],
  ['Int32Array', Int32Array.of(1, -2), 'i32', [2]],
  ['Uint8Array', Uint8Array.of(1, 255), 'i32', [2]],
  ['Uint16Array', Uint16Array.of(1, 65535), 'i32', [2]],
  ['Int8Array', Int8Array.of(-1), 'i32', [1]],
  ['a part of a larger buffer', new Float32Array(8).fill(3).subarray(2, 5), 'f32', [3]],
]

onDevices('dtype and shape follow from the data, and the data comes back', async (t, device) => {
  for (const [title, data, dtype, shape] of DATA) {
    const x = tensor(data, { device })
    t.is(x.dtype, dtype, title)
    t.deepEqual(x.shape, shape, title)
    const flat = ArrayBuffer.isView(data) ? [...(data as Float32Array)] : [data].flat(8).map(Number)
    t.deepEqual([...(await x.data())], flat, title)
    t.deepEqual(x.dataSync(), await x.data(), title)
  }
  t.deepEqual(
    await tensor(
      [
        [1, 2],
        [3, 4],
      ],
      { device },
    ).array(),
    [
      [1, 2],
      [3, 4],
    ],
  )
  t.is(await tensor(7, { device }).item(), 7)
  t.deepEqual(await tensor([1, 0, 3], { dtype: 'bool', device }).array(), [true, false, true])
})

onDevices('data is copied on the way in and on the way out', async (t, device) => {
  const source = Float32Array.of(1, 2)
  const x = tensor(source, { device })
  source[0] = 9
  const first = await x.data()
  t.deepEqual([...first], [1, 2])
  first[1] = 9
  t.deepEqual([...(await x.data())], [1, 2])
})

onDevices('constant, counted and identity tensors', async (t, device) => {
  t.deepEqual(await full([2, 2], 1.5, { device }).array(), [
    [1.5, 1.5],
    [1.5, 1.5],
  ])
  t.deepEqual(await full([2], 3, { dtype: 'bool', device }).data(), Uint8Array.of(1, 1))
  t.deepEqual([...(await ones([2], { dtype: 'i32', device }).data())], [1, 1])
  t.deepEqual([...(await arange(4, { device }).data())], [0, 1, 2, 3])
  t.deepEqual([...(await arange(1, { start: 2, step: -0.5, device }).data())], [2, 1.5])
  t.deepEqual([...(await arange(0, { device }).data())], [])
  t.deepEqual([...(await arange(3, { start: 5, device }).data())], [])
  t.deepEqual(await eye(2, { dtype: 'i32', device }).array(), [
    [1, 0],
    [0, 1],
  ])
  const like = tensor([[1, 2]], { dtype: 'i32', device })
  for (const x of [zerosLike(like), onesLike(like)])
    t.deepEqual([x.dtype, x.shape.join(), x.device], ['i32', '1,2', device])
})

test('the same seed gives the same numbers on every device, and they look as they should', async (t) => {
  const draw = (device: (typeof DEVICES)[number]) => {
    manualSeed(11)
    return [rand([4001], { device }), randn([4001], { device }), randn([4001], { device })]
  }
  const all = await Promise.all(DEVICES.map((device) => Promise.all(draw(device).map((x) => x.data()))))
  for (const other of all.slice(1)) t.deepEqual(other, all[0])
  const [uniform, normal, next] = all[0]!
  t.notDeepEqual(normal, next)
  const mean = (x: ArrayLike<number>, f: (v: number) => number): number =>
    Array.from(x, f).reduce((a, b) => a + b, 0) / x.length
  t.true([...uniform!].every((v) => v >= 0 && v < 1))
  t.true(Math.abs(mean(uniform!, (v) => v) - 0.5) < 0.02)
  t.true(Math.abs(mean(normal!, (v) => v)) < 0.06)
  t.true(Math.abs(mean(normal!, (v) => v * v) - 1) < 0.1)
})

test('a copy on another device holds the same bits', async (t) => {
  for (const from of DEVICES) {
    const x = tensor([1.1, -0, NaN, 1e-42], { device: from })
    for (const to of DEVICES) {
      const copy = await x.to(to)
      t.is(copy.device, to)
      t.deepEqual(await copy.data(), await x.data())
    }
  }
})

onDevices('reads wait for their own work only, in any order', async (t, device) => {
  const x = zeros([100], { device })
  const sums = Array.from({ length: 20 }, (_, i) => x.add(i).sum())
  const values = await Promise.all(sums.toReversed().map((s) => s.item()))
  t.deepEqual(
    values,
    Array.from({ length: 20 }, (_, i) => (19 - i) * 100),
  )
})
