/**
 * Dropout as a layer: what its masks depend on. That the masks are those of the generator is in `ops/random.spec.ts`; here
 * they are those of one big batch however it is cut, in eager and compiled functions, on every device. All tests share one
 * state of random numbers, so none of them waits.
 */

import test, { type ExecutionContext } from 'ava'
import {
  type Device,
  Parameter,
  RandomSite,
  type Tensor,
  compile,
  dropout,
  manualSeed,
  nn,
  noGrad,
  ones,
  optim,
  randomState,
  setRandomState,
} from '../../ts/index.ts'
import { DEVICES, onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'

/** A model whose results are masks: one layer called twice, another one in between. */
class Masks extends nn.Module {
  readonly one: Parameter
  readonly first = new nn.Dropout(0.5)
  readonly second = new nn.Dropout(0.25)

  constructor(device: Device) {
    super()
    this.one = new Parameter([1], { device })
  }

  forward(x: Tensor): Tensor {
    return this.masks(x)[0]!
  }

  masks(x: Tensor): Tensor[] {
    const y = x.mul(this.one)
    return [this.first.forward(y), this.second.forward(y), this.first.forward(y)]
  }
}

/** Runs passes and gives the masks of each call, row by row, for each window. */
function run(
  device: Device,
  windows: readonly (readonly number[])[],
  shape: (pass: number) => readonly number[],
  how: 'eager' | 'compiled',
): number[][][] {
  manualSeed(11)
  const model = new Masks(device)
  const optimizer = new optim.SGD(model.parameters(), { lr: 0 })
  const pass = (x: Tensor): Tensor[] => {
    const masks = model.masks(x)
    masks
      .reduce((a, b) => a.add(b))
      .sum()
      .backward()
    return masks
  }
  const end = (): void => {
    optimizer.step()
    optimizer.zeroGrad()
  }
  const [runPass, runEnd] = how === 'eager' ? [pass, end] : [compile(pass), compile(end)]
  const result: number[][][] = []
  for (const window of windows) {
    const rows: number[][] = [[], [], []]
    for (const [i, count] of window.entries()) {
      const masks = runPass(ones([count, ...shape(i)], { device }))
      for (const [call, mask] of masks.entries()) {
        // Rows may have been padded to any length: what the shortest has is compared.
        const inner = mask.size / Math.max(1, count)
        const data = mask.dataSync()
        for (let row = 0; row < count; row++) rows[call]!.push(...data.subarray(row * inner, row * inner + SHORT))
      }
    }
    runEnd()
    result.push(rows)
  }
  return result
}

/** Elements of a row that are compared. */
const SHORT = 15

const BIG = [[12], [12], [12]]
const CUT = [[1, 5, 0, 6], [12], [4, 4, 4]]

for (const how of ['eager', 'compiled'] as const) {
  onDevices(`micro-batches of a window have the masks of one batch, ${how}`, (t, device) => {
    const big = run(device, BIG, () => [5, 3], how)
    t.deepEqual(
      run(device, CUT, () => [5, 3], how),
      big,
    )
    const all = big.flat().map((mask) => mask.join())
    t.is(new Set(all).size, all.length, 'calls, layers and windows have masks of their own')
    for (const mask of big.flat()) t.true(mask.includes(0) && mask.some((v) => v > 1))
  })

  onDevices(`padding to another length changes no mask, ${how}`, (t, device) => {
    const big = run(device, BIG, () => [11, 3], how)
    t.deepEqual(
      run(device, CUT, (pass) => [5 + (pass % 3), 3], how),
      big,
    )
  })
}

test('masks are the same on every device', (t) => {
  const all = run(DEVICES[0]!, CUT, () => [5, 3], 'eager')
  for (const device of DEVICES)
    t.deepEqual(
      run(device, CUT, () => [5, 3], 'compiled'),
      all,
      device.kind,
    )
})

onDevices('seed 0 drops the first of four, and the gradient has the same mask', (t, device) => {
  manualSeed(0)
  const layer = new nn.Dropout()
  const x = ones([1, 4], { device, requiresGrad: true })
  const y = layer.forward(x)
  y.sum().backward()
  t.deepEqual([...y.dataSync()], [0, 2, 2, 2])
  t.deepEqual([...x.grad!.dataSync()], [0, 2, 2, 2])
})

onDevices('an element stays exactly when its number is at least p', (t, device) => {
  // The first word of the generator for a counter and a key of 0, as a number of 24 bits.
  const number = 0x6627_e8d5 >>> 8
  for (const [p, kept] of [
    [number, true],
    [number + 0.5, false],
    [number + 1, false],
  ] as const) {
    manualSeed(0)
    const y = new nn.Dropout(p * 2 ** -24).forward(ones([1, 1], { device })).dataSync()
    t.is(y[0]! > 0, kept, `${p}`)
  }
})

onDevices('outside training, and with p 0, the input is handed on; with p 1 nothing is', (t, device) => {
  const x = ones([2, 3], { device, requiresGrad: true })
  const before = JSON.stringify(randomState())
  for (const y of [new nn.Dropout(0.9).eval().forward(x), new nn.Dropout(0).forward(x)])
    t.deepEqual([...y.dataSync()], [1, 1, 1, 1, 1, 1])
  t.is(JSON.stringify(randomState()), before, 'nothing has been drawn')
  const nothing = new nn.Dropout(1).forward(x)
  nothing.sum().backward()
  for (const z of [nothing, x.grad!]) t.deepEqual([...z.dataSync()], [0, 0, 0, 0, 0, 0])
})

onDevices('train() and eval() between calls of a compiled function count', (t, device) => {
  const layer = new nn.Dropout()
  const f = compile((x: Tensor) => noGrad(() => layer.forward(x)))
  const x = ones([4, 16], { device })
  const sums: number[] = []
  for (const mode of [true, false, true]) {
    layer.train(mode)
    sums.push(
      f(x)
        .dataSync()
        .filter((v) => v === 0).length,
    )
  }
  t.true(sums[0]! > 0 && sums[1] === 0 && sums[2]! > 0)
})

function mask(layer: nn.Module, device: Device): string {
  return noGrad(() => layer.forward(ones([2, 64], { device })))
    .dataSync()
    .join('')
}

onDevices('calls without a backward() between them have masks of their own', (t, device) => {
  manualSeed(3)
  const layer = new nn.Dropout()
  const masks = [mask(layer, device), mask(layer, device), mask(layer, device)]
  t.is(new Set(masks).size, 3)
})

function step(device: Device): void {
  const p = new Parameter([1], { device })
  const optimizer = new optim.SGD([p], { lr: 0 })
  p.mul(2).sum().backward()
  optimizer.step()
}

onDevices('the state of random numbers can be saved and restored, in the middle of a window too', (t, device) => {
  manualSeed(5)
  const [a, b] = [new nn.Dropout(), new nn.Dropout()]
  const walk = (): string[] => {
    const masks: string[] = []
    for (const layer of [b, a, b]) masks.push(mask(layer, device))
    const x = ones([3, 8], { device, requiresGrad: true })
    a.forward(x).sum().backward()
    masks.push(x.grad!.dataSync().join(''))
    return masks
  }
  walk()
  const middle = JSON.parse(JSON.stringify(randomState())) as ReturnType<typeof randomState>
  const first = walk()
  step(device)
  const second = walk()
  setRandomState(middle)
  t.deepEqual(walk(), first)
  step(device)
  t.deepEqual(walk(), second)
  // A window that ends before anything is drawn again has ended all the same.
  setRandomState(middle)
  step(device)
  t.notDeepEqual(walk(), first)
})

test('a seed begins everything anew, for layers that were there and for those that come', (t) => {
  const device = DEVICES[0]!
  manualSeed(8)
  const layer = new nn.Dropout()
  const first = mask(layer, device)
  mask(layer, device)
  step(device)
  manualSeed(8)
  t.is(mask(layer, device), first)
  manualSeed(8)
  const other = new nn.Dropout()
  t.is(mask(other, device), first)
  t.not(mask(layer, device), first, 'two layers that are used at a time differ')
  manualSeed(9)
  t.not(mask(layer, device), first)
})

test('gradients that keep their graph do not end a pass', (t) => {
  const device = DEVICES[0]!
  const masks = (between: (y: Tensor, x: Tensor) => void): string => {
    manualSeed(2)
    const layer = new nn.Dropout()
    const x = ones([2, 32], { device, requiresGrad: true })
    const y = layer.forward(x)
    between(y, x)
    return layer.forward(x).dataSync().join('')
  }
  const second = masks(() => undefined)
  t.is(
    masks((y) => y.sum().backward({ retainGraph: true })),
    second,
  )
  t.not(
    masks((y) => y.sum().backward()),
    second,
  )
})

function refused(t: ExecutionContext, device: Device): void {
  const x = ones([2, 2], { device })
  for (const p of [-0.1, 1.1, NaN, '0.5' as never]) {
    t.is(
      codeOf(() => dropout(x, { p })),
      'ERR_ARGUMENT',
    )
    t.is(
      codeOf(() => new nn.Dropout(p)),
      'ERR_ARGUMENT',
    )
  }
  t.is(
    codeOf(() => dropout(x, { site: {} as never })),
    'ERR_ARGUMENT',
  )
  t.is(
    codeOf(() => dropout(x.cast('i32'))),
    'ERR_DTYPE',
  )
  t.is(
    codeOf(() => compile(() => new RandomSite())()),
    'ERR_TRACE',
  )
  t.is(
    codeOf(() => compile(() => randomState())()),
    'ERR_TRACE',
  )
  const state = randomState()
  for (const wrong of [
    null,
    {},
    { ...state, seed: -1 },
    { ...state, sites: [{ site: 1 }] },
    { ...state, draws: { a: 1 } },
  ])
    t.throws(() => setRandomState(wrong as never))
}

onDevices('what cannot be is refused', refused)
