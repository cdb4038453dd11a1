/**
 * Gradient accumulation equals the large batch, and where the usual recipe, the mean of the micro-batches' means, does
 * not: by hand, with masked token losses that a page can add up; then on real digits, in equal micro-batches, in unequal
 * ones, with rows that are not counted, and through BatchNorm.
 */

import { type Tensor, compile, data, manualSeed, nn, ones, optim, tensor, train, where } from 'tilegrad'
import { type Rows, loadDigits, rowsOf, setOf } from './digits.ts'
import { type Curves, figure } from './plot.ts'
import { type Example, type Setting, isMain, start } from './start.ts'

const WINDOW = 48

/** A way of training beside the large batch. */
interface Way {
  readonly name: string
  readonly mode?: train.AccumulationMode
  /** With a BatchNorm layer, and what it normalises together. */
  readonly norm?: 'micro' | 'sync'
}

/** How a window is cut, which of its rows count, and the ways that are compared. */
interface Cut {
  readonly name: string
  readonly rows: readonly number[]
  /** Every third row has no label, and all of the last micro-batch but its first row. */
  readonly masked?: boolean
  readonly ways: readonly Way[]
}

const MODES: readonly Way[] = [
  { name: 'sums and counts', mode: 'exact' },
  { name: 'mean of means', mode: 'microMean' },
]

const CUTS: readonly Cut[] = [
  { name: 'equal: 16, 16, 16', rows: [16, 16, 16], ways: MODES },
  { name: 'unequal: 31, 16, 1', rows: [31, 16, 1], ways: MODES },
  { name: 'masked: 20, 20, 8', rows: [20, 20, 8], masked: true, ways: MODES },
  {
    name: 'BatchNorm: 31, 15, 2',
    rows: [31, 15, 2],
    ways: [
      { name: "accumulation 'sync'", norm: 'sync' },
      { name: "accumulation 'micro'", norm: 'micro' },
    ],
  },
]

/** A power of two, so that dividing by it rounds nothing. */
const LARGE_RATE = 1024

/** The targets that losses do not count, as in PyTorch. */
const IGNORED = -100

/** How far a way of training is from the large batch. */
export interface Beside {
  readonly cut: string
  readonly way: string
  /** Whether it is to be the same but for rounding. */
  readonly exact: boolean
  /** Largest difference of the gradient of the first window, relative to the largest element of each parameter's. */
  readonly gradient: number
  /** Largest difference of the weights after each window. */
  readonly weights: readonly number[]
}

/** What the example finds. */
export interface Found {
  /** Loss and gradient of two micro-batches of tokens together. */
  readonly tokens: Readonly<Record<'exact' | 'microMean' | 'large', { loss: number; gradient: number }>>
  readonly beside: readonly Beside[]
}

/**
 * Token losses {4} and {1 × 9}: one parameter w = 0 predicts every token, the squared error is the loss. Two sequences,
 * padded to nine tokens: the first has one token, of value 2, and what stands in its padding is not even a number.
 */
async function tokens(): Promise<Found['tokens']> {
  const sequences = [[2, ...new Array<number>(8).fill(NaN)], new Array<number>(9).fill(1)]
  /** The window's loss and gradient; with a rate of 1 the step is the gradient. */
  const learn = async (mode: train.AccumulationMode, batches: readonly number[][][]) => {
    const model = new nn.Linear(1, 1, { bias: false })
    model.loadStateDict({ weight: { shape: [1, 1], data: Float32Array.of(0) } })
    const accumulator = new train.GradientAccumulator(new optim.SGD(model.parameters(), { lr: 1 }), { mode })
    const parts = batches.map((batch) => {
      const values = tensor(batch)
      const predicted = model.forward(ones([...values.shape, 1])).reshape(values.shape)
      const mask = tensor(batch.map((sequence) => sequence.map((value) => !Number.isNaN(value))))
      const loss = nn.mse(predicted, values, { mask, reduction: 'parts' })
      accumulator.add(loss)
      return loss
    })
    const sums = await Promise.all(parts.map(({ sum }) => sum.item()))
    const counts = await Promise.all(parts.map(({ count }) => count.item()))
    accumulator.step()
    const total = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0)
    const loss =
      mode === 'microMean' ? total(sums.map((sum, i) => sum / counts[i]!)) / sums.length : total(sums) / total(counts)
    return { loss, gradient: -(await model.weight.item()) }
  }
  const apart = sequences.map((sequence) => [sequence])
  return {
    large: await learn('exact', [sequences]),
    exact: await learn('exact', apart),
    microMean: await learn('microMean', apart),
  }
}

/** A model with its accumulator. */
class Trainee {
  readonly #model: nn.Sequential
  readonly #window: (batches: readonly [Tensor, Tensor][]) => void

  constructor({ mode = 'exact', norm }: Omit<Way, 'name'>, rate: optim.SGDOptions = { lr: 0.1, momentum: 0.9 }) {
    manualSeed(3)
    this.#model =
      norm === undefined
        ? new nn.Sequential(new nn.Linear(64, 32, { activation: 'relu' }), new nn.Linear(32, 10))
        : new nn.Sequential(
            new nn.Linear(64, 32, { bias: false }),
            new nn.BatchNorm(32, { accumulation: norm }),
            new nn.ReLU(),
            new nn.Linear(32, 10),
          )
    const optimizer = new optim.SGD(this.#model.parameters(), rate)
    const accumulator = new train.GradientAccumulator(optimizer, { mode })
    const loss = (x: Tensor, y: Tensor): nn.Parts => nn.crossEntropy(this.#model.forward(x), y, { reduction: 'parts' })
    if (norm === 'sync') {
      // All micro-batches have to be at the layer before it can go on: they are given at once.
      this.#window = (batches) => accumulator.window(batches, loss)
    } else {
      const micro = compile((x: Tensor, y: Tensor) => accumulator.add(loss(x, y)))
      this.#window = (batches) => {
        for (const [x, y] of batches) micro(x, y)
        accumulator.step()
      }
    }
  }

  /** One step, from the micro-batches of a window. @returns the weights after it */
  window(batches: readonly [Tensor, Tensor][]): Promise<ArrayLike<number>[]> {
    this.#window(batches)
    return this.weights()
  }

  weights(): Promise<ArrayLike<number>[]> {
    return Promise.all(this.#model.parameters().map((p) => p.data()))
  }
}

/** The gradient of a window: a step so large that beside it no weight counts, and what is rounded is the gradient. */
async function gradientOf(way: Omit<Way, 'name'>, batches: readonly [Tensor, Tensor][]): Promise<Float64Array[]> {
  const trainee = new Trainee(way, { lr: LARGE_RATE })
  const before = await trainee.weights()
  const after = await trainee.window(batches)
  return before.map((weights, i) => Float64Array.from(weights, (w, j) => (w - after[i]![j]!) / LARGE_RATE))
}

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let largest = 0
  for (let i = 0; i < a.length; i++) largest = Math.max(largest, Math.abs(a[i]! - b[i]!))
  return largest
}

function largest(a: ArrayLike<number>): number {
  return largestDifference(a, new Float64Array(a.length))
}

/** Trains by the large batch and by micro-batches, side by side on the same rows. */
async function compare(cut: Cut, rows: Rows, windows: number, progress: Setting['progress']): Promise<Beside[]> {
  const loader = new data.DataLoader(setOf(rows), { batchSize: WINDOW, shuffle: true, dropLast: true })
  const large: Omit<Way, 'name'> = cut.ways[0]!.norm === undefined ? {} : { norm: 'micro' }
  const whole = new Trainee(large)
  const split = cut.ways.map((way) => ({ way, trainee: new Trainee(way), gradient: 0, weights: [] as number[] }))
  const counted = tensor(
    Array.from({ length: WINDOW }, (_, i) => cut.masked !== true || (i < 40 ? i % 3 !== 0 : i === 40)),
  )
  const ignored = tensor(IGNORED, { dtype: 'i32' })
  let window = 0
  while (window < windows) {
    for await (const [x, labels] of loader) {
      progress(`${cut.name}: window ${window + 1}/${windows}`)
      const y = where(counted, labels!, ignored)
      let at = 0
      const micro = cut.rows.map((n): [Tensor, Tensor] => {
        const part: [Tensor, Tensor] = [x!.slice([at, 0], [n, 64]), y.slice([at], [n])]
        at += n
        return part
      })
      if (window === 0) {
        const gradient = await gradientOf(large, [[x!, y]])
        for (const beside of split) {
          const parts = await gradientOf(beside.way, micro)
          beside.gradient = Math.max(...parts.map((g, i) => largestDifference(g, gradient[i]!) / largest(gradient[i]!)))
        }
      }
      const want = await whole.window([[x!, y]])
      for (const { trainee, weights } of split) {
        const got = await trainee.window(micro)
        weights.push(Math.max(...got.map((w, i) => largestDifference(w, want[i]!))))
      }
      if (++window === windows) break
    }
  }
  return split.map(({ way, gradient, weights }) => {
    const exact = way.norm === 'sync' || way.mode === 'exact' || new Set(cut.rows).size === 1
    return { cut: cut.name, way: way.name, exact, gradient, weights }
  })
}

/** See the top of the file. */
export const accumulation: Example<Found> = {
  name: 'accumulation',

  async run({ quick, print, progress }) {
    const found = await tokens()
    print('\ntoken losses {4} and {1 × 9}      loss   gradient')
    for (const [name, key] of [
      ['one batch of ten', 'large'],
      ['micro-batches, sums and counts', 'exact'],
      ['mean of the micro-batches’ means', 'microMean'],
    ] as const)
      print(`${name.padEnd(32)}${found[key].loss.toFixed(1).padStart(6)}${found[key].gradient.toFixed(1).padStart(11)}`)

    const windows = quick ? 5 : 60
    const rows = rowsOf(loadDigits().train)
    print(`\ndigits, windows of ${WINDOW} rows; MLP 64-32-10, SGD with momentum 0.9; differences from the large batch`)
    const after = quick ? [1, 5] : [1, 5, windows]
    print(
      `${'micro-batches'.padEnd(23)}${'way'.padEnd(22)}${'gradient'.padStart(12)}` +
        after.map((n) => `   weights after ${n}`).join(''),
    )
    const beside: Beside[] = []
    for (const cut of CUTS) {
      for (const result of await compare(cut, rows, windows, progress)) {
        beside.push(result)
        print(
          `${cut.name.padEnd(23)}${result.way.padEnd(22)}${result.gradient.toExponential(1).padStart(12)}` +
            after.map((n) => result.weights[n - 1]!.toExponential(1).padStart(17 + String(n).length)).join(''),
        )
      }
    }
    return { tokens: found, beside }
  },

  picture({ beside }) {
    const panel = (title: string, shown: readonly Beside[]): Curves => ({
      title,
      x: { label: 'windows' },
      y: { label: 'largest difference of the weights', log: true, ticks: [1e-9, 1e-7, 1e-5, 1e-3, 0.1, 10] },
      curves: shown.map(({ cut, way, weights }, i) => ({
        name: i % 2 === 0 && shown.length > 2 ? cut : way,
        dashed: i % 2 === 1,
        colour: i >> 1,
        points: weights.map((v, w) => [w + 1, v]),
      })),
    })
    return figure('Distance from the large batch', [
      panel('Sums and counts; dashed: the mean of means', beside.slice(0, -2)),
      panel(beside.at(-1)!.cut, beside.slice(-2)),
    ])
  },
}

if (isMain(import.meta.url)) await start(accumulation)
