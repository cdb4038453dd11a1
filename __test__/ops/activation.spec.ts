/** Activations and the instructions of their gradients: the case table, and values that are known. */

import { type Tensor, tensor } from '../../ts/index.ts'
import { FAMILIES } from '../helpers/cases.ts'
import { onDevices } from '../helpers/devices.ts'
import { declareForward } from '../helpers/run.ts'

declareForward(FAMILIES.activation)

onDevices('GELU by erf is the default, and the tanh form is another function', async (t, device) => {
  const z = tensor([1, -1, -3], { device })
  const near = async (y: Tensor, wanted: number[]): Promise<void> => {
    const values = await y.data()
    wanted.forEach((w, i) => t.true(Math.abs(values[i]! - w) < 1e-7, `${values[i]} instead of ${w}`))
  }
  await near(z.gelu(), [0.8413447, -0.1586553, -0.0040497])
  await near(z.gelu({ approximate: 'tanh' }), [0.841192, -0.158808, -0.0036374])
  const at = tensor([2.7], { device })
  const apart = Math.abs((await at.gelu().item()) - (await at.gelu({ approximate: 'tanh' }).item()))
  t.true(apart > 4.7e-4 && apart < 4.75e-4, `${apart}`)
})

onDevices('activations keep their limits at the ends', async (t, device) => {
  const ends = tensor([-Infinity, -3e38, -200, 200, 3e38, Infinity], { device })
  t.deepEqual([...(await ends.sigmoid().data())], [0, 0, 0, 1, 1, 1])
  t.deepEqual([...(await ends.tanh().data())], [-1, -1, -1, 1, 1, 1])
  t.deepEqual([...(await ends.elu().data())].slice(0, 3), [-1, -1, -1])
  t.deepEqual([...(await ends.softplus().data())], [0, 0, 0, 200, Math.fround(3e38), Infinity])
  t.deepEqual([...(await ends.heaviside().data())], [0, 0, 0, 1, 1, 1])
})

onDevices('relu and heaviside are 0 at 0, whatever its sign', async (t, device) => {
  const zeros = tensor([0, -0], { device })
  for (const y of [zeros.relu(), zeros.heaviside()]) t.true([...(await y.data())].every((v) => v === 0))
})

onDevices('tanh keeps relative accuracy near 0', async (t, device) => {
  const small = [1e-3, 1e-5, 1e-10, 1e-30, 1e-42].map(Math.fround)
  const y = await tensor(small, { device }).tanh().data()
  small.forEach((z, i) => t.true(Math.abs(y[i]! - Math.tanh(z)) <= 3e-7 * z, `tanh(${z}) = ${y[i]}`))
})
