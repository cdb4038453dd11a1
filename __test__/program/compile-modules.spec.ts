/**
 * What a model is decides what is computed: mode, layers, parameters, numbers in fields. A change of any of them between
 * two calls of a compiled function gives what the function itself gives.
 */

import type { ExecutionContext } from 'ava'

import { type Device, Parameter, type Tensor, compile, nn, ones, tensor, zeros } from '../../ts/index.ts'
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
    get shift(): number {
      return this.options.shift
    }
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
  const got = new Scaled()
  const shifted = watched(t, device, { forward: (x) => x.add(got.shift) })
  await shifted.call([11, 21])
  got.options.shift = 2
  await shifted.call([12, 22], 'by a getter')
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

onDevices(
  'state that a module would keep in a field is refused, and the field is as the recording left it',
  (t, device) => {
    class Recurrent extends nn.Module {
      h: Tensor = zeros([1], { device })
      forward(x: Tensor): Tensor {
        this.h = this.h.add(x)
        return this.h
      }
    }
    class Counting extends nn.Module {
      calls = 0
      forward(x: Tensor): Tensor {
        return this.calls++ < 1 ? x : x.mul(2)
      }
    }
    for (const model of [new Recurrent(), new Counting()]) {
      const f = compile((x: Tensor) => model.forward(x))
      t.is(codeOf(() => f(ones([1], { device }))), 'ERR_TRACE') // prettier-ignore
      t.is(f.stats().recordings, 0)
    }
  },
)

onDevices('a module of which only the list of parameters is used is guarded', async (t, device) => {
  const model = new nn.Linear(2, 1, { bias: false, init: 'glorotUniform', device })
  const decay = compile(() => model.parameters().reduce((sum, p) => sum.add(p.square().sum()), zeros([], { device })))
  await decay().item()
  ;(model as { weight: Parameter }).weight = new Parameter([[3], [4]], { device })
  t.deepEqual(await values(decay()), [25])
  t.is(decay.stats().recordings, 2)
})
