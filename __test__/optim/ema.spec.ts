/** Averages of weights: the formula over many updates, the gate, evaluating with them, their state, and what is refused. */

import { type Device, Parameter, type Tensor, compile, nn, ones, optim, tensor } from '../../ts/index.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { near, random, values } from '../helpers/values.ts'

function parameter(size: number, seed: number, device: Device): Parameter {
  return new Parameter(random([size], { seed }), { device })
}

/** One step of something, so that weights change. */
function move(parameters: readonly Tensor[], optimizer: optim.Optimizer, seed: number): void {
  for (const [i, p] of parameters.entries())
    p.grad = tensor(random([p.size], { seed: seed + i }), { shape: p.shape, device: p.device })
  optimizer.step()
}

const averagesOf = async (ema: optim.EMA): Promise<number[][]> =>
  (await ema.stateDict()).parameters.map(({ arrays }) => [...arrays['average']!])

onDevices('fifty updates follow the formula, with a fixed decay and with one that rises', async (t, device) => {
  for (const decay of [0.9, (n: number) => Math.min(0.95, (1 + n) / (10 + n))]) {
    const list = [1, 63, 64, 65].map((size) => parameter(size, size, device))
    const sgd = new optim.SGD(list, { lr: 0.1 })
    const ema = new optim.EMA(list, { decay })
    t.deepEqual(await averagesOf(ema), await Promise.all(list.map(values)))
    let expected: number[][] = []
    for (let n = 0; n < 50; n++) {
      move(list, sgd, 10 * n)
      ema.update()
      const d = typeof decay === 'number' ? decay : decay(n)
      const now = await Promise.all(list.map(values))
      expected = n === 0 ? now : expected.map((a, i) => a.map((x, j) => d * x + (1 - d) * now[i]![j]!))
    }
    for (const [i, average] of (await averagesOf(ema)).entries()) near(t, average, expected[i]!, 2e-6)
  }
})

onDevices('the weight of an old one is that of the mean of all: n / (n + 1)', async (t, device) => {
  const p = new Parameter([0], { device })
  const ema = new optim.EMA([p], { decay: (n) => n / (n + 1) })
  for (const x of [3, 5, 10]) {
    device.recorder.emitMany('assign', [p.value, tensor([x], { device }).value], [])
    ema.update()
  }
  near(t, (await averagesOf(ema)).flat(), [6], 1e-6)
})

onDevices('an update that is not ok changes nothing, eager and compiled alike', async (t, device) => {
  const run = async (compiled: boolean): Promise<unknown> => {
    const list = [parameter(3, 1, device), parameter(70, 2, device)]
    const optimizer = new optim.AdamW(list, { lr: 0.1 })
    const ema = new optim.EMA(list, { decay: 0.75 })
    const body = (a: Tensor, b: Tensor, ok: Tensor): void => {
      list[0]!.grad = a.mul(1)
      list[1]!.grad = b.mul(1)
      optimizer.step({ ok })
      ema.update({ ok })
    }
    const step = compiled ? compile(body) : body
    const seen: unknown[] = []
    for (let s = 0; s < 6; s++) {
      const ok = s % 3 !== 0
      const before = await averagesOf(ema)
      const [a, b] = list.map((p, i) => (ok ? tensor(random([p.size], { seed: 9 * s + i }), { device }) : ones([p.size], { device }).mul(Number.NaN))) // prettier-ignore
      step(a!, b!, tensor(ok, { device }))
      const after = await averagesOf(ema)
      if (!ok) t.deepEqual(after, before)
      else t.notDeepEqual(after, before)
      seen.push(after)
    }
    const state = await ema.stateDict()
    t.deepEqual([state.update, ...state.parameters.map(({ step }) => step)], [6, 4, 4])
    return seen
  }
  const [eager, compiled] = [await run(false), await run(true)]
  t.deepEqual(compiled, eager)
})

onDevices('swap gives the model the averages and back, copyTo gives them to another', async (t, device) => {
  const model = new nn.Sequential(new nn.Linear(3, 2, { device }), new nn.Linear(2, 1, { device }))
  const list = model.parameters()
  const sgd = new optim.SGD(list, { lr: 0.5 })
  const ema = new optim.EMA(model, { decay: 0.5 })
  for (let s = 0; s < 3; s++) {
    move(list, sgd, 50 * s)
    ema.update()
  }
  const [own, averages] = [await Promise.all(list.map(values)), await averagesOf(ema)]
  t.notDeepEqual(own, averages)
  const other = new nn.Sequential(new nn.Linear(3, 2, { device }), new nn.Linear(2, 1, { device }))
  ema.copyTo(other)
  t.deepEqual(await Promise.all(other.parameters().map(values)), averages)
  const x = tensor(random([4, 3], { seed: 7 }), { shape: [4, 3], device })
  const wanted = await values(other.forward(x))
  ema.swap()
  t.true(ema.swapped)
  t.deepEqual(await values(model.forward(x)), wanted)
  t.deepEqual(await Promise.all(list.map(values)), averages)
  for (const refused of [() => ema.update(), () => ema.copyTo(other), () => void ema.stateDict()])
    t.is(codeOf(refused), 'ERR_ARGUMENT')
  ema.swap()
  const update = compile(() => ema.update())
  const [state, saved] = [await ema.stateDict(), await averagesOf(ema)]
  update()
  ema.swap()
  t.is(codeOf(update), 'ERR_ARGUMENT', 'recorded before they were swapped')
  ema.swap()
  t.notDeepEqual(await averagesOf(ema), saved)
  ema.loadStateDict(state)
  t.deepEqual([ema.swapped, await Promise.all(list.map(values)), await averagesOf(ema)], [false, own, averages])
  // The optimiser still has these parameters.
  move(list, sgd, 999)
  t.notDeepEqual(await Promise.all(list.map(values)), own)
  ema.copyTo()
  t.deepEqual(await Promise.all(list.map(values)), averages)
})

onDevices('an average is of the parameters wherever an optimiser has moved them', async (t, device) => {
  const p = parameter(5, 1, device)
  const ema = new optim.EMA([p], { decay: 0 })
  const sgd = new optim.SGD([p], { lr: 1 })
  move([p], sgd, 3)
  ema.update()
  t.deepEqual((await averagesOf(ema))[0], await values(p))
})

onDevices('a restored average continues as the one that was saved', async (t, device) => {
  const run = async (interrupted: boolean): Promise<unknown> => {
    const list = [parameter(3, 1, device), parameter(66, 2, device)]
    const sgd = new optim.SGD(list, { lr: 0.1 })
    const options: optim.EMAOptions = { decay: (n) => n / (n + 3) }
    let ema = new optim.EMA(list, options)
    for (let s = 0; s < 6; s++) {
      if (s === 3 && interrupted) {
        const state = structuredClone(await ema.stateDict())
        ema = new optim.EMA(list, options)
        ema.loadStateDict(state)
      }
      move(list, sgd, 10 * s)
      ema.update()
    }
    return ema.stateDict()
  }
  t.deepEqual(await run(true), await run(false))
})

onDevices('what does not fit is refused and changes nothing', async (t, device) => {
  const p = parameter(4, 1, device)
  const ema = new optim.EMA([p])
  const state = await ema.stateDict()
  const own = state.parameters[0]!
  for (const wrong of [
    null,
    { update: 1 },
    { ...state, update: -1 },
    { ...state, parameters: [] },
    { ...state, parameters: [own, own] },
    { ...state, parameters: [{ ...own, shape: [2, 2] }] },
    { ...state, parameters: [{ ...own, arrays: { average: new Float32Array(3) } }] },
    { ...state, parameters: [{ ...own, arrays: {} }] },
  ])
    t.is(codeOf(() => ema.loadStateDict(wrong as optim.EMAState)), 'ERR_FORMAT') // prettier-ignore
  t.deepEqual(await ema.stateDict(), state)
  for (const decay of [1, -0.1, Number.NaN, '0.9'])
    t.is(codeOf(() => new optim.EMA([p], { decay: decay as number })), 'ERR_ARGUMENT') // prettier-ignore
  for (const weights of [[], [3], null, 5, {}])
    t.is(codeOf(() => new optim.EMA(weights as never)), 'ERR_ARGUMENT') // prettier-ignore
  t.is(codeOf(() => new optim.EMA([p], { decay: () => 2 }).update()), 'ERR_ARGUMENT') // prettier-ignore
  t.is(codeOf(() => ema.copyTo([p, parameter(4, 2, device)])), 'ERR_ARGUMENT') // prettier-ignore
  t.is(codeOf(() => ema.copyTo([parameter(5, 2, device)])), 'ERR_SHAPE') // prettier-ignore
  t.is(codeOf(() => compile(() => new optim.EMA([p]))()), 'ERR_TRACE') // prettier-ignore
  t.is(codeOf(() => compile(() => ema.swap())()), 'ERR_TRACE') // prettier-ignore
  t.deepEqual(await ema.stateDict(), state)
})
