/**
 * One long synchronous stretch: work and uploads without ever yielding to the event loop. Prints what was highest on the
 * way (resident memory, queued jobs, bytes of queued uploads, scratch memory), and the last result. Arguments: kind of
 * device, rounds, and `uploads`, `products`, or `backlog`: uploads to a device that is busy with something else.
 */

import { type Tensor, matmul, scope, tensor } from '../../../ts/index.ts'
import { workFor } from '../../helpers/busy.ts'
import { openDevice } from '../../helpers/open.ts'

const [kind, rounds, what] = process.argv.slice(2)
const device = await openDevice(kind as 'js')
const size = what === 'uploads' ? 512 : what === 'backlog' ? 1024 : 192
const host = new Float32Array(size * size).fill(1 / size)
const fixed = tensor(host, { shape: [size, size], device })
await device.sync()

const before = process.memoryUsage.rss()
const highest = { rss: before, jobs: 0, uploads: 0, scratch: 0 }
function look(): void {
  const { queuedJobs, queuedBytes, scratchBytes } = device.stats()
  highest.rss = Math.max(highest.rss, process.memoryUsage.rss())
  highest.jobs = Math.max(highest.jobs, queuedJobs)
  highest.uploads = Math.max(highest.uploads, queuedBytes)
  highest.scratch = Math.max(highest.scratch, scratchBytes)
}

if (what === 'backlog') (await workFor(device, 1000))()
let state: Tensor = tensor(host, { shape: [size, size], device })
for (let i = 0; i < Number(rounds); i++) {
  const next = scope(() => {
    // Some mebibytes go over in every round; or a product that waits for the one before.
    if (what !== 'products') return state.mul(0.5).add(tensor(host, { shape: [size, size], device }).mul(0.5))
    return matmul(state, fixed)
  })
  state.dispose()
  state = next
  if (i % 4 === 0) look()
}
look()
const data = await state.data()
console.log(JSON.stringify({ before, highest, last: data.at(-1)! * size }))
await device.close()
