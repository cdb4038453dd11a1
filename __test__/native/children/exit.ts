/** Ends in the way its argument says, with work in flight on a device. */

import { writeSync } from 'node:fs'

import { ones } from '../../../ts/index.ts'
import { openDevice } from '../../helpers/open.ts'
import { begin } from './work.ts'

const [way, kind] = process.argv.slice(2)
const device = await openDevice(kind as 'cpu')
const reads = begin(device)
// At once, so that the parent can tell how long the end takes.
writeSync(1, 'ready\n')

switch (way) {
  case 'natural':
    // Nothing waits for the reads; the process ends when they have come in.
    break
  case 'awaited':
    await Promise.all(reads)
    console.log('all read')
    break
  case 'forgotten':
    // A device that is never closed, with tensors that are never read.
    for (const read of reads) read.catch(() => {})
    break
  case 'exit':
    process.exit(3)
    break
  case 'exit-in-turn':
    setImmediate(() => process.exit(4))
    break
  case 'deadlines': {
    // Waits that are still pending, and some that are over while the work goes on: it ends when the work does.
    const { signal } = new AbortController()
    const x = ones([4], { device })
    void x.data({ timeout: 1e6, signal }).then(() => console.log('read in time'))
    void device.sync({ timeout: 1e6, signal })
    device.sync({ timeout: 1 }).catch((error: Error) => console.log(error.message))
    break
  }
  case 'exit-with-deadlines':
    for (const read of reads) read.catch(() => {})
    void ones([4], { device }).data({ timeout: 1e6, signal: AbortSignal.timeout(1e6) })
    device.sync({ timeout: 1 }).then(
      () => process.exit(1),
      () => process.exit(8),
    )
    break
  case 'throw':
    throw new RangeError('thrown on purpose')
  case 'late-throw':
    setTimeout(() => {
      throw new RangeError('thrown on purpose')
    }, 20)
    break
  case 'reject':
    void Promise.reject(new RangeError('rejected on purpose'))
    break
  case 'abandon-close':
    void device.close()
    process.exit(5)
    break
  case 'exit-while-closing':
    device.close().then(
      () => process.exit(6),
      () => process.exit(7),
    )
    break
  case 'on-exit':
    // Code that runs at exit may still use the device.
    process.on('exit', () => {
      device.stats()
      device.recorder.flush()
      console.log('exit handler ran')
    })
    process.exit(0)
    break
  case 'wait':
    for (;;) await Promise.all(begin(device))
  default:
    throw new Error(`no way ${way}`)
}
