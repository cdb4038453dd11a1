/** When memory is freed: dispose, using, scopes, keep, and what may not be done with a tensor afterwards. */

import test from 'ava'

import {
  type DeviceKind,
  Parameter,
  Tensor,
  add,
  concat,
  customGrad,
  grad,
  keep,
  nn,
  noGrad,
  ones,
  optim,
  scalar,
  scatterAdd,
  scope,
  tensor,
  valueAndGrad,
  where,
} from '../../ts/index.ts'
import { DEVICES, onDevices } from '../helpers/devices.ts'
import { codeOf, rejectionOf } from '../helpers/errors.ts'
import { THENABLE, values } from '../helpers/values.ts'
import { liveSlots, onFreshDevices } from './fresh.ts'

onFreshDevices('dispose frees at once, and twice is fine', async (t, device) => {
  const before = await liveSlots(device)
  const x = tensor([1, 2, 3], { device })
  const y = x.mul(2)
  t.is(await liveSlots(device), before + 2)
  t.true(device.stats().liveBytes >= 24)
  x.dispose()
  x.dispose()
  t.true(x.disposed)
  t.is(await liveSlots(device), before + 1)
  t.deepEqual(await values(y), [2, 4, 6])
  y[Symbol.dispose]()
  t.is(await liveSlots(device), before)
  t.is(device.stats().liveBytes, 0)
})

onFreshDevices('what is disposed before it was needed never gets memory', async (t, device) => {
  const x = tensor([1, 2], { device })
  const before = await liveSlots(device)
  const y = scope(() => {
    let h = x
    for (let i = 0; i < 50; i++) h = h.add(i)
    return h
  })
  t.is(await liveSlots(device), before + 1)
  y.dispose()
  t.is(await liveSlots(device), before)
})

onFreshDevices('views share memory, which lives as long as the last of them', async (t, device) => {
  const x = tensor([1, 2, 3, 4], { device })
  const bytes = (await liveSlots(device), device.stats().liveBytes)
  const view = x.reshape([2, 2])
  const other = view.detach()
  await device.sync()
  t.is(device.stats().liveBytes, bytes)
  x.dispose()
  view.dispose()
  t.deepEqual(await values(other), [1, 2, 3, 4])
  t.is(device.stats().liveBytes, bytes)
  other.dispose()
  await device.sync()
  t.is(device.stats().liveBytes, 0)
})

onDevices('using disposes at the end of the block', (t, device) => {
  let seen: Tensor
  {
    using x = ones([2], { device })
    seen = x
    t.false(seen.disposed)
  }
  t.true(seen.disposed)
})

onFreshDevices('a scope frees what was made inside and is not returned', async (t, device) => {
  const outside = ones([2], { device })
  const inside: Tensor[] = []
  const before = await liveSlots(device)
  const result = scope(() => {
    const a = outside.mul(3)
    const b = a.add(1)
    inside.push(a, b)
    return { list: [b], text: 'x', number: 5 }
  })
  t.deepEqual(inside.map((x) => x.disposed), [true, false]) // prettier-ignore
  t.is(result.number, 5)
  t.deepEqual(await values(result.list[0]), [4, 4])
  t.is(await liveSlots(device), before + 1)
  t.false(outside.disposed)
})

onDevices('scopes nest: what an inner one returns belongs to the outer one', (t, device) => {
  let inner: Tensor
  const kept = scope(() => {
    inner = scope(() => ones([2], { device }).mul(2))
    t.false(inner.disposed)
    return inner.add(1)
  })
  t.true(inner!.disposed)
  t.false(kept.disposed)
})

onDevices('keep takes a tensor out of every scope', (t, device) => {
  let kept: Tensor
  scope(() => {
    scope(() => {
      kept = keep(ones([2], { device }))
    })
    t.false(kept.disposed)
  })
  t.false(kept!.disposed)
  t.is(keep(kept!), kept!)
})

onDevices('a scope that throws frees what was made inside', (t, device) => {
  let inside: Tensor
  t.is(codeOf(() => scope(() => { inside = ones([2], { device }); throw new RangeError('mine') })), 'RangeError: mine') // prettier-ignore
  t.true(inside!.disposed)
  // And the stack of scopes is as before.
  const free = ones([1], { device })
  scope(() => {})
  t.false(free.disposed)
})

onDevices('a scope takes synchronous functions only', (t, device) => {
  t.is(
    codeOf(() => scope(async () => ones([1], { device }))),
    'ERR_ARGUMENT',
  )
  t.is(
    codeOf(() => scope(() => THENABLE)),
    'ERR_ARGUMENT',
  )
  t.is(
    codeOf(() => scope(5 as unknown as () => void)),
    'ERR_ARGUMENT',
  )
})

onFreshDevices('gradients belong to the scope they were computed in', async (t, device) => {
  const x = tensor([1, 2], { device })
  const before = await liveSlots(device)
  scope(() => {
    const [dx] = grad((v) => v.square().sum())(x)
    dx!.add(1)
    valueAndGrad((v) => v.mul(3).sum())(x)
    valueAndGrad((v) => v.sum())(x)
  })
  t.is(await liveSlots(device), before)
})

onFreshDevices('backward frees what was saved, and keeps the gradients', async (t, device) => {
  const w = tensor([[1, 2], [3, 4]], { device, requiresGrad: true }) // prettier-ignore
  const before = await liveSlots(device)
  const loss = scope(() => w.exp().mul(w).softmax().matmul(w).sum())
  const during = await liveSlots(device)
  t.true(during >= before + 3, `${during - before} slots hold the graph`)
  loss.backward()
  // The loss and the gradient.
  t.is(await liveSlots(device), before + 2)
  loss.dispose()
  t.is(await liveSlots(device), before + 1)
})

onFreshDevices('a step of training leaves gradients behind and nothing else', async (t, device) => {
  const model = new nn.Sequential(new nn.Linear(4, 8, { activation: 'gelu', device }), new nn.Linear(8, 3, { device }))
  const optimizer = new optim.AdamW(model.parameters())
  const x = ones([5, 4], { device })
  const y = tensor([0, 1, 2, 1, 0], { device, dtype: 'i32' })
  const step = (): void => {
    optimizer.zeroGrad()
    scope(() => nn.crossEntropy(model.forward(x), y).backward())
    optimizer.step()
  }
  step()
  const after = await liveSlots(device)
  for (let i = 0; i < 5; i++) step()
  t.is(await liveSlots(device), after)
  optimizer.zeroGrad()
  t.is(await liveSlots(device), after - model.parameters().length)
})

onFreshDevices('customGrad leaves no more behind than what the user holds', async (t, device) => {
  const f = customGrad(
    ([x]) => scope(() => x!.mul(2).add(1)),
    (dy) => [dy.mul(2)],
  )
  const x = tensor([1, 2], { device, requiresGrad: true })
  const before = await liveSlots(device)
  scope(() => f(x).sum().backward())
  t.is(await liveSlots(device), before + 1)
})

onFreshDevices('operations that are refused leave nothing behind', async (t, device) => {
  const x = ones([2, 3], { device })
  const gone = ones([2, 3], { device })
  gone.dispose()
  const condition = x.greater(0)
  const before = await liveSlots(device)
  for (const refused of [
    () => add(3, gone),
    () => add(gone, 3),
    () => where(condition, 3, gone),
    () => where(condition, gone, 3),
    () => x.add(ones([7], { device })),
    () => x.matmul(x),
    () => x.linear(x),
    () => concat([x, gone]),
    () => nn.mse(x, gone),
    () => nn.crossEntropy(x, gone),
  ]) {
    t.not(
      codeOf(() => scope(refused)),
      'nothing',
    )
  }
  t.is(await liveSlots(device), before)
})

onDevices('a disposed tensor is refused by every method', async (t, device) => {
  const operands: Record<string, (y: Tensor) => unknown[]> = {
    batchNorm: () => [{ training: true }],
    cast: () => ['i32'],
    cumprod: () => [0],
    cumsum: () => [0],
    expand: () => [[2, 2]],
    reshape: () => [[2, 2]],
    gather: () => [tensor([0], { dtype: 'i32', device })],
    groupNorm: () => [{ groups: 1 }],
    layerNorm: () => [{ normalizedShape: [2] }],
    linear: (y) => [y],
    matmul: (y) => [y],
    pad: () => [[[0, 0], [1, 0]]], // prettier-ignore
    pow: () => [2],
    oneHot: () => [3],
    rmsNorm: () => [{ normalizedShape: [2] }],
    slice: () => [[0, 0]],
    split: () => [2],
    topK: () => [1],
    unsqueeze: () => [0],
  }
  const binary =
    'add sub mul div maximum minimum equal notEqual greater greaterEqual less lessEqual logicalAnd logicalOr'
  for (const name of binary.split(' ')) operands[name] = (y) => [y]
  const make = (name: string): Tensor => {
    const x = ones([2, 2], { device })
    if (name === 'oneHot') return x.cast('i32')
    return name.startsWith('logical') ? x.greater(0) : x
  }
  const fields = new Set(['constructor', 'replaceValue', 'alias', 'dispose', 'expire', 'clearGrad', 'backward', 'to', 'data', 'array', 'item']) // prettier-ignore
  let methods = 0
  for (const [name, property] of Object.entries(Object.getOwnPropertyDescriptors(Tensor.prototype))) {
    if (fields.has(name) || typeof property.value !== 'function') continue
    methods++
    const method = property.value as (...args: unknown[]) => unknown
    const gone = make(name)
    gone.dispose()
    t.is(
      codeOf(() => method.call(gone, ...(operands[name]?.(make(name)) ?? []))),
      'ERR_DISPOSED',
      name,
    )
    // And as the other operand.
    const args = operands[name]?.(gone) ?? []
    if (args.includes(gone))
      t.is(
        codeOf(() => method.call(make(name), ...args)),
        'ERR_DISPOSED',
        `${name} of another`,
      )
  }
  t.true(methods > 55, `${methods} methods`)
  const gone = ones([1], { device })
  gone.dispose()
  for (const read of [() => gone.data(), () => gone.array(), () => gone.item()])
    t.is(await rejectionOf(read), 'ERR_DISPOSED')
})

onDevices('a disposed tensor is refused by every function of several tensors', (t, device) => {
  const x = ones([2, 2], { device })
  const i = tensor([0, 1], { dtype: 'i32', device })
  const gone = ones([2, 2], { device })
  gone.dispose()
  const never = x.greater(0)
  never.dispose()
  const refused: Record<string, () => unknown> = {
    where: () => where(never, x, x),
    'where, its choices': () => where(x.greater(0), x, gone),
    concat: () => concat([x, gone]),
    scatterAdd: () => scatterAdd(gone, i, [2, 2]),
    linear: () => x.linear(x, gone.reshape([4])),
    crossEntropy: () => nn.crossEntropy(gone, i),
    mse: () => nn.mse(x, gone),
    grad: () => grad((v) => v.sum())(gone),
    customGrad: () => customGrad(([v]) => v!.mul(1), (dy) => [dy])(gone), // prettier-ignore
    Parameter: () => new Parameter(gone),
    SGD: () => new optim.SGD([gone], { lr: 1 }).step(),
    backward: () => x.backward({ gradient: gone }),
  }
  x.requiresGrad = true
  gone.requiresGrad = true
  for (const [name, call] of Object.entries(refused)) t.is(codeOf(call), 'ERR_DISPOSED', name)
})

onDevices('a read that has started survives dispose', async (t, device) => {
  const x = ones([1000], { device }).mul(3)
  const reading = x.data()
  x.dispose()
  t.true((await reading).every((v) => v === 3))
})

onDevices('a disposed tensor shows itself without failing', async (t, device) => {
  const { inspect } = await import('node:util')
  const x = tensor([[1, 2]], { device })
  t.regex(inspect(x), /f32 \[1, 2\].*\[ \[ 1, 2 \] \]/)
  x.dispose()
  t.regex(inspect(x), /disposed/)
})

test('evaluation outside of scopes needs no dispose for correctness', async (t) => {
  for (const device of DEVICES) {
    const model = new nn.Linear(3, 2, { device })
    const y = noGrad(() => model.forward(ones([1, 3], { device })))
    const [weight, bias] = [await values(model.weight), await values(model.bias)]
    const expected = [0, 1].map((c) => weight[c]! + weight[c + 2]! + weight[c + 4]! + bias[c]!)
    const actual = await values(y)
    t.true(actual.every((v, i) => Math.abs(v - expected[i]!) < 1e-6))
  }
})

test('each kind of device is here once', (t) => {
  const kinds: DeviceKind[] = DEVICES.map((d) => d.kind)
  t.is(new Set(kinds).size, kinds.length)
  t.true(kinds.includes('js'))
})

onFreshDevices('operations with scalars leave nothing behind that nobody can free', async (t, device) => {
  const s = scalar(2)
  const x = ones([2], { device })
  const positive = x.greater(0)
  const before = await liveSlots(device)
  for (let i = 0; i < 50; i++) {
    for (const y of [x.mul(s), x.add(s), x.maximum(s), x.less(s), where(positive, s, x)]) y.dispose()
    device.flush()
  }
  t.is(await liveSlots(device), before)
})
