/**
 * Golden files: cases that another library computed in f64, made by the scripts in `scripts/golden/` and never here. Every
 * case runs on every device, in f32 and where there is f64 in that too, eagerly and compiled; results and gradients have
 * to be those of the file within the bounds of the tolerance `golden`. A file is JSON:
 *
 * | field of a case | holds |
 * |---|---|
 * | `call` | which function of the spec file runs it, `options` what that gets besides the inputs |
 * | `inputs`, `outputs` | arrays by name; dtype `float` becomes f32 or f64 |
 * | `upstream`, `gradients` | factors by output, and by input the gradient of Σ upstream ⊙ output over all outputs; both or neither |
 *
 * Numbers that JSON cannot hold are the strings `NaN`, `Infinity` and `-Infinity`. Inputs are exact in f32.
 */

import { readFileSync } from 'node:fs'
import test, { type ExecutionContext } from 'ava'
import { type Device, type Dtype, type Tensor, compile, grad, mul, scope, sum } from '../../ts/index.ts'
import { type Tolerance, compare } from './compare.ts'
import { type Data, array, upload } from './data.ts'
import { DEVICES } from './devices.ts'
import { floats } from './run.ts'

const GOLDEN: Tolerance = { kind: 'golden' }

interface GoldenArray {
  readonly dtype: 'float' | 'i32' | 'bool'
  readonly shape: readonly number[]
  readonly values: readonly (number | string)[]
}

type Arrays = Readonly<Record<string, GoldenArray>>

interface GoldenCase {
  readonly title: string
  readonly call: string
  readonly options: Readonly<Record<string, unknown>>
  readonly inputs: Arrays
  readonly outputs: Arrays
  readonly upstream?: Arrays
  readonly gradients?: Arrays
}

interface GoldenFile {
  readonly script: string
  readonly versions: Readonly<Record<string, string>>
  readonly seed: number
  readonly cases: readonly GoldenCase[]
}

type Tensors = Readonly<Record<string, Tensor>>

/** What runs the cases of one `call`: tensors by the names of the file in, outputs by the names of the file out. */
// oxlint-disable-next-line typescript/no-explicit-any -- each function knows the options of its own cases
export type GoldenCall = (inputs: any, options: any, device: Device) => Tensors

/** The file of a family. */
export function goldenFile(family: string): GoldenFile {
  const text = readFileSync(new URL(`../golden/${family}.json`, import.meta.url), 'utf8')
  return JSON.parse(text) as GoldenFile
}

function dataOf({ dtype, shape, values }: GoldenArray, float: Dtype): Data {
  return array(dtype === 'float' ? float : dtype, shape, values.map(Number))
}

function mapped<X, Y>(record: Readonly<Record<string, X>>, f: (x: X, name: string) => Y): Record<string, Y> {
  return Object.fromEntries(Object.entries(record).map(([name, x]) => [name, f(x, name)]))
}

/** Outputs of a case, and the gradients that it wants, as `∂` and the name of the input. */
function evaluate(one: GoldenCase, call: GoldenCall, device: Device, float: Dtype, inputs: Tensors): Tensors {
  const run = (inputs: Tensors): Tensors => call(inputs, one.options, device)
  if (one.gradients === undefined) return run(inputs)
  const wanted = Object.keys(one.gradients)
  // By name, not by what comes out: an output that is missing must not pass for one without a gradient.
  const factors = mapped(one.upstream!, (factor) => upload(dataOf(factor, float), device))
  const slopes = grad((...x) => {
    const outputs = run({ ...inputs, ...Object.fromEntries(wanted.map((name, i) => [name, x[i]!])) })
    const parts = Object.entries(factors).map(([name, factor]) => sum(mul(outputs[name]!, factor)))
    return parts.reduce((a, b) => a.add(b))
  })(...wanted.map((name) => inputs[name]!))
  return { ...run(inputs), ...Object.fromEntries(wanted.map((name, i) => [`∂${name}`, slopes[i]!])) }
}

/** Runs one case and compares all that it names; gives the worst error as a part of what is allowed. */
async function check(
  t: ExecutionContext,
  device: Device,
  float: Dtype,
  one: GoldenCase,
  call: GoldenCall,
  compiled: boolean,
): Promise<number> {
  const results = scope(() => {
    const body = (inputs: Tensors): Tensors => evaluate(one, call, device, float, inputs)
    const inputs = mapped(one.inputs, (x) => upload(dataOf(x, float), device))
    return (compiled ? compile(body) : body)(inputs)
  })
  const wanted: Arrays = {
    ...one.outputs,
    ...Object.fromEntries(Object.entries(one.gradients ?? {}).map(([name, slope]) => [`∂${name}`, slope])),
  }
  t.deepEqual(Object.keys(results).sort(), Object.keys(wanted).sort(), one.title)
  let worst = 0
  for (const [name, want] of Object.entries(wanted)) {
    const got = results[name]!
    const { problem, worst: error } = compare(await got.data(), got.shape, got.dtype, dataOf(want, float), GOLDEN)
    if (problem !== null) t.fail(`${one.title}, ${name}: ${problem}`)
    worst = Math.max(worst, error)
  }
  for (const result of Object.values(results)) result.dispose()
  return worst
}

/**
 * Declares the tests of a file: one for each `call`, device, element type and way to run it.
 *
 * @param calls a function for each `call` of the file; one too few or too many is a failing test
 * @param options.eagerOnly calls that cannot be compiled, such as those that wait
 */
export function declareGolden(
  family: string,
  calls: Readonly<Record<string, GoldenCall>>,
  { eagerOnly = [] }: { readonly eagerOnly?: readonly string[] } = {},
): void {
  const { cases, script, versions } = goldenFile(family)
  test(`the golden file of ${family} says what made it, and every case has a function`, (t) => {
    t.is(script, `scripts/golden/${family}.py`)
    t.true(Object.keys(versions).includes('numpy'))
    t.deepEqual(Object.keys(calls).sort(), [...new Set(cases.map(({ call }) => call))].sort())
  })
  for (const [name, call] of Object.entries(calls)) {
    const own = cases.filter((one) => one.call === name)
    for (const device of DEVICES) {
      for (const dtype of floats(device)) {
        for (const way of eagerOnly.includes(name) ? ['eager'] : ['eager', 'compiled']) {
          test(`${name} in ${dtype}, ${way}, is what the golden file says [${device.kind}]`, async (t) => {
            let worst = 0
            for (const one of own) worst = Math.max(worst, await check(t, device, dtype, one, call, way === 'compiled'))
            t.log(`${own.length} cases; worst error: ${(100 * worst).toFixed(0)} % of what is allowed`)
          })
        }
      }
    }
  }
}
