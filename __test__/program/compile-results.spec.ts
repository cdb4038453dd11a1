/**
 * What compiled functions give: fresh tensors, views and aliases that share what they share in eager code, whatever was
 * there already, and plain values; and who owns it all.
 */

import { type Device, Parameter, Tensor, compile, nn, optim, randn, scope, tensor } from '../../ts/index.ts'
import { pair, read } from '../helpers/compiled.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { values } from '../helpers/values.ts'

onDevices('each run gives fresh tensors', async (t, device) => {
  const f = compile((x: Tensor) => x.mul(2))
  const [a, b] = [f(tensor([1, 2], { device })), f(tensor([3, 4], { device }))]
  t.not(a, b)
  a.dispose()
  t.deepEqual(await values(b), [6, 8])
  t.deepEqual(await values(f(b)), [12, 16])
  t.deepEqual([b.shape, b.dtype, b.device, b.requiresGrad], [[2], 'f32', device, false])
})

onDevices('nothing, numbers and texts, arrays and objects of tensors', async (t, device) => {
  const x = tensor([1, 2], { device })
  t.is(compile(() => undefined)(), undefined)
  t.is(compile((y: Tensor) => void y.add(1))(x), undefined)
  t.is(compile(() => null)(), null)
  t.is(compile((y: Tensor) => y.shape[0])(x), 2)
  t.is(compile(() => 'text')(), 'text')
  t.is(compile(() => 2n)(), 2n)
  t.deepEqual(compile(() => [])(), [])
  const f = pair(t, (y: Tensor) => ({ sum: y.sum(), list: [y.mul(2), 3, 'a', [y.add(1), null]], rows: y.shape[0], none: undefined, nan: NaN, no: false })) // prettier-ignore
  for (let i = 0; i < 3; i++) await f.call(tensor([i, 2 * i], { device }))
  t.is(f.recordings(), 1)
  const named = compile((y: Tensor) => Object.assign(Object.create(null) as object, { ['__proto__']: 1, y: y.mul(2) }))
  const result = named(x) as { y: Tensor }
  t.is(Object.getPrototypeOf(result), null)
  t.deepEqual(await values(result.y), [2, 4])
  // Each call has containers of its own.
  const list = compile(() => [1, [2]])
  list().push(7)
  t.deepEqual(list(), [1, [2]])
})

onDevices('functions that compute nothing: arguments, captured tensors and constants handed on', async (t, device) => {
  const w = tensor([5, 6], { device })
  const constant = compile(() => tensor([1, 2], { device }))
  const swapped = compile((x: Tensor, y: Tensor) => [y, x, w])
  for (let i = 0; i < 2; i++) {
    const first = constant()
    t.deepEqual(await values(first), [1, 2])
    first.dispose()
    const [x, y] = [tensor([i], { device }), tensor([10 + i], { device })]
    const all = swapped(x, y)
    t.deepEqual(await read(all), [[10 + i], [i], [5, 6]])
    // Handles of their own: the caller's stay.
    for (const handle of all) handle.dispose()
    t.deepEqual(await read([x, y, w]), [[i], [10 + i], [5, 6]])
  }
  t.is(swapped.stats().signatures[0]!.instructions, 0)
  t.is(constant.stats().signatures[0]!.plan, null)
  const drawn = compile(() => randn([2], { device }))
  t.notDeepEqual(await values(drawn()), await values(drawn()))
})

onDevices('the same tensor twice, and a view beside what it shows, share their memory', async (t, device) => {
  const f = compile((x: Tensor) => {
    const y = x.mul(2)
    return [y, y, y.detach(), y.reshape([2, 1]), x.reshape([1, 2]), x.detach()]
  })
  const x = tensor([1, 2], { device })
  for (let i = 0; i < 2; i++) {
    const all = f(x)
    t.deepEqual(await read(all), [[2, 4], [2, 4], [2, 4], [2, 4], [1, 2], [1, 2]]) // prettier-ignore
    const storages = all.map(({ value }) => value.storage)
    t.deepEqual(storages.map((s) => storages.indexOf(s)), [0, 0, 0, 0, 4, 4]) // prettier-ignore
    t.is(storages[4], x.value.storage)
    // As in eager code: the same tensor twice is one, and what only shares its memory another.
    t.deepEqual(all.map((y) => all.indexOf(y)), [0, 0, 2, 3, 4, 5]) // prettier-ignore
    all[0]!.dispose()
    t.true(all[1]!.disposed)
    t.deepEqual(await values(all[3]), [2, 4])
  }
})

onDevices('what is changed in place by a run is stale outside, and views of it see the change', async (t, device) => {
  const w = new Parameter([1, 2], { device })
  const optimizer = new optim.SGD([w], { lr: 1 })
  const step = compile((x: Tensor) => {
    optimizer.zeroGrad()
    w.mul(x).sum().backward()
    optimizer.step()
    return [w.reshape([2, 1]), w]
  })
  const x = tensor([1, 1], { device })
  const before = w.reshape([1, 2])
  for (let i = 1; i < 4; i++) {
    const graph = w.mul(w).sum()
    const [view, same] = step(x)
    t.is(codeOf(() => graph.backward()), 'ERR_STALE') // prettier-ignore
    const now = [1 - i, 2 - i]
    t.deepEqual(await read([w, view, same, before]), [now, now, now, now])
  }
  // A view that a run gave has the versions of what it shows.
  const view = step(x)[0]!.detach()
  view.requiresGrad = true
  const graph = view.square().sum()
  step(x)
  t.is(codeOf(() => graph.backward()), 'ERR_STALE') // prettier-ignore
})

onDevices('arguments disposed of inside: they are gone, what was made of them is not', async (t, device) => {
  const f = compile((x: Tensor, y: Tensor) => {
    const [z, alias] = [x.add(y), x.detach()]
    x.dispose()
    return [z, alias]
  })
  const w = tensor([7], { device })
  for (let i = 0; i < 3; i++) {
    const x = tensor([i], { device })
    t.deepEqual(await read(f(x, w)), [[7 + i], [i]])
    t.true(x.disposed)
    t.false(w.disposed)
  }
  const both = compile((x: Tensor, y: Tensor) => {
    y.dispose()
    return codeOf(() => x.add(1))
  })
  const x = tensor([1], { device })
  t.is(both(x, x), 'ERR_DISPOSED')
  t.true(x.disposed)
  t.is(compile((y: Tensor) => [y.disposed, (y.dispose(), y.disposed)])(tensor([1], { device })).join(), 'false,true')
  // As in eager code: a leaf that is gone collects nothing.
  const leaf = tensor([1], { device, requiresGrad: true })
  compile((y: Tensor) => {
    const loss = y.square().sum()
    y.dispose()
    loss.backward()
  })(leaf)
  t.is(leaf.grad, null)
})

onDevices('scope() and using around calls and inside', async (t, device) => {
  const w = new Parameter([2], { device })
  let inside: Tensor | undefined
  const f = compile((x: Tensor) =>
    scope(() => {
      inside = x.add(1)
      using y = inside.mul(w)
      return { y: y.detach(), z: inside.mul(3) }
    }),
  )
  const x = tensor([1], { device })
  const kept = scope(() => {
    const { y, z } = f(x)
    f(x).y.dispose()
    return [y, z.add(0)]
  })
  t.deepEqual(await read(kept), [[4], [6]])
  t.false(x.disposed)
  let result: Tensor
  {
    using y = f(x).y
    result = y.add(1)
  }
  t.deepEqual(await values(result), [5])
  // The recording itself leaves nothing in the scope around it, and gradients outlive it.
  const made: Tensor[] = []
  scope(() => {
    const step = compile((v: Tensor) => {
      const loss = v.mul(w).sum()
      loss.backward()
      return loss
    })
    made.push(step(x), step(x))
  })
  t.true(made.every((m) => m.disposed))
  t.deepEqual(await values(w.grad), [2])
})

onDevices('a result is on no tape; one that would have needed one says so', async (t, device) => {
  const w = new Parameter([2], { device })
  const f = compile((x: Tensor) => {
    const y = x.mul(w)
    const loss = y.sum()
    loss.backward()
    return [loss, y, y.detach(), w, x]
  })
  const all = f(tensor([1], { device }))
  t.deepEqual(all.map((r) => r.requiresGrad), [false, false, false, true, false]) // prettier-ignore
  t.true(all.every((r) => r instanceof Tensor && !(r instanceof Parameter)))
  const retained = compile((x: Tensor) => {
    const loss = x.mul(w).sum()
    loss.backward({ retainGraph: true })
    return loss
  })
  t.is(codeOf(() => retained(tensor([1], { device })).backward()), 'ERR_TRACE') // prettier-ignore
})

onDevices('leaves made inside collect gradients inside', async (t, device) => {
  const f = pair(t, (x: Tensor) => {
    const k = tensor([3, 4], { device, requiresGrad: true })
    const z = k.detach()
    z.requiresGrad = true
    k.mul(x).add(z.square()).sum().backward()
    return [k.grad!, z.grad!, k.grad!.add(1)]
  })
  t.deepEqual(await f.call(tensor([1, 2], { device })), [[1, 2], [6, 8], [2, 3]]) // prettier-ignore
  t.deepEqual(await f.call(tensor([5, 6], { device })), [[5, 6], [6, 8], [6, 7]]) // prettier-ignore
  t.is(f.recordings(), 1)
})

function mlp(device: Device): nn.Sequential {
  return new nn.Sequential(new nn.Linear(3, 4, { activation: 'tanh', device }), new nn.ReLU(), new nn.Linear(4, 2, { device })) // prettier-ignore
}

onDevices('compiled functions inside compiled functions are part of them', async (t, device) => {
  const model = mlp(device)
  const forward = compile((x: Tensor) => model.forward(x))
  const loss = compile((x: Tensor) => forward(x).square().mean())
  const step = compile((x: Tensor) => {
    const l = loss(x)
    l.backward()
    return l
  })
  const x = tensor([[1, 2, 3]], { device })
  step(x)
  step(x)
  t.deepEqual([forward, loss, step].map((f) => f.stats().recordings), [0, 0, 2]) // prettier-ignore
  const twice = await Promise.all(model.parameters().map((p) => values(p.grad)))
  for (const p of model.parameters()) p.grad = null
  step(x)
  const once = await Promise.all(model.parameters().map((p) => values(p.grad)))
  t.deepEqual(twice, once.map((g) => g.map((v) => 2 * v))) // prettier-ignore
  t.false(step(x).requiresGrad)
  t.true(forward(x).requiresGrad)
  t.is(forward.stats().recordings, 1)
  model.eval()
  step(x)
  t.is(step.stats().recordings, 3)
})
