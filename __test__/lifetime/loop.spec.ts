/** The plain eager loop of the documentation runs for ever in flat memory: thousands of steps in a process of its own. */

import test from 'ava'

import { DEVICES } from '../helpers/devices.ts'
import { endedWith, lastJson, run } from '../helpers/process.ts'

interface Report {
  readonly measured: readonly { readonly slots: number; readonly bytes: number }[]
  readonly losses: readonly [number, number]
  /** Bytes, one number for 40 steps. */
  readonly resident: readonly number[]
  /** Of device memory. */
  readonly peakBytes: number
}

// The js device takes longer for the same work.
const SIZES: Record<string, readonly string[]> = { js: ['16', '16', '16'] }
const USUAL = ['64', '64', '32']
// Where the GPU is the processor a step takes four times as long as on cpu.
const STEPS: Record<string, number> = { gpu: 5000 }
const USUAL_STEPS = 10_000

const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MiB`

for (const { kind } of DEVICES) {
  const steps = String(STEPS[kind] ?? USUAL_STEPS)
  test.serial(`${steps} steps of the plain eager loop leave memory flat [${kind}]`, async (t) => {
    t.timeout(115_000)
    // The collector runs after each epoch: what grows nevertheless is held by somebody.
    const child = await run(new URL('children/eager-loop.ts', import.meta.url), {
      args: [kind, ...(SIZES[kind] ?? USUAL), steps, 'collect'],
      nodeArguments: ['--expose-gc'],
      deadlineMs: 110_000,
    })
    endedWith(t, child, { code: 0 })
    const { measured, losses, resident } = lastJson(child) as Report
    const [early, late] = [resident[2000 / 40 - 1]!, resident.at(-1)!]
    t.log(`${mib(early)} at step 2,000, ${mib(late)} at step ${steps}; ${measured[1]!.slots} slots`)
    t.true(late <= early + 16 * 2 ** 20, `${mib(late)} after ${mib(early)}: ${resident.map(mib).join(' ')}`)
    t.deepEqual(measured[1], measured[0])
    t.true(losses[1] < losses[0], `the loss went from ${losses[0]} to ${losses[1]}`)
  })

  test.serial(`left alone, the collector keeps up with the plain eager loop [${kind}]`, async (t) => {
    t.timeout(115_000)
    // Half a gigabyte goes through handles that nobody disposes of. V8 only knows of it because devices tell.
    const child = await run(new URL('children/eager-loop.ts', import.meta.url), {
      args: [kind, '64', '4', '512', '4000'],
      nodeArguments: ['--expose-gc'],
      deadlineMs: 110_000,
    })
    endedWith(t, child, { code: 0 })
    const { peakBytes, resident } = lastJson(child) as Report
    t.log(`at most ${mib(peakBytes)} of device memory, ${mib(Math.max(...resident))} resident`)
    t.true(peakBytes <= 160 * 2 ** 20, mib(peakBytes))
  })
}

// Only native devices can tell V8 what a handle weighs (docs/adr/0009); on js the heap grows as V8 sees fit.
for (const { kind } of DEVICES.filter((device) => device.kind !== 'js')) {
  const steps = String(STEPS[kind] ?? USUAL_STEPS)
  test.serial(
    `${steps} steps stay within 16 MiB of step 2,000 without a call of the collector [${kind}]`,
    async (t) => {
      t.timeout(115_000)
      const child = await run(new URL('children/eager-loop.ts', import.meta.url), {
        args: [kind, ...USUAL, steps],
        nodeArguments: ['--expose-gc'],
        deadlineMs: 110_000,
      })
      endedWith(t, child, { code: 0 })
      const { measured, resident } = lastJson(child) as Report
      const [early, late] = [resident[2000 / 40 - 1]!, resident.at(-1)!]
      t.log(`${mib(early)} at step 2,000, ${mib(late)} at step ${steps}`)
      t.true(late <= early + 16 * 2 ** 20, `${mib(late)} after ${mib(early)}: ${resident.map(mib).join(' ')}`)
      t.deepEqual(measured[1], measured[0])
    },
  )
}
