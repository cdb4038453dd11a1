/**
 * Processes that end with work in flight: each way ends as it would without the library, by its exit code and without a
 * signal. Each runs several times, because what goes wrong at exit goes wrong now and then.
 */

import test from 'ava'

import { DEVICES } from '../helpers/devices.ts'
import { endedWith, run } from '../helpers/process.ts'

const CHILD = new URL('children/exit.ts', import.meta.url)
const OFTEN = Number(process.env['ENDINGS'] ?? 0)
/** Starting a gpu takes long where the processor plays it: there each way comes once, unless `ENDINGS` says how often. */
const TIMES = { gpu: OFTEN || 1, cpu: OFTEN || 3, js: 0 }
/** From the decision to end to the end, work in flight included. */
const MOST_MS = 2000

const WAYS: readonly (readonly [way: string, code: number, what: string])[] = [
  ['natural', 0, 'reaches its end'],
  ['awaited', 0, 'has read everything and leaves the device open'],
  ['forgotten', 0, 'has forgotten what it started'],
  ['exit', 3, 'calls process.exit at once'],
  ['exit-in-turn', 4, 'calls process.exit a turn later'],
  ['throw', 1, 'throws'],
  ['late-throw', 1, 'throws from a timer'],
  ['reject', 1, 'rejects'],
  ['abandon-close', 5, 'exits without waiting for close'],
  ['exit-while-closing', 6, 'exits as soon as the device is closed'],
  ['deadlines', 0, 'has deadlines pending'],
  ['exit-with-deadlines', 8, 'calls process.exit with deadlines pending'],
  ['on-exit', 0, 'uses the device in an exit handler'],
]

for (const { kind } of DEVICES.filter((d) => d.kind !== 'js')) {
  for (const [way, code, what] of WAYS) {
    test.serial(`a process that ${what} ends with code ${code} [${kind}]`, async (t) => {
      for (let i = 0; i < TIMES[kind]; i++) {
        const child = await run(CHILD, { args: [way, kind], mark: 'ready' })
        endedWith(t, child, { code }, way)
        t.true(child.millisecondsSinceMark <= MOST_MS, `it took ${child.millisecondsSinceMark} ms`)
        if (way === 'awaited') t.regex(child.stdout, /all read/)
        if (way === 'deadlines') t.regex(child.stdout, /not done after 1 ms[^]*read in time|read in time[^]*not done after 1 ms/)
        if (way === 'on-exit') t.regex(child.stdout, /exit handler ran/)
        if (code === 1) t.regex(child.stderr, /on purpose/)
      }
    })
  }

  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    test.serial(`${signal} ends a process that is busy [${kind}]`, async (t) => {
      for (let i = 0; i < TIMES[kind]; i++) {
        const child = await run(CHILD, { args: ['wait', kind], mark: 'ready', signalAt: { text: 'ready', signal } })
        endedWith(t, child, { signal })
        t.true(child.millisecondsSinceMark <= MOST_MS, `it took ${child.millisecondsSinceMark} ms`)
      }
    })
  }
}
