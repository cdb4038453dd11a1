/** Runs the rows of the case table on the devices: one test for each instruction, device and element type. */

import test, { type ExecutionContext } from 'ava'
import { type Device, type Dtype, scope } from '../../ts/index.ts'
import { gapOf } from '../gaps.ts'
import type { Case, Row, TestedOpcode } from './cases.ts'
import { dtypesOf, listOf } from './cases.ts'
import { type Tolerance, compare } from './compare.ts'
import { upload } from './data.ts'
import { DEVICES } from './devices.ts'

/** Declares a test that a gap turns into one that has to fail. */
export function declare(
  op: TestedOpcode,
  title: string,
  device: Device,
  body: (t: ExecutionContext) => Promise<void>,
): void {
  const gap = gapOf(op, device.kind)
  if (gap === undefined) test(`${title} [${device.kind}]`, body)
  else {
    test.failing(`${title} [${device.kind}], a known gap: ${gap.reason}`, body)
  }
}

/** Declares the forward tests of a family. */
export function declareForward(family: Readonly<Partial<Record<TestedOpcode, Row>>>): void {
  for (const [name, row] of Object.entries(family)) {
    const op = name as TestedOpcode
    for (const device of DEVICES) {
      for (const dtype of dtypesOf(op)) {
        if (!device.dtypes.includes(dtype)) continue
        declare(op, `${op} of ${dtype} gives what its formula says`, device, (t) =>
          checkAll(t, device, row.cases(dtype), row.tolerance),
        )
      }
    }
  }
}

/** Runs cases and compares. The worst error is logged, as a part of what was allowed. */
export async function checkAll(
  t: ExecutionContext,
  device: Device,
  cases: readonly Case[],
  tolerance: Tolerance,
): Promise<void> {
  let worst = 0
  for (const one of cases) worst = Math.max(worst, await check(t, device, one, tolerance))
  if (worst > 0) t.log(`worst error: ${(100 * worst).toFixed(0)} % of what is allowed`)
}

async function check(t: ExecutionContext, device: Device, one: Case, tolerance: Tolerance): Promise<number> {
  const outputs = scope(() =>
    one.run(
      one.inputs.map((x) => upload(x, device)),
      device,
    ),
  )
  const wanted = listOf(one.want(one.inputs))
  const results = listOf(outputs)
  t.is(results.length, wanted.length, `${one.title}: number of results`)
  let worst = 0
  for (const [i, result] of results.entries()) {
    const { problem, worst: error } = compare(await result.data(), result.shape, result.dtype, wanted[i]!, tolerance)
    result.dispose()
    if (problem !== null) t.fail(`${one.title}: ${problem}`)
    worst = Math.max(worst, error)
  }
  return worst
}

/** An element type's name for titles of tests that run where f64 exists. */
export function floats(device: Device): Dtype[] {
  return (['f32', 'f64'] as const).filter((dtype) => device.dtypes.includes(dtype))
}
