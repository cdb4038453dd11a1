/** Modules: names, order, state and its round trip, and what a state that does not fit may not do. */

import test from 'ava'

import { Parameter, Tensor, nn, ones, tensor, zeros } from '../../ts/index.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { values } from '../helpers/values.ts'

class Block extends nn.Module {
  readonly inner: nn.Linear
  readonly scale: Parameter
  readonly seen: Tensor
  readonly note = 'not part of the state'
  readonly nothing = null

  constructor(device: ConstructorParameters<typeof nn.Linear>[2]) {
    super()
    this.inner = new nn.Linear(3, 3, device)
    this.scale = new Parameter([1, 2, 3], device)
    this.seen = zeros([2], device)
  }

  forward(x: Tensor): Tensor {
    return this.inner.forward(x).mul(this.scale)
  }
}

onDevices('parameters are named by field, in order of definition', (t, device) => {
  const model = new nn.Sequential(new Block({ device }), new nn.ReLU(), new nn.Linear(3, 2, { device, bias: false }))
  t.deepEqual([...model.namedParameters().keys()], ['0.inner.weight', '0.inner.bias', '0.scale', '2.weight'])
  t.deepEqual(model.parameters(), [...model.namedParameters().values()])
  t.deepEqual([...model.buffers().keys()], ['0.seen'])
  t.deepEqual([...model.children().keys()], ['0', '1', '2'])
  t.true(model.parameters().every((p) => p instanceof Parameter && p.requiresGrad && p.device === device))
})

onDevices('a shared parameter is listed once, under its first name', (t, device) => {
  const shared = new nn.Linear(2, 2, { device })
  const model = new nn.Sequential(shared, new nn.Tanh(), shared)
  t.deepEqual([...model.namedParameters().keys()], ['0.weight', '0.bias'])
})

onDevices('train and eval reach every submodule', (t, device) => {
  const block = new Block({ device })
  const model = new nn.Sequential(block)
  t.true(model.training)
  t.is(model.eval(), model)
  t.deepEqual([model.training, block.training, block.inner.training], [false, false, false])
  model.train()
  t.deepEqual([model.training, block.training, block.inner.training], [true, true, true])
})

onDevices('a state goes round', async (t, device) => {
  const from = new nn.Sequential(new Block({ device }), new nn.Linear(3, 2, { device }))
  const to = new nn.Sequential(new Block({ device }), new nn.Linear(3, 2, { device }))
  const state = await from.stateDict()
  t.is(Object.getPrototypeOf(state), null)
  t.deepEqual(Object.keys(state), ['0.inner.weight', '0.inner.bias', '0.scale', '1.weight', '1.bias', '0.seen'])
  t.deepEqual([...state['1.weight']!.shape], [3, 2])
  const before = to.parameters()
  to.loadStateDict(state)
  t.deepEqual(to.parameters(), before, 'the tensors stay the same objects')
  t.deepEqual(await to.stateDict(), state)
  const x = ones([4, 3], { device })
  t.deepEqual(await values(to.forward(x)), await values(from.forward(x)))
})

onDevices('a state is a copy of one moment', async (t, device) => {
  const layer = new nn.Linear(2, 2, { device })
  const state = layer.stateDict()
  layer.loadStateDict({
    weight: { shape: [2, 2], data: new Float32Array(4).fill(9) },
    bias: { shape: [2], data: new Float32Array(2).fill(9) },
  })
  t.true((await state)['weight']!.data.every((v) => v !== 9))
  const loaded = await layer.stateDict()
  loaded['weight']!.data[0] = 5
  t.deepEqual(await values(layer.weight), [9, 9, 9, 9])
})

onDevices('data of another float type are converted', async (t, device) => {
  const layer = new nn.Linear(1, 2, { device })
  layer.loadStateDict({
    weight: { shape: [1, 2], data: new Float64Array([0.1, 2]) },
    bias: { shape: [2], data: new Int32Array([3, -4]) },
  })
  t.deepEqual(await values(layer.weight), [Math.fround(0.1), 2])
  t.deepEqual(await values(layer.bias), [3, -4])
})

onDevices('a strict load lists everything that does not fit and changes nothing', async (t, device) => {
  const model = new nn.Sequential(new nn.Linear(3, 2, { device }), new nn.Linear(2, 2, { device }))
  const before = await model.stateDict()
  const wrong = {
    '0.weight': { shape: [3, 2], data: new Float32Array(6) },
    '0.bias': { shape: [3], data: new Float32Array(3) },
    '1.weight': { shape: [2, 2], data: new Float32Array(3) },
    extra: { shape: [], data: new Float32Array(1) },
  }
  const error = t.throws(() => model.loadStateDict(wrong), { code: 'ERR_FORMAT' })
  for (const part of ['0.bias', '[3]', '[2]', '1.weight', 'missing 1.bias', 'unexpected extra']) {
    t.true(error.message.includes(part), `${part} in: ${error.message}`)
  }
  t.false(error.message.includes('0.weight'))
  t.deepEqual(await model.stateDict(), before)
})

onDevices('a load that is not strict takes what is there, and still refuses wrong shapes', async (t, device) => {
  const layer = new nn.Linear(2, 1, { device })
  const [weight] = [await values(layer.weight)]
  layer.loadStateDict(
    { bias: { shape: [1], data: new Float32Array([7]) }, other: { shape: [], data: new Float32Array(1) } },
    { strict: false },
  )
  t.deepEqual(await values(layer.bias), [7])
  t.deepEqual(await values(layer.weight), weight)
  const bad = {
    weight: { shape: [1, 2], data: new Float32Array(2) },
    bias: { shape: [1], data: new Float32Array([8]) },
  }
  t.is(
    codeOf(() => layer.loadStateDict(bad, { strict: false })),
    'ERR_FORMAT',
  )
  t.deepEqual(await values(layer.bias), [7])
})

onDevices('what is no state is refused', async (t, device) => {
  const layer = new nn.Linear(1, 1, { device, bias: false })
  for (const wrong of [null, undefined, 5, 'state']) {
    t.is(
      codeOf(() => layer.loadStateDict(wrong as unknown as nn.StateDict)),
      'ERR_ARGUMENT',
      String(wrong),
    )
  }
  for (const entry of [
    undefined,
    null,
    5,
    {},
    { shape: [1, 1] },
    { data: new Float32Array(1) },
    { shape: 'x', data: [1] },
  ]) {
    t.is(
      codeOf(() => layer.loadStateDict({ weight: entry } as unknown as nn.StateDict)),
      'ERR_FORMAT',
      JSON.stringify(entry),
    )
  }
})

onDevices('names from the prototype of objects are names like others', async (t, device) => {
  class Odd extends nn.Module {
    constructor() {
      super()
      for (const name of ['__proto__', 'toString', 'hasOwnProperty']) {
        const value = new Parameter([name.length], { device })
        Object.defineProperty(this, name, { value, enumerable: true })
      }
    }
    forward(x: Tensor): Tensor {
      return x
    }
  }
  const names = ['__proto__', 'toString', 'hasOwnProperty']
  const model = new Odd()
  t.deepEqual([...model.namedParameters().keys()], names)
  const state = await model.stateDict()
  t.deepEqual(Object.keys(state), names)
  t.is(state['__proto__']!.data[0], 9)
  const changed = Object.create(null) as nn.StateDict
  for (const name of names) changed[name] = { shape: [1], data: new Float32Array([1]) }
  model.loadStateDict(changed)
  t.deepEqual(await values(model.parameters()[0]), [1])
  // An ordinary object has such names on its prototype: they are missing all the same.
  const error = t.throws(() => model.loadStateDict({}), { code: 'ERR_FORMAT' })
  t.is(error.message.match(/missing/g)?.length, 3)
  t.is(({} as Record<string, unknown>)['data'], undefined)
})

onDevices('loading reaches parameters that live in the slab of an optimiser', async (t, device) => {
  const { optim } = await import('../../ts/index.ts')
  const layer = new nn.Linear(2, 1, { device, bias: false })
  const optimizer = new optim.SGD(layer.parameters(), { lr: 1 })
  layer.loadStateDict({ weight: { shape: [2, 1], data: new Float32Array([5, 6]) } })
  layer
    .forward(ones([1, 2], { device }))
    .sum()
    .backward()
  optimizer.step()
  t.deepEqual(await values(layer.weight), [4, 5])
})

test('a parameter takes over a tensor and refuses computed ones', async (t) => {
  const source = tensor([1, 2])
  const parameter = new Parameter(source)
  t.true(source.disposed)
  t.true(parameter instanceof Tensor)
  t.deepEqual(await values(parameter), [1, 2])
  t.is(
    codeOf(() => new Parameter(parameter.mul(2))),
    'ERR_ARGUMENT',
  )
  t.is(
    codeOf(() => new Parameter(tensor([1], { dtype: 'i32' }))),
    'ERR_DTYPE',
  )
})
