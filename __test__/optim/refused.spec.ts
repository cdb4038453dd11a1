/** What an optimiser or a window refuses changes nothing: no parameter moves, no gradient is lost. */

import { Parameter, TilegradError, optim, tensor, train } from '../../ts/index.ts'
import { onDevices, open } from '../helpers/devices.ts'

onDevices('an optimiser that cannot be made takes no parameter over', async (t, device) => {
  const w = new Parameter([1, 2], { device })
  const sgd = new optim.SGD([w], { lr: 1 })
  for (const make of [
    () => new optim.SGD([w], { lr: 1, momentum: -1 }),
    () => new optim.SGD([w], { lr: 1, nesterov: true }),
    () => new optim.SGD([w], { lr: -1 }),
    () => new optim.SGD([w], 0.1 as never),
    () => new optim.AdamW([w], { eps: -1 }),
    () => new optim.AdamW([w], { betas: [0.9, 1] }),
  ]) {
    t.is(t.throws(make, { instanceOf: TilegradError })?.code, 'ERR_ARGUMENT')
  }
  w.sum().backward()
  sgd.step()
  t.deepEqual([...(await w.data())], [0, 1])
})

onDevices('a step with a gradient that does not fit changes no parameter of any device', async (t, device) => {
  const other = await open({ kind: 'js' })
  const [a, b] = [new Parameter([1, 2], { device }), new Parameter([3, 4], { device: other })]
  const sgd = new optim.SGD([a, b], { lr: 1 })
  a.grad = tensor([1, 1], { device })
  b.grad = tensor([1], { device: other })
  t.is(t.throws(() => sgd.step(), { instanceOf: TilegradError })?.code, 'ERR_SHAPE')
  t.deepEqual([...(await a.data())], [1, 2])
  b.grad = tensor([1, 1], { device: other })
  sgd.step()
  t.deepEqual([...(await a.data()), ...(await b.data())], [0, 1, 2, 3])
})

onDevices('a window whose step throws is still there for the next try', async (t, device) => {
  const w = new Parameter([1, 2], { device })
  const acc = new train.GradientAccumulator(new optim.SGD([w], { lr: 1 }))
  acc.add({ sum: w.mul(4).sum(), count: tensor(2, { device }) })
  const gradient = w.grad
  w.grad = tensor([1], { device })
  t.throws(() => acc.step(), { instanceOf: TilegradError })
  t.is(acc.microBatches, 1)
  w.grad = gradient
  const { count } = acc.step()
  t.deepEqual([await count.item(), ...(await w.data())], [2, -1, 0])
  t.is(acc.flush(), null)
})

onDevices('a count of another dtype is refused before it spoils the window', (t, device) => {
  const w = new Parameter([1, 2], { device })
  const acc = new train.GradientAccumulator(new optim.SGD([w], { lr: 1 }))
  const call = (): void => acc.add({ sum: w.sum(), count: tensor(2, { device, dtype: 'i32' }) })
  t.is(t.throws(call, { instanceOf: TilegradError })?.code, 'ERR_DTYPE')
  t.is(w.grad, null)
  t.is(acc.microBatches, 0)
})
