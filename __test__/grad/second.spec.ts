/**
 * Second derivatives: gradients of gradients against central differences of first gradients, in f64. The inner gradient
 * is built of differentiable operations when it is differentiated again, and of fused instructions when it is not, so
 * each test holds one against the other too.
 */

import test from 'ava'
import { type Tensor, grad, linear, mul, nn, noGrad, square, sum, tensor, valueAndGrad } from '../../ts/index.ts'
import { CASES, type Case } from '../helpers/cases.ts'
import { COMPOSED } from '../helpers/cases/composed-loss.ts'
import { count, random, upload } from '../helpers/data.ts'
import { JS } from '../helpers/devices.ts'
import { type Differentiable, closed, floatPositions, functionOf, gradcheck } from '../helpers/gradcheck.ts'

/** The first gradients as a function of the inputs. */
function slopes(fn: Differentiable, positions: readonly number[]): Differentiable {
  return (inputs) => grad(closed(fn, inputs, positions))(...positions.map((p) => inputs[p]!))
}

/** A difference quotient costs two gradients for each element. */
function small(one: Case): boolean {
  const elements = floatPositions(one.inputs).reduce((n, p) => n + count(one.inputs[p]!.shape), 0)
  return one.grad === true && elements > 0 && elements <= 40
}

for (const [op, row] of [...Object.entries(CASES), ...Object.entries(COMPOSED)]) {
  if (row.gradient !== 'smooth' && row.gradient !== 'corners') continue
  test(`the second derivative of ${op} is the slope of its gradient`, (t) => {
    const cases = row.cases('f64').filter(small)
    t.true(cases.length > 0)
    for (const one of cases) {
      const first = slopes(functionOf(one, JS), floatPositions(one.inputs))
      t.is(gradcheck(first, one.inputs, JS), null, one.title)
    }
  })
}

/** A scalar in f64. */
function number(x: number): Tensor {
  return tensor(x, { dtype: 'f64', device: JS })
}

async function items(list: readonly Tensor[]): Promise<number[]> {
  return Promise.all(list.map((x) => x.item()))
}

test('derivatives of any order: the fourth of x⁵', async (t) => {
  const derivative =
    (f: (x: Tensor) => Tensor) =>
    (x: Tensor): Tensor =>
      sum(grad(f)(x)[0]!)
  let f = (x: Tensor): Tensor => x.pow(5).sum()
  for (let order = 0; order < 4; order++) f = derivative(f)
  t.is(await f(number(1.5)).item(), 120 * 1.5)
})

test('mixed derivatives: an inner gradient depends on what the outer one varies, also through a closure', async (t) => {
  // ∂/∂w ∂/∂x of w²x³ at w = 2, x = 3: 2w · 3x².
  const inner = (w: Tensor): Tensor => grad((x) => sum(mul(square(w), x.pow(3))))(number(3))[0]!
  t.deepEqual(await items(grad((w) => sum(inner(w)))(number(2))), [108])
  const both = valueAndGrad((w) => sum(inner(w)))(number(2))
  t.deepEqual(await items([both.value, ...both.grads]), [108, 108])
})

test('a gradient penalty reaches the parameters', async (t) => {
  // L = (d/dx w·x²)² = 4w²x²; dL/dw = 8wx².
  const w = tensor(2, { dtype: 'f64', device: JS, requiresGrad: true })
  const x = tensor(3, { dtype: 'f64', device: JS, requiresGrad: true })
  const [slope] = grad((x) => sum(mul(w, square(x))))(x)
  square(slope!).sum().backward()
  t.is(await w.grad!.item(), 8 * 2 * 9)
})

test('inside noGrad an inner gradient is a constant', async (t) => {
  const [g] = grad((w) => {
    const [slope] = noGrad(() => grad((x) => sum(mul(w, square(x))))(number(3)))
    return sum(mul(w, slope!))
  })(number(2))
  t.is(await g!.item(), 12)
})

test('the Hessian of a layer with softmax and cross-entropy is symmetric', async (t) => {
  const [x, w, b] = [[3, 4], [4, 5], [5]].map((shape, i) => upload(random('f64', shape, { salt: 40 + i }), JS))
  const targets = tensor([1, 4, 0], { dtype: 'i32', device: JS })
  const loss = (w: Tensor): Tensor => nn.crossEntropy(linear(x!, w, b, { activation: 'gelu' }), targets)
  const row = async (i: number): Promise<number[]> => {
    const unit = upload(
      { ...random('f64', [4, 5]), values: Float64Array.from({ length: 20 }, (_, j) => +(i === j)) },
      JS,
    )
    const [g] = grad((w) => sum(mul(grad(loss)(w)[0]!, unit)))(w!)
    return [...(await g!.data())]
  }
  const hessian = await Promise.all(Array.from({ length: 20 }, (_, i) => row(i)))
  t.true(Math.max(...hessian.flat().map(Math.abs)) > 1e-3)
  for (let i = 0; i < 20; i++) {
    for (let j = 0; j < i; j++) t.true(Math.abs(hessian[i]![j]! - hessian[j]![i]!) < 1e-13)
  }
})

test('an ignored item reaches neither gradient nor second derivative, whatever it holds', async (t) => {
  const logits = tensor(
    [
      [NaN, Infinity],
      [0.5, 1],
    ],
    { dtype: 'f64', device: JS },
  )
  const targets = tensor([-100, 1], { dtype: 'i32', device: JS })
  const loss = (z: Tensor): Tensor => nn.crossEntropy(z, targets)
  const first = await grad(loss)(logits)[0]!.data()
  t.deepEqual(Array.from(first.subarray(0, 2)), [0, 0])
  const second = grad((z) => sum(square(grad(loss)(z)[0]!)))(logits)
  t.deepEqual([...(await second[0]!.data())].slice(0, 2), [0, 0])
  t.true([...(await second[0]!.data())].every((v) => Number.isFinite(v)))
})
