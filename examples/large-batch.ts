/**
 * Large batches on real digits: with the epochs fixed, a batch 16 times as large leaves a sixteenth of the steps. What
 * learning rate it needs (none of its own, scaled by the square root, scaled linearly), and what warm-up and cosine add.
 */

import { type Tensor, compile, data, manualSeed, nn, optim } from 'tilegrad'
import { type Rows, accuracy, loadDigits, lossOn, rowsOf, setOf } from './digits.ts'
import { figure } from './plot.ts'
import { type Example, type Setting, isMain, start } from './start.ts'

const EPOCHS = 20
const BASE = { batch: 32, lr: 0.1 }
const SEEDS = [0, 1, 2]
const RULES = ['unscaled', 'sqrt', 'linear', 'linear, warm-up', 'linear, warm-up, cosine'] as const

/** How the learning rate follows the batch. */
export type Rule = (typeof RULES)[number]

/** One way of training, over all seeds. */
export interface Run {
  readonly batch: number
  readonly rule: Rule
  readonly lr: number
  readonly steps: number
  /** In the end, over all training rows; the mean over the seeds. */
  readonly loss: number
  /** In the end, over the test rows: the mean and the lowest of the seeds. */
  readonly accuracy: number
  readonly lowest: number
  /** Training loss of the first seed's batches. */
  readonly losses: readonly number[]
}

/** The learning rate of a rule at its height, and as the optimiser gets it. */
function rate(rule: Rule, batch: number, steps: number): { lr: number; schedule: number | optim.Schedule } {
  const scaled = (how: 'linear' | 'sqrt'): number => optim.scaleLearningRate(BASE.lr, BASE.batch, batch, how)
  const warmup = Math.ceil(steps / 4)
  switch (rule) {
    case 'unscaled':
      return { lr: BASE.lr, schedule: BASE.lr }
    case 'sqrt':
    case 'linear':
      return { lr: scaled(rule), schedule: scaled(rule) }
    case 'linear, warm-up':
      return { lr: scaled('linear'), schedule: optim.linearWarmup(scaled('linear'), warmup, 1) }
    case 'linear, warm-up, cosine':
      return { lr: scaled('linear'), schedule: optim.warmupCosine(scaled('linear'), warmup, steps, 0, 1) }
  }
}

async function train(
  batch: number,
  rule: Rule,
  seed: number,
  digits: { train: Rows; test: Rows },
  progress: Setting['progress'],
): Promise<Pick<Run, 'lr' | 'steps' | 'loss' | 'accuracy' | 'losses'>> {
  manualSeed(seed)
  const model = new nn.Sequential(new nn.Linear(64, 128, { activation: 'relu' }), new nn.Linear(128, 10))
  const loader = new data.DataLoader(setOf(digits.train), { batchSize: batch, shuffle: true, seed })
  const steps = EPOCHS * loader.length
  const { lr, schedule } = rate(rule, batch, steps)
  const optimizer = new optim.SGD(model.parameters(), { lr: schedule, momentum: 0.9 })
  const step = compile((x: Tensor, y: Tensor) => {
    optimizer.zeroGrad()
    const loss = nn.crossEntropy(model.forward(x), y)
    loss.backward()
    optimizer.step()
    return loss
  })
  const pending: Promise<number>[] = []
  for (let epoch = 0; epoch < EPOCHS; epoch++) {
    progress(`batch ${batch}, ${rule}, seed ${seed}: epoch ${epoch + 1}/${EPOCHS}`)
    for await (const [x, y] of loader) pending.push(step(x!, y!).item())
  }
  const [losses, loss, right] = await Promise.all([
    Promise.all(pending),
    lossOn(model, digits.train),
    accuracy(model, digits.test),
  ])
  return { lr, steps, loss, accuracy: right, losses }
}

/** See the top of the file. */
export const largeBatch: Example<readonly Run[]> = {
  name: 'large-batch',

  async run({ quick, print, progress }) {
    const loaded = loadDigits()
    const digits = { train: rowsOf(loaded.train), test: rowsOf(loaded.test) }
    const batches = quick ? [512] : [BASE.batch, 128, 512, loaded.train.length]
    print(
      `digits, ${loaded.train.length} training rows, ${EPOCHS} epochs; MLP 64-128-10, SGD with momentum 0.9; the mean of ${SEEDS.length} seeds`,
    )
    print(`the base rate is ${BASE.lr} at batch ${BASE.batch}\n`)
    print('batch   rule                           lr   steps   training loss   test accuracy   lowest')
    const runs: Run[] = []
    for (const batch of batches) {
      for (const rule of RULES) {
        const seeds: Awaited<ReturnType<typeof train>>[] = []
        for (const seed of SEEDS) seeds.push(await train(batch, rule, seed, digits, progress))
        const mean = (of: (run: (typeof seeds)[number]) => number): number =>
          seeds.reduce((sum, run) => sum + of(run), 0) / seeds.length
        const run: Run = {
          ...seeds[0]!,
          batch,
          rule,
          loss: mean(({ loss }) => loss),
          accuracy: mean(({ accuracy: right }) => right),
          lowest: Math.min(...seeds.map(({ accuracy: right }) => right)),
        }
        runs.push(run)
        print(
          [
            String(batch).padStart(5),
            `   ${rule.padEnd(26)}`,
            run.lr.toFixed(3).padStart(7),
            String(run.steps).padStart(8),
            run.loss.toFixed(4).padStart(16),
            `${(100 * run.accuracy).toFixed(1)} %`.padStart(16),
            `${(100 * run.lowest).toFixed(1)} %`.padStart(9),
          ].join(''),
        )
      }
    }
    return runs
  },

  picture(runs) {
    const batches = [...new Set(runs.map(({ batch }) => batch))]
    const of = (batch: number): readonly Run[] => runs.filter((run) => run.batch === batch)
    const shown = batches.includes(512) ? 512 : batches.at(-1)!
    const steps = of(shown)[0]!.steps
    return figure(
      `Large batches on handwritten digits, ${EPOCHS} epochs each`,
      [
        {
          title: 'Test accuracy, mean of the seeds',
          x: { label: 'rows in the batch', log: true, ticks: batches },
          y: { label: 'accuracy' },
          curves: RULES.map((rule) => ({
            name: rule,
            points: runs.filter((run) => run.rule === rule).map((run) => [run.batch, run.accuracy]),
            dots: true,
          })),
        },
        {
          title: `Training loss at batch ${shown}`,
          x: { label: 'step' },
          y: { label: 'loss of the batch', log: true },
          curves: of(shown).map(({ rule, losses }) => ({ name: rule, points: losses.map((loss, i) => [i, loss]) })),
        },
        {
          title: `Learning rate at batch ${shown}`,
          x: { label: 'step' },
          y: { label: 'learning rate' },
          curves: RULES.map((rule) => {
            const { schedule } = rate(rule, shown, steps)
            return {
              name: rule,
              points: Array.from({ length: steps }, (_, i) => [
                i,
                typeof schedule === 'number' ? schedule : schedule(i),
              ]),
            }
          }),
        },
      ],
      3,
    )
  },
}

if (isMain(import.meta.url)) await start(largeBatch)
