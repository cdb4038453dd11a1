/** `Sequential` and the modules that go into it. */

import test from 'ava'

import { Parameter, type Tensor, manualSeed, nn, noGrad, tensor } from '../../ts/index.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { near, random, values } from '../helpers/values.ts'

onDevices('modules run in order', async (t, device) => {
  manualSeed(5)
  const [first, second] = [new nn.Linear(4, 3, { device }), new nn.Linear(3, 2, { device })]
  const model = new nn.Sequential(first, new nn.Tanh(), second)
  const x = tensor(random([5, 4], { seed: 1 }), { shape: [5, 4], device })
  t.deepEqual(await values(model.forward(x)), await values(second.forward(first.forward(x).tanh())))
  t.is(model.length, 3)
  t.is(model[1]!.constructor, nn.Tanh)
})

onDevices('without modules it is the identity', async (t, device) => {
  const x = tensor([1, 2], { device })
  t.deepEqual(await values(new nn.Sequential().forward(x)), [1, 2])
})

onDevices('the input survives, what lies between is freed', async (t, device) => {
  const seen: Tensor[] = []
  class Note extends nn.Module {
    forward(x: Tensor): Tensor {
      seen.push(x)
      return x.mul(2)
    }
  }
  const x = tensor([1, 2], { device })
  const y = noGrad(() => new nn.Sequential(new Note(), new Note(), new Note()).forward(x))
  t.deepEqual(await values(y), [8, 16])
  t.deepEqual(
    seen.map((s) => s.disposed),
    [false, true, true],
  )
})

onDevices('a module may hand on its input, or give a tensor it owns', async (t, device) => {
  class Identity extends nn.Module {
    forward(x: Tensor): Tensor {
      return x
    }
  }
  class Constant extends nn.Module {
    readonly table = new Parameter([3, 4], { device })
    forward(): Tensor {
      return this.table
    }
  }
  const constant = new Constant()
  const model = new nn.Sequential(new Identity(), constant, new Identity(), new nn.ReLU())
  const x = tensor([1, 2], { device })
  for (let i = 0; i < 2; i++) t.deepEqual(await values(model.forward(x)), [3, 4])
  t.is(constant.table.disposed, false)
  t.is(x.disposed, false)
})

onDevices('gradients flow through modules whose results were freed', async (t, device) => {
  manualSeed(6)
  const layers = [
    new nn.Linear(3, 8, { device }),
    new nn.GELU(),
    new nn.Linear(8, 8, { device }),
    new nn.Sigmoid(),
    new nn.Linear(8, 1, { device }),
  ]
  const model = new nn.Sequential(...layers)
  const x = tensor(random([6, 3], { seed: 2 }), { shape: [6, 3], device })
  model.forward(x).square().mean().backward()
  const fromModel = await Promise.all(model.parameters().map((p) => values(p.grad)))
  for (const p of model.parameters()) p.grad = null
  layers
    .reduce<Tensor>((h, layer) => layer.forward(h), x)
    .square()
    .mean()
    .backward()
  for (const [i, p] of model.parameters().entries()) t.deepEqual(fromModel[i], await values(p.grad))
})

onDevices('activation modules are the operations of their names', async (t, device) => {
  const x = tensor(random([40], { seed: 3 }), { device }).mul(3)
  const pairs: [nn.Module, Tensor][] = [
    [new nn.ReLU(), x.relu()],
    [new nn.LeakyReLU(0.2), x.leakyRelu(0.2)],
    [new nn.ELU(1.5), x.elu(1.5)],
    [new nn.Sigmoid(), x.sigmoid()],
    [new nn.Tanh(), x.tanh()],
    [new nn.SiLU(), x.silu()],
    [new nn.Softplus({ beta: 2 }), x.softplus({ beta: 2 })],
    [new nn.Heaviside(), x.heaviside()],
    [new nn.GELU(), x.gelu()],
    [new nn.GELU({ approximate: 'tanh' }), x.gelu({ approximate: 'tanh' })],
    [new nn.Softmax(), x.softmax()],
    [new nn.LogSoftmax(0), x.logSoftmax(0)],
  ]
  for (const [module, expected] of pairs)
    t.deepEqual(await values(module.forward(x)), await values(expected), module.constructor.name)
  t.deepEqual(await values(new nn.LeakyReLU().forward(x)), await values(x.leakyRelu(0.01)))
  near(
    t,
    await values(new nn.Softplus().forward(x)),
    (await values(x)).map((v) => Math.log1p(Math.exp(v))),
    1e-6,
  )
})

onDevices('the golden perceptron gives the published numbers, batched or row by row', async (t, device) => {
  // Weights are the columns of the published rows; every partial sum is below 2²⁴, so results are exact.
  const layer = new nn.Linear(3, 3, { device })
  layer.loadStateDict({
    weight: { shape: [3, 3], data: new Float32Array([-2, -3, 3, 1522, 111, -3263, 8, 23, 0]) },
    bias: { shape: [3], data: new Float32Array([10, 0, -44]) },
  })
  const inputs = [
    [10_000, 10, 2000],
    [5500, 15, 1988],
    [78_000, 32, 2021],
    [100_000, 25, 1999],
  ]
  const outputs = [
    [11_230, 17_110, -2674],
    [27_744, 30_889, -32_489],
    [-91_118, -183_965, 129_540],
    [-145_948, -251_248, 218_381],
  ]
  const steps = [1, 1, 0, 1, 1, 0, 0, 0, 1, 0, 0, 1]
  const x = tensor(inputs, { device })
  t.deepEqual(await values(layer.forward(x)), outputs.flat())
  t.deepEqual(await values(new nn.Sequential(layer, new nn.Heaviside()).forward(x)), steps)
  for (const [i, row] of inputs.entries())
    t.deepEqual(await values(layer.forward(tensor([row], { device }))), outputs[i])
})

test('only modules go into it', (t) => {
  t.is(
    codeOf(() => new nn.Sequential(((x: Tensor) => x) as unknown as nn.Module)),
    'ERR_ARGUMENT',
  )
})
