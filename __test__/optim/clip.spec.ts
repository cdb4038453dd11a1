/** Clipping: documented values, every norm beside its formula, what is left alone, and norms that are not finite. */

import { type Device, Parameter, Tensor, compile, ones, openDevice, optim, tensor } from '../../ts/index.ts'
import { onDevices, open } from '../helpers/devices.ts'
import { codeOf, rejectionOf } from '../helpers/errors.ts'
import { near, random, values } from '../helpers/values.ts'

/** Parameters with these gradients. */
function withGradients(device: Device, gradients: readonly (readonly number[] | null)[]): Parameter[] {
  return gradients.map((data) => {
    const p = new Parameter(new Float32Array(data?.length ?? 2), { device })
    p.grad = data === null ? null : tensor([...data], { device })
    return p
  })
}

const gradientsOf = (parameters: readonly Tensor[]): Promise<number[][]> =>
  Promise.all(parameters.map(({ grad }) => values(grad)))

onDevices('clipGradNorm gives the documented values', async (t, device) => {
  const list = withGradients(device, [[3], [4]])
  const total = optim.clipGradNorm(list, 1)
  t.deepEqual(total.shape, [])
  t.is(await total.item(), 5)
  near(t, (await gradientsOf(list)).flat(), [3 * 0.19999996, 4 * 0.19999996], 1e-7)
})

onDevices('a norm below the limit leaves gradients as they are', async (t, device) => {
  const list = withGradients(device, [[3], null, [4]])
  t.is(await optim.clipGradNorm(list, 5.1).item(), 5)
  t.is(await optim.clipGradNorm(list, Infinity).item(), 5)
  t.deepEqual([await values(list[0]!.grad), await values(list[2]!.grad)], [[3], [4]])
  t.is(list[1]!.grad, null)
  t.is(await optim.clipGradNorm(list, 0).item(), 5)
  t.deepEqual(await values(list[0]!.grad), [0])
})

onDevices('every norm is that of all gradients together', async (t, device) => {
  for (const normType of [2, 1, Infinity, 3, 0.5]) {
    const given = [random([7], { seed: 1 }), random([130], { seed: 2 }), [], [-2.5]].map((x) => [...x].map(Math.fround))
    const list = withGradients(device, given)
    const all = given.flat().map(Math.abs)
    const norm =
      normType === Infinity ? Math.max(...all) : all.reduce((sum, x) => sum + x ** normType, 0) ** (1 / normType)
    const total = optim.clipGradNorm(list, 0.5, { normType })
    t.true(Math.abs((await total.item()) - norm) <= 3e-6 * norm, `${normType}`)
    const factor = Math.min(1, 0.5 / (norm + 1e-6))
    for (const [i, gradient] of (await gradientsOf(list)).entries())
      near(t, gradient, given[i]!.map((x) => x * factor), 4e-6, `${normType}`) // prettier-ignore
  }
})

onDevices('clipping in a compiled step is clipping in an eager one', async (t, device) => {
  const run = async (compiled: boolean, limit: (list: Parameter[]) => Tensor | void): Promise<number[][][]> => {
    const list = [new Parameter([1, -2, 3], { device }), new Parameter([[4]], { device })]
    const sgd = new optim.SGD(list, { lr: 0.5, momentum: 0.5 })
    const step = (): Tensor | void => {
      sgd.zeroGrad()
      list[0]!.square().sum().add(list[1]!.square().sum()).backward()
      const result = limit(list)
      sgd.step()
      return result
    }
    const one = compiled ? compile(step as () => Tensor) : step
    const norms: number[] = []
    for (let s = 0; s < 4; s++) {
      const result = one()
      if (result instanceof Tensor) norms.push(await result.item())
    }
    return [[norms], await Promise.all(list.map(values)), await gradientsOf(list)]
  }
  for (const limit of [
    (list: Parameter[]) => optim.clipGradNorm(list, 1),
    (list: Parameter[]) => optim.clipGradNorm(list, 3, { normType: 1, errorIfNonFinite: true }),
    (list: Parameter[]) => optim.clipGradValue(list, 0.75),
  ]) {
    const [eager, compiled] = [await run(false, limit), await run(true, limit)]
    t.deepEqual(compiled, eager)
  }
})

onDevices('clipGradValue holds every element between its limits', async (t, device) => {
  const list = withGradients(device, [[-5, -0.5, 0, 0.25, 5], null])
  t.is(optim.clipGradValue(list, 0.5), undefined)
  t.deepEqual(await values(list[0]!.grad), [-0.5, -0.5, 0, 0.25, 0.5])
  optim.clipGradValue(list[0]!, 0.25)
  t.deepEqual(await values(list[0]!.grad), [-0.25, -0.25, 0, 0.25, 0.25])
})

onDevices(
  'whoever holds a gradient sees it clipped, also inside a scope, and once if two parameters share it',
  async (t, device) => {
    const { scope } = await import('../../ts/index.ts')
    const list = withGradients(device, [[30], [40]])
    list[1]!.grad = list[0]!.grad
    const gradient = list[0]!.grad!
    scope(() => optim.clipGradNorm([...list, list[0]!], 3))
    t.is(list[0]!.grad, gradient)
    near(t, await values(gradient), [3], 1e-6)
  },
)

onDevices('a norm that is not finite is nobody’s error unless it is asked to be', async (t, { kind }) => {
  const device = await open({ kind })
  for (const bad of [Number.NaN, Infinity]) {
    for (const normType of [2, Infinity, 1]) {
      const list = withGradients(device, [[1, bad], [2]])
      const sgd = new optim.SGD(list, { lr: 1 })
      const total = optim.clipGradNorm(list, 1, { normType, errorIfNonFinite: true })
      sgd.step()
      t.is(await rejectionOf(total.data()), 'ERR_ARGUMENT', `${bad} ${normType}`)
      for (const { grad } of list) t.is(await rejectionOf(grad!.data()), 'ERR_ARGUMENT')
      // The step was not applied, and the next one is.
      t.deepEqual(await Promise.all(list.map(values)), [[0, 0], [0]])
      t.deepEqual((await sgd.stateDict()).groups[0]!.parameters.map(({ step }) => step), [0, 0]) // prettier-ignore
      for (const p of list) p.grad = ones(p.shape, { device })
      t.true(Math.abs((await optim.clipGradNorm(list, 10, { normType, errorIfNonFinite: true }).item()) - 3 ** (1 / normType)) < 1e-6) // prettier-ignore
      sgd.step()
      t.deepEqual(await Promise.all(list.map(values)), [[-1, -1], [-1]])
    }
  }
  const list = withGradients(device, [[1, Infinity], [2]])
  t.is(await optim.clipGradNorm(list, 1).item(), Infinity)
  if (kind !== 'gpu') t.deepEqual(await gradientsOf(list), [[0, Number.NaN], [0]])
  // Errors of values that nobody has read come up here.
  await device.sync().catch(() => undefined)
  await device.close().catch(() => undefined)
})

onDevices('without gradients the norm is 0; what does not fit together is refused', async (t, device) => {
  const list = withGradients(device, [null, null])
  t.is(await optim.clipGradNorm(list, 1).item(), 0)
  optim.clipGradValue(list, 1)
  const refused = (run: () => unknown): string => codeOf(run)
  const p = withGradients(device, [[1]])[0]!
  for (const wrong of [-1, Number.NaN, '1', undefined])
    t.is(refused(() => optim.clipGradNorm([p], wrong as number)), 'ERR_ARGUMENT') // prettier-ignore
  for (const normType of [0, -1, Number.NaN, '2'])
    t.is(refused(() => optim.clipGradNorm([p], 1, { normType: normType as number })), 'ERR_ARGUMENT') // prettier-ignore
  t.is(refused(() => optim.clipGradNorm([p], 1, 2 as never)), 'ERR_ARGUMENT') // prettier-ignore
  t.is(refused(() => optim.clipGradNorm([], 1)), 'ERR_ARGUMENT') // prettier-ignore
  t.is(refused(() => optim.clipGradNorm([1 as never], 1)), 'ERR_ARGUMENT') // prettier-ignore
  t.is(refused(() => optim.clipGradNorm(undefined as never, 1)), 'ERR_ARGUMENT') // prettier-ignore
  t.is(refused(() => optim.clipGradValue([p], Infinity)), 'ERR_ARGUMENT') // prettier-ignore
  const js = await openDevice('js')
  t.is(refused(() => optim.clipGradNorm([p, ...withGradients(js, [[1]])], 1)), 'ERR_DEVICE_MISMATCH') // prettier-ignore
  t.deepEqual(await values(p.grad), [1])
  await js.close()
})
