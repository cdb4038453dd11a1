/** The losses by values that are known: reductions, weights, smoothing, corners, and what is refused. */

import { type Tensor, linear, nn, tensor } from '../../ts/index.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf, rejectionOf } from '../helpers/errors.ts'
import { near, values } from '../helpers/values.ts'

const indices = (list: number[] | number[][], device: Tensor['device']): Tensor =>
  tensor(list, { dtype: 'i32', device })

onDevices('cross-entropy of the documented row is log 2', async (t, device) => {
  const logits = tensor([[0, Math.log(2), 0]], { device })
  near(t, await values(nn.crossEntropy(logits, indices([1], device))), [Math.LN2], 1e-6)
})

onDevices('reductions are the mean, the sum, the items, and sum with count', async (t, device) => {
  const logits = tensor([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], { device }) // prettier-ignore
  const targets = indices([0, -100, 3], device)
  const item = Math.log(4)
  near(t, await values(nn.crossEntropy(logits, targets)), [item], 1e-6)
  near(t, await values(nn.crossEntropy(logits, targets, { reduction: 'mean' })), [item], 1e-6)
  near(t, await values(nn.crossEntropy(logits, targets, { reduction: 'sum' })), [2 * item], 1e-6)
  near(t, await values(nn.crossEntropy(logits, targets, { reduction: 'none' })), [item, 0, item], 1e-6)
  const parts = nn.crossEntropy(logits, targets, { reduction: 'parts' })
  near(t, await values(parts.sum), [2 * item], 1e-6)
  t.deepEqual(await values(parts.count), [2])
  t.is(parts.count.requiresGrad, false)
})

onDevices('ignored rows give neither loss nor gradient, whatever they hold', async (t, device) => {
  const data = [[1, 2], [Number.NaN, Infinity], [3, -1]] // prettier-ignore
  const all = tensor(data, { device, requiresGrad: true })
  const loss = nn.crossEntropy(all, indices([0, 7, 1], device), { ignoreIndex: 7 })
  loss.backward()
  const kept = tensor([data[0]!, data[2]!], { device, requiresGrad: true })
  const wanted = nn.crossEntropy(kept, indices([0, 1], device))
  wanted.backward()
  t.deepEqual(await values(loss), await values(wanted))
  const [a, b, c, d] = await values(kept.grad)
  t.deepEqual(await values(all.grad), [a, b, 0, 0, c, d])
})

onDevices('with nothing to count loss and gradient are 0', async (t, device) => {
  const logits = tensor([[1, 2], [3, 4]], { device, requiresGrad: true }) // prettier-ignore
  const loss = nn.crossEntropy(logits, indices([-100, -100], device))
  loss.backward()
  t.deepEqual(await values(loss), [0])
  t.deepEqual(await values(logits.grad), [0, 0, 0, 0])
})

onDevices('leading axes of logits are items', async (t, device) => {
  const logits = tensor([[[0, 0], [0, 0]], [[0, 0], [0, 0]]], { device }) // prettier-ignore
  const items = nn.crossEntropy(logits, indices([[0, 1], [1, 0]], device), { reduction: 'none' }) // prettier-ignore
  t.deepEqual([...items.shape], [2, 2])
})

onDevices('a class out of range spoils the results and nothing else', async (t, device) => {
  const logits = tensor([[1, 2], [3, 4]], { device, requiresGrad: true }) // prettier-ignore
  for (const wrong of [2, -1, 2 ** 31 - 1, -(2 ** 31)]) {
    const loss = nn.crossEntropy(logits, indices([0, wrong], device))
    t.is(await rejectionOf(loss.data()), 'ERR_ARGUMENT', `${wrong}`)
  }
  t.deepEqual(await values(logits.mul(2)), [2, 4, 6, 8])
})

onDevices('the gradient of mse is 2(ŷ − y)/n', async (t, device) => {
  const prediction = tensor([[1, 2], [3, 4]], { device, requiresGrad: true }) // prettier-ignore
  const target = tensor([[0, 4], [3, 0]], { device }) // prettier-ignore
  const loss = nn.mse(prediction, target)
  loss.backward()
  t.deepEqual(await values(loss), [21 / 4])
  t.deepEqual(await values(prediction.grad), [0.5, -1, 0, 2])
  const { sum, count } = nn.mse(prediction, target, { reduction: 'parts' })
  t.deepEqual([...(await values(sum)), ...(await values(count))], [21, 4])
})

onDevices('linear regression has the gradient 2Xᵀ(Xw − y)/n', async (t, device) => {
  const x = tensor([[1, 2], [3, 4], [5, 6], [7, 9]], { device }) // prettier-ignore
  const weight = tensor([[1], [-1]], { device, requiresGrad: true })
  const bias = tensor([2], { device, requiresGrad: true })
  // Residuals 1, −1, 2, −2.
  nn.mse(linear(x, weight, bias), tensor([[0], [2], [-1], [2]], { device })).backward()
  t.deepEqual(await values(weight.grad), [(2 * (1 - 3 + 10 - 14)) / 4, (2 * (2 - 4 + 12 - 18)) / 4])
  t.deepEqual(await values(bias.grad), [0])
})

onDevices('losses refuse what does not fit', (t, device) => {
  const logits = tensor([[1, 2], [3, 4]], { device }) // prettier-ignore
  const ce = (...args: unknown[]): string => codeOf(() => nn.crossEntropy(...(args as [Tensor, Tensor])))
  t.is(ce(logits, indices([0, 1, 0], device)), 'ERR_SHAPE')
  t.is(ce(logits, indices([[0, 1]], device)), 'ERR_SHAPE')
  t.is(ce(logits, tensor([0, 1], { device })), 'ERR_DTYPE')
  t.is(ce(indices([[1]], device), indices([0], device)), 'ERR_DTYPE')
  t.is(ce(logits, indices([0, 1], device), { reduction: 'median' }), 'ERR_ARGUMENT')
  t.is(ce(logits, indices([0, 1], device), { ignoreIndex: 0.5 }), 'ERR_ARGUMENT')
  t.is(ce(logits, {}), 'ERR_ARGUMENT')
  t.is(ce(logits, null), 'ERR_ARGUMENT')
  t.is(ce(logits, [0, 2]), 'ERR_ARGUMENT')
  t.is(ce(logits, new Int32Array([0, -1])), 'ERR_ARGUMENT')
  t.is(ce(logits, [0, 0.5]), 'ERR_DTYPE')
  t.is(ce(logits, [0]), 'ERR_SHAPE')
  t.is(ce(logits, [[0.5, 0.5]]), 'ERR_SHAPE')
  t.is(ce(logits, [[1, 0], [0, 1]], { ignoreIndex: 1 }), 'ERR_ARGUMENT') // prettier-ignore
  for (const labelSmoothing of [-0.1, 1.1, NaN]) t.is(ce(logits, [0, 1], { labelSmoothing }), 'ERR_ARGUMENT')
  t.is(ce(logits, [0, 1], { emptyMask: 'skip' }), 'ERR_ARGUMENT')
  t.is(ce(logits, [0, 1], { weight: tensor([1], { device }) }), 'ERR_SHAPE')
  t.is(ce(logits, [0, 1], { weight: indices([1, 2], device) }), 'ERR_DTYPE')
  t.is(ce(logits, [0, 1], { weight: [1, 2] }), 'ERR_ARGUMENT')
  t.is(codeOf(() => nn.nll(logits, [0, 5])), 'ERR_ARGUMENT') // prettier-ignore
  t.is(codeOf(() => nn.nll(logits, tensor([0, 1], { device }))), 'ERR_DTYPE') // prettier-ignore
  t.is(codeOf(() => nn.huber(logits, logits, { delta: 0 })), 'ERR_ARGUMENT') // prettier-ignore
  t.is(codeOf(() => nn.huber(logits, logits, { delta: Infinity })), 'ERR_ARGUMENT') // prettier-ignore
  t.is(codeOf(() => nn.mae(logits, tensor([1, 2], { device }))), 'ERR_SHAPE') // prettier-ignore
  t.is(codeOf(() => nn.bceWithLogits(logits, indices([[1, 0], [0, 1]], device))), 'ERR_DTYPE') // prettier-ignore
  t.is(
    codeOf(() => nn.mse(logits, tensor([1, 2], { device }))),
    'ERR_SHAPE',
  )
  t.is(codeOf(() => nn.mse(logits, indices([[1, 2], [3, 4]], device))), 'ERR_DTYPE') // prettier-ignore
})

onDevices('the values of smoothing and weights that are documented', async (t, device) => {
  const row = [0, Math.log(2), 0]
  const logits = tensor([row], { device })
  near(t, await values(nn.crossEntropy(logits, [1], { labelSmoothing: 0.1 })), [0.739357], 1e-6)
  const weight = tensor([1, 2, 1], { device })
  near(t, await values(nn.crossEntropy(tensor([row, row], { device }), [1, 0], { weight })), [0.924196], 1e-6)
  near(t, await values(nn.nll(tensor([row, row], { device }).logSoftmax(), [1, 0], { weight })), [0.924196], 1e-6)
})

onDevices('the gradient of mae is 0 where prediction and target meet', async (t, device) => {
  const x = tensor([1, 2, 3], { device, requiresGrad: true })
  nn.mae(x, tensor([1, 3, 1], { device }), { reduction: 'sum' }).backward()
  t.deepEqual(await values(x.grad), [0, -1, 1])
})

onDevices('huber is both of its branches where they meet, in value and in slope', async (t, device) => {
  const x = tensor([2, -2, 0, 0.5, 100, -3e38], { device, requiresGrad: true })
  const items = nn.huber(x, tensor([0, 0, 0, 0, 0, 0], { device }), { delta: 2, reduction: 'none' })
  items.sum().backward()
  t.deepEqual((await values(items)).slice(0, 5), [2, 2, 0, 0.125, 198])
  t.deepEqual(await values(x.grad), [2, -2, 0, 0.5, 2, -2])
})

onDevices(
  'bceWithLogits keeps its digits for large logits, and its gradient is σ(z) − t at 0 too',
  async (t, device) => {
    const z = tensor([0, 10, -10, 100, -100, 1e4, -1e4, 10, 0], { device, requiresGrad: true })
    const target = tensor([1, 1, 0, 1, 0, 0, 1, 0.5, 0.5], { device })
    const items = nn.bceWithLogits(z, target, { reduction: 'none' })
    const small = Math.log1p(Math.exp(-10))
    const got = await values(items)
    const want = [Math.LN2, small, small, 0, 0, 1e4, 1e4, 5 + small, Math.LN2]
    for (const [i, exact] of want.entries())
      t.true(Math.abs(got[i]! - exact) <= 1e-6 * exact + 1e-30, `${got[i]} ${exact}`)
    items.sum().backward()
    const sigma = (x: number): number => 1 / (1 + Math.exp(-x))
    const targets = await values(target)
    near(t, await values(z.grad), (await values(z)).map((z, i) => sigma(z) - targets[i]!), 1e-6) // prettier-ignore
  },
)

onDevices('targets may be arrays: of classes, nested or typed, and of probabilities', async (t, device) => {
  const logits = tensor([[1, 2, 0], [3, 4, 1]], { device }) // prettier-ignore
  const wanted = await values(nn.crossEntropy(logits, indices([2, 0], device)))
  for (const targets of [
    [2, 0],
    new Int32Array([2, 0]),
    new Uint8Array([2, 0]),
    [
      [0, 0, 1],
      [1, 0, 0],
    ],
    new Float32Array([0, 0, 1, 1, 0, 0]),
  ])
    // prettier-ignore
    near(t, await values(nn.crossEntropy(logits, targets)), wanted, 1e-6)
  t.deepEqual(await values(nn.nll(logits.logSoftmax(), [2, 0])), await values(nn.nll(logits.logSoftmax(), indices([2, 0], device)))) // prettier-ignore
  t.deepEqual(await values(nn.crossEntropy(logits, [-100, 0])), await values(nn.crossEntropy(logits.slice([1], [1]), [0]))) // prettier-ignore
  t.is(await nn.crossEntropy(tensor([0, 0], { device }), 1).item(), Math.fround(Math.LN2))
  // What a mask leaves out is not looked at.
  const mask = tensor([false, true], { device })
  t.deepEqual(
    await values(nn.crossEntropy(logits, [77, 0], { mask })),
    await values(nn.crossEntropy(logits, [-100, 0])),
  )
})

onDevices('a class out of range spoils losses with weights, smoothing or masks, and nll', async (t, device) => {
  const weight = tensor([1, 2], { device })
  const mask = tensor([1, 0.5], { device })
  for (const wrong of [2, -1, 2 ** 31 - 1, -(2 ** 31)]) {
    const targets = indices([0, wrong], device)
    const losses: ((x: Tensor) => Tensor)[] = [
      (x) => nn.crossEntropy(x, targets, { weight }),
      (x) => nn.crossEntropy(x, targets, { labelSmoothing: 0.1 }),
      (x) => nn.crossEntropy(x, targets, { weight, labelSmoothing: 0.1, mask, reduction: 'sum' }),
      (x) => nn.crossEntropy(x, targets, { mask, reduction: 'parts' }).count,
      (x) => nn.nll(x, targets, { weight }),
      (x) => nn.nll(x, targets),
    ]
    for (const [i, loss] of losses.entries()) {
      const x = tensor([[1, 2], [3, 4]], { device, requiresGrad: true }) // prettier-ignore
      const y = loss(x)
      t.is(await rejectionOf(y.data()), 'ERR_ARGUMENT', `${i}: ${wrong}`)
      if (!y.requiresGrad) continue
      y.backward()
      t.is(await rejectionOf(x.grad!.data()), 'ERR_ARGUMENT', `gradient ${i}: ${wrong}`)
    }
  }
})

onDevices('no gradient flows into weights, masks or counts', async (t, device) => {
  const logits = tensor([[1, 2], [3, 4]], { device, requiresGrad: true }) // prettier-ignore
  const weight = tensor([1, 2], { device, requiresGrad: true })
  const mask = tensor([1, 0.5], { device, requiresGrad: true })
  const { sum, count } = nn.crossEntropy(logits, [0, 1], { weight, mask, labelSmoothing: 0.1, reduction: 'parts' })
  t.false(count.requiresGrad)
  sum.backward()
  t.deepEqual([weight.grad, mask.grad], [null, null])
  near(t, await values(count), [2], 1e-7)
})

onDevices('what mean divides by is what parts count', async (t, device) => {
  const numbers = tensor([[1, 2, 3], [4, 5, 6]], { device }) // prettier-ignore
  const zeros = tensor([[0, 0, 0], [0, 0, 0]], { device }) // prettier-ignore
  const targets = indices([1, -100], device)
  const shares = tensor([[0.5, 0.5, 0], [0, 0, 1]], { device }) // prettier-ignore
  const weight = tensor([3, 0.5, 7], { device })
  const rows = tensor([true, false], { device })
  const factors = tensor([0.25, 2], { device })
  const perRow = { mask: rows.reshape([2, 1]) }
  const cases: [string, (options: nn.CrossEntropyOptions) => Tensor | nn.Parts, nn.CrossEntropyOptions, number][] = [
    ...([nn.mse, nn.mae, nn.huber, nn.bceWithLogits] as const).flatMap((loss): typeof cases => {
      const call = (options: nn.LossOptions): Tensor | nn.Parts => loss(numbers, zeros, options)
      return [
        [`${loss.name}: all elements`, call, {}, 6],
        [`${loss.name}: those a mask leaves`, call, perRow, 3],
        [`${loss.name}: Σ mask`, call, { mask: factors.reshape([2, 1]) }, 6.75],
      ]
    }),
    ...([nn.nll, nn.crossEntropy] as const).flatMap((loss): typeof cases => {
      const call = (options: nn.CrossEntropyOptions): Tensor | nn.Parts => loss(numbers, targets, options)
      return [
        [`${loss.name}: items not ignored`, call, {}, 1],
        [`${loss.name}: the weights of their classes`, call, { weight }, 0.5],
        [`${loss.name}: those times the mask`, call, { weight, mask: factors }, 0.125],
      ]
    }),
    ['smoothing does not count', (o) => nn.crossEntropy(numbers, targets, o), { weight, labelSmoothing: 0.5 }, 0.5],
    ['probabilities: items', (o) => nn.crossEntropy(numbers, shares, o), {}, 2],
    ['probabilities: items, whatever their classes weigh', (o) => nn.crossEntropy(numbers, shares, o), { weight }, 2],
    ['probabilities: Σ mask', (o) => nn.crossEntropy(numbers, shares, o), { weight, mask: factors }, 2.25],
  ]
  for (const [what, call, options, wanted] of cases) {
    const { sum, count } = call({ ...options, reduction: 'parts' }) as nn.Parts
    t.deepEqual(await values(count), [wanted], what)
    const total = await sum.item()
    near(t, await values(call({ ...options, reduction: 'sum' }) as Tensor), [total], 1e-6, what)
    // Nothing said: the mean.
    near(t, await values(call(options) as Tensor), [total / wanted], 1e-6, what)
    near(t, await values(call({ ...options, reduction: 'mean' }) as Tensor), [total / wanted], 1e-6, what)
  }
})

onDevices('gradients of means are those of the items over their number', async (t, device) => {
  const target = tensor([0, 0, 0, 0], { device })
  const slopes = async (loss: (x: Tensor) => Tensor): Promise<number[]> => {
    const x = tensor([0.5, -1, 3, -8], { device, requiresGrad: true })
    loss(x).backward()
    return values(x.grad)
  }
  near(t, await slopes((x) => nn.mse(x, target)), [0.25, -0.5, 1.5, -4], 1e-6, '2(ŷ − y)/n')
  near(t, await slopes((x) => nn.mae(x, target)), [0.25, -0.25, 0.25, -0.25], 1e-6)
  // δ is 1 unless given.
  near(t, await slopes((x) => nn.huber(x, target)), [0.125, -0.25, 0.25, -0.25], 1e-6)
  near(t, await values(nn.huber(tensor([0.5, -1, 3, -8], { device }), target, { reduction: 'none' })), [0.125, 0.5, 2.5, 7.5], 1e-6) // prettier-ignore
  const sigma = [0.5, -1, 3, -8].map((z) => 1 / (1 + Math.exp(-z)) / 4)
  near(t, await slopes((x) => nn.bceWithLogits(x, target)), sigma, 1e-6, '(σ(z) − t)/n')
})

onDevices(
  'the gradient of cross-entropy is g((Σq)·softmax − q), g the upstream gradient over the count',
  async (t, device) => {
    // prettier-ignore
    const [row, w, epsilon, upstream] = [[0.5, -1, 2], [1, 2, 0.5], 0.2, 3] as const // prettier-ignore
    const weight = tensor([...w], { device })
    const total = row.reduce((s, v) => s + Math.exp(v), 0)
    for (const [targets, shares, count] of [
      [indices([1], device), [0, 1, 0], 2],
      [tensor([[0.25, 0.25, 0.5]], { device }), [0.25, 0.25, 0.5], 1],
    ] as const) {
      const q = shares.map((share, c) => w[c]! * ((1 - epsilon) * share + epsilon / 3))
      const all = q.reduce((s, v) => s + v, 0)
      const x = tensor([[...row]], { device, requiresGrad: true })
      const loss = nn.crossEntropy(x, targets, { weight, labelSmoothing: epsilon })
      near(t, await values(loss), [-q.reduce((s, v, c) => s + v * (row[c]! - Math.log(total)), 0) / count], 1e-6)
      loss.mul(upstream).backward()
      near(t, await values(x.grad), row.map((v, c) => (upstream / count) * ((all * Math.exp(v)) / total - q[c]!)), 2e-6) // prettier-ignore
    }
  },
)

onDevices('with every target ignored a loss is 0, NaN or an error, as asked for', async (t, device) => {
  const weight = tensor([1, 2], { device })
  const losses: ((x: Tensor, options: nn.LossOptions) => Tensor)[] = [
    (x, o) => nn.crossEntropy(x, [-100, -100], o) as Tensor,
    (x, o) => nn.crossEntropy(x, [1, 1], { ...o, ignoreIndex: 1 }) as Tensor,
    (x, o) => nn.crossEntropy(x, [-100, -100], { ...o, weight, labelSmoothing: 0.1 }) as Tensor,
    (x, o) => nn.nll(x, [-100, -100], o) as Tensor,
    (x, o) => nn.nll(x, [-100, -100], { ...o, weight }) as Tensor,
  ]
  for (const [i, loss] of losses.entries()) {
    for (const [emptyMask, wanted] of [
      ['zero', 0],
      ['nan', NaN],
    ] as const) {
      // prettier-ignore
      const x = tensor([[NaN, 1], [Infinity, 2]], { device, requiresGrad: true }) // prettier-ignore
      const y = loss(x, { emptyMask })
      y.backward()
      t.deepEqual([await values(y), await values(x.grad)], [[wanted], [0, 0, 0, 0]], `${i}, ${emptyMask}`)
    }
    const x = tensor([[NaN, 1], [Infinity, 2]], { device, requiresGrad: true }) // prettier-ignore
    const y = loss(x, { emptyMask: 'throw' })
    y.backward()
    t.is(await rejectionOf(y.data()), 'ERR_ARGUMENT', `${i}`)
    t.is(await rejectionOf(x.grad!.data()), 'ERR_ARGUMENT', `gradient ${i}`)
  }
})

onDevices('where all that counts weighs nothing the mean is 0 with gradients of 0', async (t, device) => {
  const weight = tensor([0, 1], { device })
  for (const labelSmoothing of [0, 0.5]) {
    const x = tensor([[1, 2]], { device, requiresGrad: true })
    const loss = nn.crossEntropy(x, [0], { weight, labelSmoothing })
    loss.backward()
    t.deepEqual([await values(loss), await values(x.grad)], [[0], [0, 0]])
  }
})

onDevices('classes that logits of −∞ rule out cost nothing unless they are the target', async (t, device) => {
  const weight = tensor([1, 2, 4], { device })
  const losses: [(x: Tensor, y: number) => Tensor, number][] = [
    [(x, y) => nn.crossEntropy(x, [y]), 1],
    [(x, y) => nn.crossEntropy(x, [y], { weight, reduction: 'sum' }), 4],
    [(x, y) => nn.nll(x.logSoftmax(), [y]), 1],
  ]
  for (const [loss, factor] of losses) {
    const x = tensor([[0, -Infinity, 0]], { device, requiresGrad: true })
    const y = loss(x, 2)
    y.backward()
    near(t, await values(y), [factor * Math.LN2], 1e-6)
    near(t, await values(x.grad), [factor / 2, 0, -factor / 2], 1e-6)
    t.is(await loss(x.detach(), 1).item(), Infinity)
  }
})
