/**
 * The perceptron and the cars: three outputs that fire or not, computed in whole numbers and so the same, to the bit, on
 * every device; for a batch of cars and for each car alone. Then the same judgement learned from examples alone, by the
 * perceptron's own rule, in whole numbers again.
 */

import { type Tensor, compile, linear, nn, noGrad, tensor } from 'tilegrad'
import { figure } from './plot.ts'
import { type Example, isMain, start } from './start.ts'

const FEATURES = ['price', 'km per l', 'year']
const OUTPUTS = ['thrifty', 'cheap', 'dear']

/** What a car must be for an output to fire: one row of weights for each, over price, consumption and year. */
const JUDGEMENT = [
  [-2, 1522, 8],
  [-3, 111, 23],
  [3, -3263, 0],
]
const BIAS = [10, 0, -44]

const CARS = [
  [10_000, 10, 2000],
  [5_500, 15, 1988],
  [78_000, 32, 2021],
  [100_000, 25, 1999],
]

/** How many cars to learn from, and for how many passes at most: a line exists, so they end, and this is far beyond. */
const SEEN = 30
const MOST = 1000

/** What the example finds. */
export interface Found {
  /** xW + b for each car. */
  readonly sums: readonly (readonly number[])[]
  /** 1 where the sum is above 0. */
  readonly fires: readonly (readonly number[])[]
  /** Rows whose sums or outputs have other bits alone than in the batch. */
  readonly differing: number
  /** Wrong outputs in each pass of learning, down to 0. */
  readonly mistakes: readonly number[]
  /** Share of outputs that are right for cars it has not seen. */
  readonly unseen: number
}

/** A perceptron that judges as it was told. `Linear` and `Perceptron` hold weights as `[in, out]`. */
function judge(): nn.Perceptron {
  const perceptron = new nn.Perceptron(FEATURES.length, OUTPUTS.length)
  perceptron.loadStateDict({
    weight: { shape: [3, 3], data: Float32Array.from(FEATURES.flatMap((_, i) => JUDGEMENT.map((row) => row[i]!))) },
    bias: { shape: [3], data: Float32Array.from(BIAS) },
  })
  return perceptron
}

/** Cars in units that make small whole numbers: thousands, km per l, years since 1990. Every one is different. */
function cars(count: number, first: number): number[][] {
  return Array.from({ length: count }, (_, i) => {
    const k = first + i
    return [2 + ((k * 37) % 101), 5 + ((k * 17) % 31), (k * 11) % 37]
  })
}

/** See the top of the file. */
export const perceptron: Example<Found> = {
  name: 'perceptron',

  async run({ print, progress }) {
    const model = judge()
    const both = (x: Tensor): [Tensor, Tensor] => noGrad(() => [linear(x, model.weight, model.bias), model.forward(x)])
    const batch = both(tensor(CARS))
    const [sums, fires] = (await Promise.all(batch.map((t) => t.array()))) as [number[][], number[][]]
    const head = [...FEATURES, ...OUTPUTS].map((name) => name.padStart(10)).join('')
    print(`\n${head}   fires`)
    for (const [i, car] of CARS.entries()) {
      const names = OUTPUTS.filter((_, o) => fires[i]![o] === 1).join(', ')
      print(`${[...car, ...sums[i]!].map((v) => String(v).padStart(10)).join('')}   ${names}`)
    }

    let differing = 0
    for (const [i, car] of CARS.entries()) {
      const alone = (await Promise.all(both(tensor([car])).map((t) => t.data()))).map((t) => [...t])
      const same = alone.flat().every((v, j) => Object.is(v, [...sums[i]!, ...fires[i]!][j]))
      if (!same) differing++
    }
    print(`\nrows of the batch that differ from the row alone: ${differing} of ${CARS.length}`)

    // The judgement in those units: 1000 · price − …, which the perceptron is not told.
    const labels = (list: readonly number[][]): number[][] =>
      list.map(([price, km, year]) =>
        JUDGEMENT.map((row, o) => +(1000 * row[0]! * price! + row[1]! * km! + row[2]! * (1990 + year!) + BIAS[o]! > 0)),
      )
    const [seen, other] = [cars(SEEN, 0), cars(200, SEEN)]
    const student = new nn.Perceptron(FEATURES.length, OUTPUTS.length)
    const learn = compile((x: Tensor, t: Tensor) => student.learn(x, t))
    const [x, t] = [tensor(seen), tensor(labels(seen))]
    const mistakes: number[] = []
    do {
      mistakes.push(await learn(x, t).item())
      progress(`pass ${mistakes.length}: ${mistakes.at(-1)!} of ${3 * seen.length} outputs wrong`)
    } while (mistakes.at(-1)! > 0 && mistakes.length < MOST)
    const unseen = await noGrad(() =>
      student
        .forward(tensor(other))
        .equal(tensor(labels(other)))
        .cast('f32')
        .mean(),
    ).item()
    print(`\nlearned from ${seen.length} other cars: no mistake from pass ${mistakes.length} on`)
    print(`weights ${JSON.stringify(await student.weight.array())}, bias ${JSON.stringify(await student.bias.array())}`)
    print(`right on ${other.length} cars that it has not seen: ${(100 * unseen).toFixed(1)} % of the outputs`)
    return { sums, fires, differing, mistakes, unseen }
  },

  picture({ sums, mistakes }) {
    return figure('The perceptron and the cars', [
      {
        title: 'Weighted sums: above 0 the output fires',
        groups: CARS.map(([price, km, year], i) => ({
          name: `${price!.toLocaleString('en')}, ${km} km per l, of ${year}`,
          bars: OUTPUTS.map((name, o) => ({ name, value: sums[i]![o]! })),
        })),
      },
      {
        title: `Learning from ${SEEN} other cars`,
        x: { label: 'pass' },
        y: { label: 'wrong outputs' },
        curves: [{ name: 'mistakes', points: mistakes.map((n, i) => [i + 1, n]) }],
      },
    ])
  },
}

if (isMain(import.meta.url)) await start(perceptron)
