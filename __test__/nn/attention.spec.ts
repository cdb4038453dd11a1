/** Embedding and MultiHeadAttention as layers: states, defaults, what they refuse. Values are in `golden/attention.spec.ts`. */

import { type Tensor, compile, dropout, embedding, manualSeed, nn, tensor, zeros } from '../../ts/index.ts'
import { random, upload } from '../helpers/data.ts'
import { differentBits } from '../helpers/compare.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf, rejectionOf } from '../helpers/errors.ts'

onDevices('parameters have the names of PyTorch', (t, device) => {
  const names = (layer: nn.Module): string[] =>
    [...layer.namedParameters()].map(([name, { shape }]) => `${name} ${shape.join('×')}`)
  t.deepEqual(names(new nn.MultiHeadAttention(6, 2, { device })), [
    'in_proj_weight 6×18',
    'in_proj_bias 18',
    'out_proj.weight 6×6',
    'out_proj.bias 6',
  ])
  t.deepEqual(names(new nn.MultiHeadAttention(6, 2, { device, kdim: 3, vdim: 4, bias: false })), [
    'q_proj_weight 6×6',
    'k_proj_weight 3×6',
    'v_proj_weight 4×6',
    'out_proj.weight 6×6',
  ])
  t.deepEqual(names(new nn.Embedding(5, 3, { device })), ['weight 5×3'])
})

onDevices('rows of an embedding are normal, and that of the padding is 0 and stays so', async (t, device) => {
  manualSeed(1)
  const layer = new nn.Embedding(400, 50, { paddingIdx: -1, device })
  t.is(layer.paddingIdx, 399)
  const values = [...(await layer.weight.data())]
  t.true(values.slice(-50).every((x) => x === 0))
  const drawn = values.slice(0, -50)
  const mean = drawn.reduce((a, b) => a + b) / drawn.length
  const variance = drawn.reduce((sum, x) => sum + (x - mean) ** 2, 0) / drawn.length
  t.true(Math.abs(mean) < 0.03 && Math.abs(variance - 1) < 0.05, `${mean} ${variance}`)
  layer
    .forward(
      tensor(
        [
          [399, 3],
          [3, 399],
        ],
        { dtype: 'i32', device },
      ),
    )
    .sum()
    .backward()
  const slope = [...(await layer.weight.grad!.data())]
  t.true(slope.every((x, i) => x === (Math.floor(i / 50) === 3 ? 2 : 0)))
})

onDevices('a gradient at the padding may be anything', async (t, device) => {
  const weight = zeros([3, 2], { device, requiresGrad: true })
  const indices = tensor([1, 0, 1], { dtype: 'i32', device })
  const y = embedding(indices, weight, { paddingIdx: 0 })
  y.backward({
    gradient: tensor(
      [
        [1, 2],
        [NaN, Infinity],
        [3, 4],
      ],
      { device },
    ),
  })
  t.deepEqual([...(await weight.grad!.data())], [0, 0, 4, 6, 0, 0])
})

onDevices('an index that is no row poisons the result', async (t, device) => {
  const layer = new nn.Embedding(4, 2, { paddingIdx: 0, device })
  for (const index of [-1, 4]) {
    const y = layer.forward(tensor([0, index], { dtype: 'i32', device }))
    t.is(await rejectionOf(y.data()), 'ERR_ARGUMENT')
  }
})

onDevices(
  'attention of a sequence has the bits that it has in a batch, and masks of keys are masks',
  async (t, device) => {
    const layer = new nn.MultiHeadAttention(8, 2, { device, dropout: 0.5 }).eval()
    const x = upload(random('f32', [4, 6, 8]), device)
    const all = await layer.forward(x).data()
    for (const i of [0, 3]) {
      const one = await layer.forward(x.slice([i, 0, 0], [1, 6, 8]).reshape([6, 8])).data()
      t.is(differentBits(one, all.slice(i * 48, (i + 1) * 48)), null)
    }
    const keyMask = tensor(
      Array.from({ length: 4 }, (_, i) => [0, 1, 2, 3, 4, 5].map((j) => j <= i + 1)),
      { device },
    )
    const masked = await layer.attend(x, x, x, { keyMask }).data()
    const wide = keyMask.reshape([4, 1, 1, 6])
    t.is(differentBits(await layer.attend(x, x, x, { mask: wide }).data(), masked), null)
    const added = zeros([6, 6], { device })
    t.is(differentBits(await layer.attend(x, x, x, { mask: added, keyMask }).data(), masked), null)
    const compiled = compile((x: Tensor) => layer.attend(x, x, x, { keyMask }))
    const again = [...(await compiled(x).data())]
    t.true(again.every((y, i) => Math.abs(y - masked[i]!) < 1e-5))
  },
)

onDevices('projections start within Xavier’s bound, and biases at 0', async (t, device) => {
  manualSeed(2)
  for (const [options, bounds] of [
    [{}, { in_proj_weight: Math.sqrt(6 / (12 + 36)) }],
    [
      { kdim: 20, vdim: 4 },
      { q_proj_weight: 0.5, k_proj_weight: Math.sqrt(6 / 32), v_proj_weight: Math.sqrt(6 / 16) },
    ],
  ] as const) {
    const layer = new nn.MultiHeadAttention(12, 2, { ...options, device })
    const parameters = layer.namedParameters()
    for (const [name, bound] of Object.entries({ ...bounds, 'out_proj.weight': 1 / Math.sqrt(12) })) {
      const most = Math.max(...[...(await parameters.get(name)!.data())].map(Math.abs))
      t.true(most <= bound && most > 0.85 * bound, `${name}: ${most} of ${bound}`)
    }
    for (const name of ['in_proj_bias', 'out_proj.bias'])
      t.true(
        (await parameters.get(name)!.data()).every((v) => v === 0),
        name,
      )
  }
})

onDevices('dropout of attention acts in training alone', async (t, device) => {
  const layer = new nn.MultiHeadAttention(8, 2, { device, dropout: 0.5 })
  const x = upload(random('f32', [2, 6, 8]), device)
  const read = async (): Promise<string> => (await layer.forward(x).data()).join()
  const trained = await read()
  layer.eval()
  const evaluated = await read()
  t.not(trained, evaluated)
  t.is(await read(), evaluated)
})

onDevices('dropout of attention draws numbers of its own, whatever else is drawn', async (t, device) => {
  const x = upload(random('f32', [2, 6, 8]), device)
  const run = async (others: boolean): Promise<string> => {
    manualSeed(4)
    const layer = new nn.MultiHeadAttention(8, 2, { device, dropout: 0.5 })
    if (others) dropout(x, { p: 0.5 }).dispose()
    const y = layer.forward(x)
    return (await y.data()).join()
  }
  t.is(await run(true), await run(false))
})

onDevices('layers that cannot be are refused', (t, device) => {
  for (const fn of [
    () => new nn.MultiHeadAttention(6, 4, { device }),
    () => new nn.MultiHeadAttention(6, 0, { device }),
    () => new nn.MultiHeadAttention(6, 2, { device, dropout: -1 }),
    () => new nn.MultiHeadAttention(6, 2, { device, kdim: 1.5 }),
    () => new nn.Embedding(-1, 2, { device }),
    () => new nn.Embedding(3, 2, { device, paddingIdx: 3 }),
    () => new nn.Embedding(3, 2, { device, paddingIdx: -4 }),
  ])
    t.is(codeOf(fn), 'ERR_ARGUMENT')
  const layer = new nn.MultiHeadAttention(6, 2, { device })
  const x = zeros([2, 3, 6], { device })
  t.is(
    codeOf(() => layer.forward(zeros([6], { device }))),
    'ERR_SHAPE',
  )
  t.is(
    codeOf(() => layer.forward(x, zeros([3, 6], { device }))),
    'ERR_SHAPE',
  )
  t.is(
    codeOf(() => layer.forward(zeros([2, 3, 5], { device }))),
    'ERR_SHAPE',
  )
  t.is(
    codeOf(() => layer.attend(x, x, x, { keyMask: x })),
    'ERR_DTYPE',
  )
})
