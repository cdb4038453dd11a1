/**
 * Parameters that a compiled function reaches from outside: whether they require a gradient, whose memory they live in,
 * whether they have a gradient, and whether they are there at all.
 */

import { Parameter, compile, optim, tensor, type Tensor } from '../../ts/index.ts'
import { pair } from '../helpers/compiled.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { values } from '../helpers/values.ts'

onDevices('requiresGrad of a captured parameter', async (t, device) => {
  const [w, b] = [new Parameter([2], { device }), new Parameter([1], { device })]
  const step = compile((x: Tensor) => {
    const y = x.mul(w).add(b).sum()
    if (y.requiresGrad) y.backward()
    return y
  })
  const x = tensor([10], { device })
  step(x)
  w.requiresGrad = false
  step(x)
  t.deepEqual([await values(w.grad), await values(b.grad)], [[10], [2]])
  b.requiresGrad = false
  t.false(step(x).requiresGrad)
  t.deepEqual([await values(w.grad), await values(b.grad)], [[10], [2]])
  w.requiresGrad = true
  step(x)
  t.deepEqual([await values(w.grad), await values(b.grad)], [[20], [2]])
})

onDevices('whether a parameter requires a gradient, where nothing else of it is used', async (t, device) => {
  const parameters = [2, 3, 5].map((v) => new Parameter([v], { device }))
  const penalty = pair(t, () =>
    parameters
      .filter((p) => p.requiresGrad)
      .map((p) => p.square())
      .reduce((sum, p) => sum.add(p)),
  )
  t.deepEqual(await penalty.call(), [38])
  for (const [i, expected] of [
    [0, 34],
    [1, 25],
    [0, 29],
    [1, 38],
  ] as const) {
    // prettier-ignore
    parameters[i]!.requiresGrad = !parameters[i]!.requiresGrad
    t.deepEqual(await penalty.call(), [expected])
  }
})

onDevices('an optimiser made later takes parameters over; compiled functions follow', async (t, device) => {
  const w = new Parameter([1, 2], { device })
  const x = tensor([10, 10], { device })
  const forward = compile((x: Tensor) => x.mul(w))
  t.deepEqual(await values(forward(x)), [10, 20])
  const first = new optim.SGD([w], { lr: 1 })
  t.deepEqual(await values(forward(x)), [10, 20])
  const train = (optimizer: optim.Optimizer) =>
    compile(() => {
      optimizer.zeroGrad()
      w.sum().backward()
      optimizer.step()
    })
  const step = train(first)
  step()
  step()
  t.deepEqual(await values(forward(x)), [-10, 0])
  t.is(forward.stats().recordings, 2)
  t.is(forward.stats().dropped, 1)
  const second = new optim.SGD([w], { lr: 10 })
  t.deepEqual(await values(forward(x)), [-10, 0])
  t.is(codeOf(() => step()), 'ERR_ARGUMENT') // prettier-ignore
  t.deepEqual(await values(w), [-1, 0])
  train(second)()
  t.deepEqual(await values(w), [-11, -10])
  t.deepEqual(await values(forward(x)), [-110, -100])
})

onDevices('gradient null, there, disposed, or set by hand to another shape', async (t, device) => {
  const make = () => {
    const w = new Parameter([1, 2], { device })
    const optimizer = new optim.SGD([w], { lr: 1 })
    return { w, optimizer }
  }
  const [a, b] = [make(), make()]
  const adding = ({ w }: typeof a): void => w.mul(3).sum().backward()
  const stepping = ({ w, optimizer }: typeof a): void => {
    optimizer.zeroGrad()
    w.mul(5).sum().backward()
    optimizer.step()
  }
  const [add, step] = [compile(() => adding(a)), compile(() => stepping(a))]
  const same = async (what: string): Promise<void> => {
    t.deepEqual(await values(a.w), await values(b.w), what)
    t.is(a.w.grad === null, b.w.grad === null, what)
    if (a.w.grad === null) return
    t.deepEqual(await values(a.w.grad), await values(b.w.grad), what)
    t.deepEqual(a.w.grad.shape, b.w.grad!.shape, what)
  }
  const both = async (what: string, compiled: () => void, eager: (m: typeof a) => void): Promise<void> => {
    compiled()
    eager(b)
    await same(what)
  }
  await both('none yet', add, adding)
  await both('one', add, adding)
  for (const m of [a, b]) m.w.grad!.dispose()
  await both('disposed', add, adding)
  for (const m of [a, b]) m.w.grad = null
  await both('null', add, adding)
  await both('a step', step, stepping)
  await both('a step again', step, stepping)
  for (const m of [a, b]) m.w.grad = tensor([[1], [2], [3]], { device })
  await both('freed, of another shape', step, stepping)
  for (const m of [a, b]) m.w.grad = tensor([1, 2], { device, dtype: 'i32' })
  await both('freed, of another dtype', step, stepping)
  for (const m of [a, b]) m.w.grad = tensor([7, 8], { device })
  await both('added to', add, adding)
  for (const m of [a, b]) m.w.grad = tensor([[1, 2]], { device })
  t.is(codeOf(() => add()), codeOf(() => adding(b))) // prettier-ignore
  await same('refused')
})

onDevices('a gradient that was there is that of another parameter too: each gets its own', async (t, device) => {
  const [v, w] = [new Parameter([1], { device }), new Parameter([2], { device })]
  const step = compile(() => {
    v.grad = null
    w.grad = null
    v.mul(3).add(w.mul(5)).sum().backward()
  })
  step()
  w.grad = v.grad
  step()
  t.deepEqual([await values(v.grad), await values(w.grad)], [[3], [5]])
})

onDevices('one tensor as the gradient of two parameters, by hand: outside, inside, sometimes', async (t, device) => {
  const make = () => {
    const [v, w] = [new Parameter([1], { device }), new Parameter([2], { device })]
    const optimizer = new optim.SGD([v, w], { lr: 1 })
    const back = (x: Tensor): void => v.mul(3).add(w.mul(x)).sum().backward()
    return { v, w, optimizer, back }
  }
  type Made = ReturnType<typeof make>
  const inside: Record<string, (of: Made, x: Tensor) => void> = {
    accumulate: ({ back }, x) => back(x),
    replace: ({ optimizer, back }, x) => (optimizer.zeroGrad(), back(x)),
    give: ({ v, w }, x) => (v.grad = w.grad = x.mul(2)),
    giveAnew: ({ v, w, optimizer }, x) => (optimizer.zeroGrad(), (v.grad = w.grad = x.mul(2))),
    giveAndAdd: ({ v, w, back }, x) => ((v.grad = w.grad = x.mul(2)), back(x)),
  }
  const outside: Record<string, (of: Made) => void> = {
    share: ({ v, w }) => (w.grad = v.grad),
    part: ({ v, w }) => (w.grad = v.grad!.detach()),
    leave: () => undefined,
  }
  for (const [name, step] of Object.entries(inside)) {
    const [a, b] = [make(), make()]
    const compiled = compile((x: Tensor) => step(a, x))
    let round = 0
    for (const between of ['leave', 'share', 'part', 'share', 'share', 'part', 'leave']) {
      const x = tensor([++round], { device })
      compiled(x)
      step(b, x)
      for (const of of [a, b]) outside[between]!(of)
      const state = async ({ v, w }: Made): Promise<unknown> => [await values(v.grad), await values(w.grad), v.grad === w.grad] // prettier-ignore
      t.deepEqual(await state(a), await state(b), `${name}, then ${between}`)
    }
  }
})

onDevices('a captured tensor that has been disposed: ERR_DISPOSED, and its program is dropped', async (t, device) => {
  let w = tensor([2], { device })
  const f = compile((x: Tensor) => x.mul(w))
  const x = tensor([10], { device })
  t.deepEqual(await values(f(x)), [20])
  w.dispose()
  t.is(codeOf(() => f(x)), 'ERR_DISPOSED') // prettier-ignore
  t.deepEqual([f.stats().signatures.length, f.stats().dropped], [0, 1])
  w = tensor([3], { device })
  t.deepEqual(await values(f(x)), [30])
})
