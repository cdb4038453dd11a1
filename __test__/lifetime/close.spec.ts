/** Closing a device: what still finishes, what is refused afterwards, and that other devices do not notice. */

import { inspect } from 'node:util'
import test from 'ava'

import * as tilegrad from '../../ts/index.ts'
import {
  type Tensor,
  add,
  data,
  defaultDevice,
  matmul,
  nn,
  ones,
  optim,
  scope,
  setDefaultDevice,
  tensor,
  train,
  where,
  zeros,
} from '../../ts/index.ts'
import { DEVICES } from '../helpers/devices.ts'
import { codeOf, rejectionOf } from '../helpers/errors.ts'
import { openDevice } from '../helpers/open.ts'
import { values } from '../helpers/values.ts'

for (const { kind } of DEVICES) {
  test(`after close everything is ERR_DEVICE_LOST [${kind}]`, async (t) => {
    const device = await openDevice(kind)
    const other = await openDevice('js')
    const x = tensor([[1, 2], [3, 4]], { device, requiresGrad: true }) // prettier-ignore
    const condition = x.greater(0)
    const loss = x.square().sum()
    const layer = new nn.Linear(2, 2, { device })
    const optimizer = new optim.SGD(layer.parameters(), { lr: 1 })
    layer.forward(x).sum().backward()
    const acc = new train.GradientAccumulator(optimizer)
    acc.add({ sum: layer.forward(x).sum(), count: ones([], { device }) })
    const set = new data.TensorDataset(x)
    const state = await layer.stateDict()
    await device.close()
    t.true(device.closed)

    const refused: Record<string, () => unknown> = {
      tensor: () => tensor([1], { device }),
      zeros: () => zeros([1], { device }),
      add: () => x.add(1),
      'a number first': () => add(1, x),
      matmul: () => matmul(x, x),
      where: () => where(condition, x, 0),
      reshape: () => x.reshape([4]),
      sum: () => x.sum(),
      dataSync: () => x.dataSync(),
      backward: () => loss.backward(),
      forward: () => layer.forward(x),
      step: () => optimizer.step(),
      'a window': () => acc.step(),
      layer: () => new nn.Linear(2, 2, { device }),
      optimizer: () => new optim.AdamW(layer.parameters()),
      loadStateDict: () => layer.loadStateDict(state),
      batch: () => set.batch(new Int32Array([0])),
      scope: () => scope(() => x.mul(2)),
      stats: () => device.stats(),
    }
    for (const [name, call] of Object.entries(refused)) t.is(codeOf(call), 'ERR_DEVICE_LOST', name)
    const rejected: Record<string, () => Promise<unknown>> = {
      data: () => x.data(),
      array: () => x.array(),
      item: () => loss.item(),
      to: () => x.to(other),
      sync: () => device.sync(),
      trim: () => device.trim(),
      ready: () => device.ready(),
      stateDict: () => layer.stateDict(),
      'optimizer.stateDict': () => optimizer.stateDict(),
    }
    for (const [name, call] of Object.entries(rejected)) t.is(await rejectionOf(call), 'ERR_DEVICE_LOST', name)

    // What only lets go is fine.
    x.dispose()
    optimizer.zeroGrad()
    t.regex(inspect(loss), /Tensor f32/)
    await device.close()
    await other.close()
  })

  test(`reads that have begun are answered [${kind}]`, async (t) => {
    const device = await openDevice(kind)
    const x = ones([300, 300], { device })
    const results: Promise<ArrayLike<number>>[] = []
    for (let i = 0; i < 10; i++) results.push(matmul(x, x).add(i).data())
    const closing = device.close()
    for (const [i, result] of (await Promise.all(results)).entries()) t.is(result[89_999], 300 + i)
    await closing
  })

  test(`closing twice is one closing [${kind}]`, async (t) => {
    const device = await openDevice(kind)
    ones([10], { device })
    const [first, second] = [device.close(), device.close()]
    t.is(first, second)
    await first
    t.is(await rejectionOf(device.close()), 'nothing')
  })

  test(`other devices of the kind go on [${kind}]`, async (t) => {
    const [a, b] = [await openDevice(kind), await openDevice(kind)]
    const [x, y] = [ones([4], { device: a }), ones([4], { device: b })]
    t.is(codeOf(() => x.add(y)), 'ERR_DEVICE_MISMATCH') // prettier-ignore
    await a.close()
    t.deepEqual(await values(y.add(1)), [2, 2, 2, 2])
    const c = await openDevice(kind)
    t.deepEqual(await values(ones([2], { device: c })), [1, 1])
    await b.close()
    await c.close()
  })

  test(`a tensor moves between devices [${kind}]`, async (t) => {
    const device = await openDevice(kind)
    const js = await openDevice('js')
    const x = tensor([[1, 2, 3]], { device, requiresGrad: true })
    const there = await x.to(js)
    t.is(there.device, js)
    t.true(there.requiresGrad)
    t.deepEqual([...there.shape], [1, 3])
    t.deepEqual(await values(there.mul(2)), [2, 4, 6])
    t.is(await x.to(device), x)
    for (const [source, dtype] of [
      [tensor([true, false], { device }), 'bool'],
      [tensor([1, 2], { device, dtype: 'i32' }), 'i32'],
    ] as const) {
      const moved = await source.to(js)
      t.is(moved.dtype, dtype)
      t.deepEqual(await values(moved), await values(source))
    }
    const wide = tensor([1], { device: js, dtype: 'f64' })
    if (kind !== 'js') t.is(await rejectionOf(wide.to(device)), 'ERR_DTYPE')
    await device.close()
    await js.close()
  })

  test(`opening and closing often leaves nothing behind [${kind}]`, async (t) => {
    for (let i = 0; i < 30; i++) {
      const device = await openDevice(kind)
      const x: Tensor = ones([64, 64], { device })
      t.is((await matmul(x, x).data())[0], 64)
      await device.close()
    }
  })
}

test.serial('the default device is opened when it is needed, and another one after it was closed', async (t) => {
  const first = defaultDevice()
  t.is(defaultDevice(), first)
  t.is(ones([1]).device, first)
  await first.close()
  const second = defaultDevice()
  t.not(second, first)
  const js = await openDevice('js')
  setDefaultDevice(js)
  t.is(ones([1]).device, js)
  t.is(
    codeOf(() => setDefaultDevice('js' as unknown as typeof js)),
    'ERR_ARGUMENT',
  )
  await second.close()
  t.is(defaultDevice(), js)
  await js.close()
})

test('options that make no sense are refused', async (t) => {
  for (const wrong of [
    'tpu',
    '',
    null,
    5,
    { kind: 'tpu' },
    { threads: 0 },
    { threads: 1.5 },
    { threads: '2' },
    { memoryLimit: -1 },
    { memoryLimit: Number.NaN },
    { memoryLimit: Infinity },
    { fuse: 1 },
    { allowSoftware: 'yes' },
    { allowSoftware: null },
    { adapter: 5 },
    { kind: 'gpu', adapter: ['llvmpipe'] },
  ]) {
    t.is(await rejectionOf(() => tilegrad.openDevice(wrong as 'js')), 'ERR_ARGUMENT', JSON.stringify(wrong))
  }
})
