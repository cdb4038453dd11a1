/**
 * XOR: no line separates its two answers, so a perceptron never learns it: no weights get more than 3 of 4 right. One hidden
 * layer is enough: an MLP learns it from every seed.
 */

import { type Tensor, compile, manualSeed, nn, noGrad, optim, tensor } from 'tilegrad'
import { figure } from './plot.ts'
import { type Example, isMain, start } from './start.ts'

const CORNERS = [
  [0, 0],
  [0, 1],
  [1, 0],
  [1, 1],
]
const XOR = [0, 1, 1, 0]
const PASSES = 100
const STEPS = 200

/** An MLP that was trained from one seed. */
export interface Learned {
  readonly seed: number
  /** Of the four, in the end. */
  readonly right: number
  readonly losses: readonly number[]
}

/** What the example finds. */
export interface Found {
  /** Wrong outputs in each pass of the perceptron. */
  readonly mistakes: readonly number[]
  /** Most corners that it had right after any pass. */
  readonly best: number
  readonly learned: readonly Learned[]
}

async function tryPerceptron(): Promise<Pick<Found, 'mistakes' | 'best'>> {
  const [x, t] = [tensor(CORNERS), tensor(XOR, { shape: [4, 1] })]
  const model = new nn.Perceptron(2, 1)
  const pass = compile((x: Tensor, t: Tensor) => {
    const mistakes = model.learn(x, t)
    return [mistakes, noGrad(() => model.forward(x).equal(t).cast('f32').sum())] as [Tensor, Tensor]
  })
  const results = []
  for (let i = 0; i < PASSES; i++) results.push(Promise.all(pass(x, t).map((r) => r.item())))
  const numbers = await Promise.all(results)
  return { mistakes: numbers.map(([wrong]) => wrong!), best: Math.max(...numbers.map(([, right]) => right!)) }
}

async function trainMlp(seed: number): Promise<Learned> {
  manualSeed(seed)
  const [x, t] = [tensor(CORNERS), tensor(XOR, { dtype: 'i32' })]
  const model = new nn.Sequential(new nn.Linear(2, 8, { activation: 'tanh' }), new nn.Linear(8, 2))
  const optimizer = new optim.AdamW(model.parameters(), { lr: 0.05 })
  const step = compile((x: Tensor, t: Tensor) => {
    optimizer.zeroGrad()
    const loss = nn.crossEntropy(model.forward(x), t)
    loss.backward()
    optimizer.step()
    return loss
  })
  const pending = Array.from({ length: STEPS }, () => step(x, t).item())
  const right = noGrad(() => model.forward(x).argmax(1).equal(t).cast('f32').sum())
  return { seed, right: await right.item(), losses: await Promise.all(pending) }
}

/** See the top of the file. */
export const xor: Example<Found> = {
  name: 'xor',

  async run({ quick, print, progress }) {
    const { mistakes, best } = await tryPerceptron()
    print(
      `\nperceptron 2-1: after ${PASSES} passes still ${mistakes.at(-1)!} of 4 wrong in each; at best ${best} of 4 right after a pass`,
    )

    print(`\nMLP 2-8-2, tanh, AdamW 0.05, ${STEPS} steps\nseed   right    loss in the end`)
    const learned: Learned[] = []
    for (let seed = 0; seed < (quick ? 3 : 20); seed++) {
      progress(`seed ${seed}`)
      const result = await trainMlp(seed)
      learned.push(result)
      print(`${String(seed).padStart(4)}   ${result.right} of 4   ${result.losses.at(-1)!.toExponential(2)}`)
    }
    print(`\nlearned from ${learned.filter(({ right }) => right === 4).length} of ${learned.length} seeds`)
    return { mistakes, best, learned }
  },

  picture({ mistakes, learned }) {
    return figure('XOR', [
      {
        title: 'Perceptron: mistakes never end',
        x: { label: 'pass' },
        y: { label: 'wrong outputs', ticks: [0, 1, 2, 3, 4] },
        curves: [{ name: 'perceptron 2-1', points: mistakes.map((n, i) => [i + 1, n]), colour: 1 }],
      },
      {
        title: 'MLP: every seed learns it',
        x: { label: 'step' },
        y: { label: 'loss', log: true },
        curves: learned.map(({ losses }, i) => ({
          ...(i === 0 && { name: `MLP 2-8-2, ${learned.length} seeds` }),
          points: losses.map((loss, step) => [step, loss]),
          colour: 0,
        })),
      },
    ])
  },
}

if (isMain(import.meta.url)) await start(xor)
