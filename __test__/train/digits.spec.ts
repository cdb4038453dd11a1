/**
 * Training on real handwritten digits, on every device: a stated accuracy on rows that training never sees, and loss
 * curves that agree. The numbers of the run (layers, rate, epochs) are fixed; they were not chosen by the test rows.
 */

import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import test from 'ava'

import { type Device, data, manualSeed, nn, noGrad, optim, tensor } from '../../ts/index.ts'
import { DEVICES } from '../helpers/devices.ts'

interface Rows {
  readonly pixels: Float32Array<ArrayBuffer>
  readonly classes: Int32Array<ArrayBuffer>
}

/** Row i is a test row when i % 6 is 5. */
function load(): { train: Rows; test: Rows } {
  const file = new URL('../../examples/data/digits.csv.gz', import.meta.url)
  const rows = gunzipSync(readFileSync(file)).toString().trim().split('\n').map((line) => line.split(',').map(Number)) // prettier-ignore
  const pick = (wanted: (i: number) => boolean): Rows => {
    const chosen = rows.filter((_, i) => wanted(i))
    return {
      pixels: Float32Array.from(chosen.flatMap((row) => row.slice(0, 64).map((p) => p / 16))),
      classes: Int32Array.from(chosen, (row) => row[64]!),
    }
  }
  return { train: pick((i) => i % 6 !== 5), test: pick((i) => i % 6 === 5) }
}

const digits = load()

interface Run {
  readonly kind: string
  readonly losses: number[]
  readonly accuracy: number
}

async function run(device: Device): Promise<Run> {
  const rows = ({ pixels, classes }: Rows) =>
    [tensor(pixels, { shape: [classes.length, 64], device }), tensor(classes, { device })] as const
  manualSeed(0)
  const model = new nn.Sequential(
    new nn.Linear(64, 128, { activation: 'relu', device }),
    new nn.Linear(128, 10, { device }),
  )
  const optimizer = new optim.SGD(model.parameters(), { lr: 0.1, momentum: 0.9 })
  const set = new data.TensorDataset(...rows(digits.train))
  const loader = new data.DataLoader(set, { batchSize: 32, shuffle: true, seed: 0 })
  const losses: Promise<number>[] = []
  for (let epoch = 0; epoch < 20; epoch++) {
    for await (const [x, y] of loader) {
      optimizer.zeroGrad()
      const loss = nn.crossEntropy(model.forward(x), y)
      loss.backward()
      optimizer.step()
      losses.push(loss.item())
    }
  }
  const [x, y] = rows(digits.test)
  const right = noGrad(() => model.forward(x).argmax(1).equal(y).cast('f32').mean())
  return { kind: device.kind, losses: await Promise.all(losses), accuracy: await right.item() }
}

test('digits: every device learns them, along the same curve', async (t) => {
  t.timeout(110_000)
  t.is(digits.train.classes.length, 1498)
  t.is(digits.test.classes.length, 299)
  const runs: Run[] = []
  for (const device of DEVICES) {
    const result = await run(device)
    t.log(
      `${result.kind}: test accuracy ${(100 * result.accuracy).toFixed(2)} %, last loss ${result.losses.at(-1)!.toExponential(3)}`,
    )
    t.is(result.losses.length, 20 * 47)
    t.true(result.accuracy >= 0.955, `${result.kind}: ${result.accuracy}`)
    runs.push(result)
  }
  const [first, ...others] = runs
  for (const other of others) {
    let worst = 0
    for (let i = 0; i < 100; i++)
      worst = Math.max(worst, Math.abs(other.losses[i]! - first!.losses[i]!) / Math.abs(first!.losses[i]!))
    t.log(
      `${other.kind} and ${first!.kind}: the first hundred losses differ by at most ${worst.toExponential(1)} relative`,
    )
    t.true(worst <= 1e-3, `${other.kind} and ${first!.kind} differ by ${worst}`)
  }
})
