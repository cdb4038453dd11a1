/** Schedules: their documented values, their ends, that nothing divides by 0, and the optimiser that asks them. */

import test from 'ava'

import { Parameter, type Tensor, TilegradError, compile, optim, tensor } from '../../ts/index.ts'
import { onDevices } from '../helpers/devices.ts'
import { near, values } from '../helpers/values.ts'

const { constant, exponential, linearWarmup, scaleLearningRate, sequential, step, warmupCosine } = optim

test('warm-up and cosine give the documented values, and stay at the floor', (t) => {
  const lr = warmupCosine(1, 10, 100)
  near(t, [0, 5, 10, 55, 100, 110, 190, 1e9].map(lr), [0, 0.5, 1, 0.5, 0, 0, 0, 0], 1e-15)
  t.deepEqual([lr(0), lr(10), lr(110), lr(190)], [0, 1, 0, 0])
})

test('warm-up and cosine against the formula at every step', (t) => {
  for (const [base, warmup, total, minLr, offset] of [
    [0.3, 7, 50, 0.01, 0],
    [0.3, 7, 50, 0.01, 1],
    [2, 0, 13, 0, 0.5],
    [0.5, 1, 2, 0.5, 1],
    [0.1, 3, 20, 0.4, 0],
  ] as const) {
    const lr = warmupCosine(base, warmup, total, minLr, offset)
    for (let s = 0; s < 70; s++) {
      const q = Math.min(Math.max((s - warmup) / (total - warmup), 0), 1)
      const wanted =
        s < warmup ? (base * (s + offset)) / warmup : minLr + (base - minLr) * 0.5 * (1 + Math.cos(Math.PI * q))
      t.true(Math.abs(lr(s) - wanted) <= 1e-15 * base, `${s}`)
    }
  }
})

test('without warm-up the cosine starts at the base, and a warm-up as long as all is legal', (t) => {
  t.is(warmupCosine(0.5, 0, 10)(0), 0.5)
  for (const total of [10, 4, 0]) {
    const lr = warmupCosine(1, 10, total, 0.125)
    t.deepEqual([0, 5, 9, 10, 11, 1000].map(lr), [0, 0.5, 0.9, 0.125, 0.125, 0.125])
  }
  t.deepEqual([0, 1].map(warmupCosine(1, 0, 0, 0.25)), [0.25, 0.25])
})

test('an offset of 1 begins above 0 and ends the warm-up at the base', (t) => {
  t.deepEqual([0, 1, 3, 4].map(linearWarmup(1, 4)), [0, 0.25, 0.75, 1])
  t.deepEqual([0, 1, 3, 4].map(linearWarmup(1, 4, 1)), [0.25, 0.5, 1, 1])
  t.deepEqual([0, 1].map(linearWarmup(0.7, 0)), [0.7, 0.7])
  t.is(warmupCosine(1, 4, 8, 0, 1)(3), 1)
})

test('step and exponential are powers of gamma', (t) => {
  t.deepEqual([0, 29, 30, 59, 60].map(step(0.8, 30, 0.5)), [0.8, 0.8, 0.4, 0.4, 0.2])
  near(t, [10, 25].map(step(1, 10)), [0.1, 0.01], 1e-16)
  t.deepEqual([0, 1, 3].map(exponential(1, 0.5)), [1, 0.5, 0.125])
  t.deepEqual([0, 1e6].map(constant(0.3)), [0.3, 0.3])
})

test('sequential hands over at its milestones, and each part counts for itself', (t) => {
  const seen: [string, number][] = []
  const part = (name: string) => (s: number) => {
    seen.push([name, s])
    return 1
  }
  const lr = sequential([part('a'), part('b'), part('c')], [3, 5])
  for (const s of [0, 2, 3, 4, 5, 100]) lr(s)
  t.deepEqual(seen, [['a', 0], ['a', 2], ['b', 0], ['b', 1], ['c', 0], ['c', 95]]) // prettier-ignore
  t.is(sequential([constant(0.5)], [])(7), 0.5)
  t.is(sequential([constant(1), exponential(2, 0.5)], [0])(1), 1)
})

test('learning rates scale with the batch', (t) => {
  t.is(scaleLearningRate(0.001, 32, 256), 0.008)
  t.is(scaleLearningRate(0.001, 32, 256, 'linear'), 0.008)
  t.is(scaleLearningRate(0.5, 16, 64, 'sqrt'), 1)
  t.is(scaleLearningRate(1, 64, 32), 0.5)
})

test('what is no setting of a schedule is refused when it is made', (t) => {
  const refused: (() => unknown)[] = [
    () => constant(-1),
    () => constant('0.1' as never),
    () => linearWarmup(Number.NaN, 3),
    () => linearWarmup(1, 2.5),
    () => linearWarmup(1, -1),
    () => linearWarmup(1, 3, 2),
    () => linearWarmup(1, 3, { offset: 1 } as never),
    () => warmupCosine(1, 1, Infinity),
    () => warmupCosine(1, 1, 10, -0.1),
    () => warmupCosine(1, 1, 10, 0, -1),
    () => warmupCosine(1, undefined as never, 10),
    () => step(1, 0),
    () => step(1, 3, Number.NaN),
    () => exponential(1, -0.5),
    () => exponential(1, undefined as never),
    () => sequential([], []),
    () => sequential([constant(1), constant(2)], []),
    () => sequential([constant(1), constant(2)], undefined as never),
    () => sequential([constant(1), constant(2)], [-1]),
    () => sequential([constant(1), constant(2), constant(3)], [5, 5]),
    () => sequential([constant(1), 3 as never], [5]),
    () => scaleLearningRate(0.1, 0, 32),
    () => scaleLearningRate(0.1, 32, 256, 'log' as never),
  ]
  for (const [i, make] of refused.entries())
    t.is(t.throws(make, { instanceOf: TilegradError }, `${i}`)?.code, 'ERR_ARGUMENT')
})

onDevices('optimisers ask their schedule at every attempted step, eager and compiled', async (t, device) => {
  const schedule = warmupCosine(1, 4, 12, 0.125, 1)
  const run = async (compiled: boolean): Promise<number[][]> => {
    const p = new Parameter([0], { device })
    const optimizer = new optim.SGD([p], { lr: schedule })
    const body = (ok: Tensor): void => {
      p.grad = tensor([-1], { device })
      optimizer.step({ ok })
      optimizer.zeroGrad()
    }
    const one = compiled ? compile(body) : body
    const seen: number[][] = []
    for (let s = 0; s < 16; s++) {
      // Every third step is held back: the schedule goes on all the same.
      one(tensor(s % 3 !== 2, { device }))
      seen.push(await values(p), [optimizer.lr])
    }
    return seen
  }
  const eager = await run(false)
  let at = 0
  for (let s = 0; s < 16; s++) {
    if (s % 3 !== 2) at += schedule(s)
    near(t, eager[2 * s]!, [at], 1e-6)
    t.deepEqual(eager[2 * s + 1], [schedule(s + 1)])
  }
  t.deepEqual(await run(true), eager)
})
