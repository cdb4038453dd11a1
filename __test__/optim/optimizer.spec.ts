/** What optimisers promise beside their formulas: who is updated, the gate, state, slabs, and what they refuse. */

import { type Device, Parameter, type Tensor, nn, ones, openDevice, optim, tensor } from '../../ts/index.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { random, values } from '../helpers/values.ts'

type Make = (parameters: Iterable<Tensor>) => optim.Optimizer

const OPTIMIZERS: [string, Make][] = [
  ['SGD', (p) => new optim.SGD(p, { lr: 0.1, momentum: 0.9, weightDecay: 0.1 })],
  ['Adam', (p) => new optim.Adam(p, { lr: 0.1, weightDecay: 0.1 })],
  ['AdamW', (p) => new optim.AdamW(p, { lr: 0.1, weightDecay: 0.1 })],
  ['AdamW with amsgrad', (p) => new optim.AdamW(p, { lr: 0.1, weightDecay: 0.1, amsgrad: true })],
  ['RMSprop', (p) => new optim.RMSprop(p, { lr: 0.1, weightDecay: 0.1 })],
  ['RMSprop, centered with momentum', (p) => new optim.RMSprop(p, { lr: 0.1, momentum: 0.5, centered: true })],
]

function parameter(size: number, seed: number, device: Device): Parameter {
  return new Parameter(random([size], { seed }), { device })
}

function gradient(size: number, seed: number, device: Device): Tensor {
  return tensor(random([size], { seed: seed + 5000 }), { device })
}

/** How many updates each parameter has received. */
async function stepsOf(optimizer: optim.Optimizer): Promise<number[]> {
  const { groups } = await optimizer.stateDict()
  return groups.flatMap(({ parameters }) => parameters.map(({ step }) => step))
}

for (const [name, make] of OPTIMIZERS) {
  onDevices(`${name}: a parameter without a gradient keeps value, state and step count`, async (t, device) => {
    const [a, b] = [parameter(5, 1, device), parameter(70, 2, device)]
    const alone = parameter(70, 2, device)
    const [both, single] = [make([a, b]), make([alone])]
    const before = await values(b)
    for (let s = 0; s < 6; s++) {
      a.grad = gradient(5, s, device)
      // b only takes part in steps 2 and 5; its course has to be that of two consecutive steps.
      if (s === 2 || s === 5) {
        b.grad = gradient(70, s, device)
        alone.grad = gradient(70, s, device)
        single.step()
      }
      both.step()
      both.zeroGrad()
      single.zeroGrad()
      if (s === 1) t.deepEqual(await values(b), before)
    }
    t.deepEqual(await values(b), await values(alone))
    t.deepEqual(await stepsOf(both), [6, 2])
  })

  onDevices(`${name}: what requires no gradient is neither updated nor given state`, async (t, device) => {
    const [frozen, free] = [parameter(4, 1, device), parameter(4, 2, device)]
    frozen.requiresGrad = false
    const optimizer = make([frozen, free])
    t.deepEqual(optimizer.parameters, [free])
    const before = await values(frozen)
    frozen.grad = ones([4], { device })
    free.grad = ones([4], { device })
    optimizer.step()
    t.deepEqual(await values(frozen), before)
    t.deepEqual(await stepsOf(optimizer), [1])
  })

  onDevices(`${name}: freezing later stops the updates`, async (t, device) => {
    const layer = new nn.Linear(2, 2, { device })
    const optimizer = make(layer.parameters())
    layer.bias!.requiresGrad = false
    const before = await values(layer.bias)
    layer
      .forward(ones([3, 2], { device }))
      .sum()
      .backward()
    optimizer.step()
    t.deepEqual(await values(layer.bias), before)
    t.deepEqual(await stepsOf(optimizer), [1, 0])
  })

  onDevices(`${name}: a step that is not ok changes nothing at all`, async (t, device) => {
    const p = parameter(66, 3, device)
    const optimizer = make([p])
    p.grad = gradient(66, 1, device)
    optimizer.step({ ok: tensor(true, { device }) })
    const [value, state] = [await values(p), await optimizer.stateDict()]
    p.grad = tensor(
      Float64Array.from({ length: 66 }, (_, i) => [Number.NaN, Infinity, 1e30][i % 3]!),
      { device },
    )
    optimizer.step({ ok: tensor(false, { device }) })
    t.deepEqual(await values(p), value)
    // But the step is counted: a schedule goes on.
    t.deepEqual(await optimizer.stateDict(), { ...state, step: state.step + 1 })
    // And the next good step goes on as if the bad one had not been.
    p.grad = gradient(66, 2, device)
    optimizer.step({ ok: tensor(true, { device }), scale: tensor(1, { device }) })
    const q = parameter(66, 3, device)
    const other = make([q])
    for (const s of [1, 2]) {
      q.grad = gradient(66, s, device)
      other.step()
    }
    t.deepEqual(await values(p), await values(q))
  })

  onDevices(`${name}: a restored optimiser continues as the one that was saved`, async (t, device) => {
    const run = async (interrupted: boolean): Promise<number[][]> => {
      let parameters = [parameter(3, 1, device), parameter(100, 2, device)]
      let optimizer = make(parameters)
      for (let s = 0; s < 10; s++) {
        if (s === 5 && interrupted) {
          const state = structuredClone(await optimizer.stateDict())
          const saved = await Promise.all(parameters.map(values))
          parameters = saved.map((data) => new Parameter(data, { device }))
          optimizer = make(parameters)
          optimizer.loadStateDict(state)
        }
        if (s === 3) optimizer.lr = 0.03
        for (const [i, p] of parameters.entries())
          p.grad = i === 1 && s === 2 ? null : gradient(p.size, 10 * s + i, device)
        optimizer.step()
        optimizer.zeroGrad()
      }
      return Promise.all(parameters.map(values))
    }
    t.deepEqual(await run(true), await run(false))
  })

  onDevices(`${name}: a state that does not fit is refused as a whole`, async (t, device) => {
    const p = parameter(4, 1, device)
    const optimizer = make([p])
    p.grad = ones([4], { device })
    optimizer.step()
    const state = await optimizer.stateDict()
    const refused = (wrong: unknown): string => codeOf(() => optimizer.loadStateDict(wrong as optim.OptimizerState))
    const group = state.groups[0]!
    const own = group.parameters[0]!
    const withParameter = (wrong: unknown): unknown => ({
      ...state,
      groups: [{ ...group, lr: 5, parameters: [wrong] }],
    })
    for (const missing of Object.keys(own.arrays)) {
      const arrays = Object.fromEntries(Object.entries(own.arrays).filter(([key]) => key !== missing))
      t.is(refused(withParameter({ ...own, arrays })), 'ERR_FORMAT', missing)
      t.is(refused(withParameter({ ...own, arrays: { ...arrays, [missing]: new Float32Array(5) } })), 'ERR_FORMAT')
      t.is(refused(withParameter({ ...own, arrays: { ...arrays, [missing]: null } })), 'ERR_FORMAT')
    }
    t.is(refused(withParameter({ ...own, arrays: { ...own.arrays, other: new Float32Array(4) } })), 'ERR_FORMAT')
    t.is(refused(withParameter({ ...own, arrays: null })), 'ERR_FORMAT')
    for (const shape of [[2, 2], [4, 1], [], undefined]) t.is(refused(withParameter({ ...own, shape })), 'ERR_FORMAT')
    for (const step of [undefined, -1, 0.5, '1', 2 ** 31])
      t.is(refused(withParameter({ ...own, step })), 'ERR_FORMAT', String(step))
    for (const wrong of [null, undefined, 5]) t.is(refused(withParameter(wrong)), 'ERR_FORMAT', String(wrong))
    t.is(refused({ ...state, groups: [] }), 'ERR_FORMAT')
    t.is(refused({ ...state, groups: [group, group] }), 'ERR_FORMAT')
    t.is(refused({ ...state, groups: [{ ...group, parameters: [] }] }), 'ERR_FORMAT')
    t.is(refused({ ...state, groups: [{ ...group, parameters: [own, own] }] }), 'ERR_FORMAT')
    t.is(refused({ ...state, groups: [{ lr: 5 }] }), 'ERR_FORMAT')
    t.is(refused({ step: 1 }), 'ERR_FORMAT')
    t.is(refused(null), 'ERR_FORMAT')
    for (const step of [undefined, -1, 0.5, '1']) t.is(refused({ ...state, step }), 'ERR_FORMAT', String(step))
    t.is(refused({ ...state, groups: [{ ...group, lr: -1 }] }), 'ERR_ARGUMENT')
    t.is(refused({ ...state, groups: [null] }), 'ERR_ARGUMENT')
    t.deepEqual(await optimizer.stateDict(), state)
  })

  onDevices(
    `${name}: parameters stay the tensors they were, and share their memory with the slab`,
    async (t, device) => {
      const layer = new nn.Linear(3, 2, { device })
      const before = await layer.stateDict()
      const { weight, bias } = layer
      make(layer.parameters())
      t.is(layer.weight, weight)
      t.is(layer.bias, bias)
      t.deepEqual(await layer.stateDict(), before)
    },
  )

  onDevices(`${name}: parameters without elements are legal`, async (t, device) => {
    const [empty, full] = [new Parameter(new Float32Array(0), { shape: [0, 3], device }), parameter(2, 1, device)]
    const optimizer = make([empty, full])
    empty.grad = tensor(new Float32Array(0), { shape: [0, 3], device })
    full.grad = ones([2], { device })
    optimizer.step()
    t.deepEqual(await values(empty), [])
    t.deepEqual(await stepsOf(optimizer), [1, 1])
  })

  onDevices(`${name}: a gradient that does not fit its parameter is refused`, async (t, device) => {
    const p = parameter(4, 1, device)
    const optimizer = make([p])
    const before = await values(p)
    p.grad = ones([3], { device })
    t.is(codeOf(() => optimizer.step()), 'ERR_SHAPE') // prettier-ignore
    p.grad = ones([4], { device, dtype: 'i32' })
    t.is(codeOf(() => optimizer.step()), 'ERR_DTYPE') // prettier-ignore
    t.deepEqual(await values(p), before)
  })

  onDevices(`${name}: an optimiser whose parameters another one has taken over says so`, async (t, device) => {
    const p = parameter(4, 1, device)
    const first = make([p])
    const second = make([p])
    const before = await values(p)
    p.grad = ones([4], { device })
    t.is(codeOf(() => first.step()), 'ERR_ARGUMENT') // prettier-ignore
    t.deepEqual(await values(p), before)
    second.step()
    t.notDeepEqual(await values(p), before)
  })
}

onDevices('zeroGrad drops the gradients of its parameters only', (t, device) => {
  const [a, b] = [parameter(2, 1, device), parameter(2, 2, device)]
  const optimizer = new optim.SGD([a], { lr: 1 })
  const [ga, gb] = [ones([2], { device }), ones([2], { device })]
  a.grad = ga
  b.grad = gb
  optimizer.zeroGrad()
  t.true(a.grad === null)
  t.true(ga.disposed)
  t.true(b.grad === gb)
  t.false(gb.disposed)
})

onDevices('a step without any gradient does nothing', async (t, device) => {
  const p = parameter(2, 1, device)
  const before = await values(p)
  const optimizer = new optim.SGD([p], { lr: 1, weightDecay: 1 })
  optimizer.step()
  t.deepEqual(await values(p), before)
})

onDevices('a parameter listed twice is updated once', async (t, device) => {
  const p = new Parameter([1], { device })
  const optimizer = new optim.SGD([p, p], { lr: 1 })
  p.grad = ones([1], { device })
  optimizer.step()
  t.deepEqual(await values(p), [0])
})

onDevices('parameters of several devices are updated each on its own', async (t, device) => {
  const js = await openDevice('js')
  const [here, there] = [new Parameter([1], { device }), new Parameter([2], { device: js })]
  const optimizer = new optim.SGD([here, there], { lr: 1 })
  here.grad = ones([1], { device })
  there.grad = ones([1], { device: js })
  optimizer.step()
  t.deepEqual([...(await values(here)), ...(await values(there))], [0, 1])
  t.deepEqual(await stepsOf(optimizer), [1, 1])
  t.deepEqual(optimizer.parameters, [here, there])
  await js.close()
})

onDevices('options that make no sense are refused', (t, device) => {
  const p = new Parameter([1], { device })
  const sgd = (options: unknown, parameters: unknown = [p]): string =>
    codeOf(() => new optim.SGD(parameters as Tensor[], options as optim.SGDOptions))
  const adamw = (options: unknown): string => codeOf(() => new optim.AdamW([p], options as optim.AdamWOptions))
  for (const wrong of [Number.NaN, -1, Infinity, '0.1', null]) {
    t.is(sgd({ lr: wrong }), 'ERR_ARGUMENT', `lr ${wrong}`)
    t.is(sgd({ lr: 0.1, momentum: wrong }), 'ERR_ARGUMENT', `momentum ${wrong}`)
    t.is(sgd({ lr: 0.1, weightDecay: wrong }), 'ERR_ARGUMENT', `weightDecay ${wrong}`)
    if (wrong !== -1) t.is(sgd({ lr: 0.1, momentum: 0.9, dampening: wrong }), 'ERR_ARGUMENT', `dampening ${wrong}`)
    t.is(adamw({ lr: wrong === null ? '' : wrong }), 'ERR_ARGUMENT', `lr ${wrong}`)
    t.is(adamw({ eps: wrong }), 'ERR_ARGUMENT', `eps ${wrong}`)
    t.is(adamw({ weightDecay: wrong }), 'ERR_ARGUMENT', `weightDecay ${wrong}`)
    t.is(adamw({ betas: [0.9, wrong] }), 'ERR_ARGUMENT', `beta ${wrong}`)
    t.is(adamw({ betas: [wrong, 0.9] }), 'ERR_ARGUMENT', `beta ${wrong}`)
  }
  t.is(sgd({}), 'ERR_ARGUMENT')
  t.is(sgd(undefined), 'ERR_ARGUMENT')
  t.is(sgd({ lr: 0.1, nesterov: true }), 'ERR_ARGUMENT')
  t.throws(() => new optim.SGD([p], { lr: 0.1, nesterov: true }), { message: /needs momentum > 0 .* not momentum 0/ })
  t.is(sgd({ lr: 0.1, nesterov: true, momentum: 0.9, dampening: 0.1 }), 'ERR_ARGUMENT')
  t.is(adamw({ betas: [0.9, 1] }), 'ERR_ARGUMENT')
  t.is(adamw({ betas: [0.9] }), 'ERR_ARGUMENT')
  t.is(adamw({ betas: 0.9 }), 'ERR_ARGUMENT')
  t.is(sgd({ lr: 1 }, []), 'ERR_ARGUMENT')
  t.is(sgd({ lr: 1 }, p), 'ERR_ARGUMENT')
  t.is(sgd({ lr: 1 }, null), 'ERR_ARGUMENT')
  t.is(sgd({ lr: 1 }, [5]), 'ERR_ARGUMENT')
  t.is(sgd({ lr: 1 }, [p.mul(2)]), 'ERR_ARGUMENT')
  const optimizer = new optim.SGD([p], { lr: 1 })
  t.is(codeOf(() => (optimizer.lr = Number.NaN)), 'ERR_ARGUMENT') // prettier-ignore
  t.is(optimizer.lr, 1)
})
