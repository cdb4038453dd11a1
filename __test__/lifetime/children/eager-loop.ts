/**
 * The plain eager loop: no scope, no dispose. Prints resident memory after each epoch of 40 steps, and what is live after
 * collection at two points of its course. Arguments: kind of device, width of the input and of the hidden layer, rows per batch, steps, and `collect` to
 * run the collector after each epoch.
 */

import { type Device, type Tensor, data, nn, optim, tensor } from '../../../ts/index.ts'
import { openDevice } from '../../helpers/open.ts'

const STEPS_PER_EPOCH = 40
const [kind, width, hidden, rows, steps, collector] = process.argv.slice(2)
const total = Number(steps)
const collecting = collector === 'collect'
const device: Device = await openDevice(kind as 'js')
const size = Number(width)
const batchSize = Number(rows)
const classes = 4

const model = new nn.Sequential(
  new nn.Linear(size, Number(hidden), { activation: 'relu', device }),
  new nn.Linear(Number(hidden), classes, { device }),
)
const optimizer = new optim.SGD(model.parameters(), { lr: 0.01, momentum: 0.9 })
const count = STEPS_PER_EPOCH * batchSize
const x = tensor(
  Float32Array.from({ length: count * size }, (_, i) => Math.sin(i)),
  { shape: [count, size], device },
)
const y = tensor(
  Int32Array.from({ length: count }, (_, i) => i % classes),
  { device },
)
const loader = new data.DataLoader(new data.TensorDataset(x, y), { batchSize, shuffle: true })

/** Collects, and lets finalisers and what they free run. */
async function collect(rounds = 1): Promise<void> {
  for (let i = 0; i < rounds; i++) {
    globalThis.gc!()
    await new Promise((resolve) => setImmediate(resolve))
    await device.sync()
  }
}

/** What is left once everything that can be collected has been. */
async function measure(): Promise<{ slots: number; bytes: number }> {
  await collect(10)
  const { liveSlots, liveBytes } = device.stats()
  return { slots: liveSlots, bytes: liveBytes }
}

/** Resident memory after each epoch. */
const resident: number[] = []

async function epoch(): Promise<void> {
  for await (const [input, target] of loader) {
    optimizer.zeroGrad()
    const loss = nn.crossEntropy(model.forward(input), target)
    loss.backward()
    optimizer.step()
  }
  if (collecting) await collect()
  resident.push(process.memoryUsage.rss())
}

/** The loss of a whole epoch would take as long again; one batch tells whether anything is learned. */
async function lossOfFirstRows(): Promise<number> {
  const [input, target] = loader.dataset.batch(Int32Array.from({ length: batchSize }, (_, i) => i)) as Tensor[]
  return nn.crossEntropy(model.forward(input!), target!).item()
}

const measured: object[] = []
const losses = [await lossOfFirstRows()]
for (let steps = STEPS_PER_EPOCH; steps <= total; steps += STEPS_PER_EPOCH) {
  await epoch()
  if (steps === 2000 || steps === total) measured.push(await measure())
}
losses.push(await lossOfFirstRows())
console.log(JSON.stringify({ measured, losses, resident, peakBytes: device.stats().peakBytes }))
await device.close()
