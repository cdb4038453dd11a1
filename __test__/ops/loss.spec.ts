/** Losses: the case table, values that are known, and what happens when nothing is counted. */

import { type Tensor, nn, tensor } from '../../ts/index.ts'
import { FAMILIES } from '../helpers/cases.ts'
import { LOSS } from '../helpers/cases/case.ts'
import { COMPOSED } from '../helpers/cases/composed-loss.ts'
import { onDevices } from '../helpers/devices.ts'
import { checkAll, declareForward, floats } from '../helpers/run.ts'

declareForward(FAMILIES.loss)

for (const [name, { cases }] of Object.entries(COMPOSED)) {
  onDevices(`${name} gives what its formula says`, async (t, device) => {
    for (const dtype of floats(device)) await checkAll(t, device, cases(dtype), LOSS)
  })
}

function indices(values: number[], like: Tensor): Tensor {
  return tensor(values, { dtype: 'i32', device: like.device })
}

onDevices('cross-entropy of [0, ln 2, 0] and class 1 is ln 2', async (t, device) => {
  const logits = tensor([[0, Math.log(2), 0]], { device })
  t.true(Math.abs((await nn.crossEntropy(logits, indices([1], logits)).item()) - Math.LN2) < 1e-6)
})

onDevices('the gradient of a mean over items that count leaves the ignored ones at 0', async (t, device) => {
  const logits = tensor(
    [
      [NaN, 2],
      [1, 1],
      [1, 1],
    ],
    { device, requiresGrad: true },
  )
  nn.crossEntropy(logits, indices([-100, 0, 1], logits)).backward()
  t.deepEqual(await logits.grad!.array(), [
    [0, 0],
    [-0.25, 0.25],
    [0.25, -0.25],
  ])
})

onDevices('with nothing to count, loss, count and gradient are 0', async (t, device) => {
  const logits = tensor(
    [
      [1, 2],
      [NaN, 4],
    ],
    { device, requiresGrad: true },
  )
  const targets = indices([-100, -100], logits)
  const loss = nn.crossEntropy(logits, targets)
  t.is(await loss.item(), 0)
  loss.backward()
  t.deepEqual([...(await logits.grad!.data())], [0, 0, 0, 0])
  const { sum, count } = nn.crossEntropy(logits, targets, { reduction: 'parts' })
  t.deepEqual([await sum.item(), await count.item()], [0, 0])
})

onDevices('the gradient of mse is 2(ŷ − y)/n', async (t, device) => {
  const prediction = tensor(
    [
      [1, 2],
      [3, 4],
    ],
    { device, requiresGrad: true },
  )
  nn.mse(
    prediction,
    tensor(
      [
        [0, 0],
        [0, 2],
      ],
      { device },
    ),
  ).backward()
  t.deepEqual(await prediction.grad!.array(), [
    [0.5, 1],
    [1.5, 1],
  ])
})
