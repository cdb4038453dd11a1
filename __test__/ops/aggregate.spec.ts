/**
 * norm and logSumExp: values against the formulas in f64, their gradients against central differences on both ways, and
 * the places where the chain rule alone would give NaN. Compiled they give what they give eagerly.
 */

import test from 'ava'
import { type Axis, type Tensor, grad, logSumExp, norm, scope, tensor, zeros } from '../../ts/index.ts'
import { agree } from '../helpers/compiled.ts'
import { compile } from '../../ts/index.ts'
import { type Data, random, upload } from '../helpers/data.ts'
import { JS, onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { gradcheck } from '../helpers/gradcheck.ts'
import { near, values } from '../helpers/values.ts'

const POWERS = [0, 0.5, 1, 1.5, 2, 3, Infinity, -Infinity]

/** Norm of a list by the definition. */
function lengthOf(list: number[], p: number): number {
  const sizes = list.map(Math.abs)
  if (p === 0) return sizes.filter((v) => v !== 0).length
  if (p === Infinity) return Math.max(...sizes)
  if (p === -Infinity) return Math.min(...sizes)
  return sizes.reduce((s, v) => s + v ** p, 0) ** (1 / p)
}

/** The lists that are reduced when axis 1 of three, or everything, goes. */
function lists(x: Data, axis: Axis | undefined): number[][] {
  if (axis === undefined) return [Array.from(x.values)]
  const [a, b, c] = x.shape as [number, number, number]
  return Array.from({ length: a * c }, (_, i) =>
    Array.from({ length: b }, (_, j) => x.values[(Math.floor(i / c) * b + j) * c + (i % c)]!),
  )
}

const SHAPES = [
  [1, 1, 1],
  [2, 3, 5],
  [3, 257, 2],
  [1, 1009, 1],
  [7, 1, 16],
]

onDevices('norm is the formula for each p, over one axis and over all', async (t, device) => {
  for (const shape of SHAPES) {
    const data = random('f32', shape, { corners: [0] })
    for (const axis of [undefined, 1]) {
      for (const p of POWERS) {
        const y = norm(upload(data, device), { p, ...(axis !== undefined && { axis }) })
        const want = lists(data, axis).map((list) => lengthOf(list, p))
        t.deepEqual([...y.shape], axis === undefined ? [] : [shape[0], shape[2]])
        near(t, await values(y), want, 1e-5, `p ${p} of [${shape.join(', ')}]`)
      }
    }
  }
})

onDevices('logSumExp is the formula, over one axis and over all', async (t, device) => {
  for (const shape of SHAPES) {
    const data = random('f32', shape)
    for (const axis of [undefined, 1]) {
      const y = upload(data, device).logSumExp(axis, { keepDims: true })
      const want = lists(data, axis).map((list) => Math.log(list.reduce((s, v) => s + Math.exp(v), 0)))
      t.deepEqual([...y.shape], axis === undefined ? [1, 1, 1] : [shape[0], 1, shape[2]])
      near(t, await values(y), want, 2e-6, `[${shape.join(', ')}]`)
    }
  }
})

onDevices('logSumExp neither overflows nor loses a row of −∞', async (t, device) => {
  const x = tensor(
    [
      [1000, 1000],
      [-1000, -1000],
      [-Infinity, 0],
      [-Infinity, -Infinity],
    ],
    { device },
  )
  const y = await values(logSumExp(x, 1))
  near(t, y.slice(0, 2), [1000 + Math.LN2, -1000 + Math.LN2], 1e-7)
  t.deepEqual(y.slice(2), [0, -Infinity])
  const [slope] = grad((v) => logSumExp(v, 1).sum())(x)
  near(t, await values(slope), [0.5, 0.5, 0.5, 0.5, 0, 1, 0, 0], 1e-4)
})

onDevices('the gradient of a norm at 0 is 0, for a whole row and for one element of it', async (t, device) => {
  const x = tensor(
    [
      [0, 0, 0],
      [3, 0, -4],
    ],
    { device },
  )
  for (const p of POWERS) {
    const [slope] = grad((v) => norm(v, { p, axis: 1 }).sum())(x)
    const found = await values(slope)
    t.deepEqual(found.slice(0, 3), [0, 0, 0], `p ${p}`)
    t.true(found.every(Number.isFinite), `p ${p}: ${found.join(' ')}`)
  }
  const [two] = grad((v) => norm(v))(tensor([3, 0, -4], { device }))
  near(t, await values(two), [0.6, 0, -0.8], 1e-6)
})

onDevices('norm and logSumExp of nothing', async (t, device) => {
  const nothing = zeros([2, 0], { device })
  for (const p of [0, 0.5, 1, 2, 3]) t.deepEqual(await values(norm(nothing, { p, axis: 1 })), [0, 0], `p ${p}`)
  t.deepEqual(await values(logSumExp(nothing, 1)), [-Infinity, -Infinity])
  t.deepEqual(logSumExp(nothing, 0).shape, [0])
  t.is(
    codeOf(() => norm(nothing, { p: Infinity, axis: 1 })),
    'ERR_SHAPE',
  )
  const [slope] = grad((v) => norm(v).add(logSumExp(v)))(nothing)
  t.deepEqual(slope!.shape, [2, 0])
})

for (const path of ['fused', 'decomposed'] as const) {
  test(`gradients of norm and logSumExp are slopes, ${path}`, (t) => {
    const x = [random('f64', [3, 4, 2], { corners: [0] })]
    for (const axis of [undefined, 1, [0, 2]]) {
      const over = axis === undefined ? {} : { axis }
      for (const p of [0.5, 1, 1.5, 2, 3, Infinity, -Infinity])
        t.is(
          gradcheck(([v]) => norm(v!, { p, ...over }), x, JS, path),
          null,
          `p ${p} over ${String(axis)}`,
        )
      t.is(
        gradcheck(([v]) => logSumExp(v!, axis), x, JS, path),
        null,
        `logSumExp over ${String(axis)}`,
      )
    }
  })
}

test('second derivatives of norm and logSumExp are slopes of the first', (t) => {
  const x = [random('f64', [2, 3], { corners: [0] })]
  const slope =
    (f: (v: Tensor) => Tensor) =>
    ([v]: readonly Tensor[]): Tensor =>
      grad((w) => f(w).square().sum())(v!)[0]!
  for (const p of [1.5, 2, 3]) t.is(gradcheck(slope((v) => norm(v, { p, axis: 1 })), x, JS), null, `p ${p}`) // prettier-ignore
  t.is(gradcheck(slope((v) => logSumExp(v, 1)), x, JS), null) // prettier-ignore
})

onDevices('compiled, values and gradients are those of eager code', async (t, device) => {
  const x = upload(random('f32', [5, 17], { corners: [0] }), device)
  for (const f of [
    (v: Tensor) => norm(v, { axis: 1 }),
    (v: Tensor) => norm(v, { p: 3 }),
    (v: Tensor) => logSumExp(v, 0),
  ]) {
    const both = (v: Tensor): [Tensor, Tensor] => [f(v), scope(() => grad((w) => f(w).sum())(v)[0]!)]
    const [eager, compiled] = [both(x), compile(both)(x)]
    await agree(t, compiled[0], eager[0], 'value')
    await agree(t, compiled[1], eager[1], 'gradient')
  }
})

onDevices('what norm and logSumExp refuse', (t, device) => {
  const x = zeros([2, 3], { device })
  const any = (v: unknown): never => v as never
  t.is(codeOf(() => norm(x, { p: -1 })), 'ERR_ARGUMENT') // prettier-ignore
  t.is(codeOf(() => norm(x, { p: NaN })), 'ERR_ARGUMENT') // prettier-ignore
  t.is(codeOf(() => norm(x, any(2))), 'ERR_ARGUMENT') // prettier-ignore
  t.is(codeOf(() => norm(x, { axis: 2 })), 'ERR_SHAPE') // prettier-ignore
  t.is(codeOf(() => norm(x.cast('i32'))), 'ERR_DTYPE') // prettier-ignore
  t.is(codeOf(() => logSumExp(x.cast('i32'))), 'ERR_DTYPE') // prettier-ignore
  t.is(codeOf(() => logSumExp(x, -3)), 'ERR_SHAPE') // prettier-ignore
  t.is(codeOf(() => logSumExp(any([1]))), 'ERR_ARGUMENT') // prettier-ignore
})
