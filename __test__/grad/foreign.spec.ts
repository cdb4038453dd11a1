/** Gradients that a rule did not make itself, and those that nobody asked for: whose they are, and when they are freed. */

import {
  Parameter,
  type Tensor,
  TilegradError,
  customGrad,
  nn,
  scope,
  tensor,
  valueAndGrad,
  zeros,
} from '../../ts/index.ts'
import { onDevices } from '../helpers/devices.ts'

onDevices('a gradient that customGrad did not make stays usable', async (t, device) => {
  const constant = tensor([5, 7], { device })
  const fixed = customGrad(
    ([x]) => x!.mul(2),
    () => [constant],
  )
  const x = tensor([1, 1], { device, requiresGrad: true })
  fixed(x.mul(1)).sum().backward()
  t.deepEqual([...(await x.grad!.data())], [5, 7])
  t.deepEqual([...(await constant.data())], [5, 7])
})

onDevices('customGrad may give what was saved as a gradient', async (t, device) => {
  const half = customGrad(
    ([x]) => x!.square().mul(0.5),
    (_dy, [x]) => [x!],
  )
  const x = tensor([3, 4], { device, requiresGrad: true })
  half(x.mul(1)).sum().backward()
  t.deepEqual([...(await x.grad!.data())], [3, 4])
})

onDevices('gradients of inputs nobody asked for are not kept', (t, device) => {
  const w = new Parameter([1, 2], { device })
  const scale = customGrad(
    ([x, y]) => x!.mul(y!),
    (dy, [x, y]) => [dy.mul(y!), dy.mul(x!)],
  )
  const before = device.recorder.liveSlots
  for (let i = 0; i < 5; i++) {
    scope(() => {
      valueAndGrad((x) => scale(x, w).sum())(tensor([1, 1], { device }))
    })
    device.recorder.flush()
  }
  device.recorder.flush()
  t.is(device.recorder.liveSlots, before)
  t.is(w.grad, null)
})

onDevices('what a branch without a gradient saved is freed by backward', (t, device) => {
  const w = new Parameter([1, 2], { device })
  const first = customGrad(
    ([a, b]) => a!.add(b!),
    (dy) => [dy, null],
  )
  const step = (): void =>
    scope(() => {
      first(w.mul(w), w.exp()).sum().backward()
    })
  step()
  device.recorder.flush()
  const before = device.recorder.liveSlots
  for (let i = 0; i < 5; i++) step()
  device.recorder.flush()
  t.is(device.recorder.liveSlots, before)
})

onDevices('what a failing model has made so far is freed by the scope around it', (t, device) => {
  const made: Tensor[] = []
  class Fails extends nn.Module {
    forward(x: Tensor): Tensor {
      made.push(x.add(1))
      throw new Error('out')
    }
  }
  t.throws(() => scope(() => new nn.Sequential(new Fails()).forward(zeros([1, 2], { device }))), { message: 'out' })
  t.deepEqual(
    made.map((x) => x.disposed),
    [true],
  )
})

onDevices('a scope keeps tensors in objects without a prototype', async (t, device) => {
  const named = scope(() =>
    Object.assign(Object.create(null) as Record<string, Tensor>, { x: zeros([2], { device }).add(3) }),
  )
  t.deepEqual([...(await named['x'].data())], [3, 3])
})

onDevices('a grad of another shape, assigned by hand, is refused', (t, device) => {
  const w = new Parameter([1, 2], { device })
  w.grad = tensor([1], { device })
  const error = t.throws(() => w.sum().backward(), { instanceOf: TilegradError })
  t.is(error?.code, 'ERR_SHAPE')
})
