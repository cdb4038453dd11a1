/**
 * One row against the batch: a row has the same bits alone and in any batch, and a batch costs less per row, as long as
 * reading the weights is what a single row waits for. How much less depends on the machine; the time of a single row
 * stands beside it.
 */

import { type Tensor, compile, manualSeed, nn, noGrad, randn, scope } from 'tilegrad'
import { figure } from './plot.ts'
import { type Example, isMain, start } from './start.ts'

const SIZES = [784, 512, 256, 10] as const
const BATCHES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]

/** The time of one batch size. */
export interface Timing {
  readonly batch: number
  /** Of a call with its result read back: the median of a turn, the lowest of some turns. */
  readonly milliseconds: number
}

/** What the example finds. */
export interface Found {
  /** Pairs of a row alone and the same row in a batch that were compared, and in how many of them a bit differs. */
  readonly compared: number
  readonly differing: number
  readonly timings: readonly Timing[]
}

function mlp(): nn.Sequential {
  const [a, b, c, d] = SIZES
  return new nn.Sequential(
    new nn.Linear(a, b, { activation: 'relu' }),
    new nn.Linear(b, c, { activation: 'relu' }),
    new nn.Linear(c, d),
  ).eval()
}

/** The median of the times of calls, in milliseconds: warm, and for as long as `budget` says. */
async function time(call: () => Promise<unknown>, budget: number): Promise<number> {
  await call()
  const times: number[] = []
  const end = performance.now() + budget
  do {
    const started = performance.now()
    await call()
    times.push(performance.now() - started)
  } while (performance.now() < end || times.length < 3)
  return times.sort((a, b) => a - b)[times.length >> 1]!
}

function bitsOf(values: ArrayLike<number>): Uint32Array {
  return new Uint32Array(Float32Array.from(values).buffer)
}

/** See the top of the file. */
export const rows: Example<Found> = {
  name: 'rows',

  async run({ quick, print, progress }) {
    manualSeed(0)
    const model = mlp()
    const infer = compile((x: Tensor) => noGrad(() => model.forward(x)))
    const batches = quick ? [1, 2, 16] : BATCHES
    const most = batches.at(-1)!
    const inputs = randn([most, SIZES[0]])
    const upTo = (batch: number): Tensor => inputs.slice([0, 0], [batch, SIZES[0]])
    print(`MLP ${SIZES.join('-')}, ${most} rows\n`)

    // Alone, each row; then the same rows as parts of every batch.
    const alone: Uint32Array[] = []
    for (let i = 0; i < most; i++) {
      progress(`row ${i + 1}/${most} alone`)
      alone.push(bitsOf(await scope(() => infer(inputs.slice([i, 0], [1, SIZES[0]]))).data()))
    }
    let [compared, differing] = [0, 0]
    for (const batch of batches) {
      const together = bitsOf(await infer(upTo(batch)).data())
      for (let i = 0; i < batch; i++) {
        compared++
        if (alone[i]!.some((bits, j) => bits !== together[i * SIZES.at(-1)! + j])) differing++
      }
    }
    print(`rows compared alone and in a batch   ${compared}`)
    print(`of them different in any bit         ${differing}\n`)

    // In turns, so that what else the machine does meets all sizes alike; of each the turn that was disturbed least.
    const best = new Map(batches.map((batch) => [batch, Infinity]))
    for (let turn = 0; turn < (quick ? 1 : 4); turn++) {
      for (const batch of batches) {
        progress(`timing batch ${batch}`)
        const x = upTo(batch)
        best.set(batch, Math.min(best.get(batch)!, await time(() => infer(x).data(), quick ? 5 : 100)))
      }
    }
    const timings = [...best].map(([batch, milliseconds]): Timing => ({ batch, milliseconds }))
    const first = timings[0]!.milliseconds
    print('batch   ms a call   µs a row   rows a second   a row costs')
    for (const { batch, milliseconds } of timings) {
      print(
        [
          String(batch).padStart(5),
          milliseconds.toFixed(4).padStart(12),
          ((milliseconds * 1000) / batch).toFixed(1).padStart(11),
          Math.round((batch * 1000) / milliseconds)
            .toLocaleString('en')
            .padStart(16),
          `${((100 * milliseconds) / batch / first).toFixed(1)} %`.padStart(14),
        ].join(''),
      )
    }
    print(
      `\none row, b = 1: ${(first * 1000).toFixed(0)} µs from the call to the result; in a batch no row is answered sooner`,
    )
    return { compared, differing, timings }
  },

  picture({ timings }) {
    const ticks = [1, 4, 16, 64, 256]
    const first = timings[0]!.milliseconds * 1000
    const x = { label: 'rows in the batch', log: true, ticks }
    return figure(`One row against the batch: MLP ${SIZES.join('-')}`, [
      {
        title: 'Time per row',
        x,
        y: { label: 'µs', log: true },
        curves: [
          {
            name: 'measured',
            points: timings.map(({ batch, milliseconds }) => [batch, (milliseconds * 1000) / batch]),
            dots: true,
          },
          { name: 'one row, b = 1', points: timings.map(({ batch }) => [batch, first]), dashed: true },
        ],
      },
      {
        title: 'Time until the result is there',
        x,
        y: { label: 'µs', log: true },
        curves: [
          {
            name: 'measured',
            points: timings.map(({ batch, milliseconds }) => [batch, milliseconds * 1000]),
            dots: true,
          },
          {
            name: 'rows one after the other',
            points: timings.map(({ batch }) => [batch, first * batch]),
            dashed: true,
          },
        ],
      },
    ])
  },
}

if (isMain(import.meta.url)) await start(rows)
