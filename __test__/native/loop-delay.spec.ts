/**
 * Training on a GPU never blocks the event loop: its delay at the 99th percentile stays small, even where the GPU is the
 * processor that runs the loop as well. An idle loop in the same process is measured beside it.
 */

import test from 'ava'

import { DEVICES } from '../helpers/devices.ts'
import { endedWith, lastJson, run } from '../helpers/process.ts'

interface Report {
  readonly idle: number
  readonly busy: number
  readonly steps: number
}

const P99_MS = 20
const SECONDS = 4
const ATTEMPTS = 3

for (const { kind } of DEVICES.filter((d) => d.kind === 'gpu')) {
  test(`the event loop is not late while a device trains [${kind}]`, async (t) => {
    t.timeout(100_000)
    const seen: string[] = []
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const child = await run(new URL('children/loop-delay.ts', import.meta.url), {
        args: [kind, String(SECONDS)],
        deadlineMs: 60_000,
      })
      endedWith(t, child, { code: 0 })
      const { idle, busy, steps } = lastJson(child) as Report
      seen.push(`${busy.toFixed(1)} ms over ${steps} steps, idle ${idle.toFixed(1)} ms`)
      t.true(steps >= 10, `${steps} steps`)
      // Other tests compete for the processor: what an idle loop suffers as well is not ours.
      if (busy <= P99_MS + idle) break
      if (attempt === ATTEMPTS - 1) t.fail(`p99 ${seen.join('; ')}`)
    }
    t.log(`p99 ${seen.join('; ')}`)
  })
}
