/** layerNorm, groupNorm and rmsNorm: the case table, values that are known, and what holds for every row. */

import test from 'ava'
import {
  type Device,
  type Tensor,
  compile,
  groupNorm,
  layerNorm,
  nn,
  openDevice,
  randn,
  rmsNorm,
  scope,
  slice,
  tensor,
} from '../../ts/index.ts'
import { FAMILIES } from '../helpers/cases.ts'
import { differentBits } from '../helpers/compare.ts'
import { random, upload } from '../helpers/data.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { declareForward } from '../helpers/run.ts'
import { values } from '../helpers/values.ts'

declareForward(FAMILIES.norm)

/** Whether numbers agree to six digits. */
function near(got: ArrayLike<number>, want: readonly number[]): boolean {
  return got.length === want.length && want.every((v, i) => Math.abs(got[i]! - v) < 1e-6)
}

onDevices('the known values', async (t, device) => {
  const row = tensor([[1, 2, 3, 4]], { device })
  t.true(near(await values(row.layerNorm({ normalizedShape: 4 })), [-1.341635, -0.447212, 0.447212, 1.341635]))
  t.true(near(await values(row.groupNorm({ groups: 1 })), [-1.341635, -0.447212, 0.447212, 1.341635]))
  const two = tensor([3, 4], { device })
  t.true(near(await values(two.rmsNorm({ normalizedShape: [2], eps: 0 })), [0.848528, 1.131371]))
})

onDevices(
  'eps stands inside the root, and that of rmsNorm is the step of the dtype unless given',
  async (t, device) => {
    // Variance 0 and mean of squares 2⁻²³: only eps decides.
    const flat = tensor([[2, 2, 2, 2]], { device })
    t.true(near(await values(flat.layerNorm({ normalizedShape: 4, eps: 0.25 })), [0, 0, 0, 0]))
    const step = 2 ** -23
    const small = tensor([Math.sqrt(step), -Math.sqrt(step)], { device })
    t.true(near(await values(small.rmsNorm({ normalizedShape: 2 })), [Math.SQRT1_2, -Math.SQRT1_2]))
    t.true(near(await values(small.rmsNorm({ normalizedShape: 2, eps: null })), [Math.SQRT1_2, -Math.SQRT1_2]))
    t.true(near(await values(small.rmsNorm({ normalizedShape: 2, eps: 3 * step })), [0.5, -0.5]))
    // (x − mean) = ±1, variance 1: 1/√(1 + 3).
    t.true(near(await values(tensor([1, 3], { device }).layerNorm({ normalizedShape: 2, eps: 3 })), [-0.5, 0.5]))
  },
)

onDevices('a group is neighbouring channels with all their positions; weights go by channel', async (t, device) => {
  const x = tensor([[[1, 3], [1, 3], [10, 30], [10, 30]]], { device }) // prettier-ignore
  const weight = tensor([1, 2, 3, 4], { device })
  const bias = tensor([0, 0, 0, 100], { device })
  const y = groupNorm(x, { groups: 2, weight, bias, eps: 0 })
  t.true(near(await values(y), [-1, 1, -2, 2, -3, 3, 96, 104]))
})

/** The three of them as functions of x [n, 12, 11] with parameters. */
function norms(device: Device): readonly (readonly [string, (x: Tensor) => Tensor])[] {
  const whole = [3, 4].map((salt) => upload(random('f32', [12, 11], { salt }), device))
  const channels = [5, 6].map((salt) => upload(random('f32', [12], { salt }), device))
  return [
    ['layerNorm', (x) => layerNorm(x, { normalizedShape: [12, 11], weight: whole[0]!, bias: whole[1]! })],
    ['groupNorm', (x) => groupNorm(x, { groups: 3, weight: channels[0]!, bias: channels[1]! })],
    ['rmsNorm', (x) => rmsNorm(x, { normalizedShape: [12, 11], weight: whole[0]! })],
  ]
}

onDevices('a row of a batch has the bits of the row alone, forward and backward', async (t, device) => {
  const [x, dy] = [1, 2].map((salt) => upload(random('f32', [33, 12, 11], { salt }), device))
  const size = 12 * 11
  for (const [name, apply] of norms(device)) {
    const both = (rows: Tensor, slopes: Tensor): readonly [Tensor, Tensor] => {
      const leaf = rows.detach()
      leaf.requiresGrad = true
      const y = apply(leaf)
      y.mul(slopes).sum().backward()
      return [y, leaf.grad!]
    }
    const all = await Promise.all(both(x!, dy!).map((r) => r.data()))
    for (const i of [0, 1, 15, 16, 32]) {
      const one = both(scope(() => slice(x!, [i], [1])), scope(() => slice(dy!, [i], [1]))) // prettier-ignore
      for (const [k, part] of one.entries()) {
        const expected = all[k]!.slice(i * size, (i + 1) * size)
        t.is(differentBits(await part.data(), expected), null, `${name}, row ${i}, ${k === 0 ? 'y' : 'dx'}`)
      }
    }
  }
})

onDevices('inside a compiled function they give the same, with all gradients', async (t, device) => {
  const layers = [
    new nn.LayerNorm([3, 4], { device }),
    new nn.GroupNorm(1, 3, { device }),
    new nn.RMSNorm(4, { device }),
  ]
  const x = upload(random('f32', [5, 3, 4], { salt: 9 }), device)
  for (const layer of layers) {
    const step = (input: Tensor): Tensor => {
      for (const p of layer.parameters()) p.grad?.dispose()
      for (const p of layer.parameters()) p.grad = null
      const y = layer.forward(input)
      const loss = y.square().mul(y).mean()
      loss.backward()
      return loss
    }
    const eager = [await step(x).data()]
    for (const p of layer.parameters()) eager.push(await p.grad!.data())
    const compiled = compile(step)
    for (let run = 0; run < 2; run++) {
      const got = [await compiled(x).data()]
      for (const p of layer.parameters()) got.push(await p.grad!.data())
      for (const [i, part] of got.entries()) t.is(differentBits(part, eager[i]!), null)
    }
  }
})

onDevices(
  'they do not depend on the batch, and are not linear: a row that is scaled stays, a sum is no sum',
  async (t, device) => {
    const [a, b] = [1, 2].map((salt) => upload(random('f32', [3, 2, 4], { salt }), device)) as [Tensor, Tensor]
    for (const apply of [
      (x: Tensor): Tensor => layerNorm(x, { normalizedShape: [2, 4], eps: 0 }),
      (x: Tensor): Tensor => groupNorm(x, { groups: 2, eps: 0 }),
      (x: Tensor): Tensor => rmsNorm(x, { normalizedShape: [2, 4], eps: 0 }),
    ]) {
      const one = await values(apply(a))
      t.true(near(await values(apply(a.mul(4))), one))
      const [joined, apart] = [await values(apply(a.add(b))), await values(apply(a).add(apply(b)))]
      t.true(joined.some((v, i) => Math.abs(v - apart[i]!) > 0.5))
    }
  },
)

onDevices('a NaN makes its row NaN and no other', async (t, device) => {
  const x = tensor([[1, 2, 3], [1, NaN, 3], [4, 5, 7]], { device }) // prettier-ignore
  for (const y of [
    x.layerNorm({ normalizedShape: 3 }),
    x.groupNorm({ groups: 1 }),
    x.rmsNorm({ normalizedShape: 3 }),
  ]) {
    const got = await values(y)
    t.deepEqual(got.map(Number.isNaN), [false, false, false, true, true, true, false, false, false])
  }
})

onDevices('a large mean does not cancel the variance', async (t, device) => {
  // E[x²] − E[x]² would give 0 or less in f32: 4096² + 1 is no f32 number next to 4096².
  const x = tensor([[4095, 4097, 4095, 4097]], { device })
  t.true(near(await values(x.layerNorm({ normalizedShape: 4, eps: 0 })), [-1, 1, -1, 1]))
})

onDevices('parameters are PyTorch’s by name and start as the identity', async (t, device) => {
  const names = (layer: nn.Module): string[] => [...layer.namedParameters().keys()]
  const layer = new nn.LayerNorm([2, 3], { device })
  t.deepEqual(names(layer), ['weight', 'bias'])
  t.deepEqual([await values(layer.weight), await values(layer.bias)], [[1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]]) // prettier-ignore
  t.deepEqual(layer.weight!.shape, [2, 3])
  t.deepEqual([layer.normalizedShape, layer.eps, layer.elementwiseAffine], [[2, 3], 1e-5, true])
  t.deepEqual(names(new nn.LayerNorm(4, { device, bias: false })), ['weight'])
  t.deepEqual(names(new nn.LayerNorm(4, { device, elementwiseAffine: false })), [])
  const group = new nn.GroupNorm(2, 6, { device })
  t.deepEqual([names(group), group.weight!.shape, group.eps], [['weight', 'bias'], [6], 1e-5])
  t.deepEqual(names(new nn.GroupNorm(2, 6, { device, affine: false })), [])
  const rms = new nn.RMSNorm(4, { device })
  t.deepEqual([names(rms), rms.eps], [['weight'], null])
  t.deepEqual(names(new nn.RMSNorm(4, { device, elementwiseAffine: false })), [])
})

onDevices('layers use their parameters and options', async (t, device) => {
  const layer = new nn.LayerNorm(2, { device, eps: 0 })
  const affine = { weight: { shape: [2], data: new Float32Array([3, 5]) }, bias: { shape: [2], data: new Float32Array([0, 1]) } } // prettier-ignore
  layer.loadStateDict(affine)
  t.true(near(await values(layer.forward(tensor([[1, 3]], { device }))), [-3, 6]))
  const group = new nn.GroupNorm(1, 2, { device, eps: 0 })
  group.loadStateDict(affine)
  t.true(near(await values(group.forward(tensor([[1, 3]], { device }))), [-3, 6]))
  const rms = new nn.RMSNorm(2, { device, eps: 0 })
  rms.loadStateDict({ weight: affine.weight })
  t.true(near(await values(rms.forward(tensor([3, 4], { device }))), [3 * 0.848528, 5 * 1.131371]))
  t.is(
    codeOf(() => new nn.GroupNorm(1, 4, { device, affine: false }).forward(randn([2, 3], { device }))),
    'ERR_SHAPE',
  )
})

test('f64 is exact to its own precision', async (t) => {
  const device = await openDevice('js')
  const x = tensor([1, 2, 3, 4], { dtype: 'f64', device })
  const want = [-3, -1, 1, 3].map((v) => v / 2 / Math.sqrt(1.25 + 1e-5))
  const got = await layerNorm(x, { normalizedShape: 4 }).data()
  t.true(want.every((v, i) => Math.abs(got[i]! - v) < 1e-15))
  const tiny = tensor([2 ** -26, 2 ** -26], { dtype: 'f64', device })
  // The step of f64 is 2⁻⁵².
  t.true(Math.abs((await rmsNorm(tiny, { normalizedShape: 2 }).data())[0]! - Math.SQRT1_2) < 1e-15)
})

test('wrong options of layers are refused', (t) => {
  const make = (kind: new (...args: never[]) => nn.Module, ...args: unknown[]): string =>
    codeOf(() => new kind(...(args as never[])))
  t.is(make(nn.LayerNorm, []), 'ERR_SHAPE')
  t.is(make(nn.LayerNorm, [2, -1]), 'ERR_SHAPE')
  t.is(make(nn.LayerNorm), 'ERR_SHAPE')
  t.is(make(nn.LayerNorm, 4, { eps: -1 }), 'ERR_ARGUMENT')
  t.is(make(nn.LayerNorm, 4, { eps: null }), 'ERR_ARGUMENT')
  t.is(make(nn.LayerNorm, 4, { elementwiseAffine: 1 }), 'ERR_ARGUMENT')
  t.is(make(nn.LayerNorm, 4, { bias: 'no' }), 'ERR_ARGUMENT')
  t.is(make(nn.LayerNorm, 4, { dtype: 'i32' }), 'ERR_DTYPE')
  t.is(make(nn.GroupNorm, 0, 4), 'ERR_ARGUMENT')
  t.is(make(nn.GroupNorm, 3, 4), 'ERR_SHAPE')
  t.is(make(nn.GroupNorm, 2), 'ERR_ARGUMENT')
  t.is(make(nn.GroupNorm, 2, 4, { affine: 0 }), 'ERR_ARGUMENT')
  t.is(make(nn.RMSNorm, 4, { eps: NaN }), 'ERR_ARGUMENT')
  t.is(make(nn.RMSNorm, 4, { eps: null }), 'nothing')
})
