/** Elementwise operations: the case table, and the rules that hold for several of them. */

import test from 'ava'
import * as tilegrad from '../../ts/index.ts'
import { type Tensor, tensor } from '../../ts/index.ts'
import { FAMILIES } from '../helpers/cases.ts'
import { JS, onDevices } from '../helpers/devices.ts'
import { declareForward } from '../helpers/run.ts'

declareForward(FAMILIES.element)

onDevices(
  'NaN passes through maximum, minimum, clip, relu, max and min, on either side and any place',
  async (t, device) => {
    const at = (...values: number[]): Tensor => tensor(values, { device })
    const x = at(NaN, 1, -1, NaN)
    const y = at(0, NaN, NaN, NaN)
    const results = [
      x.maximum(y),
      x.minimum(y),
      y.maximum(x),
      x.maximum(at(7, NaN, NaN, 7)),
      at(NaN, NaN, NaN, NaN).clip(-1, 1),
      at(NaN, NaN, NaN, NaN).relu(),
      x.maximum(NaN),
      ...[0, 1, 5, 16, 36]
        .map((place) => tensor(new Float32Array(37).with(place, NaN), { device }))
        .flatMap((v) => [v.max(), v.min()]),
    ]
    for (const [i, result] of results.entries()) {
      t.true(
        [...(await result.data())].every((v) => Number.isNaN(v)),
        `result ${i}`,
      )
    }
  },
)

onDevices('comparisons with NaN are false, and notEqual is true', async (t, device) => {
  const x = tensor([NaN, NaN, 1], { device })
  const y = tensor([NaN, 1, NaN], { device })
  for (const op of ['equal', 'greater', 'greaterEqual', 'less', 'lessEqual'] as const) {
    t.deepEqual(await tilegrad[op](x, y).array(), [false, false, false], op)
  }
  t.deepEqual(await x.notEqual(y).array(), [true, true, true])
})

onDevices('i32 wraps around, and casts from float saturate', async (t, device) => {
  const ends = tensor([2 ** 31 - 1, -(2 ** 31)], { dtype: 'i32', device })
  t.deepEqual([...(await ends.add(1).data())], [-(2 ** 31), -(2 ** 31) + 1])
  t.deepEqual([...(await ends.mul(2).data())], [-2, 0])
  t.deepEqual([...(await ends.neg().data())], [-(2 ** 31) + 1, -(2 ** 31)])
  const wide = tensor([1e20, -1e20, NaN, 2.9, -2.9, Infinity], { device })
  t.deepEqual([...(await wide.cast('i32').data())], [2 ** 31 - 1, -(2 ** 31), 0, 2, -2, 2 ** 31 - 1])
})

onDevices('bool comes out as 0 and 1 in bytes, and as booleans in arrays', async (t, device) => {
  const x = tensor([[true, false]], { device })
  t.is(x.dtype, 'bool')
  t.deepEqual(await x.data(), Uint8Array.of(1, 0))
  t.deepEqual(await x.logicalNot().array(), [[false, true]])
  t.deepEqual(await tensor([0.5, 0, NaN], { device }).cast('bool').data(), Uint8Array.of(1, 0, 1))
})

onDevices('a plain number takes the dtype of its partner, on either side', async (t, device) => {
  const i = tensor(Int32Array.of(1, 2), { device })
  t.is(i.add(3).dtype, 'i32')
  t.deepEqual([...(await tilegrad.sub(10, i).data())], [9, 8])
  const f = tensor([1, 2], { device })
  t.deepEqual([...(await tilegrad.div(1, f).data())], [1, 0.5])
  t.deepEqual([...(await tilegrad.where(f.greater(1), 5, f).data())], [1, 5])
})

test('every operation on tensors is also a method with the same result', async (t) => {
  const x = tensor(
    [
      [0.25, 0.5],
      [0.75, 1],
    ],
    { device: JS },
  )
  const y = tensor(
    [
      [1, 2],
      [3, 4],
    ],
    { device: JS },
  )
  const unary = [
    'abs',
    'ceil',
    'exp',
    'expm1',
    'floor',
    'log',
    'log1p',
    'neg',
    'sqrt',
    'square',
    'relu',
    'gelu',
    'tanh',
    'softmax',
    'sum',
    'max',
  ] as const
  for (const op of unary) t.deepEqual(await x[op]().data(), await tilegrad[op](x).data(), op)
  const binary = ['add', 'sub', 'mul', 'div', 'pow', 'maximum', 'minimum', 'equal', 'less', 'matmul'] as const
  for (const op of binary) t.deepEqual(await x[op](y).data(), await tilegrad[op](x, y).data(), op)
})
