/**
 * The f32 gradient of every differentiable instruction on every device against the f64 gradient of the `js` device,
 * which the difference quotients of gradcheck.spec.ts stand behind.
 */

import type { ExecutionContext } from 'ava'
import {
  type ActivationName,
  type Device,
  type Tensor,
  linear,
  matmul,
  mul,
  nn,
  softmax,
  square,
  tensor,
} from '../../ts/index.ts'
import { CASES, type Case, type TestedOpcode } from '../helpers/cases.ts'
import { COMPOSED } from '../helpers/cases/composed-loss.ts'
import { largest } from '../helpers/compare.ts'
import { type Data, random } from '../helpers/data.ts'
import { DEVICES, JS, onDevices } from '../helpers/devices.ts'
import { ACTIVATION_FORMULAS } from '../helpers/formulas.ts'
import { type Differentiable, floatPositions, functionOf, gradients, inF64 } from '../helpers/gradcheck.ts'
import { declare } from '../helpers/run.ts'

/** Relative to the largest element of a gradient. */
const TOLERANCE = 2e-5

/** The worst difference of the gradients of a function, relative to their scale. */
async function compare(
  t: ExecutionContext,
  device: Device,
  title: string,
  data: readonly Data[],
  fn: Differentiable,
): Promise<number> {
  const got = gradients(fn, data, device)
  const exact = gradients(fn, inF64(data), JS)
  let worst = 0
  for (const [i, slope] of got.entries()) {
    const [values, wanted] = [await slope.data(), await exact[i]!.data()]
    t.deepEqual(slope.shape, exact[i]!.shape, title)
    const scale = Math.max(largest(wanted), 1e-6)
    for (let j = 0; j < values.length; j++) {
      const error = Math.abs(values[j]! - wanted[j]!) / scale
      // Written so that NaN fails.
      if (!(error <= TOLERANCE))
        t.fail(`${title}, input ${i}, element ${j}: ${values[j]} instead of ${wanted[j]}, scale ${scale}`)
      worst = Math.max(worst, error)
    }
    slope.dispose()
    exact[i]!.dispose()
  }
  return worst
}

/** f32 of a device in place of f64 of the case: the function takes what it gets. */
async function compareCases(t: ExecutionContext, device: Device, cases: readonly Case[]): Promise<void> {
  let worst = 0
  for (const one of cases) {
    const fn: Differentiable = (inputs) => functionOf(one, inputs[0]!.device)(inputs)
    worst = Math.max(worst, await compare(t, device, one.title, one.inputs, fn))
  }
  if (worst > 0) t.log(`worst difference ${worst.toExponential(1)} of the scale`)
}

for (const [name, row] of Object.entries(CASES)) {
  if (row.gradient === 'none') continue
  const op = name as TestedOpcode
  for (const device of DEVICES) {
    declare(op, `the gradient of ${op} in f32 is that in f64`, device, (t) => {
      const cases = row.cases('f32').filter((one) => one.grad && floatPositions(one.inputs).length > 0)
      t.true(cases.length > 0)
      return compareCases(t, device, cases)
    })
  }
}

for (const [name, { cases }] of Object.entries(COMPOSED)) {
  onDevices(`the gradient of ${name} in f32 is that in f64`, (t, device) =>
    compareCases(
      t,
      device,
      cases('f32').filter((one) => one.grad && floatPositions(one.inputs).length > 0),
    ),
  )
}

onDevices('gradients of layers beyond a tile, each activation, with and without bias', async (t, device) => {
  let worst = 0
  for (const name of [undefined, ...Object.keys(ACTIVATION_FORMULAS)] as (ActivationName | undefined)[]) {
    for (const bias of [true, false]) {
      const data = [
        random('f32', [65, 130], { low: -1, high: 1, salt: 1 }),
        random('f32', [130, 33], { low: -0.3, high: 0.3, salt: 2 }),
        ...(bias ? [random('f32', [33], { salt: 3 })] : []),
      ]
      const options = name === undefined ? {} : { activation: name }
      const title = `${name ?? 'no activation'}${bias ? ' with bias' : ''}`
      worst = Math.max(worst, await compare(t, device, title, data, ([x, w, b]) => linear(x!, w!, b, options)))
    }
  }
  t.log(`worst difference ${worst.toExponential(1)} of the scale`)
})

onDevices('gradients through a network: products, softmax, losses, branches that meet', async (t, device) => {
  const data = [
    random('f32', [33, 20], { salt: 1 }),
    random('f32', [20, 31], { low: -0.5, high: 0.5, salt: 2 }),
    random('f32', [31], { salt: 3 }),
    random('f32', [31, 10], { low: -0.5, high: 0.5, salt: 4 }),
  ]
  const network = ([x, w1, b1, w2]: readonly Tensor[]): Tensor => {
    const hidden = linear(x!, w1!, b1, { activation: 'silu' })
    const attention = softmax(matmul(hidden, hidden, { transposeB: true }))
    const logits = matmul(matmul(attention, hidden).add(hidden), w2!)
    const targets = tensor(
      Int32Array.from({ length: 33 }, (_, i) => i % 10),
      { device: x!.device },
    )
    return nn.crossEntropy(logits, targets).add(mul(square(w2!).mean(), 0.1))
  }
  await compare(t, device, 'network', data, network)
  t.pass()
})
