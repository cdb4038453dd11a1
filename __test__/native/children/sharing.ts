/**
 * Workers that train at once, each on a device of its own of one kind, which is one pool of threads or one GPU for all.
 * Arguments: kind, number of workers, steps of each, and the index of one that is terminated half-way (-1: none). Prints
 * the hashes that they get alone, one after the other, then together, and how far each was when the first had finished.
 */

import { once } from 'node:events'
import { setTimeout as after } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'

import type { DeviceKind } from '../../../ts/index.ts'

/** What a worker is told. */
export interface Task {
  readonly kind: DeviceKind
  readonly index: number
  readonly steps: number
  /** Steps done, by index. */
  readonly counts: Int32Array
  /** What they were when the first had done all of its own; then, how many have. */
  readonly progress: Int32Array
}

/** What is printed. */
export interface Report {
  readonly alone: readonly string[]
  /** Empty for one that was terminated. */
  readonly together: readonly string[]
  readonly progress: readonly number[]
  readonly milliseconds: { readonly alone: number; readonly together: number }
}

const [kind, count, steps, victim] = [process.argv[2] as DeviceKind, ...process.argv.slice(3).map(Number)] as [
  DeviceKind,
  number,
  number,
  number,
]
const counts = new Int32Array(new SharedArrayBuffer(4 * count))
const progress = new Int32Array(new SharedArrayBuffer(4 * (count + 1)))

async function start(index: number): Promise<Worker> {
  const workerData: Task = { kind, index, steps, counts, progress }
  const worker = new Worker(new URL('trainer.ts', import.meta.url), { workerData })
  await once(worker, 'message')
  return worker
}

async function train(worker: Worker): Promise<string> {
  const ended = once(worker, 'exit')
  let hash = ''
  worker.on('message', (message: string) => (hash = message))
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a worker, not a window
  worker.postMessage('go')
  await ended
  return hash
}

const alone: string[] = []
let milliseconds = 0
for (let index = 0; index < count; index++) {
  const worker = await start(index)
  const begun = performance.now()
  alone.push(await train(worker))
  milliseconds += performance.now() - begun
}

const workers = await Promise.all(alone.map((_, index) => start(index)))
counts.fill(0)
progress.fill(0)
const begun = performance.now()
const ends = workers.map((worker) => train(worker))
if (victim >= 0) {
  while (counts[victim]! < steps / 2) await after(1)
  await workers[victim]!.terminate()
}
const together = await Promise.all(ends)
const report: Report = {
  alone,
  together,
  progress: [...progress.subarray(0, count)],
  milliseconds: { alone: milliseconds, together: performance.now() - begun },
}
console.log(JSON.stringify(report))
