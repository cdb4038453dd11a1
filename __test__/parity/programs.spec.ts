/**
 * Random programs mean the same on every device: f32 devices against the `js` device in f64, within 1e-4 of the scale;
 * and on one device the same bits again, and without fusion. A failure shrinks to a small program that is printed as
 * text and as JSON: saved as a file of `corpus/` it is replayed first from then on. `PROGRAMS_SEED=7` draws others.
 */

import { readFileSync, readdirSync } from 'node:fs'
import test from 'ava'
import * as fc from 'fast-check'

import type { Device } from '../../ts/index.ts'
import { DEVICES, JS, open } from '../helpers/devices.ts'
import { type Program, type Raw, build, print } from '../helpers/program-generator.ts'
import { type Output, execute, isSmooth } from '../helpers/program-run.ts'
import { RULE } from '../helpers/rules/index.ts'
import { distance, largest } from '../helpers/values.ts'

const TOLERANCE = 1e-4
const SEED = Number(process.env['PROGRAMS_SEED'] ?? 20_260_101)
const PROGRAMS = 2000
/** Every program is a handful of new shaders, which take long to compile: a GPU runs one program of eight. */
const EVERY = { gpu: 8, cpu: 1, js: 1 } as const
/** Of those that a device runs, one in so many also runs again and without fusion. */
const AGAIN = 4

const numbers = (length: number) => fc.array(fc.nat(999), { minLength: 1, maxLength: length })

const RAW: fc.Arbitrary<Raw> = fc.record({
  seed: fc.nat(0xffff),
  backward: fc.boolean(),
  leaves: fc.array(numbers(3), { minLength: 2, maxLength: 6 }),
  steps: fc.array(numbers(8), { minLength: 1, maxLength: 22, size: 'max' }),
})

/** The worst difference relative to what is allowed, or why outputs cannot be compared. */
function compare(actual: readonly Output[], expected: readonly Output[]): { worst: number; where: string } {
  const names = (list: readonly Output[]): string => list.map((o) => o.name).join(' ')
  if (names(actual) !== names(expected))
    return { worst: Infinity, where: `${names(actual)} instead of ${names(expected)}` }
  let [worst, where] = [0, '']
  for (const [i, { name, data }] of actual.entries()) {
    const wanted = expected[i]!.data
    const ratio = distance(data, wanted) / (TOLERANCE * Math.max(1, largest(wanted)))
    if (ratio > worst)
      [worst, where] = [
        ratio,
        `${name} is ${Array.from(data).slice(0, 12)} instead of ${Array.from(wanted).slice(0, 12)}`,
      ]
  }
  return { worst, where }
}

function sameBits(a: readonly Output[], b: readonly Output[]): string {
  for (const [i, { name, data }] of a.entries()) {
    const other = b[i]!.data
    for (let j = 0; j < data.length; j++)
      if (!Object.is(data[j], other[j])) return `${name}[${j}] is ${data[j]} and ${other[j]}`
  }
  return ''
}

/** What has been compared, so that a run that compared nothing cannot pass. */
const seen = {
  programs: 0,
  steps: 0,
  gradients: 0,
  worst: 0,
  ops: new Map<string, number>(),
  on: new Map<string, number>(),
}

/** Says what went wrong, and on which program. */
class Disagreement extends Error {
  constructor(what: string, program: Program) {
    super(
      `${what}\n\n${print(program)}\n\nTo keep it, save this as __test__/parity/corpus/<name>.json:\n${JSON.stringify(program)}\n`,
    )
  }
}

async function check(program: Program, devices: readonly Device[], unfused: readonly Device[]): Promise<void> {
  try {
    await compareDevices(program, devices, unfused)
  } catch (error) {
    if (error instanceof Disagreement) throw error
    throw new Disagreement(error instanceof Error ? (error.stack ?? error.message) : String(error), program)
  }
}

async function compareDevices(program: Program, devices: readonly Device[], unfused: readonly Device[]): Promise<void> {
  const fail = (what: string): never => {
    throw new Disagreement(what, program)
  }
  const backward = program.backward && (await isSmooth(program, JS))
  const reference = await execute(program, JS, 'f64', backward)
  seen.programs++
  seen.steps += program.steps.length
  for (const { op } of program.steps) seen.ops.set(op, (seen.ops.get(op) ?? 0) + 1)
  seen.gradients += reference.filter((o) => o.name.startsWith('d')).length
  for (const device of devices) {
    seen.on.set(device.kind, (seen.on.get(device.kind) ?? 0) + 1)
    const first = await execute(program, device, 'f32', backward)
    const { worst, where } = compare(first, reference)
    if (!(worst <= 1)) fail(`${device.kind} is off by ${worst} times what is allowed: ${where}`)
    seen.worst = Math.max(seen.worst, worst)
    const other = unfused.find((d) => d.kind === device.kind)
    if (other === undefined) continue
    const again = sameBits(await execute(program, device, 'f32', backward), first)
    if (again !== '') fail(`${device.kind} gives other bits the second time: ${again}`)
    const plain = sameBits(await execute(program, other, 'f32', backward), first)
    if (plain !== '') fail(`${device.kind} gives other bits without fusion: ${plain}`)
  }
}

test.serial('programs of the corpus mean the same on every device', async (t) => {
  const unfused = await Promise.all(DEVICES.map((d) => open({ kind: d.kind, fuse: false })))
  const folder = new URL('corpus/', import.meta.url)
  for (const name of readdirSync(folder).filter((file) => file.endsWith('.json'))) {
    const program = JSON.parse(readFileSync(new URL(name, folder), 'utf8')) as Program
    try {
      await check(program, DEVICES, unfused)
    } catch (error) {
      t.fail(`${name}: ${(error as Disagreement).message}`)
    }
  }
  t.pass()
})

test.serial('random programs mean the same on every device', async (t) => {
  t.timeout(100_000)
  const unfused = await Promise.all(DEVICES.map((d) => open({ kind: d.kind, fuse: false })))
  let run = 0
  const result = await fc.check(
    fc.asyncProperty(RAW, (raw) => {
      const turn = run++
      const again = unfused.filter(({ kind }) => turn % (EVERY[kind] * AGAIN) === 0)
      return check(build(raw), DEVICES.filter(({ kind }) => turn % EVERY[kind] === 0), again) // prettier-ignore
    }),
    {
      numRuns: PROGRAMS,
      seed: SEED,
      endOnFailure: false,
      interruptAfterTimeLimit: 90_000,
      markInterruptAsFailure: true,
    },
  )
  if (result.failed) {
    const why = result.errorInstance instanceof Error ? result.errorInstance.message : 'out of time'
    t.fail(`after ${result.numRuns} programs: ${why}`)
    return
  }
  const { programs, steps, gradients, worst, ops } = seen
  t.log(
    `${programs} programs of ${(steps / programs).toFixed(1)} steps, ${gradients} gradients; worst error ${worst.toFixed(3)} of what is allowed`,
  )
  t.true(programs >= PROGRAMS)
  for (const { kind } of DEVICES)
    t.true(seen.on.get(kind)! >= PROGRAMS / EVERY[kind], `${seen.on.get(kind)} on ${kind}`)
  t.true(steps / programs > 4 && gradients > PROGRAMS / 2)
  for (const op of RULE.keys()) t.true((ops.get(op) ?? 0) >= 20, `${op} came only ${ops.get(op) ?? 0} times`)
})
