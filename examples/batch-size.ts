/**
 * Batch size on real digits: one row at a time (SGD), mini-batches, and the full batch, from the same weights, against
 * the examples seen and against the steps taken; and how noisy the gradient of a batch is, measured and as theory has it.
 */

import { type Tensor, compile, data, manualSeed, nn, optim } from 'tilegrad'
import { type Rows, accuracy, loadDigits, lossOn, rowsOf, setOf } from './digits.ts'
import { type Noise, gradientNoise } from './noise.ts'
import { type Curves, figure } from './plot.ts'
import { type Example, type Setting, isMain, start } from './start.ts'

/** The ways of training, each with the rate of 1, 2 or 5 times a power of ten that ends with the lowest training loss. */
const WAYS = [
  { name: 'SGD, batch 1', batch: 1, lr: 0.05 },
  { name: 'mini-batch 32', batch: 32, lr: 1 },
  { name: 'full batch', batch: Infinity, lr: 1 },
]

/** A moment of training. */
export interface Point {
  readonly way: string
  readonly steps: number
  readonly examples: number
  /** Over all training rows. */
  readonly loss: number
  /** Over the test rows. */
  readonly accuracy: number
}

/** What the example finds. */
export interface Found {
  readonly curves: readonly { readonly way: string; readonly points: readonly Point[] }[]
  readonly noise: Noise
}

/** Trains for a number of steps and measures at powers of two and at the steps that are asked for. */
async function train(
  way: (typeof WAYS)[number],
  digits: { train: Rows; test: Rows },
  asked: readonly number[],
  progress: Setting['progress'],
): Promise<Point[]> {
  manualSeed(1)
  const model = mlp()
  const optimizer = new optim.SGD(model.parameters(), { lr: way.lr })
  const rows = digits.train.x.shape[0]!
  const batchSize = Math.min(way.batch, rows)
  const loader = new data.DataLoader(setOf(digits.train), { batchSize, shuffle: batchSize < rows })
  const step = compile((x: Tensor, y: Tensor) => {
    optimizer.zeroGrad()
    nn.crossEntropy(model.forward(x), y).backward()
    optimizer.step()
  })
  const points: Point[] = []
  const last = Math.max(...asked)
  let [steps, examples] = [0, 0]
  const measure = async (): Promise<void> => {
    const [loss, right] = await Promise.all([lossOn(model, digits.train), accuracy(model, digits.test)])
    points.push({ way: way.name, steps, examples, loss, accuracy: right })
  }
  await measure()
  while (steps < last) {
    for await (const [x, y] of loader) {
      step(x!, y!)
      steps++
      examples += x!.shape[0]!
      if (asked.includes(steps) || Number.isInteger(Math.log2(steps))) {
        progress(`${way.name}: step ${steps}/${last}`)
        await measure()
      }
      if (steps === last) break
    }
  }
  return points
}

function mlp(): nn.Sequential {
  return new nn.Sequential(new nn.Linear(64, 32, { activation: 'relu' }), new nn.Linear(32, 10))
}

/** See the top of the file. */
export const batchSize: Example<Found> = {
  name: 'batch-size',

  async run({ quick, print, progress }) {
    const loaded = loadDigits()
    const digits = { train: rowsOf(loaded.train), test: rowsOf(loaded.test) }
    const rows = loaded.train.length
    print(
      `digits, ${rows} training rows; MLP 64-32-10, plain SGD; loss over all training rows, accuracy over ${loaded.test.length} test rows`,
    )

    // One epoch, and ten: as many examples for all; and as many steps for all as mini-batches need for them.
    const epochs = quick ? [1] : [1, 10]
    const perEpoch = Math.ceil(rows / 32)
    const curves: Found['curves'][number][] = []
    for (const way of WAYS) {
      const stepsPerEpoch = Math.ceil(rows / Math.min(way.batch, rows))
      const asked = epochs.flatMap((epoch) => [epoch * stepsPerEpoch, epoch * perEpoch])
      curves.push({ way: way.name, points: await train(way, digits, asked, progress) })
    }
    const table = (title: string, pick: (point: Point) => boolean): void => {
      print(`\n${title.padEnd(34)}    lr    steps   examples    loss   accuracy`)
      for (const [i, { points }] of curves.entries()) {
        const { way, steps, examples, loss, accuracy: right } = points.find(pick)!
        print(
          [
            `  ${way}`.padEnd(34),
            String(WAYS[i]!.lr).padStart(6),
            String(steps).padStart(9),
            String(examples).padStart(11),
            loss.toFixed(4).padStart(8),
            `${(100 * right).toFixed(1)} %`.padStart(11),
          ].join(''),
        )
      }
    }
    for (const epoch of epochs) {
      table(`after ${epoch * rows} examples (epoch ${epoch})`, ({ examples }) => examples === epoch * rows)
      table(`after ${epoch * perEpoch} steps`, ({ steps }) => steps === epoch * perEpoch)
    }

    manualSeed(1)
    const noise = await gradientNoise(mlp(), digits.train, quick, progress)
    print(
      `\ngradient noise at the first weights: trΣ ${noise.trace.toFixed(4)}, ‖G‖² ${noise.squaredNorm.toFixed(4)}, noise scale trΣ/‖G‖² ${noise.scale.toFixed(2)} rows`,
    )
    print('V(B) = E‖g_B − G‖²   with replacement: measured     trΣ/B     std   without: measured   trΣ/B·(N−B)/(N−1)')
    for (const { batch, drawn, subset } of noise.points) {
      print(
        [
          `  B = ${batch}`.padEnd(20),
          drawn.measured.toExponential(2).padStart(28),
          drawn.theory.toExponential(2).padStart(10),
          Math.sqrt(drawn.measured).toFixed(3).padStart(8),
          subset.measured.toExponential(2).padStart(20),
          subset.theory.toExponential(2).padStart(20),
        ].join(''),
      )
    }
    print(`noise scale from two batch sizes, without G: ${noise.estimate.toFixed(2)} rows`)
    return { curves, noise }
  },

  picture({ curves, noise }) {
    const panel = (title: string, x: 'steps' | 'examples', y: 'loss' | 'accuracy'): Curves => ({
      title,
      x: { label: x === 'steps' ? 'steps' : 'examples seen', log: true },
      y: y === 'loss' ? { label: 'training loss', log: true } : { label: 'test accuracy' },
      curves: curves.map(({ way, points }) => ({ name: way, points: points.map((point) => [point[x], point[y]]) })),
    })
    const { points } = noise
    return figure('Batch size on handwritten digits', [
      panel('Loss against steps', 'steps', 'loss'),
      panel('Loss against examples', 'examples', 'loss'),
      panel('Accuracy against examples', 'examples', 'accuracy'),
      {
        title: 'Variance of the gradient of a batch',
        x: { label: 'rows in the batch', log: true },
        y: { label: 'E‖g − G‖²', log: true },
        curves: [
          { name: 'with replacement', points: points.map(({ batch, drawn }) => [batch, drawn.measured]), dots: true },
          { name: 'trΣ/B', points: points.map(({ batch, drawn }) => [batch, drawn.theory]), dashed: true, colour: 0 },
          {
            name: 'without',
            points: points.map(({ batch, subset }) => [batch, subset.measured]),
            dots: true,
            colour: 1,
          },
          {
            name: 'trΣ/B·(N−B)/(N−1)',
            points: points.map(({ batch, subset }) => [batch, subset.theory]),
            dashed: true,
            colour: 1,
          },
        ],
      },
    ])
  },
}

if (isMain(import.meta.url)) await start(batchSize)
