/** The perceptron: exact in whole numbers, its rule example by example, what it can learn and what it cannot. */

import { type Tensor, compile, nn, scalar, tensor, zeros } from '../../ts/index.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { random, values } from '../helpers/values.ts'

const CORNERS = [
  [0, 0],
  [0, 1],
  [1, 0],
  [1, 1],
]

/** Weights and bias after one pass of the rule, and how many outputs were wrong. */
function reference(
  x: readonly number[][],
  t: readonly number[][],
  weight: number[][],
  bias: number[],
  lr: number,
): number {
  let wrong = 0
  for (const [r, row] of x.entries()) {
    for (const o of bias.keys()) {
      const z = row.reduce((s, v, i) => s + v * weight[i]![o]!, bias[o]!)
      const error = t[r]![o]! - (z > 0 ? 1 : 0)
      if (error !== 0) wrong++
      row.forEach((v, i) => (weight[i]![o]! += lr * error * v))
      bias[o]! += lr * error
    }
  }
  return wrong
}

/** How often the examples are gone through until none is wrong; −1 when that does not happen within `most` passes. */
async function passes(p: nn.Perceptron, x: Tensor, t: Tensor, most: number): Promise<number> {
  for (let n = 1; n <= most; n++) if ((await p.learn(x, t).item()) === 0) return n
  return -1
}

onDevices('the golden rows are exact, as a batch and one by one', async (t, device) => {
  const p = new nn.Perceptron(3, 3, { device })
  p.loadStateDict({
    weight: { shape: [3, 3], data: Float32Array.of(-2, -3, 3, 1522, 111, -3263, 8, 23, 0) },
    bias: { shape: [3], data: Float32Array.of(10, 0, -44) },
  })
  const rows = [
    [10000, 10, 2000],
    [5500, 15, 1988],
    [78000, 32, 2021],
    [100000, 25, 1999],
  ]
  const want = [
    [1, 1, 0],
    [1, 1, 0],
    [0, 0, 1],
    [0, 0, 1],
  ]
  t.deepEqual(await p.forward(tensor(rows, { device })).array(), want)
  for (const [i, row] of rows.entries()) t.deepEqual(await p.forward(tensor([row], { device })).array(), [want[i]])
})

onDevices('learning follows the rule, example by example and bit by bit', async (t, device) => {
  const numbers = Array.from(random([31, 5], { seed: 1, integers: 20 }))
  const x = Array.from({ length: 31 }, (_, r) => numbers.slice(5 * r, 5 * r + 5))
  const target = x.map((row) => [+(row[0]! > row[1]!), +(row[2]! * row[3]! > 0), +(row[4]! > 3)])
  const p = new nn.Perceptron(5, 3, { device })
  const weight = x[0]!.map(() => [0, 0, 0])
  const bias = [0, 0, 0]
  for (let pass = 0; pass < 3; pass++) {
    const wrong = p.learn(tensor(x, { device }), tensor(target, { device }), { lr: 0.5 })
    t.is(await wrong.item(), reference(x, target, weight, bias, 0.5))
    t.deepEqual(await p.weight.array(), weight)
    t.deepEqual(await p.bias.array(), bias)
  }
})

onDevices('what a line separates is learned', async (t, device) => {
  const x = tensor(CORNERS, { device })
  for (const [name, column] of Object.entries({ and: [0, 0, 0, 1], or: [0, 1, 1, 1], nand: [1, 1, 1, 0] })) {
    const p = new nn.Perceptron(2, 1, { device })
    const target = tensor(column, { shape: [4, 1], device })
    t.true((await passes(p, x, target, 30)) > 0, name)
    t.deepEqual(await values(p.forward(x)), column, name)
  }
})

onDevices('XOR is never learned, however long it is tried', async (t, device) => {
  const p = new nn.Perceptron(2, 1, { device })
  const [x, target] = [tensor(CORNERS, { device }), tensor([[0], [1], [1], [0]], { device })]
  t.is(await passes(p, x, target, 60), -1)
  t.notDeepEqual(await values(p.forward(x)), [0, 1, 1, 0])
})

onDevices('a compiled pass is the pass, with a rate that changes between the calls', async (t, device) => {
  const [x, target] = [tensor(CORNERS, { device }), tensor([[0], [1], [1], [0]], { device })]
  const [eager, other] = [new nn.Perceptron(2, 1, { device }), new nn.Perceptron(2, 1, { device })]
  const lr = scalar(1)
  const learn = compile((x: Tensor, t: Tensor) => other.learn(x, t, { lr }))
  for (const rate of [1, 0.5, 2, 0.25]) {
    lr.value = rate
    t.is(await learn(x, target).item(), await eager.learn(x, target, { lr: rate }).item())
    t.deepEqual(await values(other.weight), await values(eager.weight))
    t.deepEqual(await values(other.bias), await values(eager.bias))
  }
  t.is(learn.stats().recordings, 1)
})

onDevices('an empty batch teaches nothing, and what does not fit is refused', async (t, device) => {
  const p = new nn.Perceptron(2, 1, { device })
  const f = (...shape: number[]): Tensor => zeros(shape, { device })
  t.is(await p.learn(f(0, 2), f(0, 1)).item(), 0)
  const refused = (x: Tensor, y: Tensor, options: object = {}): string => codeOf(() => p.learn(x, y, options))
  t.is(refused(f(3, 3), f(3, 1)), 'ERR_SHAPE')
  t.is(refused(f(3, 2), f(3)), 'ERR_SHAPE')
  t.is(refused(f(2), f(1)), 'ERR_SHAPE')
  t.is(refused(f(3, 2), f(2, 1)), 'ERR_SHAPE')
  t.is(refused(f(3, 2), f(3, 1).cast('i32')), 'ERR_DTYPE')
  t.is(refused(f(3, 2), f(3, 1), { lr: NaN }), 'ERR_ARGUMENT')
  t.is(refused(f(3, 2), f(3, 1), { lr: '1' }), 'ERR_ARGUMENT')
  t.is(codeOf(() => new nn.Perceptron(-1, 2, { device })), 'ERR_ARGUMENT') // prettier-ignore
  t.deepEqual(await values(p.weight), [0, 0])
  t.deepEqual([...p.namedParameters().keys()], ['weight', 'bias'])
})
