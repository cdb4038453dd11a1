/**
 * Gradient accumulation equals the large batch, and where the usual recipe, the mean of the micro-batches' means, does
 * not: by hand, with token losses that a page can add up; then on real digits, in equal micro-batches, in unequal ones,
 * and with rows that are not counted.
 */

import { type Tensor, compile, data, manualSeed, nn, optim, tensor, train, where } from 'tilegrad'
import { type Rows, loadDigits, rowsOf, setOf } from './digits.ts'
import { figure } from './plot.ts'
import { type Example, type Setting, isMain, start } from './start.ts'

const WINDOW = 48

/** How a window is cut, and which of its rows count. */
interface Cut {
  readonly name: string
  readonly rows: readonly number[]
  /** Every third row has no label, all of the last micro-batch but its first row among them. */
  readonly masked: boolean
}

const CUTS: readonly Cut[] = [
  { name: 'equal: 16, 16, 16', rows: [16, 16, 16], masked: false },
  { name: 'unequal: 31, 16, 1', rows: [31, 16, 1], masked: false },
  { name: 'masked: 20, 20, 8', rows: [20, 20, 8], masked: true },
]

/** The targets that losses do not count, as in PyTorch. */
const IGNORED = -100

/** A way of training, beside the large batch. */
export interface Beside {
  readonly cut: string
  readonly mode: train.AccumulationMode
  /** Largest difference of the first window's gradient, relative to each tensor's largest element. */
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
 * Token losses {4} and {1 × 9}: one parameter w = 0 predicts every token, the squared error is the loss. The first
 * micro-batch holds one token of value 2, the second nine of value 1.
 */
async function tokens(): Promise<Found['tokens']> {
  const lists = [[2], new Array<number>(9).fill(1)]
  /** The window's loss and gradient; with a rate of 1 the step is the gradient. */
  const learn = async (mode: train.AccumulationMode, batches: readonly number[][]) => {
    const model = new nn.Linear(1, 1, { bias: false })
    model.loadStateDict({ weight: { shape: [1, 1], data: Float32Array.of(0) } })
    const accumulator = new train.GradientAccumulator(new optim.SGD(model.parameters(), { lr: 1 }), { mode })
    const parts = batches.map((tokens) => {
      const y = tensor(tokens, { shape: [tokens.length, 1] })
      const of = nn.mse(model.forward(y.mul(0).add(1)), y, { reduction: 'parts' })
      accumulator.add(of)
      return of
    })
    const sums = await Promise.all(parts.map(({ sum }) => sum.item()))
    const counts = await Promise.all(parts.map(({ count }) => count.item()))
    accumulator.step()
    const total = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0)
    const loss =
      mode === 'microMean' ? total(sums.map((sum, i) => sum / counts[i]!)) / sums.length : total(sums) / total(counts)
    return { loss, gradient: -(await model.weight.item()) }
  }
  return {
    large: await learn('exact', [lists.flat()]),
    exact: await learn('exact', lists),
    microMean: await learn('microMean', lists),
  }
}

/** A model with its accumulator. */
class Trainee {
  readonly model: nn.Sequential
  readonly accumulator: train.GradientAccumulator
  readonly #micro: (x: Tensor, y: Tensor) => Tensor

  constructor(mode: train.AccumulationMode) {
    manualSeed(3)
    this.model = new nn.Sequential(new nn.Linear(64, 32, { activation: 'relu' }), new nn.Linear(32, 10))
    const optimizer = new optim.SGD(this.model.parameters(), { lr: 0.1, momentum: 0.9 })
    this.accumulator = new train.GradientAccumulator(optimizer, { mode })
    this.#micro = compile((x: Tensor, y: Tensor) => {
      const parts = nn.crossEntropy(this.model.forward(x), y, { reduction: 'parts' })
      this.accumulator.add(parts)
      return parts.count
    })
  }

  /** One window, from its micro-batches. @returns its gradient, element by element in each parameter */
  async window(batches: readonly Tensor[][]): Promise<Float64Array[]> {
    const counts = batches.map(([x, y]) => this.#micro(x!, y!).item())
    const gradients = this.model.parameters().map(({ grad }) => grad!.data())
    this.accumulator.step()
    const total = (await Promise.all(counts)).reduce((a, b) => a + b, 0)
    const divisor = this.accumulator.mode === 'microMean' ? batches.length : total
    return (await Promise.all(gradients)).map((g) => Float64Array.from(g, (v) => v / divisor))
  }

  weights(): Promise<ArrayLike<number>[]> {
    return Promise.all(this.model.parameters().map((p) => p.data()))
  }
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
  const whole = new Trainee('exact')
  const modes = ['exact', 'microMean'] as const
  const split = modes.map((mode) => ({ mode, trainee: new Trainee(mode), gradient: 0, weights: [] as number[] }))
  const counted = tensor(
    Array.from({ length: WINDOW }, (_, i) => (cut.masked ? (i < 40 ? i % 3 !== 0 : i === 40) : true)),
  )
  const ignored = tensor(IGNORED, { dtype: 'i32' })
  let window = 0
  while (window < windows) {
    for await (const [x, labels] of loader) {
      progress(`${cut.name}: window ${window + 1}/${windows}`)
      const y = where(counted, labels!, ignored)
      const want = await whole.window([[x!, y]])
      const weights = await whole.weights()
      for (const way of split) {
        let at = 0
        const micro = cut.rows.map((n) => {
          const part = [x!.slice([at, 0], [n, 64]), y.slice([at], [n])]
          at += n
          return part
        })
        const got = await way.trainee.window(micro)
        if (window === 0)
          way.gradient = Math.max(...got.map((g, i) => largestDifference(g, want[i]!) / largest(want[i]!)))
        const reached = await way.trainee.weights()
        way.weights.push(Math.max(...reached.map((w, i) => largestDifference(w, weights[i]!))))
      }
      if (++window === windows) break
    }
  }
  return split.map(({ mode, gradient, weights }) => ({ cut: cut.name, mode, gradient, weights }))
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
    print(
      'micro-batches          mode         gradient of window 1   weights after 1   after 5' +
        (quick ? '' : `   after ${windows}`),
    )
    const beside: Beside[] = []
    for (const cut of CUTS) {
      for (const result of await compare(cut, rows, windows, progress)) {
        beside.push(result)
        const after = [1, 5, ...(quick ? [] : [windows])].map((n) => result.weights[n - 1]!)
        print(
          `${cut.name.padEnd(21)}  ${result.mode.padEnd(11)}${result.gradient.toExponential(1).padStart(22)}` +
            after.map((v, i) => v.toExponential(1).padStart([18, 10, 11][i]!)).join(''),
        )
      }
    }
    return { tokens: found, beside }
  },

  picture({ beside }) {
    return figure('Accumulation against the large batch', [
      {
        title: 'Weights, against those of the large batch',
        x: { label: 'windows' },
        y: { label: 'largest difference', log: true },
        curves: beside.map(({ cut, mode, weights }, i) => ({
          name: mode === 'exact' ? cut : `mean of means`,
          dashed: mode !== 'exact',
          colour: i >> 1,
          points: weights.map((v, w) => [w + 1, v]),
        })),
      },
    ])
  },
}

if (isMain(import.meta.url)) await start(accumulation)
