/** Reductions of the losses: what mean divides by, what parts gives, and what is not counted. */

import { type Tensor, nn, tensor } from '../../ts/index.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf, rejectionOf } from '../helpers/errors.ts'
import { near, values } from '../helpers/values.ts'

const indices = (list: number[] | number[][], device: Tensor['device']): Tensor =>
  tensor(list, { dtype: 'i32', device })

onDevices('cross-entropy of the documented row is log 2', async (t, device) => {
  const logits = tensor([[0, Math.log(2), 0]], { device })
  near(t, await values(nn.crossEntropy(logits, indices([1], device))), [Math.LN2], 1e-6)
})

onDevices('reductions are the mean, the sum, the items, and sum with count', async (t, device) => {
  const logits = tensor([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], { device }) // prettier-ignore
  const targets = indices([0, -100, 3], device)
  const item = Math.log(4)
  near(t, await values(nn.crossEntropy(logits, targets)), [item], 1e-6)
  near(t, await values(nn.crossEntropy(logits, targets, { reduction: 'mean' })), [item], 1e-6)
  near(t, await values(nn.crossEntropy(logits, targets, { reduction: 'sum' })), [2 * item], 1e-6)
  near(t, await values(nn.crossEntropy(logits, targets, { reduction: 'none' })), [item, 0, item], 1e-6)
  const parts = nn.crossEntropy(logits, targets, { reduction: 'parts' })
  near(t, await values(parts.sum), [2 * item], 1e-6)
  t.deepEqual(await values(parts.count), [2])
  t.is(parts.count.requiresGrad, false)
})

onDevices('ignored rows give neither loss nor gradient, whatever they hold', async (t, device) => {
  const data = [[1, 2], [Number.NaN, Infinity], [3, -1]] // prettier-ignore
  const all = tensor(data, { device, requiresGrad: true })
  const loss = nn.crossEntropy(all, indices([0, 7, 1], device), { ignoreIndex: 7 })
  loss.backward()
  const kept = tensor([data[0]!, data[2]!], { device, requiresGrad: true })
  const wanted = nn.crossEntropy(kept, indices([0, 1], device))
  wanted.backward()
  t.deepEqual(await values(loss), await values(wanted))
  const [a, b, c, d] = await values(kept.grad)
  t.deepEqual(await values(all.grad), [a, b, 0, 0, c, d])
})

onDevices('with nothing to count loss and gradient are 0', async (t, device) => {
  const logits = tensor([[1, 2], [3, 4]], { device, requiresGrad: true }) // prettier-ignore
  const loss = nn.crossEntropy(logits, indices([-100, -100], device))
  loss.backward()
  t.deepEqual(await values(loss), [0])
  t.deepEqual(await values(logits.grad), [0, 0, 0, 0])
})

onDevices('leading axes of logits are items', async (t, device) => {
  const logits = tensor([[[0, 0], [0, 0]], [[0, 0], [0, 0]]], { device }) // prettier-ignore
  const items = nn.crossEntropy(logits, indices([[0, 1], [1, 0]], device), { reduction: 'none' }) // prettier-ignore
  t.deepEqual([...items.shape], [2, 2])
})

onDevices('a class out of range spoils the results and nothing else', async (t, device) => {
  const logits = tensor([[1, 2], [3, 4]], { device, requiresGrad: true }) // prettier-ignore
  for (const wrong of [2, -1, 2 ** 31 - 1, -(2 ** 31)]) {
    const loss = nn.crossEntropy(logits, indices([0, wrong], device))
    t.is(await rejectionOf(loss.data()), 'ERR_ARGUMENT', `${wrong}`)
  }
  t.deepEqual(await values(logits.mul(2)), [2, 4, 6, 8])
})

onDevices('the gradient of mse is 2(ŷ − y)/n', async (t, device) => {
  const prediction = tensor([[1, 2], [3, 4]], { device, requiresGrad: true }) // prettier-ignore
  const target = tensor([[0, 4], [3, 0]], { device }) // prettier-ignore
  const loss = nn.mse(prediction, target)
  loss.backward()
  t.deepEqual(await values(loss), [21 / 4])
  t.deepEqual(await values(prediction.grad), [0.5, -1, 0, 2])
  const { sum, count } = nn.mse(prediction, target, { reduction: 'parts' })
  t.deepEqual([...(await values(sum)), ...(await values(count))], [21, 4])
})

onDevices('losses refuse what does not fit', (t, device) => {
  const logits = tensor([[1, 2], [3, 4]], { device }) // prettier-ignore
  const ce = (...args: unknown[]): string => codeOf(() => nn.crossEntropy(...(args as [Tensor, Tensor])))
  t.is(ce(logits, indices([0, 1, 0], device)), 'ERR_SHAPE')
  t.is(ce(logits, indices([[0, 1]], device)), 'ERR_SHAPE')
  t.is(ce(logits, tensor([0, 1], { device })), 'ERR_DTYPE')
  t.is(ce(indices([[1]], device), indices([0], device)), 'ERR_DTYPE')
  t.is(ce(logits, indices([0, 1], device), { reduction: 'median' }), 'ERR_ARGUMENT')
  t.is(ce(logits, indices([0, 1], device), { ignoreIndex: 0.5 }), 'ERR_ARGUMENT')
  t.is(ce(logits, [0, 1]), 'ERR_ARGUMENT')
  t.is(
    codeOf(() => nn.mse(logits, tensor([1, 2], { device }))),
    'ERR_SHAPE',
  )
  t.is(codeOf(() => nn.mse(logits, indices([[1, 2], [3, 4]], device))), 'ERR_DTYPE') // prettier-ignore
})
