/** A worker with a device of its own, doing what its argument says. */

import { parentPort } from 'node:worker_threads'

import { tensor } from '../../../ts/index.ts'
import { workFor } from '../../helpers/busy.ts'
import { openDevice } from '../../helpers/open.ts'
import { begin, productIsRight } from './work.ts'

const [task, kind] = process.argv.slice(2)
const device = await openDevice(kind as 'cpu')

switch (task) {
  case 'check':
    for (let size = 10; size < 100; size += 7) {
      if (!(await productIsRight(device, size))) throw new Error(`the product of size ${size} is wrong`)
    }
    break
  case 'close':
    await Promise.all(begin(device))
    await device.close()
    break
  case 'leave':
    // Ends with work in flight and the device open.
    void begin(device)
    break
  case 'work':
    void begin(device)
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port of a worker, not a window
    parentPort!.postMessage('ready')
    for (;;) await Promise.all(begin(device))
  case 'deadlines':
    // There is always a wait that is pending, and one that is over while the work goes on.
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port of a worker, not a window
    parentPort!.postMessage('ready')
    for (;;) {
      void begin(device)
      device.sync({ timeout: 1 }).catch(() => {})
      await device.sync({ timeout: 1e6, signal: new AbortController().signal })
    }
  case 'spin':
    // Never yields to the event loop: only a call that comes back can be interrupted.
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port of a worker, not a window
    parentPort!.postMessage('ready')
    for (;;) {
      void begin(device)
      await Promise.resolve()
    }
  case 'press': {
    // Hands over far more than may wait, so that it spends its time waiting for room.
    const start = await workFor(device, 2000)
    const host = new Float32Array(1 << 20)
    start()
    device.recorder.flush()
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port of a worker, not a window
    parentPort!.postMessage('ready')
    for (;;) tensor(host, { device }).dispose()
  }
  case 'throw':
    void begin(device)
    throw new RangeError('thrown on purpose')
  case 'exit':
    void begin(device)
    process.exit(9)
    break
  default:
    throw new Error(`no task ${task}`)
}
