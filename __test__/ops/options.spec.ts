/**
 * Arguments as other libraries take them, by position or by name of a device: refused with a typed error. Read as an
 * object of options they would say nothing and be ignored.
 */

import test from 'ava'
import {
  TilegradError,
  arange,
  data,
  full,
  linear,
  matmul,
  nn,
  openDevice,
  randn,
  setDefaultDevice,
} from '../../ts/index.ts'
import { tensor, zeros } from '../../ts/index.ts'

const device = await openDevice('js')
test.after.always('the device closes', () => device.close())

const on = { device }

/** TypeScript would refuse it; JavaScript does not. */
function any(x: unknown): never {
  return x as never
}

const CALLS: Readonly<Record<string, () => unknown>> = {
  'tensor(data, shape)': () => tensor([1, 2, 3, 4], any([2, 2])),
  'zeros(shape, dtype)': () => zeros([2], any('i32')),
  'randn(shape, mean)': () => randn([2], any(0)),
  'arange(start, end)': () => arange(0, any(3)),
  'sum(x, axis, keepDims)': () => zeros([2, 3], on).sum(1, any(true)),
  'argmax(x, axis, keepDims)': () => zeros([2, 3], on).argmax(1, any(true)),
  'variance(x, axis, keepDims)': () => zeros([2, 3], on).variance(1, any(true)),
  'matmul(a, b, transposeA)': () => matmul(zeros([3, 3], on), zeros([3, 3], on), any(true)),
  'linear(x, weight, bias, activation)': () => linear(zeros([1, 1], on), zeros([1, 1], on), null, any('relu')),
  'softplus(x, beta)': () => zeros([2], on).softplus(any(2)),
  'mse(x, y, reduction)': () => nn.mse(zeros([2], on), zeros([2], on), any('sum')),
  'crossEntropy(x, y, reduction)': () =>
    nn.crossEntropy(zeros([1, 2], on), zeros([1], { dtype: 'i32', device }), any('sum')),
  'backward(gradient)': () => zeros([], { device, requiresGrad: true }).backward(any(zeros([], on))),
  'Linear(in, out, bias)': () => new nn.Linear(2, 2, any(false)),
  'transpose(x, axis, axis)': () => zeros([2, 3], on).transpose(...(any([0, 1]) as [readonly number[]])),
  'a device by name': () => zeros([2], { device: any('cpu') }),
  'data on a device by name': () => tensor([2], { device: any('cpu') }),
  'setDefaultDevice(kind)': () => setDefaultDevice(any('cpu')),
  'batch of an array': () => new data.TensorDataset(zeros([4, 2], on)).batch(any([0, 1])),
}

for (const [title, call] of Object.entries(CALLS)) {
  test(`${title} is refused`, (t) => {
    const error = t.throws(call, { instanceOf: TilegradError })
    t.is(error?.code, 'ERR_ARGUMENT', error?.message)
  })
}

test('to() takes a device, not its name', async (t) => {
  const error = await t.throwsAsync(zeros([2], on).to(any('cpu')), { instanceOf: TilegradError })
  t.is(error?.code, 'ERR_ARGUMENT')
})

test('a closed device cannot become the default', async (t) => {
  const other = await openDevice('js')
  await other.close()
  const error = t.throws(() => setDefaultDevice(other), { instanceOf: TilegradError })
  t.is(error?.code, 'ERR_DEVICE_LOST')
})

test('a number that does not fit names the operation that got it', (t) => {
  t.regex(t.throws(() => full([2], 1.5, { dtype: 'i32', device })).message, /^full: 1\.5/)
  t.regex(t.throws(() => arange(2, { step: 0.5, dtype: 'i32', device })).message, /^arange: 0\.5/)
})
