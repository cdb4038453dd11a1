/**
 * What a `GradientAccumulator` can be told: clipping, how micro-batches weigh, what to do about gradients that are not
 * finite, sums over several workers, a moving average of the weights. All of it as it is and inside compiled functions.
 */

import { type Device, Parameter, type Tensor, compile, nn, optim, tensor, train } from '../../ts/index.ts'
import { onDevices, open } from '../helpers/devices.ts'
import { codeOf, rejectionOf } from '../helpers/errors.ts'
import { near, values } from '../helpers/values.ts'

/** A window over one weight: the sum of a micro-batch is its numbers times the weight. */
class Weighing {
  readonly weight: Parameter
  readonly accumulator: train.GradientAccumulator
  readonly #device: Device
  readonly #add: (items: Tensor, count: Tensor) => void

  constructor(device: Device, options: train.AccumulatorOptions, compiled: boolean, lr: number | optim.Schedule = 1) {
    this.#device = device
    this.weight = new Parameter([0, 0], { device })
    this.accumulator = new train.GradientAccumulator(new optim.SGD([this.weight], { lr }), options)
    const add = (items: Tensor, count: Tensor): void =>
      this.accumulator.add({ sum: items.mul(this.weight).sum(), count })
    this.#add = compiled ? compile(add) : add
    this.step = compiled ? compile(() => this.accumulator.step()) : () => this.accumulator.step()
  }

  readonly step: () => train.StepResult

  add(items: readonly [number, number], count: number): void {
    this.#add(tensor(items, { device: this.#device }), tensor(count, { device: this.#device }))
  }
}

for (const compiled of [false, true]) {
  const how = compiled ? 'compiled' : 'as it is'

  onDevices(`the gradient of the window is shortened to clipNorm, micro-batches are not, ${how}`, async (t, device) => {
    const w = new Weighing(device, { clipNorm: 1 }, compiled)
    for (const [items, want] of [
      [
        [6, 8],
        [-0.6, -0.8],
      ],
      [
        [0.6, 0.8],
        [-0.9, -1.2],
      ],
    ] as const) {
      w.add([items[0], 0], 1)
      w.add([0, items[1]], 1)
      const { norm } = w.step()
      near(t, await values(norm), [Math.hypot(...items) / 2], 1e-6)
      near(t, await values(w.weight), want, 1e-6)
    }
  })

  onDevices(`every element of the gradient of the window is held within clipValue, ${how}`, async (t, device) => {
    const w = new Weighing(device, { clipValue: 2 }, compiled)
    w.add([9, -9], 1)
    w.add([3, -1], 2)
    w.add([0, 7], 1)
    const { norm } = w.step()
    near(t, await values(norm), [Math.hypot(3, -0.75)], 1e-6)
    near(t, await values(w.weight), [-2, 0.75], 1e-6)
    t.is(w.weight.grad, null)
  })

  onDevices(`'microMean' is the mean of the means, ${how}`, async (t, device) => {
    const w = new Weighing(device, { mode: 'microMean' }, compiled)
    for (const empty of [false, true]) {
      w.add([4, 4], 1)
      w.add([9, 9], 9)
      // One that counts nothing has a mean of 0, whatever its sum.
      if (empty) w.add([5, 5], 0)
      const { norm, count } = w.step()
      near(t, await values(norm), [Math.SQRT2 * (empty ? 5 / 3 : 2.5)], 1e-6)
      t.is(await count.item(), 10)
    }
    near(t, await values(w.weight), [-2.5 - 5 / 3, -2.5 - 5 / 3], 1e-6)
  })

  onDevices(`'knownTotal' divides by what was said in advance, window for window, ${how}`, async (t, device) => {
    const w = new Weighing(device, { mode: 'knownTotal' }, compiled)
    t.is(codeOf(() => w.add([4, 0], 1)), 'ERR_ARGUMENT') // prettier-ignore
    for (const [total, want] of [
      [10, -1.3],
      [5, -3.9],
    ] as const) {
      w.accumulator.total = total
      w.add([4, 0], 1)
      t.is(codeOf(() => (w.accumulator.total = 3)), 'ERR_ARGUMENT') // prettier-ignore
      w.add([9, 0], 9)
      const { count } = w.step()
      t.is(await count.item(), 10)
      near(t, await values(w.weight), [want, 0], 1e-6)
      t.falsy(w.accumulator.total)
    }
    t.is(codeOf(() => w.add([4, 0], 1)), 'ERR_ARGUMENT') // prettier-ignore
  })

  onDevices(
    `with onNonFinite 'throw' such a step changes nothing and fails where it is read, ${how}`,
    async (t, { kind }) => {
      const device = await open({ kind })
      const w = new Weighing(device, { onNonFinite: 'throw' }, compiled)
      w.add([1, NaN], 1)
      const { applied, norm, count } = w.step()
      for (const x of [applied, norm, count]) t.is(await rejectionOf(x.data()), 'ERR_ARGUMENT')
      await t.throwsAsync(norm.data(), { message: /not finite/ })
      t.deepEqual(await values(w.weight), [0, 0])
      w.add([1, 2], 1)
      t.is(await w.step().applied.array(), true)
      t.deepEqual(await values(w.weight), [-1, -2])
    },
  )

  onDevices(`reduce gives the sums of all workers, once per step, ${how}`, async (t, device) => {
    let calls = 0
    const reduce = ({ gradients, count }: train.Window): train.Window => {
      calls++
      // Another worker has seen [1, 1] and two items more.
      return { gradients: gradients.map((g) => g.add(1)), count: count.add(2) }
    }
    const w = new Weighing(device, { reduce, clipValue: 100 }, compiled)
    const plain = new Weighing(device, { reduce }, compiled)
    for (const one of [w, plain]) {
      one.add([4, 0], 1)
      one.add([1, 2], 1)
      const { count, norm } = one.step()
      t.is(await count.item(), 4)
      near(t, await values(norm), [Math.hypot(1.5, 0.75)], 1e-6)
      near(t, await values(one.weight), [-1.5, -0.75], 1e-6)
    }
    t.is(calls, 2)
  })

  onDevices(`a moving average is brought up to date where the step is applied, ${how}`, async (t, device) => {
    const average = new Parameter([0, 0], { device })
    const ema = new optim.SGD([average], { lr: 1 })
    const update = (gate: optim.StepGate): void => {
      average.grad = tensor([1, 1], { device })
      ema.step(gate)
      ema.zeroGrad()
    }
    const w = new Weighing(device, { ema: { update } }, compiled)
    for (const [items, want] of [
      [[1, 1], -1],
      [[1, Infinity], -1],
      [[1, 1], -2],
    ] as const) {
      w.add(items, 1)
      w.step()
      t.deepEqual(await values(average), [want, want])
    }
  })
}

onDevices('an EMA follows the steps that are applied, as it is and compiled', async (t, device) => {
  for (const compiled of [false, true]) {
    const weight = new Parameter([0], { device })
    const ema = new optim.EMA([weight], { decay: 0.5 })
    const acc = new train.GradientAccumulator(new optim.SGD([weight], { lr: 1 }), { ema })
    const once = (g: Tensor): train.StepResult => {
      acc.add({ sum: weight.mul(g).sum(), count: tensor(1, { device }) })
      return acc.step()
    }
    const step = compiled ? compile(once) : once
    // The first update takes the weight as it is; what is not applied is none.
    for (const g of [NaN, -2, Infinity, -2]) step(tensor([g], { device }))
    ema.swap()
    t.deepEqual(await values(weight), [3])
    ema.swap()
    t.deepEqual(await values(weight), [4])
    // Nothing is counted: the weight stays, and so does what it is on average.
    acc.add({ sum: weight.mul(2).sum(), count: tensor(0, { device }) })
    acc.step()
    ema.swap()
    t.deepEqual(await values(weight), [3])
    ema.swap()
  }
})

onDevices(
  'a gradient that only another worker has found to be infinite holds the step back for all',
  async (t, device) => {
    const reduce = ({ gradients, count }: train.Window): train.Window => ({
      gradients: gradients.map((g) => g.add(tensor([0, Infinity], { device }))),
      count,
    })
    const w = new Weighing(device, { reduce }, false)
    w.add([1, 1], 1)
    const { applied, norm } = w.step()
    t.is(await applied.array(), false)
    t.false(Number.isFinite(await norm.item()))
    t.deepEqual(await values(w.weight), [0, 0])
  },
)

onDevices('in every mode a window that counts nothing changes nothing', async (t, device) => {
  for (const mode of ['exact', 'knownTotal', 'microMean'] as const) {
    const w = new Weighing(device, { mode }, false)
    if (mode === 'knownTotal') w.accumulator.total = 4
    for (let i = 0; i < 2; i++) w.add([3, 4], 0)
    const { applied, count } = w.step()
    t.deepEqual([await applied.array(), await count.item(), ...(await values(w.weight))], [false, 0, 0, 0], mode)
  }
})

onDevices(
  'a window sums up, is clipped, steps, is averaged: each once, in this order, however many micro-batches',
  async (t, device) => {
    const log: string[] = []
    class Logged extends optim.SGD {
      override step(gate: optim.StepGate = {}): void {
        log.push('step')
        super.step(gate)
      }
    }
    const weight = new Parameter([0], { device })
    const rates: number[] = []
    const lr = (step: number): number => {
      rates.push(step)
      return 1
    }
    const average = new optim.EMA([weight], { decay: 0.5 })
    const acc = new train.GradientAccumulator(new Logged([weight], { lr }), {
      clipNorm: 1,
      reduce: (window) => {
        log.push('reduce')
        return { gradients: window.gradients.map((g) => g.mul(2)), count: window.count.mul(2) }
      },
      ema: {
        update(gate) {
          log.push('average')
          average.update(gate)
        },
      },
    })
    for (const [s, window] of [[-3, -4, -5], [-0.5]].entries()) {
      for (const g of window) {
        acc.add({ sum: weight.mul(g).sum(), count: tensor(1, { device }) })
        t.deepEqual(log, [])
      }
      const { norm, count } = acc.step()
      t.deepEqual(log.splice(0), ['reduce', 'step', 'average'])
      t.deepEqual(rates.splice(0), [s])
      // The norm is that of the mean over all workers, before it is clipped.
      t.deepEqual([await norm.item(), await count.item()], s === 0 ? [4, 6] : [0.5, 2])
    }
    // 1, then 0.5 more, of which the average has half.
    near(t, await values(weight), [1.5], 1e-6)
    average.copyTo()
    near(t, await values(weight), [1.25], 1e-6)
  },
)

onDevices(
  'a target out of range in one micro-batch holds the whole step back, and fails what the step says',
  async (t, { kind }) => {
    const device = await open({ kind })
    for (const compiled of [false, true]) {
      const layer = new nn.Linear(2, 2, { device })
      const optimizer = new optim.AdamW(layer.parameters(), { lr: 0.1 })
      const ema = new optim.EMA(layer, { decay: 0.5 })
      const acc = new train.GradientAccumulator(optimizer, { ema })
      const x = tensor([[1, 2]], { device })
      const add = (y: Tensor): void => acc.add(nn.crossEntropy(layer.forward(x), y, { reduction: 'parts' }))
      const [micro, step] = compiled ? [compile(add), compile(() => acc.step())] : [add, () => acc.step()]
      const go = (targets: readonly number[]): train.StepResult => {
        for (const target of targets) micro(tensor([target], { dtype: 'i32', device }))
        return step()
      }
      t.is(await go([0, 1]).applied.array(), true)
      const before = [await layer.stateDict(), (await optimizer.stateDict()).groups, (await ema.stateDict()).parameters]
      const result = go([1, 2, 0])
      for (const part of [result.applied, result.norm, result.count])
        t.is(await rejectionOf(part.data()), 'ERR_ARGUMENT')
      t.deepEqual([await layer.stateDict(), (await optimizer.stateDict()).groups, (await ema.stateDict()).parameters], before) // prettier-ignore
      t.is(await go([1, 1]).applied.array(), true)
      t.notDeepEqual(await layer.stateDict(), before[0])
    }
    await rejectionOf(device.sync())
  },
)

onDevices('a step that throws leaves the window as it was', async (t, device) => {
  let broken = true
  const schedule = (): number => {
    if (broken) throw new Error('no rate')
    return 1
  }
  const w = new Weighing(device, { clipValue: 1 }, false, schedule)
  w.add([4, 0.5], 1)
  t.throws(() => w.step(), { message: 'no rate' })
  t.is(w.accumulator.microBatches, 1)
  t.deepEqual(await values(w.weight.grad), [4, 0.5])
  broken = false
  w.step()
  t.deepEqual(await values(w.weight), [-1, -0.5])
})

onDevices('the factor of a norm of 5 and a limit of 1 is 0.19999996', async (t, device) => {
  const [a, b] = [new Parameter([0], { device }), new Parameter([0], { device })]
  const acc = new train.GradientAccumulator(new optim.SGD([a, b], { lr: 1 }), { clipNorm: 1 })
  acc.add({ sum: a.mul(3).add(b.mul(4)).sum(), count: tensor(1, { device }) })
  t.is(await acc.step().norm.item(), 5)
  near(t, [...(await values(a)), ...(await values(b))], [-3 * 0.19999996, -4 * 0.19999996], 1e-7)
})

onDevices('options that are none are refused', (t, device) => {
  const optimizer = new optim.SGD([new Parameter([0], { device })], { lr: 1 })
  const bad: unknown[] = [
    { clipNorm: 0 },
    { clipNorm: NaN },
    { clipValue: -1 },
    { clipNorm: 1, clipValue: 1 },
    { mode: 'mean' },
    { onNonFinite: 'ignore' },
    { reduce: 1 },
    { ema: {} },
    5,
  ]
  for (const options of bad) {
    const make = (): unknown => new train.GradientAccumulator(optimizer, options as train.AccumulatorOptions)
    t.is(codeOf(make), 'ERR_ARGUMENT', JSON.stringify(options))
  }
  const acc = new train.GradientAccumulator(optimizer)
  t.is(codeOf(() => (acc.total = 4)), 'ERR_ARGUMENT') // prettier-ignore
  const known = new train.GradientAccumulator(optimizer, { mode: 'knownTotal' })
  for (const total of [0, -1, NaN, Infinity]) t.is(codeOf(() => (known.total = total)), 'ERR_ARGUMENT') // prettier-ignore
})

onDevices('what reduce gives has to be like what it was given', (t, device) => {
  const cases: ((window: train.Window) => unknown)[] = [
    () => undefined,
    ({ gradients }) => ({ gradients }),
    ({ gradients, count }) => ({ gradients: gradients.slice(1), count }),
    ({ gradients, count }) => ({ gradients: gradients.map((g) => g.sum()), count }),
    ({ gradients, count }) => ({ gradients, count: count.cast('i32') }),
  ]
  for (const reduce of cases) {
    const w = new Weighing(device, { reduce: reduce as never }, false)
    w.add([1, 1], 1)
    t.is(codeOf(() => w.step()), 'ERR_SHAPE') // prettier-ignore
  }
})
