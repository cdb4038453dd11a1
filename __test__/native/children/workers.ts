/**
 * Workers with devices: several at once, terminated in mid-work, ending by an error or by `process.exit`. The main thread
 * has a device of its own, which has to work before, meanwhile and afterwards.
 */

import { once } from 'node:events'
import { Worker } from 'node:worker_threads'

import { openDevice } from '../../helpers/open.ts'
import { productIsRight } from './work.ts'

const [way, kind, count] = process.argv.slice(2)
const device = await openDevice(kind as 'cpu')

function start(task: string): Worker {
  return new Worker(new URL('worker.ts', import.meta.url), { argv: [task, kind!] })
}

async function expectRight(when: string): Promise<void> {
  if (!(await productIsRight(device))) throw new Error(`a product is wrong ${when}`)
}

await expectRight('before')
const workers = Array.from({ length: Number(count) }, () => start(way!))
// Not once(), which rejects when a worker fails.
const exits = workers.map((worker) => new Promise<number>((resolve) => worker.on('exit', resolve)))
const errors: string[] = []
for (const worker of workers) worker.on('error', (error: Error) => errors.push(error.message))

let terminated = 0
if (['work', 'spin', 'press', 'deadlines'].includes(way!)) {
  await Promise.all(workers.map((worker) => once(worker, 'message')))
  if (way === 'press') await new Promise((resolve) => setTimeout(resolve, 300))
  terminated = performance.now()
  // At different moments of their work.
  for (const [i, worker] of workers.entries()) {
    await new Promise((resolve) => setTimeout(resolve, 5 * i))
    void worker.terminate()
  }
}
await expectRight('meanwhile')
const codes = await Promise.all(exits)
const milliseconds = terminated === 0 ? 0 : performance.now() - terminated
await expectRight('afterwards')
await device.close()
console.log(JSON.stringify({ codes, errors, milliseconds }))
