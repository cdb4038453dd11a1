/** `grad`, `valueAndGrad` and `customGrad`: values, independence of `grad` fields, nesting, and what is refused. */

import { type Tensor, customGrad, grad, linear, matmul, noGrad, tensor, valueAndGrad } from '../../ts/index.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { THENABLE, near, random, values } from '../helpers/values.ts'

onDevices('valueAndGrad gives the value and the gradient of every argument', async (t, device) => {
  const f = valueAndGrad((x, y) => x.mul(y).sum().mul(2))
  const { value, grads } = f(tensor([1, 2], { device }), tensor([3, 4], { device }))
  t.deepEqual(await values(value), [22])
  t.deepEqual(await values(grads[0]), [6, 8])
  t.deepEqual(await values(grads[1]), [2, 4])
  t.is(value.requiresGrad, false)
  t.is(grads[0]!.requiresGrad, false)
})

onDevices('grad leaves every grad field alone', async (t, device) => {
  const x = tensor([1, 2], { device, requiresGrad: true })
  const w = tensor([3, 4], { device, requiresGrad: true })
  const [dx] = grad((v) => v.mul(w).sum())(x)
  t.deepEqual(await values(dx), [3, 4])
  t.is(x.grad, null)
  t.is(w.grad, null)
})

onDevices('an argument that is not used has a gradient of zeros', async (t, device) => {
  const [dx, dy] = grad((x, ..._others) => x.sum())(tensor([1, 2], { device }), tensor([[3], [4]], { device }))
  t.deepEqual(await values(dx), [1, 1])
  t.deepEqual(await values(dy), [0, 0])
  t.deepEqual([...dy!.shape], [2, 1])
  const [constant] = grad(() => tensor(5, { device }))(tensor([1], { device }))
  t.deepEqual(await values(constant), [0])
})

onDevices('the value may be the argument itself', async (t, device) => {
  const { value, grads } = valueAndGrad((x) => x)(tensor(7, { device }))
  t.deepEqual(await values(value), [7])
  t.deepEqual(await values(grads[0]), [1])
})

onDevices('the same tensor as two arguments has a gradient for each', async (t, device) => {
  const x = tensor([2, 3], { device })
  const [first, second] = grad((a, b) => a.square().mul(b).sum())(x, x)
  t.deepEqual(await values(first), [8, 18])
  t.deepEqual(await values(second), [4, 9])
})

onDevices('inside noGrad, grad computes all the same', async (t, device) => {
  const [dx] = noGrad(() => grad((x) => x.square().sum())(tensor([1, 2], { device })))
  t.deepEqual(await values(dx), [2, 4])
})

onDevices('nested grads are higher derivatives', async (t, device) => {
  const once =
    (f: (x: Tensor) => Tensor) =>
    (x: Tensor): Tensor =>
      grad(f)(x)[0]!.sum()
  const quartic = (x: Tensor): Tensor => x.square().mul(x).mul(x).sum()
  const x = tensor(3, { device })
  t.deepEqual(await values(once(quartic)(x)), [108])
  t.deepEqual(await values(once(once(quartic))(x)), [108])
  t.deepEqual(await values(once(once(once(quartic)))(x)), [72])
  t.deepEqual(await values(once(once(once(once(quartic))))(x)), [24])
})

onDevices('an inner grad may depend on what the outer one varies', async (t, device) => {
  // g(y) = d/dx (x²y³) at x = 5 is 10y³; its derivative at y = 2 is 30·4.
  const outer = grad((y) => grad((x) => x.square().mul(y.square()).mul(y).sum())(tensor(5, { device }))[0]!.sum())
  t.deepEqual(await values(outer(tensor(2, { device }))[0]), [120])
})

onDevices('the gradient of a gradient reaches grad through backward', async (t, device) => {
  // A penalty on the gradient, as in training with one: loss = |d/dx (x·w)²|² with x·w one number.
  const w = tensor([2, 3], { device, requiresGrad: true })
  const x = tensor([1, 1], { device, requiresGrad: true })
  const [dx] = grad((v) => v.mul(w).sum().square())(x)
  // dx = 2(x·w)w = 10·[2, 3]
  t.deepEqual(await values(dx), [20, 30])
  dx!.square().sum().backward()
  // |dx|² = 4 s² |w|², s = x·w: d/dw = 8 s |w|² x + 8 s² w; d/dx = 8 s |w|² w
  t.deepEqual(await values(w.grad), [8 * 5 * 13 + 8 * 25 * 2, 8 * 5 * 13 + 8 * 25 * 3])
  t.deepEqual(await values(x.grad), [8 * 5 * 13 * 2, 8 * 5 * 13 * 3])
})

onDevices('second derivatives of fused layers are those of their parts', async (t, device) => {
  const dtype = device.kind === 'js' ? 'f64' : 'f32'
  const make = (shape: number[], seed: number): Tensor =>
    tensor(random(shape, { seed }), { shape, dtype, device }).mul(0.5)
  const [x, weight, bias] = [make([3, 4], 1), make([4, 2], 2), make([2], 3)]
  const tolerance = dtype === 'f64' ? 1e-12 : 1e-5
  for (const activation of ['tanh', 'sigmoid', 'silu', 'gelu', 'softplus'] as const) {
    const fused = (w: Tensor): Tensor => linear(x, w, bias, { activation }).square().sum()
    const parts = (w: Tensor): Tensor => matmul(x, w).add(bias)[activation]().square().sum()
    const second = (f: (w: Tensor) => Tensor): Tensor => grad((w) => grad(f)(w)[0]!.square().sum())(weight)[0]!
    near(t, await values(second(fused)), await values(second(parts)), tolerance, activation)
  }
})

onDevices('functions have to be synchronous and give one number', (t, device) => {
  const x = tensor([1, 2], { device })
  const asynchronous = (async () => x.sum()) as unknown as () => Tensor
  const thenable = (() => THENABLE) as unknown as () => Tensor
  for (const f of [asynchronous, thenable]) {
    t.is(
      codeOf(() => grad(f)(x)),
      'ERR_ARGUMENT',
    )
    t.is(
      codeOf(() => valueAndGrad(f)(x)),
      'ERR_ARGUMENT',
    )
    t.is(
      codeOf(() => customGrad(f, () => [null])(x)),
      'ERR_ARGUMENT',
    )
  }
  t.is(
    codeOf(() => grad((v) => v.square())(x)),
    'ERR_SHAPE',
  )
  t.is(
    codeOf(() => grad((() => 5) as unknown as () => Tensor)(x)),
    'ERR_ARGUMENT',
  )
  t.is(
    codeOf(() => grad(5 as unknown as () => Tensor)),
    'ERR_ARGUMENT',
  )
  t.is(
    codeOf(() => grad((v) => v.sum())(3 as unknown as Tensor)),
    'ERR_ARGUMENT',
  )
  t.is(
    codeOf(() => grad((v) => v.sum())(tensor([1], { device, dtype: 'i32' }))),
    'ERR_ARGUMENT',
  )
  // What went wrong inside must not leave recording switched.
  t.is(x.square().requiresGrad, false)
  const w = tensor([1], { device, requiresGrad: true })
  t.is(w.square().requiresGrad, true)
})

onDevices('customGrad replaces the gradient', async (t, device) => {
  const twice = customGrad(
    ([x]) => x!.mul(2),
    (dy) => [dy.mul(100)],
  )
  const x = tensor([1, 2], { device, requiresGrad: true })
  const y = twice(x)
  t.deepEqual(await values(y), [2, 4])
  y.mul(3).sum().backward()
  t.deepEqual(await values(x.grad), [300, 300])
})

onDevices('customGrad sees inputs and result, and null is no gradient', async (t, device) => {
  const f = customGrad(
    ([x, w]) => x!.mul(w!),
    (dy, [x, w], y) => [dy.mul(w!).add(y).add(x!), null],
  )
  const x = tensor([1, 2], { device, requiresGrad: true })
  const w = tensor([3, 5], { device, requiresGrad: true })
  f(x, w).sum().backward()
  t.deepEqual(await values(x.grad), [3 + 3 + 1, 5 + 10 + 2])
  t.is(w.grad, null)
})

onDevices('the forward of customGrad may give back its input', async (t, device) => {
  const reverse = customGrad(
    ([x]) => x!,
    (dy) => [dy.neg()],
  )
  const x = tensor([1, 2], { device, requiresGrad: true })
  const y = reverse(x)
  y.mul(x).sum().backward()
  // Through the reversal −x, directly +x.
  t.deepEqual(await values(x.grad), [0, 0])
  y.dispose()
  t.deepEqual(await values(x), [1, 2])
})

onDevices('what the backward of customGrad gives is checked', (t, device) => {
  const x = tensor([1, 2], { device, requiresGrad: true })
  const run = (backward: (dy: Tensor) => unknown): string =>
    codeOf(() =>
      customGrad(
        ([v]) => v!.mul(2),
        backward as (dy: Tensor) => Tensor[],
      )(x)
        .sum()
        .backward(),
    )
  t.is(run((dy) => [dy.sum()]), 'ERR_SHAPE') // prettier-ignore
  t.is(run(() => []), 'ERR_ARGUMENT') // prettier-ignore
  t.is(
    run((dy) => [dy, dy]),
    'ERR_ARGUMENT',
  )
  t.is(
    run((dy) => dy),
    'ERR_ARGUMENT',
  )
  t.is(
    run(() => undefined),
    'ERR_ARGUMENT',
  )
  t.is(
    run(() => [5]),
    'ERR_ARGUMENT',
  )
  t.is(
    run(async (dy) => [dy]),
    'ERR_ARGUMENT',
  )
  t.is(
    run((dy) => [dy.cast('i32')]),
    'ERR_DTYPE',
  )
  t.is(
    run((dy) => [dy]),
    'nothing',
  )
})

onDevices('customGrad takes tensors only', (t, device) => {
  const f = customGrad(
    ([x]) => x!,
    (dy) => [dy],
  )
  t.is(
    codeOf(() => f(5 as unknown as Tensor)),
    'ERR_ARGUMENT',
  )
  t.is(
    codeOf(() => customGrad((() => 5) as unknown as () => Tensor, () => [])(tensor([1], { device }))),
    'ERR_ARGUMENT',
  )
  t.is(
    codeOf(() => customGrad(null as unknown as () => Tensor, () => [])),
    'ERR_ARGUMENT',
  )
  t.is(
    codeOf(() => customGrad(() => tensor(1, { device }), null as unknown as () => [])),
    'ERR_ARGUMENT',
  )
})

onDevices('a gradient of customGrad that is made of operations has a gradient itself', async (t, device) => {
  const cube = customGrad(
    ([x]) => x!.square().mul(x!),
    (dy, [x]) => [dy.mul(x!.square()).mul(3)],
  )
  const slope = (x: Tensor): Tensor => grad((v) => cube(v).sum())(x)[0]!.sum()
  const x = tensor([1, 2], { device })
  t.deepEqual(await values(grad(slope)(x)[0]), [6, 12])
})

onDevices('the forward of customGrad may keep what it makes, and may give a tensor it owns', async (t, device) => {
  let kept: Tensor | undefined
  const exponential = customGrad(
    ([x]) => (kept = x!.exp()),
    (dy) => [dy.mul(kept!)],
  )
  const x = tensor([0, 1], { device, requiresGrad: true })
  exponential(x).sum().backward()
  near(t, await values(x.grad), [1, Math.E], 1e-6)

  const table = tensor([5, 6], { device })
  const constant = customGrad(
    () => table,
    () => [null],
  )
  for (let i = 0; i < 2; i++) constant(x).dispose()
  t.is(table.requiresGrad, false)
  t.deepEqual(await values(table), [5, 6])
})
