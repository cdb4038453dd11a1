/**
 * prod, cumsum and cumprod: values against loops in f64, bits against the position alone (nothing appended changes one), gradients against central
 * differences, with zeros among the factors too. Compiled they give what they give eagerly.
 */

import test from 'ava'
import {
  type Axis,
  type Tensor,
  compile,
  concat,
  cumprod,
  cumsum,
  full,
  grad,
  prod,
  scope,
  slice,
  tensor,
  zeros,
} from '../../ts/index.ts'
import { agree } from '../helpers/compiled.ts'
import { type Data, array, random, upload } from '../helpers/data.ts'
import { FAMILIES } from '../helpers/cases.ts'
import { JS, onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { gradcheck } from '../helpers/gradcheck.ts'
import { alongAxis, reduce } from '../helpers/reference.ts'
import { declareForward } from '../helpers/run.ts'
import { near, values } from '../helpers/values.ts'

declareForward(FAMILIES.scan)

const WAYS = [false, true].flatMap((reverse) => [false, true].map((exclusive) => ({ reverse, exclusive })))

/** The definition, with the sum of what meets as `f`. */
function running(line: number[], reverse: boolean, exclusive: boolean, f: (list: number[]) => number): number[] {
  return line.map((_, i) => f(reverse ? line.slice(i + (exclusive ? 1 : 0)) : line.slice(0, i + (exclusive ? 0 : 1))))
}

const total = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0)
const product = (list: readonly number[]): number => list.reduce((a, b) => a * b, 1)

const SHAPES: readonly (readonly [number[], number])[] = [
  [[1], 0],
  [[2], 0],
  [[3, 5, 7], 0],
  [[3, 5, 7], 1],
  [[3, 5, 7], -1],
  [[2, 31], 1],
  [[2, 32, 3], 1],
  [[33, 17], 0],
  [[257], 0],
  [[0, 3], 0],
  [[0, 3], 1],
  [[3, 0], 1],
]

/** Factors near 1, so that long products stay in range, of both signs. */
function factors(dtype: 'f32' | 'f64', shape: readonly number[]): Data {
  const { values: sizes } = random(dtype, shape, { low: 0.8, high: 1.2 })
  return array(dtype, shape, (i) => (i % 3 === 1 ? -sizes[i]! : sizes[i]!))
}

onDevices('cumsum is the sum of what precedes, cumprod the product', async (t, device) => {
  for (const [shape, axis] of SHAPES) {
    for (const way of WAYS) {
      const what = `[${shape.join(', ')}] along ${axis}, ${JSON.stringify(way)}`
      const [terms, multiplied] = [random('f32', shape), factors('f32', shape)]
      const sums = cumsum(upload(terms, device), axis, way)
      const products = upload(multiplied, device).cumprod(axis, way)
      t.deepEqual([sums.shape, products.shape], [shape, shape], what)
      const want = (x: Data, f: (list: number[]) => number): number[] =>
        Array.from(alongAxis(x, axis, (line) => running(line, way.reverse, way.exclusive, f)).values)
      near(t, await values(sums), want(terms, total), 1.3e-6, what)
      near(t, await values(products), want(multiplied, product), 1.3e-6, what)
    }
  }
})

onDevices('prod is the product over one axis, several, neighbours or not, or all', async (t, device) => {
  const plans: readonly (readonly [number[], Axis | undefined])[] = [
    ...SHAPES,
    ...[1, 2, 3, 16, 31, 257].map((n): [number[], undefined] => [[n], undefined]),
    [[], undefined],
    ...[[0, 1], [1, 2], [0, 2], [-1, 0], [], [1]].map((axis): [number[], number[]] => [[3, 5, 7], axis]),
    [[2, 0, 3], [0, 1]],
    [[2, 0, 3], [0, 2]],
  ] // prettier-ignore
  for (const [shape, axis] of plans) {
    const data = factors('f32', shape)
    for (const keepDims of [false, true]) {
      const y = prod(upload(data, device), axis, { keepDims })
      const want = reduce(data, axis, keepDims, product)
      const what = `[${shape.join(', ')}] over ${JSON.stringify(axis) ?? 'all'}`
      t.deepEqual([...y.shape], [...want.shape], what)
      near(t, await values(y), Array.from(want.values), 1.3e-6, what)
    }
  }
})

onDevices('i32 wraps around, and nothing has the product 1', async (t, device) => {
  const x = tensor([2 ** 30, 3, 2, -7], { device, dtype: 'i32' })
  const wrapped = [2 ** 30, 3, 2, -7].map((_, i, all) => all.slice(0, i + 1).reduce((a, b) => Math.imul(a, b), 1))
  t.deepEqual(await values(cumprod(x, 0)), wrapped)
  t.deepEqual(await values(prod(x)), wrapped.slice(-1))
  const large = tensor([2 ** 31 - 1, 1, 5], { device, dtype: 'i32' })
  t.deepEqual(await values(cumsum(large, 0)), [2 ** 31 - 1, -(2 ** 31), -(2 ** 31) + 5])
  t.deepEqual(await values(prod(zeros([2, 0], { device }), 1)), [1, 1])
  t.deepEqual(await values(prod(zeros([0], { device }))), [1])
})

onDevices('what is appended changes no earlier bit, NaN included', async (t, device) => {
  const long = factors('f32', [259])
  const whole = [cumsum, cumprod].map((f) => f(upload(long, device), 0))
  for (const n of [1, 2, 3, 16, 31, 128, 257]) {
    const values32 = Array.from({ length: 259 }, (_, i) => (i < n ? long.values[i]! : NaN))
    const start = upload(array('f32', [n], values32.slice(0, n)), device)
    const followed = upload(array('f32', [259], values32), device)
    for (const [i, f] of [cumsum, cumprod].entries()) {
      const alone = await values(f(start, 0))
      t.deepEqual((await values(f(followed, 0))).slice(0, n), alone, `${f.name} of ${n}`)
      t.deepEqual((await values(whole[i])).slice(0, n), alone, `${f.name} of ${n}`)
    }
    const ones = upload(array('f32', [259], values32.map((v) => (Number.isNaN(v) ? 1 : v))), device) // prettier-ignore
    t.deepEqual(await values(prod(ones)), await values(prod(start)), `prod of ${n}`)
  }
  const zero = await cumsum(tensor([-0, 1, 2], { device }), 0).data()
  t.true(Object.is(zero[0], -0))
})

onDevices('the gradient of a product is that of the others where some are 0', async (t, device) => {
  const slope = async (list: number[]): Promise<number[]> => values(grad((v) => prod(v))(tensor(list, { device }))[0])
  t.deepEqual(await slope([2, 0, 5]), [0, 10, 0])
  t.deepEqual(await slope([0, 3, 0, 2]), [0, 0, 0, 0])
  t.deepEqual(await slope([2, 3, 5]), [15, 10, 6])
  const [running] = grad((v) => cumprod(v, 0).sum())(tensor([2, 0, 5], { device }))
  t.deepEqual(await values(running), [1, 12, 0])
  const [none] = grad((v) => prod(v))(zeros([0], { device }))
  t.deepEqual(none!.shape, [0])
})

const FACTORS = array('f64', [2, 5, 2], (i) => (i % 7 === 3 ? 0 : 0.3 * ((i % 5) + 1) * (i % 2 === 0 ? 1 : -1)))

const DIFFERENTIABLE: readonly (readonly [string, (v: Tensor) => Tensor])[] = [
  ...[undefined, 0, 1, [0, 2]].map((axis): [string, (v: Tensor) => Tensor] => [
    `prod over ${String(axis)}`,
    (v) => prod(v, axis),
  ]),
  ...WAYS.flatMap((way): [string, (v: Tensor) => Tensor][] => [
    [`cumsum ${JSON.stringify(way)}`, (v) => cumsum(v, 1, way)],
    [`cumprod ${JSON.stringify(way)}`, (v) => cumprod(v, 1, way)],
  ]),
]

for (const path of ['fused', 'decomposed'] as const) {
  test(`gradients of running sums and products are slopes, ${path}`, (t) => {
    for (const [name, f] of DIFFERENTIABLE) t.is(gradcheck(([v]) => f(v!), [FACTORS], JS, path), null, name) // prettier-ignore
  })
}

test('second derivatives of running sums and products are slopes of the first', (t) => {
  for (const [name, f] of DIFFERENTIABLE) {
    const slope = ([v]: readonly Tensor[]): Tensor => grad((w) => f(w).square().sum())(v!)[0]!
    t.is(gradcheck(slope, [FACTORS], JS), null, name)
  }
})

onDevices('compiled, values and gradients are those of eager code', async (t, device) => {
  const x = upload(factors('f32', [5, 17]), device)
  for (const f of [
    (v: Tensor) => prod(v, 1),
    (v: Tensor) => cumsum(v, 0, { exclusive: true }),
    (v: Tensor) => cumprod(v, 1, { reverse: true }),
  ]) {
    const both = (v: Tensor): [Tensor, Tensor] => [f(v), scope(() => grad((w) => f(w).square().sum())(v)[0]!)]
    const [eager, compiled] = [both(x), compile(both)(x)]
    await agree(t, compiled[0], eager[0], 'value')
    await agree(t, compiled[1], eager[1], 'gradient')
  }
})

onDevices('nothing appended changes a bit of sums, products and their gradients', async (t, device) => {
  const x = upload(factors('f32', [3, 70]), device)
  for (const [f, nothing] of [
    [(v: Tensor) => cumsum(v, 1), 0],
    [(v: Tensor) => cumsum(v, 1, { reverse: true }), 0],
    [(v: Tensor) => cumprod(v, 1), 1],
    [(v: Tensor) => cumprod(v, 1, { reverse: true }), 1],
  ] as const) {
    const padded = (length: number) => (v: Tensor) =>
      slice(f(concat([v, full([3, length - 70], nothing, { device })], 1)), [0, 0], [3, 70])
    const both = (f: (v: Tensor) => Tensor): Tensor[] => [f(x), grad((v) => f(v).mul(x).square().sum())(x)[0]!]
    const plain = both(f)
    for (const length of [71, 101, 1100])
      for (const [i, y] of both(padded(length)).entries()) await agree(t, y, plain[i]!, `${length}: ${i}`) // prettier-ignore
  }
})

onDevices('what running sums and products refuse', (t, device) => {
  const x = zeros([2, 3], { device })
  const any = (v: unknown): never => v as never
  for (const f of [cumsum, cumprod]) {
    t.is(codeOf(() => f(x, 2)), 'ERR_SHAPE') // prettier-ignore
    t.is(codeOf(() => f(zeros([], { device }), 0)), 'ERR_SHAPE') // prettier-ignore
    t.is(codeOf(() => f(x.cast('bool'), 0)), 'ERR_DTYPE') // prettier-ignore
    t.is(codeOf(() => f(x, 0, any({ reverse: 1 }))), 'ERR_ARGUMENT') // prettier-ignore
    t.is(codeOf(() => f(x, 0, any({ exclusive: 'no' }))), 'ERR_ARGUMENT') // prettier-ignore
    t.is(codeOf(() => f(any([1]), 0)), 'ERR_ARGUMENT') // prettier-ignore
  }
  t.is(codeOf(() => prod(x, 2)), 'ERR_SHAPE') // prettier-ignore
  t.is(codeOf(() => prod(x.cast('bool'))), 'ERR_DTYPE') // prettier-ignore
  t.is(codeOf(() => prod(any([1]))), 'ERR_ARGUMENT') // prettier-ignore
})
