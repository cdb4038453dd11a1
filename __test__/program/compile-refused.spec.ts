/**
 * What a compiled function must not do, because it would be done once and not in each run: it is refused with a text
 * that says what to do instead, nothing outside has changed, and the next call works.
 */

import test from 'ava'

import type { Tensor } from '../../ts/index.ts'
import {
  type Device,
  Parameter,
  TilegradError,
  compile,
  grad,
  keep,
  manualSeed,
  nn,
  noGrad,
  optim,
  rand,
  scalar,
  scope,
  setDefaultDevice,
  tensor,
  train,
  valueAndGrad,
} from '../../ts/index.ts'
import { JS, onDevices } from '../helpers/devices.ts'
import { codeOf, rejectionOf } from '../helpers/errors.ts'
import { THENABLE, values } from '../helpers/values.ts'

/** What a refused function could have changed. */
function world(device: Device) {
  const w = new Parameter([1, 2], { device })
  const optimizer = new optim.SGD([w], { lr: 0.5, momentum: 0.5 })
  const acc = new train.GradientAccumulator(optimizer)
  const outside = tensor([3, 4], { device })
  const graph = w.mul(outside)
  w.grad = tensor([5, 6], { device })
  const factor = scalar(2)
  const state = async (): Promise<unknown> => [
    await values(w),
    w.requiresGrad,
    await values(w.grad),
    await optimizer.stateDict(),
    acc.microBatches,
    await values(outside),
    outside.requiresGrad,
    factor.value,
    w.value.storage.version,
  ]
  return { w, optimizer, acc, outside, graph, factor, state }
}

type World = ReturnType<typeof world>

/** By name: what is refused, after work that must not have happened either. */
const REFUSED: Record<string, (o: World, x: Tensor) => unknown> = {
  'data of an argument': (_, x) => x.data(),
  'data of a result': (_, x) => x.mul(2).data(),
  'data of a tensor from outside': ({ outside }) => outside.data(),
  dataSync: ({ outside }) => outside.dataSync(),
  item: (_, x) => x.sum().item(),
  'item of the wrong shape': (_, x) => x.item(),
  array: (_, x) => x.array(),
  sync: (_, x) => x.device.sync(),
  'close of a device': (_, x) => x.device.close(),
  'to another device': (_, x) => x.to(JS),
  'state of a module': () => new nn.ReLU().stateDict(),
  'state of an optimiser': ({ optimizer }) => optimizer.stateDict(),
  'state loaded into an optimiser': ({ optimizer }) => optimizer.loadStateDict({ step: 5, groups: [] }),
  'backward through a graph from outside': ({ graph }) => graph.sum().backward(),
  'grad through a graph from outside': ({ graph }, x) => grad((v) => v.mul(graph).sum().add(graph.sum()))(x),
  'dispose of a tensor from outside': ({ outside }) => outside.dispose(),
  'dispose of a parameter': ({ w }) => w.dispose(),
  'using of a tensor from outside': ({ outside }) => outside[Symbol.dispose](),
  'requiresGrad switched off': ({ w }) => (w.requiresGrad = false),
  'requiresGrad switched on': ({ outside }) => (outside.requiresGrad = true),
  'requiresGrad of an argument': (_, x) => (x.requiresGrad = true),
  'a new parameter': ({ outside }) => new Parameter([1], { device: outside.device }),
  'a new layer': ({ outside }) => new nn.Linear(2, 2, { device: outside.device }),
  'a parameter from a tensor': ({ outside }) => new Parameter(outside),
  'a new optimiser': ({ w }) => new optim.AdamW([w]),
  'a rate that is set': ({ optimizer }) => (optimizer.lr = 1),
  'a rate that is read': ({ optimizer }) => optimizer.lr,
  'a scalar that is set': ({ factor }) => (factor.value = 9),
  'a scalar that is read': ({ factor }) => factor.value,
  'the number of micro-batches': ({ acc }) => acc.microBatches,
  manualSeed: () => manualSeed(1),
  'the default device': () => setDefaultDevice(JS),
}

/** Work of every kind, before what is refused. */
function work({ w, optimizer, acc, factor }: World, x: Tensor): Tensor {
  const sum = w.mul(x).mul(factor).sum()
  sum.backward()
  optimizer.step()
  optimizer.zeroGrad()
  acc.add({ sum: w.mul(x).sum(), count: tensor(2, { device: x.device }) })
  acc.step()
  return sum.add(rand([], { device: x.device }).mul(0))
}

for (const [name, refused] of Object.entries(REFUSED)) {
  for (const swallowed of [false, true]) {
    onDevices(`${name}: ERR_TRACE${swallowed ? ', also when the function catches it' : ''}`, async (t, device) => {
      const o = world(device)
      const before = await o.state()
      let wrong = true
      const f = compile((x: Tensor) => {
        const loss = work(o, x)
        if (!wrong) return loss
        try {
          refused(o, x)
        } catch (error) {
          if (!swallowed) throw error
        }
        return loss
      })
      const x = tensor([1, 2], { device })
      const error = t.throws(() => f(x), { instanceOf: TilegradError })
      t.is(error.code, 'ERR_TRACE', error.message)
      t.regex(error.message, /^compile\(.*\): .* is not possible inside: .*; [a-z].*/)
      t.deepEqual(await o.state(), before)
      wrong = false
      t.is(await f(x).item(), 10)
      t.is(f.stats().recordings, 1)
    })
  }
}

onDevices('a promise: ERR_TRACE, and nothing is left that nobody handles', async (t, device) => {
  const x = tensor([1], { device })
  for (const fn of [
    async (y: Tensor) => void (await y.data()),
    async (y: Tensor) => y.mul(2),
    async () => Promise.reject(new Error('unhandled')),
    () => THENABLE,
  ]) {
    t.is(codeOf(() => compile(fn)(x)), 'ERR_TRACE') // prettier-ignore
  }
  // An unhandled rejection would fail this file.
  await new Promise((resolve) => setTimeout(resolve, 5))
})

onDevices('backward through what a compiled function gave, and through what was made of it', async (t, device) => {
  const w = new Parameter([2], { device })
  const f = compile((x: Tensor) => x.mul(w))
  const x = tensor([3], { device })
  for (let i = 0; i < 2; i++) {
    const y = f(x)
    t.true(y.requiresGrad)
    t.is(codeOf(() => y.sum().backward()), 'ERR_TRACE') // prettier-ignore
    t.is(codeOf(() => y.backward()), 'ERR_TRACE') // prettier-ignore
    t.is(codeOf(() => y.mul(w).square().sum().backward()), 'ERR_TRACE') // prettier-ignore
    t.is(codeOf(() => grad((v) => f(v).mul(2).sum())(x)), 'ERR_TRACE') // prettier-ignore
    t.is(codeOf(() => valueAndGrad((v) => v.mul(f(v)).sum())(x)), 'ERR_TRACE') // prettier-ignore
    t.is(codeOf(() => compile(() => y.sum().backward())()), 'ERR_TRACE') // prettier-ignore
    t.is(codeOf(() => compile((z: Tensor) => z.sum().backward())(y)), 'ERR_TRACE') // prettier-ignore
    t.is(w.grad, null)
    // Cut off, it is a number like any other.
    y.detach().mul(w).sum().backward()
    t.deepEqual(await values(w.grad), [6])
    w.grad = null
    t.false(noGrad(() => f(x)).requiresGrad)
  }
})

onDevices('tensors that escape the recording are of no use outside', async (t, device) => {
  const escaped: Tensor[] = []
  const w = new Parameter([2], { device })
  w.grad = tensor([1], { device })
  const f = compile((x: Tensor) => {
    const y = x.mul(w)
    escaped.push(
      x,
      y,
      keep(y.mul(2)),
      y.detach(),
      scope(() => y.add(1)),
      w.grad!,
      tensor([1], { device }),
    )
    return y
  })
  f(tensor([1], { device }))
  t.is(escaped.length, 7)
  for (const tensor of escaped) {
    t.is(codeOf(() => tensor.add(1)), 'ERR_TRACE') // prettier-ignore
    t.is(codeOf(() => tensor.detach()), 'ERR_TRACE') // prettier-ignore
    t.is(codeOf(() => compile(() => tensor.add(1))()), 'ERR_TRACE') // prettier-ignore
    t.is(codeOf(() => f(tensor)), 'ERR_TRACE') // prettier-ignore
    t.is(await rejectionOf(tensor.data()), 'ERR_TRACE')
    t.true(tensor.disposed)
    tensor.dispose()
  }
  t.is(codeOf(() => escaped[1]!.backward()), 'ERR_TRACE') // prettier-ignore
  t.deepEqual(await values(f(tensor([4], { device }))), [8])
})

onDevices('results that are none: ERR_ARGUMENT', async (t, device) => {
  const x = tensor([1], { device })
  const w = new Parameter([1], { device })
  const cyclic: unknown[] = []
  cyclic.push(cyclic)
  for (const bad of [
    () => 1,
    Symbol('x'),
    new Date(),
    new Float32Array(2),
    new Map(),
    cyclic,
    scalar(1),
    [[new Set()]],
  ]) {
    const f = compile((y: Tensor) => {
      w.mul(y).sum().backward()
      return bad
    })
    t.is(codeOf(() => f(x)), 'ERR_ARGUMENT') // prettier-ignore
  }
  const gone = compile((y: Tensor) => {
    const z = y.mul(2)
    z.dispose()
    return z
  })
  t.is(codeOf(() => gone(x)), 'ERR_DISPOSED') // prettier-ignore
  t.is(w.grad, null)
})

onDevices('what the function throws comes out as it is, and nothing has happened', async (t, device) => {
  const o = world(device)
  const before = await o.state()
  const x = tensor([1, 2], { device })
  const error = new RangeError('mine')
  let fail: (() => unknown) | null = () => {
    throw error
  }
  const f = compile((y: Tensor) => {
    const loss = work(o, y)
    fail?.()
    return loss
  })
  t.is(t.throws(() => f(x), { instanceOf: RangeError }), error) // prettier-ignore
  fail = () => x.reshape([5])
  t.is(codeOf(() => f(x)), 'ERR_SHAPE') // prettier-ignore
  fail = () => o.w.mul(2).backward()
  t.is(codeOf(() => f(x)), 'ERR_SHAPE') // prettier-ignore
  fail = () => scope(() => keep(x.mul(2)).add(tensor([1], { dtype: 'i32', device })))
  t.is(codeOf(() => f(x)), 'ERR_DTYPE') // prettier-ignore
  t.deepEqual(await o.state(), before)
  // Eager code goes on: no recording is left open.
  t.deepEqual(await values(x.add(1)), [2, 3])
  fail = null
  t.is(await f(x).item(), 10)
})

test('an error inside names the compiled function', (t) => {
  const named = compile(function trainStep(x: Tensor) {
    return x.dataSync()
  })
  t.throws(() => named(tensor([1], { device: JS })), { message: /^compile\(trainStep\): / })
  const renamed = compile((x: Tensor) => x.dataSync(), { name: 'other' })
  t.throws(() => renamed(tensor([1], { device: JS })), { message: /^compile\(other\): / })
  t.is(named.name, 'trainStep')
  t.is(renamed.name, 'other')
})
