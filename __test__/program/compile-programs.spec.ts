/**
 * Random training programs give compiled what they give as they are, bit for bit: losses, gradients, parameters and
 * optimiser state. A failure shrinks to a small program that is printed as JSON.
 *
 * `TRAINING_PROGRAMS=500` sets how many programs each device runs, `TRAINING_SEED=7` draws others. By default `cpu` and `js` run 500 and `gpu`, where
 * each program is a handful of shaders to compile, 60.
 */

import test, { type ExecutionContext } from 'ava'
import * as fc from 'fast-check'

import type { Device } from '../../ts/index.ts'
import { DEVICES } from '../helpers/devices.ts'
import type { Output } from '../helpers/program-run.ts'
import { type Numbers, type Training, drawn } from '../helpers/training-generator.ts'
import { execute } from '../helpers/training-run.ts'
import { largest } from '../helpers/values.ts'

const COUNT = process.env['TRAINING_PROGRAMS']
const SEED = Number(process.env['TRAINING_SEED'] ?? 20_260_102)
const PROGRAMS = { gpu: Number(COUNT ?? 60), cpu: Number(COUNT ?? 500), js: Number(COUNT ?? 500) } as const

const numbers = (length: number) => fc.array(fc.nat(999), { minLength: 1, maxLength: length })

const NUMBERS: fc.Arbitrary<Numbers> = fc.record({
  seed: fc.nat(0xffff),
  model: fc.array(fc.nat(999), { minLength: 7, maxLength: 7 }),
  layers: fc.array(numbers(5), { minLength: 1, maxLength: 3, size: 'max' }),
  steps: fc.array(numbers(5), { minLength: 2, maxLength: 6, size: 'max' }),
})

/** Why two results differ, or nothing. */
function difference(actual: readonly Output[], expected: readonly Output[]): string {
  const names = (list: readonly Output[]): string => list.map(({ name }) => name).join(', ')
  if (names(actual) !== names(expected)) return `${names(actual)} instead of ${names(expected)}`
  for (const [i, { name, data }] of actual.entries()) {
    const wanted = expected[i]!.data
    if (!isSame(data, wanted))
      return `${name} is ${Array.from(data).slice(0, 12)} instead of ${Array.from(wanted).slice(0, 12)}`
  }
  return ''
}

function isSame(a: ArrayLike<number>, b: ArrayLike<number>): boolean {
  return a.length === b.length && Array.from(a).every((v, i) => Object.is(v, b[i]))
}

for (const device of DEVICES) {
  // One after the other: each has its time.
  test.serial(`random training programs: compiled = eager [${device.kind}]`, (t) => compare(t, device))
}

async function compare(t: ExecutionContext, device: Device): Promise<void> {
  const limit = Math.max(100_000, 1000 * Number(COUNT ?? 0))
  t.timeout(limit + 10_000)
  const seen = { programs: 0, calls: 0, recordings: 0, outputs: 0, moved: 0 }
  const kinds = new Map<string, number>()
  const check = async (program: Training): Promise<void> => {
    const expected = await execute(program, device, false)
    const actual = await execute(program, device, true)
    const wrong = difference(actual.outputs, expected.outputs)
    if (wrong !== '') throw new Error(`${wrong}\n\n${JSON.stringify(program, null, 1)}`)
    seen.programs++
    seen.calls += actual.calls
    seen.recordings += actual.recordings
    seen.outputs += actual.outputs.length
    seen.moved += +actual.outputs.some(({ name, data }) => name.startsWith('gradient') && largest(data) > 1e-3)
    const { layers, steps, loss, rule, compiled } = program
    for (const kind of [loss, rule.kind, compiled, ...layers.map((l) => l.extra), ...steps.map((s) => s.change)])
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
  }
  const result = await fc.check(
    fc.asyncProperty(NUMBERS, (numbers) => check(drawn(numbers))),
    {
      numRuns: PROGRAMS[device.kind],
      seed: SEED,
      interruptAfterTimeLimit: limit,
      markInterruptAsFailure: true,
    },
  )
  if (result.failed) {
    const why = result.errorInstance instanceof Error ? result.errorInstance.message : 'out of time'
    t.fail(`after ${result.numRuns} programs: ${why}`)
    return
  }
  t.log(
    `${seen.programs} programs, ${seen.calls} compiled calls, ${seen.recordings} recordings, ${seen.outputs} results`,
  )
  t.true(seen.programs >= PROGRAMS[device.kind])
  // A run that replays or learns nothing shows nothing.
  t.true(seen.calls > 1.5 * seen.recordings && seen.recordings > seen.programs)
  if (seen.programs < 200) return
  t.true(seen.moved > 0.25 * seen.programs, String(seen.moved))
  for (const [kind, count] of kinds) t.true(count >= 10, `${kind} came only ${count} times`)
}
