/** Workers with devices of their own: side by side, and ended in every way, while the main thread goes on computing. */

import test, { type ExecutionContext } from 'ava'

import { DEVICES } from '../helpers/devices.ts'
import { endedWith, lastJson, run } from '../helpers/process.ts'

/** Work in hand ends first, if it ends within a second. */
const MOST_MS = 3000

const CHILD = new URL('children/workers.ts', import.meta.url)

interface Report {
  readonly codes: number[]
  readonly errors: string[]
  /** From the first terminate() to the end of the last worker; 0 where they end by themselves. */
  readonly milliseconds?: number
}

for (const { kind } of DEVICES.filter((d) => d.kind !== 'js')) {
  const check = async (t: ExecutionContext, way: string, count: number): Promise<Report> => {
    const child = await run(CHILD, { args: [way, kind, String(count)], deadlineMs: 30_000 })
    endedWith(t, child, { code: 0 }, way)
    const { milliseconds, ...report } = lastJson(child) as Report
    if (milliseconds! > 0) t.log(`all ended ${milliseconds!.toFixed(0)} ms after they were told to`)
    t.true(milliseconds! <= MOST_MS, `${milliseconds} ms`)
    return report
  }

  test.serial(`four workers compute side by side [${kind}]`, async (t) => {
    t.deepEqual(await check(t, 'check', 4), { codes: [0, 0, 0, 0], errors: [] })
  })

  test.serial(`workers close their devices [${kind}]`, async (t) => {
    t.deepEqual(await check(t, 'close', 3), { codes: [0, 0, 0], errors: [] })
  })

  test.serial(`workers leave with work in flight [${kind}]`, async (t) => {
    t.deepEqual(await check(t, 'leave', 3), { codes: [0, 0, 0], errors: [] })
  })

  test.serial(`workers are terminated in the middle of their work [${kind}]`, async (t) => {
    for (let i = 0; i < 3; i++) t.deepEqual(await check(t, 'work', 3), { codes: [1, 1, 1], errors: [] })
  })

  test.serial(`workers are terminated while they never yield [${kind}]`, async (t) => {
    t.deepEqual(await check(t, 'spin', 2), { codes: [1, 1], errors: [] })
  })

  test.serial(`workers are terminated while they wait for room in the queue [${kind}]`, async (t) => {
    t.deepEqual(await check(t, 'press', 2), { codes: [1, 1], errors: [] })
  })

  test.serial(`workers are terminated with deadlines pending [${kind}]`, async (t) => {
    t.deepEqual(await check(t, 'deadlines', 2), { codes: [1, 1], errors: [] })
  })

  test.serial(`workers throw with work in flight [${kind}]`, async (t) => {
    const { codes, errors } = await check(t, 'throw', 2)
    t.deepEqual(codes, [1, 1])
    t.deepEqual(errors, ['thrown on purpose', 'thrown on purpose'])
  })

  test.serial(`workers call process.exit with work in flight [${kind}]`, async (t) => {
    t.deepEqual(await check(t, 'exit', 2), { codes: [9, 9], errors: [] })
  })
}
