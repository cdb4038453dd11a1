/** The layer `Linear`: its initialisation, options and what it refuses. The product itself is tested with the operations. */

import test from 'ava'

import { manualSeed, nn, ones, openDevice, tensor } from '../../ts/index.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { largest, values } from '../helpers/values.ts'

onDevices('weight and bias start uniform within 1/√in, PyTorch’s bound', async (t, device) => {
  manualSeed(3)
  const layer = new nn.Linear(100, 80, { device })
  t.deepEqual([...layer.weight.shape, ...layer.bias!.shape], [100, 80, 80])
  const [weight, bias] = [await values(layer.weight), await values(layer.bias)]
  const bound = 1 / Math.sqrt(100)
  for (const list of [weight, bias]) {
    t.true(largest(list) <= bound && largest(list) > 0.9 * bound)
    // Mean 0, variance bound²/3; five standard deviations of each.
    const mean = list.reduce((a, b) => a + b) / list.length
    const square = list.reduce((a, b) => a + b * b) / list.length
    t.true(Math.abs(mean) < 5 * bound * Math.sqrt(1 / 3 / list.length), `${mean}`)
    t.true(Math.abs(square - bound ** 2 / 3) < 5 * bound ** 2 * Math.sqrt(4 / 45 / list.length), `${square}`)
  }
  t.notDeepEqual(weight.slice(0, 80), bias)
})

onDevices('glorotUniform is within √(6/(in + out)) and starts with a bias of 0', async (t, device) => {
  const layer = new nn.Linear(50, 70, { device, init: 'glorotUniform' })
  const weight = await values(layer.weight)
  const bound = Math.sqrt(6 / 120)
  t.true(largest(weight) <= bound && largest(weight) > 0.9 * bound)
  t.true((await values(layer.bias)).every((b) => b === 0))
})

onDevices('a seed decides the parameters, and each layer gets its own', async (t, device) => {
  const weights = async (seed: number): Promise<number[][]> => {
    manualSeed(seed)
    const model = new nn.Sequential(new nn.Linear(4, 4, { device }), new nn.Linear(4, 4, { device }))
    return Promise.all(model.parameters().map(values))
  }
  const first = await weights(1)
  t.deepEqual(await weights(1), first)
  t.notDeepEqual(await weights(2), first)
  t.notDeepEqual(first[0], first[2])
})

onDevices('initial parameters are the same bits on every device', async (t, device) => {
  const js = await openDevice('js')
  manualSeed(11)
  const here = new nn.Linear(7, 5, { device })
  manualSeed(11)
  const there = new nn.Linear(7, 5, { device: js })
  t.deepEqual(await here.stateDict(), await there.stateDict())
  await js.close()
})

onDevices('a layer applies weight, bias and activation', async (t, device) => {
  const layer = new nn.Linear(2, 3, { device, activation: 'relu' })
  layer.loadStateDict({
    weight: { shape: [2, 3], data: new Float32Array([1, 2, 3, 4, 5, 6]) },
    bias: { shape: [3], data: new Float32Array([-5, 0, -100]) },
  })
  const x = tensor([[1, 1], [2, 0]], { device }) // prettier-ignore
  t.deepEqual(await values(layer.forward(x)), [0, 7, 0, 0, 4, 0])
  const plain = new nn.Linear(2, 3, { device, bias: false })
  t.is(plain.bias, null)
  t.deepEqual([...plain.namedParameters().keys()], ['weight'])
  t.deepEqual([...plain.forward(ones([5, 4, 2], { device })).shape], [5, 4, 3])
})

onDevices('layers without inputs or without outputs are legal', async (t, device) => {
  const nothingIn = new nn.Linear(0, 2, { device })
  t.deepEqual(await values(nothingIn.forward(ones([3, 0], { device }))), [0, 0, 0, 0, 0, 0])
  const nothingOut = new nn.Linear(2, 0, { device })
  t.deepEqual([...nothingOut.forward(ones([3, 2], { device })).shape], [3, 0])
})

test('f64 layers live on the js device', async (t) => {
  const device = await openDevice('js')
  const layer = new nn.Linear(3, 2, { device, dtype: 'f64' })
  t.is(layer.weight.dtype, 'f64')
  t.true((await layer.weight.data()) instanceof Float64Array)
})

test('wrong options are refused', (t) => {
  const make = (...args: unknown[]): string => codeOf(() => new nn.Linear(...(args as [number, number])))
  t.is(make(-1, 2), 'ERR_ARGUMENT')
  t.is(make(1.5, 2), 'ERR_ARGUMENT')
  t.is(make(1, Number.NaN), 'ERR_ARGUMENT')
  t.is(make('3', 2), 'ERR_ARGUMENT')
  t.is(make(1), 'ERR_ARGUMENT')
  t.is(make(1, 2, { activation: 'nonsense' }), 'ERR_ARGUMENT')
  t.is(make(1, 2, { activation: 'toString' }), 'ERR_ARGUMENT')
  t.is(make(1, 2, { init: 'zeros' }), 'ERR_ARGUMENT')
  t.is(make(1, 2, { dtype: 'i32' }), 'ERR_DTYPE')
  t.is(make(2, 3), 'nothing')
})
