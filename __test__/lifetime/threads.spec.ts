/** The threads of a `cpu` device end with it. Counted where the operating system counts them: on Linux. */

import { readdirSync } from 'node:fs'
import { setTimeout as after } from 'node:timers/promises'

import test from 'ava'
import { openDevice } from 'tilegrad'

import { DEVICES } from '../helpers/devices.ts'

const threads = (): number => readdirSync('/proc/self/task').length

/** A thread that has been told to end takes a moment. */
async function settled(most: number): Promise<number> {
  for (let i = 0; i < 100 && threads() > most; i++) await after(20)
  return threads()
}

// Only Linux counts threads without help, and only the cpu device has any.
const linux = process.platform === 'linux' && DEVICES.some(({ kind }) => kind === 'cpu') ? test : test.skip

linux('a closed device leaves no thread behind', async (t) => {
  // The thread pool of Node itself has started after this.
  await (await openDevice({ kind: 'cpu', threads: 2 })).close()
  await after(200)
  const before = threads()
  for (let i = 0; i < 8; i++) {
    // Another number of threads than the device before: a pool of its own.
    const device = await openDevice({ kind: 'cpu', threads: 2 + (i % 3) })
    await device.close()
    await t.throwsAsync(device.sync(), { code: 'ERR_DEVICE_LOST' })
  }
  t.true((await settled(before)) <= before)
})
