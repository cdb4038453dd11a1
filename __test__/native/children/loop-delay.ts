/**
 * How late the event loop is: first idle, then while a device trains and takes uploads. Prints both in milliseconds at the
 * 99th percentile and at most, and the number of steps. Arguments: kind of device, its threads (0: its own choice), seconds
 * of each, and `awaited` (every loss is read) or `ahead` (none is: each step waits for room, as a `DataLoader` does).
 */

import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setImmediate as turn, setTimeout as after } from 'node:timers/promises'

import { type DeviceKind, nn, optim, scope, tensor } from '../../../ts/index.ts'
import { openDevice } from '../../helpers/open.ts'

/** Milliseconds. */
export interface Delay {
  readonly p99: number
  readonly most: number
}

/** What is printed. */
export interface Report {
  readonly idle: Delay
  readonly busy: Delay
  readonly steps: number
}

const [kind, threads, seconds, way] = process.argv.slice(2)
const duration = 1000 * Number(seconds)
const device = await openDevice({ kind: kind as DeviceKind, ...(threads === '0' ? {} : { threads: Number(threads) }) })
// The step that the benchmarks measure; smaller where the processor may play the GPU.
const [rows, inputs, widths] = kind === 'gpu' ? [128, 256, [256]] : [256, 784, [512, 256]]
const layers = [inputs, ...widths].map((from, i) =>
  i < widths.length
    ? new nn.Linear(from, widths[i]!, { activation: 'gelu', device })
    : new nn.Linear(from, 10, { device }),
)
const model = new nn.Sequential(...layers)
const optimizer = new optim.AdamW(model.parameters())
const host = Float32Array.from({ length: rows * inputs }, (_, i) => Math.sin(i))
const y = tensor(Int32Array.from({ length: rows }, (_, i) => i % 10), { device }) // prettier-ignore

async function step(): Promise<void> {
  using loss = scope(() => {
    optimizer.zeroGrad()
    const x = tensor(host, { shape: [rows, inputs], device })
    const loss = nn.crossEntropy(model.forward(x), y)
    loss.backward()
    optimizer.step()
    return loss
  })
  if (way === 'awaited') await loss.item()
  else {
    await turn()
    await device.ready()
  }
}

async function delayDuring(work: () => Promise<void>): Promise<Delay> {
  // Timers of one millisecond: what a histogram shows is the resolution and what is added to it.
  const histogram = monitorEventLoopDelay({ resolution: 1 })
  histogram.enable()
  await work()
  histogram.disable()
  return { p99: histogram.percentile(99) / 1e6, most: histogram.max / 1e6 }
}

// What happens once, compilation above all, is not training.
for (let i = 0; i < 20; i++) await step()
await device.sync()
const idle = await delayDuring(() => after(duration))
let steps = 0
const busy = await delayDuring(async () => {
  for (const end = performance.now() + duration; performance.now() < end; steps++) await step()
})
console.log(JSON.stringify({ idle, busy, steps } satisfies Report))
await device.close()
