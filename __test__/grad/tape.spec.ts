/** The tape and its walk, on every device: where gradients arrive, what stops them, what is freed, what is refused. */

import type { ExecutionContext } from 'ava'
import {
  type Device,
  type ErrorCode,
  Parameter,
  type Tensor,
  TilegradError,
  customGrad,
  gather,
  grad,
  linear,
  noGrad,
  optim,
  scope,
  tensor,
  valueAndGrad,
  zeros,
} from '../../ts/index.ts'
import { random, upload } from '../helpers/data.ts'
import { onDevices, open } from '../helpers/devices.ts'

function leaf(values: number | number[], device: Device): Tensor {
  return tensor(values, { device, requiresGrad: true })
}

async function list(x: Tensor | null | undefined): Promise<number[]> {
  return x == null ? [] : Array.from(await x.data())
}

function refuses(t: ExecutionContext, call: () => unknown, code: ErrorCode, says: RegExp): void {
  const error = t.throws(call, { instanceOf: TilegradError })
  t.is(error?.code, code, error?.message)
  t.regex(error?.message ?? '', says)
}

onDevices('paths that meet add up, whatever their number', async (t, device) => {
  const x = leaf([1, 2, 3], device)
  const square = x.mul(x)
  square.add(x).add(square.mul(square)).sub(x.mul(3)).sum().backward()
  // x² + x + x⁴ − 3x
  t.deepEqual(
    await list(x.grad),
    [1, 2, 3].map((v) => 2 * v + 4 * v ** 3 - 2),
  )
})

onDevices('gradients of several backward passes add up in the leaf', async (t, device) => {
  const x = leaf([1, 2], device)
  for (let i = 0; i < 3; i++) x.mul(2).sum().backward()
  t.deepEqual(await list(x.grad), [6, 6])
  x.grad = null
  x.sum().backward()
  t.deepEqual(await list(x.grad), [1, 1])
})

onDevices('a leaf is its own gradient, and a gradient from above is taken over', async (t, device) => {
  const x = leaf(5, device)
  x.backward()
  t.deepEqual(await list(x.grad), [1])
  const y = leaf([1, 2], device)
  const above = tensor([10, 100], { device })
  y.mul(3).backward({ gradient: above })
  t.deepEqual(await list(y.grad), [30, 300])
  t.deepEqual(await list(above), [10, 100], 'the gradient stays the caller’s')
  y.backward({ gradient: above })
  t.deepEqual(await list(y.grad), [40, 400])
  t.deepEqual(await list(above), [10, 100])
})

onDevices('a graph runs backward once, or as often as retainGraph says', async (t, device) => {
  const x = leaf([1, 2], device)
  const y = x.square().sum()
  y.backward({ retainGraph: true })
  y.backward()
  t.deepEqual(await list(x.grad), [4, 8])
  refuses(t, () => y.backward(), 'ERR_ARGUMENT', /freed by an earlier backward\(\); pass \{ retainGraph: true \}/)
})

onDevices('detach, noGrad, integers and comparisons stop gradients', async (t, device) => {
  const x = leaf([1.5, 2.5], device)
  const stopped = [
    x.detach(),
    noGrad(() => x.mul(2)),
    x.cast('i32').cast('f32'),
    x.greater(2),
    x.argmax(),
    x.isFinite(),
  ]
  for (const y of stopped) t.false(y.requiresGrad)
  x.mul(x.detach()).sum().backward()
  t.deepEqual(await list(x.grad), [1.5, 2.5])
  t.is(
    noGrad(() => noGrad(() => 1) + 1),
    2,
  )
  t.true(x.mul(2).requiresGrad, 'recording is on again')
  t.throws(() => noGrad(() => { throw new Error('inside') })) // prettier-ignore
  t.true(x.mul(2).requiresGrad, 'also after an error')
})

onDevices('only leaves that ask for it get a gradient', async (t, device) => {
  const [x, w, b] = [leaf([1, 2], device), leaf([3, 4], device), tensor([5, 6], { device })]
  const middle = x.mul(w).add(b)
  middle.sum().backward()
  t.deepEqual([await list(x.grad), await list(w.grad), b.grad, middle.grad], [[3, 4], [1, 2], null, null])
  t.false(x.grad!.requiresGrad)
  refuses(t, () => (middle.requiresGrad = false), 'ERR_ARGUMENT', /use detach\(\)/)
})

onDevices('what backward saved and an optimiser has changed since is refused', async (t, device) => {
  const w = new Parameter([[1, 2]], { device })
  const optimizer = new optim.SGD([w], { lr: 0.1 })
  const x = leaf([1], device).reshape([1, 1])
  const stale = linear(x, w).sum()
  w.sum().backward()
  optimizer.step()
  refuses(t, () => stale.backward(), 'ERR_STALE', /saved has been changed in place.*before the optimiser's step/)
  linear(x, w).sum().backward()
  t.is((await list(w)).length, 2)
})

onDevices('a chain of thousands needs no stack', async (t, device) => {
  const x = leaf(1, device)
  let y = x.add(0)
  for (let i = 0; i < 5000; i++) y = y.add(i % 2 === 0 ? 1 : -1)
  y.backward()
  t.deepEqual(await list(x.grad), [1])
})

onDevices('a gradient has the shape of its leaf, however it was stretched', async (t, device) => {
  for (const shape of [[], [1], [3], [2, 1], [1, 3], [2, 3], [1, 1, 1]]) {
    const x = upload(random('f32', shape), device, true)
    x.add(zeros([4, 2, 3], { device }))
      .sum()
      .backward()
    t.deepEqual(x.grad?.shape, shape)
    const repeated = 24 / x.size
    t.deepEqual(
      await list(x.grad),
      Array.from({ length: x.size }, () => repeated),
    )
  }
})

onDevices('grad leaves every grad field alone and gives zeros where nothing leads', async (t, device) => {
  const x = leaf([1, 2], device)
  const unused = leaf([3], device)
  const [dx, none] = grad((x) => x.square().sum())(x, unused)
  t.deepEqual([await list(dx), await list(none)], [[2, 4], [0]])
  t.deepEqual([x.grad, unused.grad], [null, null])
  const [constant] = grad(() => tensor(7, { device }))(x)
  t.deepEqual(await list(constant), [0, 0])
  // The same tensor as two arguments has two gradients.
  const [first, second] = grad((a, b) => a.mul(b.square()).sum())(x, x)
  t.deepEqual(
    [await list(first), await list(second)],
    [
      [1, 4],
      [2, 8],
    ],
  )
  const { value, grads } = valueAndGrad((x) => x)(tensor([5], { device }))
  t.deepEqual([await list(value), await list(grads[0])], [[5], [1]])
})

onDevices('grad refuses what it cannot differentiate', (t, device) => {
  const x = tensor([1, 2], { device })
  refuses(t, () => grad((x) => x)(x), 'ERR_SHAPE', /grad: the tensor has shape \[2\]/)
  refuses(t, () => grad((x) => x.sum())(x.cast('i32')), 'ERR_ARGUMENT', /float tensors, not 'a tensor of i32'/)
  refuses(t, () => grad(() => 1 as never)(x), 'ERR_ARGUMENT', /a tensor of one element, not 1/)
  refuses(t, () => grad((async () => x) as never)(x), 'ERR_ARGUMENT', /synchronous/)
  refuses(t, () => grad(1 as never), 'ERR_ARGUMENT', /a function, not 1/)
})

onDevices('customGrad puts its own rule in place of what happens inside', async (t, device) => {
  const x = leaf([0.2, 1.7], device)
  const round = customGrad(
    ([x]) => x!.add(0.5).floor(),
    (dy) => [dy.mul(10)],
  )
  const y = round(x)
  t.deepEqual(await list(y), [0, 2])
  y.mul(2).sum().backward()
  t.deepEqual(await list(x.grad), [20, 20])

  const product = customGrad(
    ([a, b]) => a!.mul(b!),
    (dy, [a, b], out) => [dy.mul(b!), out.sub(a!.mul(b!)).add(7)],
  )
  const [da, db] = grad((a, b) => product(a, b).sum())(tensor([2], { device }), tensor([3], { device }))
  t.deepEqual([await list(da), await list(db)], [[3], [7]])

  const same = customGrad(
    ([x]) => x!,
    () => [null],
  )
  t.deepEqual(await list(grad((x) => same(x).add(x).sum())(x)[0]), [1, 1])
})

onDevices('customGrad refuses rules that do not fit', (t, device) => {
  const x = leaf([1, 2], device)
  const run = (rule: () => unknown) => () => {
    customGrad(
      ([x]) => x!.mul(2),
      rule as never,
    )(x)
      .sum()
      .backward()
  }
  refuses(
    t,
    run(() => []),
    'ERR_ARGUMENT',
    /an array of 1 gradients/,
  )
  refuses(
    t,
    run(() => undefined),
    'ERR_ARGUMENT',
    /an array of 1 gradients/,
  )
  refuses(
    t,
    run(() => [undefined]),
    'ERR_ARGUMENT',
    /gradient 0 must be a tensor.*, not undefined/,
  )
  refuses(
    t,
    run(() => [zeros([3], { device })]),
    'ERR_SHAPE',
    /gradient 0 has shape \[3\], its input \[2\]/,
  )
  refuses(
    t,
    run(() => [zeros([2], { dtype: 'i32', device })]),
    'ERR_DTYPE',
    /customGrad/,
  )
  refuses(
    t,
    run(async () => [x]),
    'ERR_ARGUMENT',
    /synchronous/,
  )
})

onDevices('a rule of customGrad made of operations can be differentiated again', async (t, device) => {
  const cube = customGrad(
    ([x]) => noGrad(() => x!.pow(3)),
    (dy, [x]) => [dy.mul(x!.square()).mul(3)],
  )
  const first = (x: Tensor): Tensor => grad((x) => cube(x).sum())(x)[0]!.sum()
  t.deepEqual(await list(grad(first)(tensor([2], { device }))[0]), [12])
})

onDevices('a training step inside a scope leaves nothing but parameters, state and gradients', async (t, { kind }) => {
  const device = await open({ kind })
  const w = new Parameter(random('f32', [8, 4]).values.reduce<number[][]>((rows, v, i) => {
    ;(rows[i >> 2] ??= []).push(v)
    return rows
  }, []), { device }) // prettier-ignore
  const optimizer = new optim.AdamW([w])
  const x = upload(random('f32', [5, 8]), device)
  const step = (): void =>
    scope(() => {
      optimizer.zeroGrad()
      linear(x, w, null, { activation: 'gelu' }).square().mean().backward()
      optimizer.step()
    })
  step()
  await device.sync()
  const { liveSlots, liveBytes } = device.stats()
  for (let i = 0; i < 20; i++) step()
  await device.sync()
  t.is(device.stats().liveSlots, liveSlots)
  t.is(device.stats().liveBytes, liveBytes)
  t.false(w.grad!.disposed, 'the gradient outlives the scope')
})

onDevices('the gradient of a leaf that has been disposed is dropped', async (t, device) => {
  const [x, y] = [leaf([1, 2], device), leaf([3, 4], device)]
  const z = x.mul(y).sum()
  x.dispose()
  z.backward()
  t.deepEqual(await list(y.grad), [1, 2])
  t.is(x.grad, null)
})

onDevices('rows taken twice get twice the gradient', async (t, device) => {
  const table = leaf([1, 2, 3], device)
  gather(table, tensor([2, 0, 2, 2], { dtype: 'i32', device }))
    .mul(tensor([1, 10, 100, 1000], { device }))
    .sum()
    .backward()
  t.deepEqual(await list(table.grad), [10, 0, 1101])
})
