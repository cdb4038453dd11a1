/**
 * What a model is decides what is computed: mode, layers, parameters, numbers in fields. A change of any of them between
 * two calls of a compiled function gives what the function itself gives.
 */

import type { ExecutionContext } from 'ava'

import { type Device, Parameter, type Tensor, compile, nn, optim, tensor, zeros } from '../../ts/index.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { values } from '../helpers/values.ts'

/** In training mode x · w, else x + w. */
class Modal extends nn.Module {
  weight: Parameter

  constructor(device: Device, w = 3) {
    super()
    this.weight = new Parameter([w], { device })
  }

  forward(x: Tensor): Tensor {
    return this.training ? x.mul(this.weight) : x.add(this.weight)
  }
}

/** Calls a model compiled and as it is, and asserts that both give the same. */
function watched(t: ExecutionContext, device: Device, model: { forward(x: Tensor): Tensor }) {
  const compiled = compile((x: Tensor) => model.forward(x))
  const x = tensor([10, 20], { device })
  const call = async (expected: number[], what = ''): Promise<void> => {
    t.deepEqual(await values(model.forward(x)), expected, `eager ${what}`)
    t.deepEqual(await values(compiled(x)), expected, `compiled ${what}`)
  }
  return { call, recordings: () => compiled.stats().recordings }
}

onDevices('train() and eval() of a model and of one layer of it', async (t, device) => {
  const [first, second] = [new Modal(device, 2), new Modal(device, 3)]
  const model = new nn.Sequential(first, new nn.Sequential(second))
  const { call, recordings } = watched(t, device, model)
  await call([60, 120])
  model.eval()
  await call([15, 25])
  second.train()
  await call([36, 66])
  model.train()
  await call([60, 120])
  first.training = false
  await call([36, 66])
  second.eval()
  await call([15, 25])
  t.is(recordings(), 5)
})

onDevices(
  'layers replaced, added and removed: fields, elements of arrays, positions of a Sequential',
  async (t, device) => {
    class Listed extends nn.Module {
      head: nn.Module | null = null
      layers: nn.Module[] = [new Modal(device, 2)]
      named: Record<string, nn.Module> = { a: new Modal(device, 5) }
      forward(x: Tensor): Tensor {
        let y = x
        for (const layer of [...this.layers, ...Object.values(this.named)]) y = layer.forward(y)
        return this.head === null ? y : this.head.forward(y)
      }
    }
    const model = new Listed()
    const { call } = watched(t, device, model)
    await call([100, 200])
    model.layers[0] = new Modal(device, 3)
    await call([150, 300], 'element replaced')
    model.layers.push(new Modal(device, 2))
    await call([300, 600], 'element added')
    model.layers.reverse()
    model.layers[0].eval()
    await call([180, 330], 'elements changed places')
    model.layers.shift()
    await call([150, 300], 'element removed')
    model.head = new Modal(device, -1)
    await call([-150, -300], 'field set')
    model.head.eval()
    await call([149, 299], 'mode of a field')
    model.head = null
    await call([150, 300], 'field cleared')
    model.named['b'] = new Modal(device, 2)
    await call([300, 600], 'named layer added')
    model.named['a'] = new Modal(device, 1)
    await call([60, 120], 'named layer replaced')
    delete model.named['b']
    await call([30, 60], 'named layer removed')
    model.layers = [new nn.ReLU()]
    await call([10, 20], 'another array')

    const line = new nn.Sequential(new Modal(device, 2), new nn.ReLU()) as nn.Sequential & { length: number }
    const row = watched(t, device, line)
    await row.call([20, 40])
    line[0] = new Modal(device, -1)
    await row.call([0, 0], 'position replaced')
    line[1] = new nn.LeakyReLU(0.5)
    await row.call([-5, -10], 'activation replaced')
    line[2] = new Modal(device, 4)
    await row.call([-5, -10], 'beyond the length')
    line.length = 3
    await row.call([-20, -40], 'position added')
    line.length = 1
    await row.call([-10, -20], 'positions removed')
  },
)

onDevices('a parameter swapped, added and taken away; a tensor in a field', async (t, device) => {
  class Affine extends nn.Module {
    weight = new Parameter([2], { device })
    bias: Parameter | null = null
    shift = tensor([0], { device })
    forward(x: Tensor): Tensor {
      const y = x.mul(this.weight).add(this.shift)
      return this.bias === null ? y : y.add(this.bias)
    }
  }
  const model = new Affine()
  const { call, recordings } = watched(t, device, model)
  await call([20, 40])
  model.weight = new Parameter([3], { device })
  await call([30, 60], 'swapped')
  model.bias = new Parameter([1], { device })
  await call([31, 61], 'added')
  model.shift = tensor([5], { device })
  await call([36, 66], 'buffer swapped')
  model.bias = null
  await call([35, 65], 'taken away')
  t.is(recordings(), 5)
})

onDevices('numbers, strings and plain objects in fields, read by forward or by another method', async (t, device) => {
  class Scaled extends nn.Module {
    by = 2
    how: 'mul' | 'add' = 'mul'
    options = { shift: 1, steps: [1] }
    encode(x: Tensor): Tensor {
      let y = x[this.how](this.by).add(this.options.shift)
      for (const step of this.options.steps) y = y.mul(step)
      return y
    }
    forward(x: Tensor): Tensor {
      return x
    }
  }
  class Inherited extends Scaled {
    override forward(x: Tensor): Tensor {
      return super.encode(x)
    }
  }
  for (const model of [new Scaled(), new Inherited()]) {
    const { call } = watched(t, device, { forward: (x) => model.encode(x) })
    await call([21, 41])
    model.by = 3
    await call([31, 61], 'number')
    model.how = 'add'
    await call([14, 24], 'string')
    model.options.shift = -13
    await call([0, 10], 'in an object')
    model.options.steps.push(3)
    await call([0, 30], 'in an array in an object')
    model.options = { shift: 0, steps: [] }
    await call([13, 23], 'another object')
    model.by = -0
    await call([10, 20])
  }
  const leaky = new nn.LeakyReLU(0.5) as nn.LeakyReLU & { slope: number }
  const { call } = watched(t, device, { forward: (x) => leaky.forward(x.neg()) })
  await call([-5, -10])
  leaky.slope = 0.25
  await call([-2.5, -5], 'LeakyReLU.slope')
})

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

onDevices('loadStateDict between the calls is in place: nothing is recorded anew', async (t, device) => {
  const model = new nn.Linear(2, 1, { device })
  const f = compile((x: Tensor) => model.forward(x))
  const x = tensor([[1, 10]], { device })
  f(x)
  for (const k of [1, 2, 3]) {
    model.loadStateDict({
      weight: { shape: [2, 1], data: new Float32Array([k, 2 * k]) },
      bias: { shape: [1], data: new Float32Array([100]) },
    })
    t.deepEqual(await values(f(x)), [21 * k + 100])
  }
  t.is(f.stats().recordings, 1)
  // Inside it is part of every call.
  const reset = compile(() => model.loadStateDict({ weight: { shape: [2, 1], data: new Float32Array([0, 1]) } }, { strict: false })) // prettier-ignore
  for (let i = 0; i < 2; i++) {
    model.loadStateDict({ weight: { shape: [2, 1], data: new Float32Array([9, 9]) } }, { strict: false })
    reset()
    t.deepEqual(await values(f(x)), [110])
  }
})

onDevices('what a module keeps of a call is gone after it', async (t, device) => {
  class Caching extends nn.Module {
    last: Tensor | null = null
    forward(x: Tensor): Tensor {
      this.last = x.mul(2)
      return this.last.add(1)
    }
  }
  const model = new Caching()
  const f = compile((x: Tensor) => model.forward(x))
  t.deepEqual(await values(f(zeros([1], { device }))), [1])
  t.deepEqual(await values(f(tensor([5], { device }))), [11])
  t.is(codeOf(() => model.last!.add(1)), 'ERR_TRACE') // prettier-ignore
  t.is(f.stats().recordings, 1)
})
