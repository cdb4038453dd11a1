/** `backward()`: what reaches `grad`, what may be used twice, and what is refused. Data are small integers, so f32 is exact. */

import * as fc from 'fast-check'

import { type Tensor, add, concat, matmul, noGrad, ones, optim, scope, tensor } from '../../ts/index.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { THENABLE, random, values } from '../helpers/values.ts'

onDevices('backward adds the gradient of the result to every leaf that requires one', async (t, device) => {
  const x = tensor([1, 2, 3], { device, requiresGrad: true })
  const w = tensor([4, 5, 6], { device, requiresGrad: true })
  const constant = tensor([1, 1, 1], { device })
  const loss = x.mul(w).add(constant).sum()
  t.is(x.grad, null)
  loss.backward()
  t.deepEqual(await values(x.grad), [4, 5, 6])
  t.deepEqual(await values(w.grad), [1, 2, 3])
  t.is(constant.grad, null)
  t.is(x.grad!.requiresGrad, false)
  t.deepEqual([...x.grad!.shape], [3])
  t.is(x.grad!.dtype, 'f32')
})

onDevices('a second graph adds to grad, and the gradient stays the same tensor', async (t, device) => {
  const x = tensor([1, 2], { device, requiresGrad: true })
  x.square().sum().backward()
  const first = x.grad
  x.mul(10).sum().backward()
  t.is(x.grad, first)
  t.deepEqual(await values(x.grad), [12, 14])
  x.grad!.dispose()
  x.mul(3).sum().backward()
  t.deepEqual(await values(x.grad), [3, 3], 'a disposed gradient counts as none')
})

onDevices('a tensor used several times gets the sum over its uses', async (t, device) => {
  const x = tensor([1, -2, 3], { device, requiresGrad: true })
  x.mul(x).add(x).sub(x.mul(4)).sum().backward()
  t.deepEqual(await values(x.grad), [-1, -7, 3])

  const m = tensor([[1, 2], [3, 4]], { device, requiresGrad: true }) // prettier-ignore
  matmul(m, m).sum().backward()
  // d/dM Σ(MM) = 1·Mᵀ summed both ways: row sums of M plus column sums of M.
  t.deepEqual(await values(m.grad), [3 + 4, 7 + 4, 3 + 6, 7 + 6])

  const y = tensor([5], { device, requiresGrad: true })
  concat([y, y, y])
    .mul(tensor([1, 2, 4], { device }))
    .sum()
    .backward()
  t.deepEqual(await values(y.grad), [7])
})

onDevices('paths that part and meet again are all counted', async (t, device) => {
  const x = tensor(3, { device, requiresGrad: true })
  const a = x.mul(2) // 6
  const b = a.square() // 36
  const c = a.add(b) // 42
  const d = b.mul(c) // 36·42
  d.add(a).backward()
  // d/da (a²(a + a²) + a) = 3a² + 4a³ + 1; da/dx = 2
  t.deepEqual(await values(x.grad), [2 * (3 * 36 + 4 * 216 + 1)])
})

onDevices('doubling forty times is one walk over forty nodes', async (t, device) => {
  const x = tensor(1, { device, requiresGrad: true })
  let y: Tensor = x
  for (let i = 0; i < 40; i++) y = y.add(y)
  y.backward()
  t.deepEqual(await values(x.grad), [2 ** 40])
})

onDevices('a chain of three thousand operations neither overflows a stack nor loses a gradient', async (t, device) => {
  const x = tensor([1, 2], { device, requiresGrad: true })
  let y: Tensor = x
  for (let i = 0; i < 3000; i++) y = i % 2 === 0 ? y.add(1) : y.sub(1)
  y.sum().backward()
  t.deepEqual(await values(x.grad), [1, 1])
})

onDevices('gradients pass through views, cuts and joins', async (t, device) => {
  const x = tensor([[1, 2, 3], [4, 5, 6]], { device, requiresGrad: true }) // prettier-ignore
  const w = tensor([[1, 10], [100, 1000], [10_000, 100_000]], { device }) // prettier-ignore
  x.transpose().mul(w).sum().backward()
  t.deepEqual(await values(x.grad), [1, 100, 10_000, 10, 1000, 100_000])

  const y = tensor([1, 2, 3, 4, 5, 6], { device, requiresGrad: true })
  const rows = y.reshape([2, 3]).reshape([3, 2]).reshape([6])
  rows.slice([2], [3]).square().sum().backward()
  t.deepEqual(await values(y.grad), [0, 0, 6, 8, 10, 0])

  const z = tensor([[1], [2]], { device, requiresGrad: true })
  const wide = z.expand([2, 3]).pad([[0, 1], [1, 0]]) // prettier-ignore
  wide
    .mul(ones([3, 4], { device }))
    .sum()
    .backward()
  t.deepEqual(await values(z.grad), [3, 3])

  const p = tensor([1, 2], { device, requiresGrad: true })
  const q = tensor([3], { device, requiresGrad: true })
  concat([p, q, p])
    .mul(tensor([1, 2, 3, 4, 5], { device }))
    .sum()
    .backward()
  t.deepEqual(await values(p.grad), [5, 7])
  t.deepEqual(await values(q.grad), [3])
})

onDevices('gradients of stretched operands are summed over the stretched axes', async (t, device) => {
  const x = tensor([[1, 2, 3], [4, 5, 6]], { device, requiresGrad: true }) // prettier-ignore
  const row = tensor([1, 10, 100], { device, requiresGrad: true })
  const column = tensor([[2], [3]], { device, requiresGrad: true })
  const one = tensor(7, { device, requiresGrad: true })
  x.mul(row).mul(column).mul(one).sum().backward()
  t.deepEqual(await values(row.grad), [7 * 14, 7 * 19, 7 * 24])
  t.deepEqual(await values(column.grad), [7 * 321, 7 * 654])
  t.deepEqual(await values(one.grad), [2 * 321 + 3 * 654])
  t.deepEqual([...row.grad!.shape, ...column.grad!.shape, ...one.grad!.shape], [3, 2, 1])
})

onDevices('a leaf is its own gradient of one', async (t, device) => {
  const x = tensor(5, { device, requiresGrad: true })
  x.backward()
  t.deepEqual(await values(x.grad), [1])
})

onDevices('gradients of sums are sums of gradients', async (t, device) => {
  const integers = fc.array(fc.integer({ min: -4, max: 4 }), { minLength: 6, maxLength: 6 })
  const f = (x: Tensor, w: Tensor): Tensor => x.mul(w).square().sum()
  const g = (x: Tensor, w: Tensor): Tensor =>
    matmul(x.reshape([2, 3]), w.reshape([3, 2]))
      .relu()
      .sum()
  const gradients = async (
    data: number[],
    weights: number[],
    loss: (x: Tensor, w: Tensor) => Tensor,
  ): Promise<number[]> => {
    const x = tensor(data, { device, requiresGrad: true })
    const w = tensor(weights, { device, requiresGrad: true })
    loss(x, w).backward()
    return [...(await values(x.grad)), ...(await values(w.grad))]
  }
  await fc.assert(
    fc.asyncProperty(
      integers,
      integers,
      fc.integer({ min: -3, max: 3 }),
      fc.integer({ min: -3, max: 3 }),
      async (x, w, a, b) => {
        const together = await gradients(x, w, (p, q) => f(p, q).mul(a).add(g(p, q).mul(b)))
        const [first, second] = [await gradients(x, w, f), await gradients(x, w, g)]
        t.deepEqual(
          together,
          first.map((v, i) => a * v + b * second[i]! + 0),
        )
      },
    ),
    { numRuns: 40, seed: 1 },
  )
})

onDevices('a result of several elements needs an upstream gradient of its shape', async (t, device) => {
  const x = tensor([1, 2, 3], { device, requiresGrad: true })
  const y = x.square()
  t.is(codeOf(() => y.backward()), 'ERR_SHAPE') // prettier-ignore
  t.is(
    codeOf(() => y.backward({ gradient: ones([2], { device }) })),
    'ERR_SHAPE',
  )
  t.is(
    codeOf(() => y.backward({ gradient: 1 as unknown as Tensor })),
    'ERR_ARGUMENT',
  )
  t.is(
    codeOf(() => y.backward({ gradient: ones([3], { device, dtype: 'i32' }) })),
    'ERR_DTYPE',
  )
  t.is(x.grad, null)
  y.backward({ gradient: tensor([1, 10, 100], { device }) })
  t.deepEqual(await values(x.grad), [2, 40, 600])
})

onDevices('the upstream gradient is left to its owner', async (t, device) => {
  const x = tensor([1, 2], { device, requiresGrad: true })
  const seed = tensor([3, 4], { device })
  x.backward({ gradient: seed })
  x.add(0).backward({ gradient: seed })
  t.deepEqual(await values(seed), [3, 4])
  t.deepEqual(await values(x.grad), [6, 8])
})

onDevices('without anything that requires a gradient backward is refused', async (t, device) => {
  const x = tensor([1, 2], { device })
  t.is(codeOf(() => x.sum().backward()), 'ERR_ARGUMENT') // prettier-ignore
  const w = tensor([1, 2], { device, requiresGrad: true })
  t.is(
    codeOf(() => w.detach().sum().backward()),
    'ERR_ARGUMENT',
  )
  t.is(
    codeOf(() => noGrad(() => w.sum()).backward()),
    'ERR_ARGUMENT',
  )
  t.is(
    codeOf(() => w.greater(1).cast('f32').sum().backward()),
    'ERR_ARGUMENT',
  )
  t.is(w.grad, null)
})

onDevices('a graph runs once, or as often as it is retained', async (t, device) => {
  const x = tensor([1, 2], { device, requiresGrad: true })
  const loss = x.square().sum()
  loss.backward({ retainGraph: true })
  loss.backward({ retainGraph: true })
  loss.backward()
  t.deepEqual(await values(x.grad), [6, 12])
  t.is(codeOf(() => loss.backward()), 'ERR_ARGUMENT') // prettier-ignore
  t.is(
    codeOf(() => loss.backward({ retainGraph: true })),
    'ERR_ARGUMENT',
  )
  t.deepEqual(await values(x.grad), [6, 12])
})

onDevices('a part of a graph that another backward has freed is refused', (t, device) => {
  const x = tensor([1, 2], { device, requiresGrad: true })
  const shared = x.exp()
  shared.sum().backward()
  t.is(
    codeOf(() => shared.square().sum().backward()),
    'ERR_ARGUMENT',
  )
})

onDevices('what is saved outlives the handles of the user', async (t, device) => {
  const x = tensor([1, 2, 3], { device, requiresGrad: true })
  const a = x.square()
  const b = a.mul(a)
  a.dispose()
  const loss = b.sum()
  b.dispose()
  loss.backward()
  t.deepEqual(await values(x.grad), [4, 32, 108])
})

onDevices('a leaf disposed before backward gets no gradient, and others do', async (t, device) => {
  const x = tensor([1, 2], { device, requiresGrad: true })
  const w = tensor([3, 4], { device, requiresGrad: true })
  const loss = x.mul(w).sum()
  x.dispose()
  loss.backward()
  t.deepEqual(await values(w.grad), [1, 2])
  t.is(x.grad, null)
})

onDevices('an optimiser step between forward and backward makes the graph stale', async (t, device) => {
  const w = tensor([1, 2], { device, requiresGrad: true })
  const optimizer = new optim.SGD([w], { lr: 1 })
  w.sum().backward()
  const loss = w.square().sum()
  optimizer.step()
  t.is(codeOf(() => loss.backward()), 'ERR_STALE') // prettier-ignore
  t.deepEqual(await values(w), [0, 1])
  // A sum saves nothing, so its graph has nothing that could be stale.
  const plain = w.sum()
  optimizer.zeroGrad()
  w.sum().backward()
  optimizer.step()
  optimizer.zeroGrad()
  plain.backward()
  t.deepEqual(await values(w.grad), [1, 1])
})

onDevices('gradients flow to float leaves only, and only from where it is asked for', async (t, device) => {
  t.is(
    codeOf(() => tensor([1], { device, dtype: 'i32', requiresGrad: true })),
    'ERR_DTYPE',
  )
  t.is(
    codeOf(() => tensor([true], { device, requiresGrad: true })),
    'ERR_DTYPE',
  )
  const x = tensor([1, 2], { device })
  x.requiresGrad = true
  x.mul(2).sum().backward()
  t.deepEqual(await values(x.grad), [2, 2])
  const y = x.mul(2)
  t.is(codeOf(() => (y.requiresGrad = false)), 'ERR_ARGUMENT') // prettier-ignore
  x.requiresGrad = false
  t.is(x.mul(2).requiresGrad, false)
})

onDevices('detach cuts the graph and shares the memory', async (t, device) => {
  const x = tensor([2, 3], { device, requiresGrad: true })
  x.mul(x.detach()).sum().backward()
  t.deepEqual(await values(x.grad), [2, 3])
})

onDevices('noGrad records nothing inside, and everything after it, errors included', async (t, device) => {
  const x = tensor([1, 2], { device, requiresGrad: true })
  t.is(noGrad(() => x.square()).requiresGrad, false)
  t.is(codeOf(() => noGrad(() => { throw new RangeError('mine') })), 'RangeError: mine') // prettier-ignore
  t.is(noGrad(() => { noGrad(() => x.square()); return x.square() }).requiresGrad, false) // prettier-ignore
  t.is(
    codeOf(() => noGrad(() => Promise.resolve(1))),
    'ERR_ARGUMENT',
  )
  t.is(
    codeOf(() => noGrad(() => THENABLE)),
    'ERR_ARGUMENT',
  )
  x.square().sum().backward()
  t.deepEqual(await values(x.grad), [2, 4])
})

onDevices('gradients survive the scope they were computed in', async (t, device) => {
  const x = tensor([1, 2], { device, requiresGrad: true })
  scope(() => x.square().sum().backward())
  scope(() => x.square().sum().backward())
  t.deepEqual(await values(x.grad), [4, 8])
})

onDevices('backward through a disposed result is refused', (t, device) => {
  const x = tensor([1, 2], { device, requiresGrad: true })
  const loss = x.square().sum()
  loss.dispose()
  t.is(codeOf(() => loss.backward()), 'ERR_DISPOSED') // prettier-ignore
})

onDevices('a gradient that arrives in parts is the one of the whole', async (t, device) => {
  // Columns of X·W computed one by one and joined have the gradient of X·W.
  const xs = random([5, 7], { seed: 1, integers: 3 })
  const ws = random([7, 4], { seed: 2, integers: 3 })
  const whole = {
    x: tensor(xs, { shape: [5, 7], device, requiresGrad: true }),
    w: tensor(ws, { shape: [7, 4], device, requiresGrad: true }),
  }
  const parts = {
    x: tensor(xs, { shape: [5, 7], device, requiresGrad: true }),
    w: tensor(ws, { shape: [7, 4], device, requiresGrad: true }),
  }
  matmul(whole.x, whole.w).square().sum().backward()
  const columns = [0, 1, 2, 3].map((c) => matmul(parts.x, parts.w.slice([0, c], [7, 1])))
  concat(columns, 1).square().sum().backward()
  t.deepEqual(await values(parts.x.grad), await values(whole.x.grad))
  t.deepEqual(await values(parts.w.grad), await values(whole.w.grad))
})

onDevices('numbers as operands take no part', async (t, device) => {
  const x = tensor([1, 2], { device, requiresGrad: true })
  add(3, x).mul(2).sub(1).sum().backward()
  t.deepEqual(await values(x.grad), [2, 2])
})
