/**
 * Several workers train at once, each on a device of its own, on one pool of threads or one GPU: each gets the bits that it
 * gets alone, none starves, and the end of one is nothing to the others.
 */

import test, { type ExecutionContext } from 'ava'

import { DEVICES } from '../helpers/devices.ts'
import { endedWith, lastJson, run } from '../helpers/process.ts'
import type { Report } from './children/sharing.ts'

const CHILD = new URL('children/sharing.ts', import.meta.url)
const WORKERS = 4
const STEPS = { cpu: 800, gpu: 80, js: 0 }

for (const { kind } of DEVICES.filter((d) => d.kind !== 'js')) {
  const train = async (t: ExecutionContext, victim: number): Promise<Report> => {
    t.timeout(120_000)
    const args = [kind, WORKERS, STEPS[kind], victim].map(String)
    const child = await run(CHILD, { args, deadlineMs: 110_000 })
    endedWith(t, child, { code: 0 })
    const report = lastJson(child) as Report
    const { alone, together } = report.milliseconds
    t.log(`one after the other ${alone.toFixed(0)} ms, together ${together.toFixed(0)} ms`)
    t.is(new Set(report.alone).size, WORKERS, 'each trains a model of its own')
    return report
  }

  test.serial(`workers that train at once get the bits that they get alone, and none starves [${kind}]`, async (t) => {
    const { alone, together, progress } = await train(t, -1)
    t.deepEqual(together, alone)
    const mean = progress.reduce((sum, steps) => sum + steps, 0) / WORKERS
    t.log(`steps of each when the first had done ${STEPS[kind]}: ${progress.join(', ')}`)
    t.true(Math.min(...progress) >= mean / 3, (progress.join(', ')))
  })

  test.serial(`a worker that is terminated while it trains harms none of the others [${kind}]`, async (t) => {
    const victim = 1
    const { alone, together } = await train(t, victim)
    t.is(together[victim], '')
    t.deepEqual(
      together.filter((_, index) => index !== victim),
      alone.filter((_, index) => index !== victim),
    )
  })
}
