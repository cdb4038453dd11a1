/** What everything else needs, on each device: a layer forward, backward, one step. Runs first and fails fast. */

import { Parameter, linear, optim, tensor } from '../ts/index.ts'
import { onDevices } from './helpers/devices.ts'

onDevices('a layer computes, gets its gradients and takes a step', async (t, device) => {
  const x = tensor([[1, 2]], { device })
  const weight = new Parameter(
    [
      [1, -1],
      [0.5, 2],
    ],
    { device },
  )
  const bias = new Parameter([0.5, -8], { device })
  const optimizer = new optim.SGD([weight, bias], { lr: 0.5 })

  const y = linear(x, weight, bias, { activation: 'relu' })
  t.deepEqual(await y.array(), [[2.5, 0]])

  y.sum().backward()
  t.deepEqual(await weight.grad!.array(), [
    [1, 0],
    [2, 0],
  ])
  t.deepEqual(await bias.grad!.array(), [1, 0])

  optimizer.step()
  t.deepEqual(await weight.array(), [
    [0.5, -1],
    [-0.5, 2],
  ])
  t.deepEqual(await bias.array(), [0, -8])
})
