/**
 * A compiled function replays a program only for arguments that would give the same one again. Each test calls it as the
 * function itself, in an order in which a stale program would give other numbers.
 */

import {
  type Scalar,
  type Tensor,
  compile,
  noGrad,
  openDevice,
  scalar,
  setDefaultDevice,
  tensor,
  zeros,
} from '../../ts/index.ts'
import { pair } from '../helpers/compiled.ts'
import { onDevices, open } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { values } from '../helpers/values.ts'
import test from 'ava'

onDevices('another shape or batch size is another program, and both are kept', async (t, device) => {
  const sums = pair(t, (x: Tensor) => x.mul(x.shape[0]!).sum(0))
  const of = (rows: number, columns = 2): Tensor =>
    tensor(Array.from({ length: rows }, (_, i) => Array.from({ length: columns }, (_, j) => i + j)), { device, shape: [rows, columns] }) // prettier-ignore
  for (const rows of [3, 5, 3, 1, 0, 5, 3, 0]) await sums.call(of(rows))
  t.is(sums.recordings(), 4)
  await sums.call(of(2, 3))
  await sums.call(of(3, 2).reshape([2, 3]))
  await sums.call(tensor([1, 2, 3, 4, 5, 6], { device }))
  t.is(sums.recordings(), 6)
})

onDevices('another dtype is another program', async (t, device) => {
  const twice = pair(t, (x: Tensor) => (x.dtype === 'bool' ? x.logicalNot() : x.mul(2)))
  for (let i = 0; i < 2; i++) {
    t.deepEqual(await twice.call(tensor([1, 2], { device })), [2, 4])
    t.deepEqual(await twice.call(tensor([1, 2], { device, dtype: 'i32' })), [2, 4])
    t.deepEqual(await twice.call(tensor([true, false], { device })), [0, 1])
  }
  t.is(twice.recordings(), 3)
})

onDevices('numbers, strings and booleans are constants: −0, NaN and 1n are themselves', async (t, device) => {
  const x = tensor([1, 2], { device })
  const f = compile((x: Tensor, k: unknown) => (typeof k === 'number' ? x.div(k) : x.add(String(k).length)))
  const eager = (k: unknown) => (typeof k === 'number' ? x.div(k) : x.add(String(k).length))
  const all = [2, 4, 0, -0, NaN, 'a', '', 'bcd', true, false, null, undefined, 1n, 10n, '1', 1]
  for (let round = 0; round < 2; round++)
    for (const k of all) t.deepEqual(await values(f(x, k)), await values(eager(k)), String(k))
  t.is(f.stats().recordings, all.length)
})

onDevices('arrays and plain objects of arguments count by what is in them', async (t, device) => {
  type Options = { readonly by?: number; readonly list?: readonly (Tensor | number)[]; readonly sign?: number }
  const f = pair(t, (x: Tensor, o: Options) => {
    let y = x.mul(o.by ?? 1)
    for (const [i, part] of (o.list ?? []).entries()) y = y.add(part).mul(i + 1)
    return y.mul(o.sign ?? 1)
  })
  const x = tensor([1, 2], { device })
  const [a, b] = [tensor([10, 20], { device }), tensor(3, { device })]
  const calls: Options[] = [
    {},
    { by: 2 },
    { by: 3 },
    { sign: 2 },
    { by: 2, sign: -1 },
    { list: [] },
    { list: [a] },
    { list: [a, 5] },
    { list: [5, a] },
    { list: [a, b] },
    { list: [b, a] },
    { list: [a, a] },
    { list: [a, x] },
  ]
  for (let round = 0; round < 2; round++) for (const o of calls) await f.call(x, o)
  t.is(f.recordings(), calls.length)
})

onDevices('a hole in an array is not whatever comes there later', async (t, device) => {
  const f = pair(t, (list: readonly unknown[]) => (list[1] as Tensor).mul((list[0] as number | undefined) ?? 7))
  const x = tensor([1, 2], { device })
  const holes: unknown[] = []
  holes[1] = x
  t.deepEqual(await f.call(holes), [7, 14])
  t.deepEqual(await f.call([5, x]), [5, 10])
  t.deepEqual(await f.call(holes), [7, 14])
})

onDevices('more or fewer arguments, or a tensor in place of a number, are another program', async (t, device) => {
  const f = pair(t, (...args: (Tensor | number)[]) => {
    let y = tensor([100], { device })
    for (const x of args) y = y.mul(2).add(x)
    return y
  })
  const x = tensor([1], { device })
  for (let round = 0; round < 2; round++) {
    for (const args of [[x], [x, 1], [x, x], [1, x], [x, x, x], [1], []]) await f.call(...args)
  }
  t.is(f.recordings(), 7)
})

onDevices('one tensor given twice is not two', async (t, device) => {
  const grads = (a: Tensor, b: Tensor): (number[] | null)[] =>
    [a, b].map((x) => (x.grad === null ? null : Array.from(x.grad.dataSync())))
  const step = (a: Tensor, b: Tensor): void => a.mul(3).add(b.mul(5)).sum().backward()
  const leaf = (): Tensor => tensor([1, 2], { device, requiresGrad: true })
  const compiled = compile(step)
  for (const twice of [false, true, false, true]) {
    const [a, b, c, d] = [leaf(), leaf(), leaf(), leaf()]
    compiled(a, twice ? a : b)
    step(c, twice ? c : d)
    t.deepEqual(grads(a, b), grads(c, d))
    t.deepEqual(
      grads(a, b),
      twice
        ? [[8, 8], null]
        : [
            [3, 3],
            [5, 5],
          ],
    )
  }
  t.is(compiled.stats().recordings, 2)
})

onDevices('an argument that the function also uses from outside has to be that one', async (t, device) => {
  const w = tensor([1, 2], { device })
  const f = pair(t, (x: Tensor) => x.mul(10).add(w))
  const other = tensor([3, 4], { device })
  for (const x of [w, other, w, other, w.detach(), w]) await f.call(x)
})

onDevices('the gradient of an argument is not that of the tensor that came first', async (t, device) => {
  const make = (v: number): Tensor => {
    const x = tensor([v], { device, requiresGrad: true })
    x.grad = tensor([10 * v], { device })
    return x
  }
  const [w, v] = [make(1), make(2)]
  const named = pair(t, (x: Tensor) => x.add(w.grad!))
  t.deepEqual(await named.call(w), [11])
  t.deepEqual(await named.call(v), [12])
  const given = pair(t, (x: Tensor) => x.add(x.grad!))
  t.deepEqual(await given.call(w), [11])
  t.deepEqual(await given.call(v), [22])
  t.is(given.recordings(), 1)
})

onDevices('requiresGrad of an argument, and whether it was computed, decide', async (t, device) => {
  const f = compile((x: Tensor) => x.mul(2))
  const x = tensor([1], { device })
  const leaf = tensor([1], { device, requiresGrad: true })
  for (let round = 0; round < 2; round++) {
    t.false(f(x).requiresGrad)
    t.true(f(leaf).requiresGrad)
    t.true(f(leaf.mul(2)).requiresGrad)
    t.false(noGrad(() => f(leaf)).requiresGrad)
  }
  t.is(f.stats().recordings, 4)
  leaf.requiresGrad = false
  t.false(f(leaf).requiresGrad)
  t.is(f.stats().recordings, 4)
})

onDevices('noGrad around a call is another program', async (t, device) => {
  const w = tensor([3], { device, requiresGrad: true })
  const step = compile((x: Tensor) => {
    const y = x.mul(w).sum()
    if (y.requiresGrad) y.backward()
    return y
  })
  const x = tensor([2], { device })
  t.is(await noGrad(() => step(x)).item(), 6)
  t.is(w.grad, null)
  t.is(await step(x).item(), 6)
  t.deepEqual(await values(w.grad), [2])
  t.is(await noGrad(() => step(x)).item(), 6)
  t.deepEqual(await values(w.grad), [2])
})

onDevices('whether an argument has a gradient already decides', async (t, device) => {
  const step = compile((x: Tensor) => x.mul(3).sum().backward())
  const [a, b] = [tensor([1], { device, requiresGrad: true }), tensor([1], { device, requiresGrad: true })]
  step(a)
  step(a)
  step(b)
  step(a)
  t.deepEqual(await values(a.grad), [9])
  t.deepEqual(await values(b.grad), [3])
  // Gone, taken away, and replaced by another one.
  a.grad!.dispose()
  step(a)
  t.deepEqual(await values(a.grad), [3])
  a.grad = null
  step(a)
  t.deepEqual(await values(a.grad), [3])
  a.grad = tensor([100], { device })
  step(a)
  t.deepEqual(await values(a.grad), [103])
})

onDevices('scalars are inputs, apart from plain numbers, and one given twice stays one', async (t, device) => {
  const f = pair(t, (x: Tensor, a: Scalar | number, b: Scalar | number) => x.mul(a).add(b))
  const x = tensor([1, 2], { device })
  const [s, u] = [scalar(2), scalar(5)]
  for (const [a, b] of [
    [s, u],
    [u, s],
    [s, s],
    [2, u],
    [s, 5],
    [2, 5],
    [u, u],
  ] as const) {
    // prettier-ignore
    await f.call(x, a, b)
    s.value += 1
  }
})

test('another device is another program, and the default one counts where the function asks for it', async (t) => {
  const [a, b] = [await openDevice('js'), await open({ kind: 'js' })]
  const twice = compile((x: Tensor) => x.mul(2))
  const zero = compile(() => zeros([1]))
  for (const device of [a, b, a]) {
    setDefaultDevice(device)
    t.is(twice(tensor([1])).device, device)
    t.is(zero().device, device)
  }
  t.is(twice.stats().recordings, 2)
  t.is(zero.stats().recordings, 2)
  t.is(codeOf(() => compile((x: Tensor, y: Tensor) => [x.mul(2), y.mul(2)])(zeros([1], { device: a }), zeros([1], { device: b }))), 'ERR_DEVICE_MISMATCH') // prettier-ignore
  setDefaultDevice(b)
  await a.close()
  t.is(twice(tensor([1])).device, b)
})

onDevices('what is no argument is refused, and disposed tensors before anything happens', async (t, device) => {
  const x = tensor([1], { device })
  const w = tensor([1], { device, requiresGrad: true })
  const f = compile((..._args: unknown[]) => w.mul(2).sum().backward())
  const cyclic: unknown[] = []
  cyclic.push(cyclic)
  for (const bad of [() => 1, Symbol('x'), new Date(), new Float32Array(2), new Map(), cyclic, Promise.resolve(1)])
    t.is(codeOf(() => f(bad)), 'ERR_ARGUMENT') // prettier-ignore
  f(x)
  x.dispose()
  t.is(codeOf(() => f(x)), 'ERR_DISPOSED') // prettier-ignore
  t.is(codeOf(() => f([x])), 'ERR_DISPOSED') // prettier-ignore
  t.deepEqual(await values(w.grad), [2])
  t.is(codeOf(() => compile('x' as never)), 'ERR_ARGUMENT') // prettier-ignore
  t.is(codeOf(() => compile(() => 1, 'name' as never)), 'ERR_ARGUMENT') // prettier-ignore
  t.is(codeOf(() => compile(() => 1, { name: 3 as never })), 'ERR_ARGUMENT') // prettier-ignore
})
