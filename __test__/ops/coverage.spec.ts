/** The case table covers the library: every instruction by its type, every public operation by its name. */

import test from 'ava'
import * as tilegrad from '../../ts/index.ts'
import { OPCODES } from '../../ts/program/opcodes.ts'
import { CASES } from '../helpers/cases.ts'
import { GAPS } from '../gaps.ts'

/** Made of other operations, or of none: their tests stand in the spec files of their own. */
const ELSEWHERE = [
  ...'tensor arange eye randn logSumExp norm oneHot prod split squeeze stack unsqueeze'.split(' '),
  'embedding',
  'scaledDotProductAttention',
]

/** Functions of the root that are no operations. */
const NOT_OPERATIONS = [
  'compile',
  'customGrad',
  'defaultDevice',
  'devices',
  'grad',
  'keep',
  'manualSeed',
  'noGrad',
  'openDevice',
  'pickDevice',
  'profile',
  'randomState',
  'scalar',
  'scope',
  'setDefaultDevice',
  'setRandomState',
  'valueAndGrad',
]

test('every public operation stands in the case table', (t) => {
  const named = new Set(Object.values(CASES).flatMap((row) => row.api))
  const functions = Object.entries(tilegrad).flatMap(([name, value]) =>
    typeof value === 'function' && /^[a-z]/.test(name) ? [name] : [],
  )
  const left = functions.filter(
    (name) => !named.has(name) && !ELSEWHERE.includes(name) && !NOT_OPERATIONS.includes(name),
  )
  t.deepEqual(left, [])
  for (const name of [...named].filter((name) => !name.includes('.'))) t.true(functions.includes(name), name)
})

test('every instruction has cases for each element type it takes', (t) => {
  for (const [op, row] of Object.entries(CASES)) {
    for (const dtype of ['f32', 'i32', 'bool', 'f64'] as const) {
      const accepts = {
        float: ['f32', 'f64'],
        number: ['f32', 'f64', 'i32'],
        any: ['f32', 'f64', 'i32', 'bool'],
        bool: ['bool'],
      }
      if (accepts[OPCODES[op as keyof typeof CASES].dtypes].includes(dtype))
        t.true(row.cases(dtype).length > 2, `${op} of ${dtype}`)
    }
  }
})

test('a gap has a reason', (t) => {
  for (const gap of GAPS) t.true(gap.reason.length > 20, gap.op)
  t.pass()
})
