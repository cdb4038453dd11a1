/** Every differentiable instruction against central differences in f64, on both ways a gradient can be computed. */

import test from 'ava'
import { CASES, type Row } from '../helpers/cases.ts'
import { COMPOSED } from '../helpers/cases/composed-loss.ts'
import { JS } from '../helpers/devices.ts'
import { floatPositions, functionOf, gradcheck } from '../helpers/gradcheck.ts'

const rows: [string, Pick<Row, 'gradient' | 'cases'>][] = [...Object.entries(CASES), ...Object.entries(COMPOSED)]

for (const [op, row] of rows) {
  if (row.gradient === 'none') continue
  const cases = row.cases('f64').filter((one) => one.grad && floatPositions(one.inputs).length > 0)
  for (const path of ['fused', 'decomposed'] as const) {
    test(`the gradient of ${op}, ${path}, is the slope of its values`, (t) => {
      t.true(cases.length > 0, 'a differentiable operation has cases for it')
      for (const one of cases) {
        const problem = gradcheck(functionOf(one, JS), one.inputs, JS, path)
        t.is(problem, null, one.title)
      }
    })
  }
}
