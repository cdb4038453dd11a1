/** The updates of all optimisers: documented values, and fifty steps beside the formulas in f64. */

import { type Device, type Dtype, Parameter, type Tensor, compile, optim, tensor } from '../../ts/index.ts'
import { onDevices } from '../helpers/devices.ts'
import { near, random, values } from '../helpers/values.ts'
import { type Adam, type Reference, type Rmsprop, type Sgd, adam, adamw, reference, rmsprop, sgd } from './reference.ts'

/** Around the 64 elements that places in a slab are rounded up to, and shapes of every rank. */
const SHAPES = [[], [1], [3, 5], [63], [64], [65], [2, 3, 11]]

/** One parameter whose gradient is always 1. */
async function withUnitGradient(
  device: Device,
  p: number,
  steps: number,
  make: (p: Parameter) => optim.Optimizer,
  g = 1,
): Promise<number[]> {
  const parameter = new Parameter([p], { device })
  const optimizer = make(parameter)
  const seen: number[] = []
  for (let i = 0; i < steps; i++) {
    parameter.grad = tensor([g], { device })
    optimizer.step()
    optimizer.zeroGrad()
    seen.push(...(await values(parameter)))
  }
  return seen
}

onDevices('AdamW, Adam and SGD give the documented values', async (t, device) => {
  near(
    t,
    await withUnitGradient(device, 1, 1, (p) => new optim.AdamW([p], { lr: 0.1, weightDecay: 0.01 }), 2),
    [0.899],
    1e-6,
  )
  near(
    t,
    await withUnitGradient(device, 1, 1, (p) => new optim.Adam([p], { lr: 0.1, weightDecay: 0.01 }), 2),
    [0.9],
    1e-6,
  )
  near(
    t,
    await withUnitGradient(device, 1, 2, (p) => new optim.SGD([p], { lr: 0.1, momentum: 0.9 })),
    [0.9, 0.71],
    1e-6,
  )
  near(
    t,
    await withUnitGradient(device, 1, 2, (p) => new optim.SGD([p], { lr: 0.1, momentum: 0.9, nesterov: true })),
    [0.81, 0.539],
    1e-6,
  )
  near(t, await withUnitGradient(device, 1, 2, (p) => new optim.SGD([p], { lr: 0.1 })), [0.9, 0.8], 1e-6)
})

/** Runs both side by side on fresh random gradients, with a change of the learning rate half-way. */
async function sideBySide(
  device: Device,
  dtype: Dtype,
  make: (parameters: Parameter[]) => optim.Optimizer,
  step: (state: Reference, gradient: ArrayLike<number>, lr: number) => void,
  lr: number,
): Promise<{
  actual: number[][]
  expected: Float64Array[]
  references: Reference[]
  optimizer: optim.Optimizer
}> {
  const starts = SHAPES.map((shape, i) => random(shape, { seed: i }))
  const parameters = starts.map((data, i) => new Parameter(data, { shape: SHAPES[i]!, dtype, device }))
  const references = starts.map(reference)
  const optimizer = make(parameters)
  for (let s = 0; s < 50; s++) {
    if (s === 25) optimizer.lr = lr / 3
    for (const [i, p] of parameters.entries()) {
      const gradient = random(SHAPES[i]!, { seed: 1000 * s + i })
      p.grad = tensor(gradient, { shape: SHAPES[i]!, dtype, device })
      step(references[i]!, gradient, optimizer.lr)
    }
    optimizer.step()
    optimizer.zeroGrad()
  }
  return {
    actual: await Promise.all(parameters.map(values)),
    expected: references.map((r) => r.p),
    references,
    optimizer,
  }
}

const SGDS: [string, Sgd][] = [
  ['plain SGD', { lr: 0.1 }],
  ['SGD with weight decay', { lr: 0.1, weightDecay: 0.1 }],
  ['SGD with momentum', { lr: 0.05, momentum: 0.9 }],
  ['SGD with dampening', { lr: 0.05, momentum: 0.9, dampening: 0.5 }],
  ['SGD with momentum and weight decay', { lr: 0.05, momentum: 0.8, weightDecay: 0.05 }],
  ['SGD with Nesterov momentum and weight decay', { lr: 0.05, momentum: 0.9, nesterov: true, weightDecay: 0.01 }],
]

const ADAMWS: [string, Adam][] = [
  ['AdamW with its defaults', { lr: 0.01 }],
  ['AdamW without weight decay', { lr: 0.01, weightDecay: 0 }],
  ['AdamW with other betas, eps and decay', { lr: 0.02, betas: [0.8, 0.95], eps: 1e-3, weightDecay: 0.2 }],
  ['AdamW with betas of 0', { lr: 0.02, betas: [0, 0] }],
  ['AdamW with amsgrad', { lr: 0.02, betas: [0.8, 0.9], amsgrad: true }],
]

function tolerances(device: Device): [Dtype, number][] {
  return device.kind === 'js' ? [['f64', 1e-9], ['f32', 1e-5]] : [['f32', 1e-5]] // prettier-ignore
}

for (const [name, options] of SGDS) {
  onDevices(`fifty steps of ${name} follow the formula`, async (t, device) => {
    for (const [dtype, tolerance] of tolerances(device)) {
      const run = await sideBySide(
        device,
        dtype,
        (p) => new optim.SGD(p, options),
        (s, g, lr) => sgd(s, g, { ...options, lr }),
        options.lr,
      )
      run.actual.forEach((p, i) => near(t, p, run.expected[i]!, tolerance, `${dtype} [${SHAPES[i]!.join(', ')}]`))
    }
  })
}

for (const [name, options] of ADAMWS) {
  onDevices(`fifty steps of ${name} follow the formula`, async (t, device) => {
    for (const [dtype, tolerance] of tolerances(device)) {
      const run = await sideBySide(
        device,
        dtype,
        (p) => new optim.AdamW(p, options),
        (s, g, lr) => adamw(s, g, { ...options, lr }),
        options.lr,
      )
      run.actual.forEach((p, i) => near(t, p, run.expected[i]!, tolerance, `${dtype} [${SHAPES[i]!.join(', ')}]`))
    }
  })
}

const ADAMS: [string, Adam][] = [
  ['Adam with its defaults', { lr: 0.01 }],
  ['Adam with coupled decay and other settings', { lr: 0.02, betas: [0.8, 0.95], eps: 1e-3, weightDecay: 0.2 }],
  ['Adam with amsgrad and coupled decay', { lr: 0.02, betas: [0.8, 0.9], amsgrad: true, weightDecay: 0.1 }],
]

for (const [name, options] of ADAMS) {
  onDevices(`fifty steps of ${name} follow the formula`, async (t, device) => {
    for (const [dtype, tolerance] of tolerances(device)) {
      const run = await sideBySide(
        device,
        dtype,
        (p) => new optim.Adam(p, options),
        (s, g, lr) => adam(s, g, { ...options, lr }),
        options.lr,
      )
      run.actual.forEach((p, i) => near(t, p, run.expected[i]!, tolerance, `${dtype} [${SHAPES[i]!.join(', ')}]`))
    }
  })
}

const RMSPROPS: [string, Rmsprop][] = [
  ['RMSprop with its defaults', { lr: 0.01 }],
  ['RMSprop with other alpha, eps and decay', { lr: 0.02, alpha: 0.9, eps: 1e-3, weightDecay: 0.1 }],
  ['RMSprop with momentum', { lr: 0.01, alpha: 0.9, momentum: 0.8 }],
  ['RMSprop, centered', { lr: 0.01, alpha: 0.9, eps: 1e-2, centered: true }],
  ['RMSprop, centered with momentum', { lr: 0.01, alpha: 0.9, eps: 1e-2, centered: true, momentum: 0.7 }],
]

for (const [name, options] of RMSPROPS) {
  onDevices(`fifty steps of ${name} follow the formula`, async (t, device) => {
    for (const [dtype, tolerance] of tolerances(device)) {
      const run = await sideBySide(
        device,
        dtype,
        (p) => new optim.RMSprop(p, options),
        (s, g, lr) => rmsprop(s, g, { ...options, lr }),
        options.lr,
      )
      run.actual.forEach((p, i) => near(t, p, run.expected[i]!, tolerance, `${dtype} [${SHAPES[i]!.join(', ')}]`))
    }
  })
}

onDevices('an lr given as a plain field counts from the next step on', async (t, device) => {
  const p = new Parameter([1], { device })
  const optimizer = new optim.SGD([p], { lr: 1 })
  p.grad = tensor([1], { device })
  optimizer.step()
  optimizer.lr = 0.25
  optimizer.step()
  optimizer.lr = 0
  optimizer.step()
  t.deepEqual(await values(p), [-0.25])
})

onDevices('scale multiplies the gradient before anything else', async (t, device) => {
  const make = (): Parameter => new Parameter([2, 4], { device })
  const [scaled, plain] = [make(), make()]
  const options = { lr: 0.5, momentum: 0.5, weightDecay: 0.25 }
  const optimizers = [new optim.SGD([scaled], options), new optim.SGD([plain], options)]
  for (let i = 0; i < 3; i++) {
    scaled.grad = tensor([8, -16], { device })
    plain.grad = tensor([2, -4], { device })
    optimizers[0]!.step({ scale: tensor(0.25, { device }) })
    optimizers[1]!.step()
  }
  t.deepEqual(await values(scaled), await values(plain))
})

onDevices(
  'bias corrections keep their digits for betas near 1, in the first step and in the millionth',
  async (t, device) => {
    for (const betas of [
      [0.9, 0.999],
      [1 - 1e-6, 1 - 1e-7],
      [0, 1 - 1e-8],
    ] as const) {
      // In the first step both corrections cancel what the moments have been multiplied by: it goes by lr, whatever the betas.
      for (const make of [optim.Adam, optim.AdamW]) {
        const [moved] = await withUnitGradient(
          device,
          0,
          1,
          (p) => new make([p], { lr: 0.5, betas, weightDecay: 0 }),
          -3,
        )
        t.true(Math.abs(moved! - 0.5) < 2e-6, `${betas.join()}: ${moved}`)
      }
      const p = new Parameter([0], { device })
      const optimizer = new optim.Adam([p], { lr: 0.5, betas, eps: 0 })
      const state = await optimizer.stateDict()
      const arrays = { m: Float32Array.of(0.25), v: Float32Array.of(0.5) }
      const own = { ...state.groups[0]!.parameters[0]!, step: 999_999, arrays }
      optimizer.loadStateDict({ ...state, groups: [{ ...state.groups[0]!, parameters: [own] }] })
      p.grad = tensor([1], { device })
      optimizer.step()
      const [m, v] = [0.25, 0.5].map((old, i) => betas[i]! * old + (1 - betas[i]!)) as [number, number]
      const [c1, c2] = betas.map((beta) => -Math.expm1(1e6 * Math.log(beta))) as [number, number]
      near(t, await values(p), [-((0.5 / c1) * m) / Math.sqrt(v / c2)], 1e-6, betas.join())
    }
  },
)

const UNDECAYED: readonly (readonly [string, (p: Tensor, weightDecay: number) => optim.Optimizer])[] = [
  ['SGD', (p, weightDecay) => new optim.SGD([p], { lr: 0.5, weightDecay })],
  ['SGD, momentum', (p, weightDecay) => new optim.SGD([p], { lr: 0.5, momentum: 0.5, dampening: 0.25, weightDecay })],
  ['SGD, Nesterov', (p, weightDecay) => new optim.SGD([p], { lr: 0.5, momentum: 0.5, nesterov: true, weightDecay })],
  ['Adam', (p, weightDecay) => new optim.Adam([p], { lr: 0.5, weightDecay })],
  ['Adam, amsgrad', (p, weightDecay) => new optim.Adam([p], { lr: 0.5, amsgrad: true, weightDecay })],
  ['AdamW', (p, weightDecay) => new optim.AdamW([p], { lr: 0.5, weightDecay })],
  ...[false, true].flatMap((centered) =>
    [0, 0.5].map((momentum): [string, (p: Tensor, weightDecay: number) => optim.Optimizer] => [
      `RMSprop, momentum ${momentum}${centered ? ', centered' : ''}`,
      (p, weightDecay) => new optim.RMSprop([p], { lr: 0.5, momentum, centered, weightDecay }),
    ]),
  ),
]

for (const [name, make] of UNDECAYED) {
  onDevices(`${name}: without a decay nothing of a parameter gets into its gradient`, async (t, device) => {
    const run = async (start: readonly number[], decay: number, compiled: boolean) => {
      const p = new Parameter(start.slice(), { device })
      const optimizer = make(p, decay)
      const body = (g: Tensor): void => {
        p.grad = g.mul(1)
        optimizer.step()
      }
      const step = compiled ? compile(body) : body
      for (let s = 0; s < 3; s++) step(tensor([1, -2, 0.5, 3, -1].slice(0, start.length), { device }))
      const { arrays } = (await optimizer.stateDict()).groups[0]!.parameters[0]!
      return { values: await values(p), state: Object.values(arrays).flatMap((x) => [...x]) }
    }
    for (const compiled of [false, true]) {
      const { values, state } = await run([Infinity, -Infinity, 2, NaN, -3], 0, compiled)
      const finite = await run([1, 1, 2, 1, -3], 0, compiled)
      t.deepEqual([values[0], values[1], values[3]], [Infinity, -Infinity, NaN])
      t.deepEqual([values[2], values[4]], [finite.values[2], finite.values[4]])
      t.deepEqual(state, finite.state)
      t.true(state.every(Number.isFinite))
      // With one an infinite parameter has an infinite gradient: from ∞ that leaves nothing.
      if (name === 'SGD') t.true(Number.isNaN((await run([Infinity], 0.5, compiled)).values[0]))
    }
  })
}
