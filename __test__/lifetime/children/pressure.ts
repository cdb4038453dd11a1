/**
 * One long synchronous stretch: work and uploads without ever yielding to the event loop. Prints resident memory at its
 * highest, and the last result. Arguments: kind of device, rounds, and `uploads` or `products`.
 */

import { type Tensor, matmul, scope, tensor } from '../../../ts/index.ts'
import { openDevice } from '../../helpers/open.ts'

const [kind, rounds, what] = process.argv.slice(2)
const device = await openDevice(kind as 'js')
const size = what === 'uploads' ? 512 : 192
const host = new Float32Array(size * size).fill(1 / size)
const fixed = tensor(host, { shape: [size, size], device })
await device.sync()

const before = process.memoryUsage.rss()
let highest = before
let state: Tensor = tensor(host, { shape: [size, size], device })
for (let i = 0; i < Number(rounds); i++) {
  const next = scope(() => {
    // A mebibyte goes over in every round; or a product that waits for the one before.
    if (what === 'uploads') return state.mul(0.5).add(tensor(host, { shape: [size, size], device }).mul(0.5))
    return matmul(state, fixed)
  })
  state.dispose()
  state = next
  if (i % 16 === 0) highest = Math.max(highest, process.memoryUsage.rss())
}
highest = Math.max(highest, process.memoryUsage.rss())
const data = await state.data()
console.log(JSON.stringify({ before, highest, last: data.at(-1)! * size }))
await device.close()
