/**
 * How late the event loop is: first idle, then while a device trains and takes uploads. Prints both as milliseconds at the
 * 99th percentile, and the number of steps. Arguments: kind of device, seconds of each.
 */

import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as after } from 'node:timers/promises'

import { nn, optim, scope, tensor } from '../../../ts/index.ts'
import { openDevice } from '../../helpers/open.ts'

const [kind, seconds] = process.argv.slice(2)
const duration = 1000 * Number(seconds)
const device = await openDevice(kind as 'gpu')
const [rows, width] = [128, 256]
const model = new nn.Sequential(
  new nn.Linear(width, width, { activation: 'gelu', device }),
  new nn.Linear(width, 10, { device }),
)
const optimizer = new optim.AdamW(model.parameters())
const host = Float32Array.from({ length: rows * width }, (_, i) => Math.sin(i))
const y = tensor(Int32Array.from({ length: rows }, (_, i) => i % 10), { device }) // prettier-ignore

async function step(): Promise<void> {
  using loss = scope(() => {
    optimizer.zeroGrad()
    const x = tensor(host, { shape: [rows, width], device })
    const loss = nn.crossEntropy(model.forward(x), y)
    loss.backward()
    optimizer.step()
    return loss
  })
  await loss.item()
}

/** The delay at the 99th percentile while `work` runs, in milliseconds. */
async function delayDuring(work: () => Promise<void>): Promise<number> {
  // Timers of one millisecond: what a histogram shows is the resolution and what is added to it.
  const histogram = monitorEventLoopDelay({ resolution: 1 })
  histogram.enable()
  await work()
  histogram.disable()
  return histogram.percentile(99) / 1e6
}

// What happens once, compilation above all, is not training.
for (let i = 0; i < 5; i++) await step()
const idle = await delayDuring(() => after(duration))
let steps = 0
const busy = await delayDuring(async () => {
  for (const end = performance.now() + duration; performance.now() < end; steps++) await step()
})
console.log(JSON.stringify({ idle, busy, steps }))
await device.close()
