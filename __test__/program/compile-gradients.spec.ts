/**
 * Gradients and running counts that live on from call to call: accumulation by hand and by GradientAccumulator, with
 * calls compiled and not in turn. Everything is compared with the functions themselves after each call.
 */

import type { ExecutionContext } from 'ava'

import { type Device, Parameter, type Tensor, compile, full, manualSeed, nn, optim, tensor, train } from '../../ts/index.ts' // prettier-ignore
import { agree } from '../helpers/compiled.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { random, values } from '../helpers/values.ts'

const CLASSES = 3

function setup(device: Device) {
  manualSeed(11)
  const model = new nn.Sequential(
    new nn.Linear(4, 5, { activation: 'gelu', device }),
    new nn.Linear(5, CLASSES, { device }),
  )
  const optimizer = new optim.AdamW(model.parameters(), { lr: (step) => 0.02 / (step + 1) })
  const acc = new train.GradientAccumulator(optimizer)
  const add = (x: Tensor, y: Tensor): Tensor => {
    const parts = nn.crossEntropy(model.forward(x), y, { reduction: 'parts' })
    acc.add(parts)
    return parts.sum
  }
  return { model, optimizer, acc, add }
}

type Setup = ReturnType<typeof setup>

/** Rows of a micro-batch; `ignored` of them do not count. */
function batch(device: Device, rows: number, seed: number, ignored = 0): [Tensor, Tensor] {
  const x = tensor(random([rows, 4], { seed }), { device, dtype: 'f32', shape: [rows, 4] })
  const y = Int32Array.from({ length: rows }, (_, i) => (i < ignored ? -100 : (i + seed) % CLASSES))
  return [x, tensor(y, { device })]
}

/** Asserts that parameters, gradients, optimiser state and window are the same. */
async function same(t: ExecutionContext, a: Setup, b: Setup, what: string): Promise<void> {
  t.is(a.acc.microBatches, b.acc.microBatches, what)
  for (const [i, p] of a.model.parameters().entries()) {
    const q = b.model.parameters()[i]!
    await agree(t, p, q, `${what}: parameter ${i}`)
    t.is(p.grad === null, q.grad === null, `${what}: gradient ${i}`)
    if (p.grad !== null) await agree(t, p.grad, q.grad!, `${what}: gradient ${i}`)
  }
  const [state, other] = await Promise.all([a, b].map(({ optimizer }) => optimizer.stateDict()))
  const counts = ({ step, groups }: optim.OptimizerState): unknown => [
    step,
    groups.map(({ lr, parameters }) => [lr, parameters.map((p) => p.step)]),
  ]
  t.deepEqual(counts(state!), counts(other!), what)
  t.deepEqual(state, other, what)
}

async function sameStep(t: ExecutionContext, a: train.StepResult, b: train.StepResult): Promise<void> {
  t.deepEqual(await values(a.applied), await values(b.applied))
  t.deepEqual(await values(a.count), await values(b.count))
  await agree(t, a.norm, b.norm, 'norm')
}

onDevices('gradients add up over calls, compiled and not, until they are dropped', async (t, device) => {
  const [w, v] = [new Parameter([1, 2], { device }), new Parameter([1, 2], { device })]
  const back = (p: Parameter) => (x: Tensor) => p.mul(x).square().sum().backward()
  const compiled = compile(back(w))
  const eager = back(v)
  let handle: Tensor | null = null
  for (const [i, k] of [3, 1, 4, 1, 5].entries()) {
    const x = full([2], k, { device })
    if (i === 2) back(w)(x)
    else compiled(x)
    eager(x)
    t.deepEqual(await values(w.grad), await values(v.grad), `call ${i}`)
    // As in eager code, the gradient stays the tensor it is.
    if (handle !== null) t.is(w.grad, handle)
    handle = w.grad
  }
  t.is(compiled.stats().recordings, 2)
  new optim.SGD([w], { lr: 1 }).zeroGrad()
  t.is(w.grad, null)
  compiled(full([2], 1, { device }))
  t.deepEqual(await values(w.grad), [2, 4])
})

onDevices('unequal windows with add compiled, and step compiled or not', async (t, device) => {
  for (const stepping of [true, false]) {
    const [a, b] = [setup(device), setup(device)]
    const add = compile(a.add)
    const step = stepping ? compile(() => a.acc.step()) : () => a.acc.step()
    let seed = 0
    for (const [window, sizes] of [[4, 4, 2], [1], [4], [2, 4, 4, 1, 4]].entries()) {
      // prettier-ignore
      for (const rows of sizes) {
        const [x, y] = batch(device, rows, seed++)
        await agree(t, add(x, y), b.add(x, y), `loss of window ${window}`)
        await same(t, a, b, `window ${window}`)
      }
      await sameStep(t, step(), b.acc.step())
      await same(t, a, b, `after window ${window}`)
    }
    // Three sizes, each as the first of a window and later on.
    t.true(add.stats().recordings <= 6, String(add.stats().recordings))
  }
})

onDevices('a whole window in one function, of any number of micro-batches', async (t, device) => {
  const [a, b] = [setup(device), setup(device)]
  const window =
    ({ add, acc }: Setup) =>
    (batches: readonly (readonly [Tensor, Tensor])[]) => {
      for (const [x, y] of batches) add(x, y)
      return acc.step()
    }
  const [compiled, eager] = [compile(window(a)), window(b)]
  for (const [i, sizes] of [[2, 3], [3, 2], [2, 3], [1], [2, 3]].entries()) {
    // prettier-ignore
    const batches = sizes.map((rows, j) => batch(device, rows, 10 * i + j))
    await sameStep(t, compiled(batches), eager(batches))
    await same(t, a, b, `window ${i}`)
  }
  t.is(compiled.stats().recordings, 3)
})

onDevices('a window that was begun outside is ended inside, and the other way round', async (t, device) => {
  const [a, b] = [setup(device), setup(device)]
  const ending =
    ({ add, acc }: Setup) =>
    (x: Tensor, y: Tensor) => {
      add(x, y)
      return acc.flush()
    }
  const beginning =
    ({ add, acc }: Setup) =>
    (x: Tensor, y: Tensor) => {
      acc.flush()
      return add(x, y)
    }
  const [end, begin] = [compile(ending(a)), compile(beginning(a))]
  for (let i = 0; i < 3; i++) {
    const [x, y] = batch(device, 3, i)
    for (const { add } of [a, b]) if (i > 0) add(x, y)
    await sameStep(t, end(x, y)!, ending(b)(x, y)!)
    await same(t, a, b, `ended ${i}`)
    await agree(t, begin(x, y), beginning(b)(x, y), 'begun')
    await same(t, a, b, `begun ${i}`)
    await sameStep(t, a.acc.step(), b.acc.step())
    await same(t, a, b, `stepped ${i}`)
  }
})

onDevices(
  'a window with nothing in it, and one with a count of 0 or a gradient that is not finite',
  async (t, device) => {
    const [a, b] = [setup(device), setup(device)]
    const flush = compile(() => a.acc.flush())
    const step = compile(() => a.acc.step())
    const add = compile(a.add)
    t.is(flush(), null)
    t.is(codeOf(() => step()), 'ERR_ARGUMENT') // prettier-ignore
    const windows: [Tensor, Tensor][][] = [
      [batch(device, 2, 1, 2)],
      [batch(device, 2, 2)],
      [batch(device, 2, 3, 2), batch(device, 2, 4, 2)],
      [[full([2, 4], NaN, { device }), batch(device, 2, 5)[1]]],
      [batch(device, 2, 6), [full([2, 4], Infinity, { device }), batch(device, 2, 7)[1]]],
      [batch(device, 2, 8, 1)],
    ]
    const applied: unknown[] = []
    for (const [i, window] of windows.entries()) {
      for (const [x, y] of window) {
        add(x, y)
        b.add(x, y)
      }
      const [mine, other] = [i % 2 === 0 ? step() : flush()!, b.acc.step()]
      applied.push(await mine.applied.array())
      t.deepEqual(await values(mine.applied), await values(other.applied))
      t.deepEqual(await values(mine.count), await values(other.count))
      t.is(flush(), null)
      await same(t, a, b, `window ${i}`)
    }
    t.deepEqual(applied, [false, true, false, false, false, true])
  },
)

onDevices('a gradient that is set by hand inside, from a result, an argument or outside', async (t, device) => {
  const outside = tensor([7, 8], { device }).mul(1)
  const make = () => new Parameter([1, 2], { device })
  const ways: ((w: Parameter, x: Tensor) => void)[] = [
    (w, x) => (w.grad = x.mul(2)),
    (w, x) => (w.grad = x.detach()),
    (w) => (w.grad = outside),
    (w) => (w.grad = null),
    (w, x) => {
      w.grad = x.mul(2)
      w.mul(3).sum().backward()
    },
    (w, x) => {
      const before = w.grad
      w.grad = null
      w.mul(x).sum().backward()
      if (before !== null) w.grad = w.grad!.add(before)
    },
  ]
  const [v, w] = [make(), make()]
  const compiled = ways.map((way) => compile((x: Tensor) => way(v, x)))
  for (let round = 0; round < 3; round++) {
    for (const [i, way] of ways.entries()) {
      const x = tensor([round, i], { device })
      compiled[i]!(x)
      way(w, x)
      t.is(v.grad === null, w.grad === null)
      if (v.grad !== null) t.deepEqual(await values(v.grad), await values(w.grad), `${round} ${i}`)
    }
  }
  t.deepEqual(await values(outside), [7, 8])
})

onDevices('gradients of arguments belong to the tensor that was given', async (t, device) => {
  const leaf = (v: number): Tensor => tensor([v], { device, requiresGrad: true })
  const step = compile((x: Tensor, { y }: { y: Tensor }) => {
    x.mul(y).sum().backward()
    return x.grad!.mul(10)
  })
  const [a, b, c] = [leaf(2), leaf(3), leaf(5)]
  t.deepEqual(await values(step(a, { y: b })), [30])
  t.deepEqual(await values(step(c, { y: b })), [30])
  t.deepEqual(await values(step(c, { y: a })), [50])
  t.deepEqual([await values(a.grad), await values(b.grad), await values(c.grad)], [[3 + 5], [2 + 5], [3 + 2]]) // prettier-ignore
})

onDevices('an argument that an optimiser updates as well', async (t, device) => {
  const make = () => {
    const p = new Parameter([1], { device })
    const optimizer = new optim.SGD([p], { lr: 1 })
    return { p, step: (x: Tensor) => (x.square().sum().backward(), optimizer.step()) }
  }
  const [a, b] = [make(), make()]
  const compiled = compile(a.step)
  const other = (): Tensor => tensor([2], { device, requiresGrad: true })
  for (const own of [false, true, false, true, true]) {
    compiled(own ? a.p : other())
    b.step(own ? b.p : other())
    t.deepEqual(await values(a.p), await values(b.p))
    t.is(a.p.grad === null, b.p.grad === null)
  }
})
