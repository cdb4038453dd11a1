/**
 * A worker that trains on a device of its own, as often as it is told, and counts its steps where all can see. What it
 * posts: `'ready'` when it has done its first steps, then a hash of its parameters.
 */

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { parentPort, workerData } from 'node:worker_threads'

import { openDevice } from '../../helpers/open.ts'
import { trainee } from '../../helpers/trainee.ts'
import type { Task } from './sharing.ts'

const { kind, index, steps, counts, progress } = workerData as Task
const port = parentPort!
const device = await openDevice(kind)
const model = trainee(device, index + 1)
// What comes once, compilation above all, is not shared with anybody.
for (let i = 0; i < 3; i++) await model.loss()
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port of a worker, not a window
port.postMessage('ready')
await once(port, 'message')
for (let i = 0; i < steps; i++) {
  // Some that are only handed over, and one that is waited for.
  if (i % 4 === 3) await model.loss()
  else model.step()
  counts[index]!++
}
// Whoever is the first sees how far the others are.
if (Atomics.add(progress, counts.length, 1) === 0) progress.set(counts)
const hash = createHash('sha256')
for (const data of await model.state()) hash.update(data)
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port of a worker, not a window
port.postMessage(hash.digest('hex'))
await device.close()
