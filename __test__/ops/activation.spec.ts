/** Activations and the instructions of their gradients: the case table, and values that are known. */

import test from 'ava'
import {
  type ActivationName,
  type Device,
  Parameter,
  type Tensor,
  TilegradError,
  grad,
  linear,
  nn,
  optim,
  tensor,
} from '../../ts/index.ts'
import { FAMILIES } from '../helpers/cases.ts'
import { JS, onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { ACTIVATION_FORMULAS } from '../helpers/formulas.ts'
import { declareForward } from '../helpers/run.ts'
import { near, values } from '../helpers/values.ts'

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

/** z from −12 to 12 in steps that f32 holds. */
const GRID = Array.from({ length: 24 * 64 + 1 }, (_, i) => i / 64 - 12)

onDevices('GELU is off by 5e-7 at most for |z| up to 12, and its left tail keeps its digits', async (t, device) => {
  for (const [name, approximate] of [
    ['gelu', 'none'],
    ['geluTanh', 'tanh'],
  ] as const) {
    // prettier-ignore
    const y = await tensor(GRID, { device }).gelu({ approximate }).data()
    const exact = GRID.map(ACTIVATION_FORMULAS[name].f)
    const worst = Math.max(...exact.map((v, i) => Math.abs(y[i]! - v)))
    t.log(`${name}: ${worst.toExponential(1)}`)
    t.true(worst <= 5e-7, `${name} is off by ${worst}`)
    if (name === 'geluTanh') continue
    // Of 1 + erf nothing would be left here.
    const tail = exact.map((v, i) => (GRID[i]! >= -8 && GRID[i]! <= -3 ? Math.abs(y[i]! / v - 1) : 0))
    t.true(Math.max(...tail) <= 1e-6, `the tail is off by ${Math.max(...tail)} of its value`)
  }
})

onDevices('the two forms of GELU are 4.73e-4 apart at most, near |z| = 2.70', async (t, device) => {
  const z = tensor(GRID, { device })
  const apart = (await values(z.gelu().sub(z.gelu({ approximate: 'tanh' })))).map(Math.abs)
  const most = Math.max(...apart)
  t.true(Math.abs(most - 4.73e-4) < 1e-6, `${most}`)
  t.true(Math.abs(Math.abs(GRID[apart.indexOf(most)]!) - 2.7) < 0.03)
})

onDevices('tanh is 1 from 9.011 on, and never more', async (t, device) => {
  const z = [9.011, 9.1, 10, 14.9, 15, 15.1, 44, 45, 88, 89, 1e4]
  t.deepEqual(await values(tensor([...z, ...z.map((x) => -x)], { device }).tanh()), [...z.map(() => 1), ...z.map(() => -1)]) // prettier-ignore
  const below = await values(tensor([8, 8.5, 9, 9.01], { device }).tanh())
  t.true(below.every((y) => y <= 1))
  t.true(below[0]! < 1)
})

onDevices('softplus is the identity above its threshold and not at it, in value and in slope', async (t, device) => {
  // βz is 6 and 6.5.
  const z = tensor([3, 3.25], { device })
  const y = (z: Tensor): Tensor => z.softplus({ beta: 2, threshold: 6 })
  const [at, above] = await values(y(z))
  near(t, [at!], [Math.log1p(Math.exp(6)) / 2], 1e-6)
  t.is(above, 3.25)
  const slopes = await values(grad((z) => y(z).sum())(z)[0])
  near(t, [slopes[0]!], [1 / (1 + Math.exp(-6))], 1e-6)
  t.is(slopes[1], 1)
})

onDevices('slopes at the ends are 0 or 1, both ways they are computed, and never NaN', async (t, device) => {
  const ends = [-3e38, -1e20, -1e10, -200, 200, 1e10, 1e20, 3e38]
  const left: Partial<Record<ActivationName, number>> = { leakyRelu: Math.fround(0.01) }
  const right: Partial<Record<ActivationName, number>> = { sigmoid: 0, tanh: 0, heaviside: 0 }
  for (const name of Object.keys(SAVED) as ActivationName[]) {
    for (const twice of [false, true]) {
      const z = tensor(ends, { device, requiresGrad: twice })
      const slopes = await values(grad((z) => called(name, z).sum())(z)[0])
      const wanted = ends.map((z) => (z < 0 ? (left[name] ?? 0) : (right[name] ?? 1)))
      near(t, slopes, wanted, 1e-6, `${name}, ${twice ? 'by operations' : 'by its instruction'}`)
    }
    const bends = grad((z) => grad((z) => called(name, z).sum())(z)[0]!.sum())(tensor(ends, { device }))[0]
    t.deepEqual(await values(bends), ends.map(() => 0), name) // prettier-ignore
  }
})

/** What each gradient is a function of, and so what is kept for it. */
const SAVED: Readonly<Record<ActivationName, 'y' | 'z' | null>> = {
  relu: 'y',
  leakyRelu: 'z',
  elu: 'y',
  sigmoid: 'y',
  tanh: 'y',
  silu: 'z',
  softplus: 'z',
  heaviside: null,
  gelu: 'z',
  geluTanh: 'z',
}

function called(name: ActivationName, z: Tensor): Tensor {
  return name === 'geluTanh' ? z.gelu({ approximate: 'tanh' }) : z[name]()
}

/** A parameter, and a step that changes it in place. */
function changing(device: Device): { z: Parameter; change: () => void } {
  const z = new Parameter([0.5, -0.5, 2], { device })
  const optimizer = new optim.SGD([z], { lr: 1 })
  const change = (): void => {
    z.sum().backward()
    optimizer.step()
    optimizer.zeroGrad()
  }
  return { z, change }
}

onDevices('where the gradient is a function of y, z may change after the forward pass', async (t, device) => {
  for (const [name, saved] of Object.entries(SAVED) as [ActivationName, 'y' | 'z' | null][]) {
    const { z, change } = changing(device)
    const y = called(name, z).sum()
    const before = await values(z)
    change()
    if (saved === 'z') {
      const error = t.throws(() => y.backward(), { instanceOf: TilegradError }, name)
      t.is(error?.code, 'ERR_STALE', name)
    } else {
      y.backward()
      near(t, await values(z.grad), before.map(ACTIVATION_FORMULAS[name].derivative), 2e-6, name)
    }
  }
})

onDevices('the activations that linear can fuse are these, each by the name of its function', async (t, device) => {
  const names = Object.keys(SAVED) as ActivationName[]
  const x = tensor([[-1.5, 0.25, 3]], { device })
  const one = tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1]], { device }) // prettier-ignore
  for (const activation of names) {
    const [fused, alone] = [linear(x, one, null, { activation }), called(activation, x)]
    t.deepEqual(await values(fused), await values(alone), activation)
    t.is(new nn.Linear(2, 2, { activation, device }).activation, activation)
  }
  const error = t.throws(() => linear(x, one, null, { activation: 'swish' as never }), { instanceOf: TilegradError })
  t.true(error?.message.includes(`one of ${names.join(', ')}, not 'swish'`), error?.message)
  t.is(codeOf(() => new nn.Linear(2, 2, { activation: 'none' as never, device })), 'ERR_ARGUMENT') // prettier-ignore
})

test('in f64 GELU and erf are not those of the fit for f32', async (t) => {
  const z = tensor(GRID, { dtype: 'f64', device: JS })
  const y = await z.gelu().data()
  const worst = Math.max(...GRID.map((z, i) => Math.abs(y[i]! - ACTIVATION_FORMULAS.gelu.f(z))))
  t.true(worst < 1e-14, `${worst}`)
})
