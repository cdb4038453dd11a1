/**
 * What changes from run to run without another recording: learning rates, scalars, random numbers. Compiled functions
 * and the functions themselves go through the same changes and stay together, bit for bit.
 */

import type { ExecutionContext } from 'ava'

import { type Device, Parameter, type Scalar, type Tensor, type TilegradError, compile, full, manualSeed, nn, optim, rand, randn, scalar, tensor, train } from '../../ts/index.ts' // prettier-ignore
import { agree, read } from '../helpers/compiled.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { random, values } from '../helpers/values.ts'

/** A small training step, the same each time it is made. */
function trainer(device: Device, make: (parameters: Parameter[]) => optim.Optimizer) {
  const w = new Parameter([1, -2, 3], { device })
  const optimizer = make([w])
  const step = (x: Tensor): Tensor => {
    optimizer.zeroGrad()
    const loss = w.mul(x).square().sum()
    loss.backward()
    optimizer.step()
    return loss
  }
  return { w, optimizer, step, compiled: compile(step) }
}

/** Two of the same, one compiled: `turn` steps both and compares losses and parameters. */
function together(device: Device, make: (parameters: Parameter[]) => optim.Optimizer) {
  const [a, b] = [trainer(device, make), trainer(device, make)]
  let turns = 0
  const turn = async (t: ExecutionContext): Promise<void> => {
    const x = tensor(random([3], { seed: turns++ }), { device, dtype: 'f32' })
    const [loss, expected] = [a.compiled(x), b.step(x)]
    await agree(t, loss, expected, `loss of step ${turns}`)
    await agree(t, a.w, b.w, `parameters after step ${turns}`)
  }
  return { all: [a, b], compiled: a.compiled, turn }
}

onDevices('a learning rate that is set between the steps', async (t, device) => {
  const { all, compiled, turn } = together(device, (p) => new optim.SGD(p, { lr: 0.125 }))
  for (const lr of [0.125, 0.25, 0, 0.5, 1e-3]) {
    for (const { optimizer } of all) optimizer.lr = lr
    await turn(t)
  }
  t.is(compiled.stats().recordings, 1)
})

onDevices(
  'a learning rate that is a function of the step, through recordings, replays and eager steps',
  async (t, device) => {
    const seen: number[][] = [[], []]
    let made = 0
    const { all, compiled, turn } = together(device, (p) => {
      const mine = seen[made++]!
      return new optim.AdamW(p, { lr: (step) => (mine.push(step), 0.1 / (step + 1)) })
    })
    for (let i = 0; i < 4; i++) await turn(t)
    t.deepEqual(seen, [[0, 1, 2, 3], [0, 1, 2, 3]]) // prettier-ignore
    compiled.clear()
    await turn(t)
    // A step outside the compiled function is the next one like any other.
    for (const { step } of all) step(full([3], 1, { device }))
    await turn(t)
    t.deepEqual(seen[0], [0, 1, 2, 3, 4, 5, 6])
    t.deepEqual(seen[0], seen[1])
    for (const { optimizer } of all) optimizer.lr = (step) => (step % 2 === 0 ? 0.5 : 0.25)
    await turn(t)
    await turn(t)
    const states = await Promise.all(all.map(({ optimizer }) => optimizer.stateDict()))
    t.deepEqual(states[0], states[1])
    for (const { optimizer } of all) optimizer.loadStateDict({ ...states[0]!, step: 1 })
    await turn(t)
    t.is(compiled.stats().recordings, 2)
  },
)

onDevices(
  'a rate that is none: ERR_ARGUMENT, no step, and the next one is as if it had not been',
  async (t, device) => {
    let rate = 0.5
    const { compiled, all } = together(device, (p) => new optim.SGD(p, { lr: () => rate }))
    const x = full([3], 0.5, { device })
    compiled(x)
    const before = [await values(all[0]!.w), await all[0]!.optimizer.stateDict()]
    for (const bad of [NaN, -1, Infinity, '1' as never]) {
      rate = bad
      t.is(codeOf(() => compiled(x)), 'ERR_ARGUMENT') // prettier-ignore
      rate = 0.5
      t.deepEqual([await values(all[0]!.w), await all[0]!.optimizer.stateDict()], before)
    }
    compiled(x)
    all[1]!.step(x)
    all[1]!.step(x)
    t.deepEqual(await values(all[0]!.w), await values(all[1]!.w))
  },
)

onDevices('two steps of one optimiser in one function, and two optimisers', async (t, device) => {
  const make = () => {
    const [v, w] = [new Parameter([1], { device }), new Parameter([2], { device })]
    const first = new optim.SGD([v], { lr: (step) => 1 / (step + 1) })
    const second = new optim.SGD([w], { lr: (step) => step })
    const step = (): void => {
      for (let i = 0; i < 2; i++) {
        first.zeroGrad()
        second.zeroGrad()
        v.square().sum().add(w.mul(3).sum()).backward()
        first.step()
        if (i === 0) second.step()
      }
    }
    return { v, w, step }
  }
  const [a, b] = [make(), make()]
  const compiled = compile(a.step)
  for (let i = 0; i < 4; i++) {
    compiled()
    b.step()
    t.deepEqual([await values(a.v), await values(a.w)], [await values(b.v), await values(b.w)])
  }
})

onDevices(
  'scalar.value, as an operand on either side, in full(), in a gradient, given or captured',
  async (t, device) => {
    const k = scalar(2)
    const given = scalar(1)
    const w = new Parameter([3], { device })
    const fn = (x: Tensor, s: Scalar): Tensor[] => {
      w.grad = null
      w.mul(k).pow(2).sum().backward()
      const filled = full([2], k, { device })
      return [x.mul(k), x.sub(k), filled, x.greater(s).cast('f32'), x.maximum(s), x.mul(0).add(s), w.grad!]
    }
    const compiled = compile(fn)
    const x = tensor([1, 4], { device })
    for (const [a, b] of [
      [2, 1],
      [4, 2],
      [-1, 0],
      [0, 8],
      [0.5, NaN],
    ] as const) {
      // prettier-ignore
      k.value = a
      given.value = b
      for (const s of [given, scalar(3)]) {
        const actual = await Promise.all(compiled(x, s).map(values))
        t.deepEqual(actual, await Promise.all(fn(x, s).map(values)), `${a} ${b}`)
      }
    }
    t.is(compiled.stats().recordings, 1)
  },
)

onDevices('a scalar beside i32: whole numbers, else ERR_DTYPE and the next run is right', async (t, device) => {
  const k = scalar(2)
  const fn = (x: Tensor): Tensor => x.mul(k).add(full([2], k, { device, dtype: 'i32' }))
  const compiled = compile(fn)
  const x = tensor([1, 4], { device, dtype: 'i32' })
  const pending = x.mul(10)
  // Also where it is the first run that fails, and in eager code.
  for (const bad of [1.5, NaN, 2 ** 31, -Infinity]) {
    k.value = bad
    t.is(codeOf(() => compiled(x)), 'ERR_DTYPE') // prettier-ignore
    t.is(codeOf(() => fn(x)), 'ERR_DTYPE') // prettier-ignore
    k.value = 3
    t.deepEqual(await values(compiled(x)), [6, 15])
    t.deepEqual(await values(fn(x)), [6, 15])
  }
  t.deepEqual(await values(pending), [10, 40])
  t.is(compiled.stats().recordings, 1)
})

onDevices('a scalar that is refused is refused before the run has any effect', async (t, device) => {
  const w = new Parameter([1], { device })
  const optimizer = new optim.SGD([w], { lr: (step) => 1 / (step + 1) })
  const k = scalar(1)
  const step = compile((x: Tensor) => {
    optimizer.zeroGrad()
    w.sum().backward()
    optimizer.step()
    return [rand([1], { device }), x.add(k), full([1], k, { device, dtype: 'i32' })]
  })
  const x = tensor([1], { device, dtype: 'i32' })
  step(x)
  k.value = 1.5
  for (let i = 0; i < 3; i++) t.is(codeOf(() => step(x)), 'ERR_DTYPE') // prettier-ignore
  t.is(optimizer.lr, 0.5)
  k.value = 2
  step(x)
  t.deepEqual(await values(w), [-0.5])
})

onDevices('a run that a schedule ends has had no effect', async (t, device) => {
  const [v, w] = [new Parameter([1], { device }), new Parameter([1], { device })]
  let broken: (() => number) | null = null
  const first = new optim.SGD([v], { lr: (step) => step + 1 })
  const second = new optim.SGD([w], { lr: (step) => (broken === null ? 10 * step : broken()) })
  const acc = new train.GradientAccumulator(second)
  const step = compile((x: Tensor) => {
    const drawn = [rand([1], { device }), randn([1], { device })]
    v.mul(x).sum().backward()
    first.step()
    first.zeroGrad()
    first.step()
    acc.add({ sum: w.mul(x).sum(), count: full([], 1, { device }) })
    second.step()
    return drawn
  })
  const x = tensor([1], { device })
  // Copies that are read later: other tests draw from the same generator while this one waits.
  const state = (): unknown => [[v, w, w.grad!].map((y) => y.mul(1)), first.lr, second.lr, acc.microBatches]
  const refusal = new RangeError('no')
  const ways = [
    () => {
      throw refusal
    },
    () => NaN,
  ]
  manualSeed(5)
  step(x)
  const states = [state()]
  for (const way of ways) {
    broken = way
    const error = t.throws(() => step(x))
    if (way === ways[0]) t.is(error, refusal)
    else t.is((error as TilegradError).code, 'ERR_ARGUMENT')
    broken = null
    states.push(state())
  }
  t.deepEqual(step.stats().signatures.map(({ runs }) => runs), [0, 1]) // prettier-ignore
  const drawn = step(x)
  states.push(state())
  manualSeed(5)
  const eager = [0, 1].map(() => [rand([1], { device }), randn([1], { device })])
  const before = [[[0], [1], [1]], 3, 10, 1]
  t.deepEqual(await read(states), [before, before, before, [[[-3], [-19], [2]], 5, 20, 2]])
  t.deepEqual(await read(drawn), await read(eager[1]))
})

onDevices('random numbers are drawn anew in each run, in the order of eager code', async (t, device) => {
  const w = new Parameter([1], { device })
  const fn = (x: Tensor): Tensor[] => [
    rand([3], { device }),
    randn([5], { device }).mul(2),
    x.mul(rand([2], { device })),
    randn([1], { device }).mul(w),
    rand([3], { device }),
  ]
  const x = tensor([1, 2], { device })
  const compiled = compile(fn)
  // Tests beside this one draw too: nothing is waited for before all is drawn.
  const run = (f: typeof fn): Tensor[][] => {
    const all: Tensor[][] = []
    for (const seed of [1, 1, 2 ** 40 + 1, 7]) {
      manualSeed(seed)
      for (let i = 0; i < 3; i++) {
        all.push(f(x))
        // Eager draws between the runs take their turn.
        if (i === 1) all.push([rand([2], { device }), randn([2], { device })])
      }
    }
    return all
  }
  const [actual, expected] = (await read([run(compiled), run(fn)])) as number[][][][]
  t.deepEqual(actual, expected)
  t.deepEqual(actual!.slice(0, 4), actual!.slice(4, 8))
  t.notDeepEqual(actual![0], actual![1])
  t.notDeepEqual(actual![0], actual![8])
  t.is(compiled.stats().recordings, 1)
})

onDevices(
  'a recording takes no draw: the numbers are those of a function that was recorded before',
  async (t, device) => {
    const fn = (): Tensor => randn([2], { device }).add(rand([2], { device }))
    manualSeed(3)
    const first = compile(fn)()
    manualSeed(3)
    const failing = compile(() => {
      fn()
      throw new TypeError('no')
    })
    t.is(codeOf(() => failing()), 'TypeError: no') // prettier-ignore
    t.deepEqual(await values(fn()), await values(first))
  },
)

onDevices('batch sizes in turn train one model', async (t, device) => {
  const make = () => {
    manualSeed(5)
    const model = new nn.Linear(2, 2, { device })
    const optimizer = new optim.AdamW(model.parameters(), { lr: 0.01 })
    const step = (x: Tensor, y: Tensor): Tensor => {
      optimizer.zeroGrad()
      const loss = nn.crossEntropy(model.forward(x), y)
      loss.backward()
      optimizer.step()
      return loss
    }
    return { model, step }
  }
  const [a, b] = [make(), make()]
  const compiled = compile(a.step)
  for (const [i, rows] of [4, 1, 3, 4, 4, 1, 7, 3].entries()) {
    const x = tensor(random([rows, 2], { seed: i }), { device, dtype: 'f32', shape: [rows, 2] })
    const y = tensor(
      Int32Array.from({ length: rows }, (_, j) => (i + j) % 2),
      { device },
    )
    const [loss, expected] = [compiled(x, y), b.step(x, y)]
    await agree(t, loss, expected, `loss of step ${i}`)
    for (const [j, p] of a.model.parameters().entries())
      await agree(t, p, b.model.parameters()[j]!, `parameter ${j} after step ${i}`)
  }
  t.is(compiled.stats().recordings, 4)
  t.is(compiled.stats().signatures.length, 4)
})
