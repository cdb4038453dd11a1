/**
 * Every gradient that has an instruction of its own against the gradient of the same function written out in elementary
 * operations, on each device: in f64 where there is f64, to the last digits, in f32 to some steps of its precision.
 */

import test from 'ava'
import * as tilegrad from '../../ts/index.ts'
import {
  type ActivationName,
  type Device,
  type Dtype,
  type Tensor,
  add,
  exp,
  matmul,
  mul,
  sub,
  sum,
  where,
} from '../../ts/index.ts'
import { largest } from '../helpers/compare.ts'
import { type Data, array, random } from '../helpers/data.ts'
import { onDevices } from '../helpers/devices.ts'
import { type Differentiable, gradients } from '../helpers/gradcheck.ts'
import { floats } from '../helpers/run.ts'

const NEAR: Readonly<Record<'f32' | 'f64', number>> = { f32: 1e-5, f64: 1e-13 }

/** The worst difference of two functions' gradients relative to their scale. */
async function apart(a: Differentiable, b: Differentiable, data: readonly Data[], device: Device): Promise<number> {
  const [left, right] = [gradients(a, data, device), gradients(b, data, device)]
  let worst = 0
  for (const [i, slope] of left.entries()) {
    const [x, y] = [await slope.data(), await right[i]!.data()]
    if (x.length !== y.length) return Infinity
    const scale = Math.max(largest(y), 1e-6)
    for (let j = 0; j < x.length; j++) {
      const error = Math.abs(x[j]! - y[j]!) / scale
      worst = error <= worst ? worst : error
    }
  }
  return worst
}

/** The activations in elementary operations whose gradients are those of the operations. */
const WRITTEN_OUT: Readonly<Record<ActivationName, (z: Tensor) => Tensor>> = {
  relu: (z) => where(z.greater(0), z, 0),
  leakyRelu: (z) => where(z.greater(0), z, mul(z, 0.01)),
  elu: (z) => where(z.greater(0), z, z.minimum(0).expm1()),
  sigmoid: (z) => add(exp(z.neg()), 1).reciprocal(),
  tanh: (z) => {
    const e = exp(mul(z, -2))
    return sub(1, e).div(add(1, e))
  },
  silu: (z) => z.div(add(exp(z.neg()), 1)),
  softplus: (z) => exp(z).log1p(),
  heaviside: (z) => mul(z, 0).add(z.greater(0).cast(z.dtype)),
  gelu: (z) => mul(mul(z, 0.5), add(mul(z, Math.SQRT1_2).erf(), 1)),
  geluTanh: (z) => mul(mul(z, 0.5), add(mul(add(z, mul(z.pow(3), 0.044715)), Math.sqrt(2 / Math.PI)).tanh(), 1)),
}

function activation(name: ActivationName): (z: Tensor) => Tensor {
  return name === 'geluTanh' ? (z) => tilegrad.gelu(z, { approximate: 'tanh' }) : tilegrad[name]
}

function eachFloat(title: string, body: (device: Device, dtype: Dtype) => Promise<readonly [string, number][]>): void {
  onDevices(title, async (t, device) => {
    for (const dtype of floats(device) as ('f32' | 'f64')[]) {
      for (const [what, worst] of await body(device, dtype)) {
        t.true(worst <= NEAR[dtype], `${what} in ${dtype}: ${worst}`)
      }
    }
  })
}

for (const name of Object.keys(WRITTEN_OUT) as ActivationName[]) {
  const written = WRITTEN_OUT[name]
  eachFloat(`the gradient of ${name} is that of its formula`, async (device, dtype) => {
    const data = [random(dtype, [7, 33], { low: -4, high: 4, corners: [0] })]
    return [
      [
        name,
        await apart(
          ([z]) => activation(name)(z!),
          ([z]) => written(z!),
          data,
          device,
        ),
      ],
    ]
  })

  eachFloat(`the gradient of a layer with ${name} is that of product, sum and formula`, async (device, dtype) => {
    const data = [
      random(dtype, [2, 9, 20], { salt: 1 }),
      random(dtype, [20, 17], { low: -0.5, high: 0.5, salt: 2 }),
      random(dtype, [17], { salt: 3 }),
    ]
    const withBias = await apart(
      ([x, w, b]) => tilegrad.linear(x!, w!, b, { activation: name }),
      ([x, w, b]) => written(add(matmul(x!, w!), b!)),
      data,
      device,
    )
    const without = await apart(
      ([x, w]) => tilegrad.linear(x!, w!, null, { activation: name }),
      ([x, w]) => written(matmul(x!, w!)),
      data.slice(0, 2),
      device,
    )
    return [
      ['with bias', withBias],
      ['without', without],
    ]
  })
}

eachFloat(
  'the gradient of a plain layer is that of product and sum, whichever operands need one',
  async (device, dtype) => {
    const data = [
      random(dtype, [33, 20], { salt: 1 }),
      random(dtype, [20, 17], { salt: 2 }),
      random(dtype, [17], { salt: 3 }),
    ]
    const results: [string, number][] = []
    for (let wanted = 1; wanted < 8; wanted++) {
      const only = (f: (x: Tensor, w: Tensor, b: Tensor) => Tensor): Differentiable => {
        return (inputs) => {
          const [x, w, b] = inputs.map((t, i) => ((wanted >> i) & 1 ? t : t.detach())) as [Tensor, Tensor, Tensor]
          return f(x, w, b)
        }
      }
      results.push([
        `operands ${wanted.toString(2)}`,
        await apart(
          only((x, w, b) => tilegrad.linear(x, w, b)),
          only((x, w, b) => add(matmul(x, w), b)),
          data,
          device,
        ),
      ])
    }
    return results
  },
)

for (const axis of [0, 1, -1]) {
  eachFloat(
    `the gradients of softmax and logSoftmax along ${axis} are those of their formulas`,
    async (device, dtype) => {
      const data = [random(dtype, [4, 33, 5], { low: -3, high: 3 })]
      const written = (x: Tensor): Tensor => {
        const e = exp(x)
        return e.div(sum(e, axis, { keepDims: true }))
      }
      return [
        [
          'softmax',
          await apart(
            ([x]) => tilegrad.softmax(x!, axis),
            ([x]) => written(x!),
            data,
            device,
          ),
        ],
        [
          'logSoftmax',
          await apart(
            ([x]) => tilegrad.logSoftmax(x!, axis),
            ([x]) => sub(x!, sum(exp(x!), axis, { keepDims: true }).log()),
            data,
            device,
          ),
        ],
      ]
    },
  )
}

/** x normalised over axes 2 and 3 of [outer, groups, channels, inner], by weights and biases of [groups, channels, 1]. */
function normalized(x: Tensor, affine: readonly (Tensor | undefined)[], seen: number[], isCentred: boolean): Tensor {
  const over = (t: Tensor): Tensor => t.mean([2, 3], { keepDims: true })
  const rows = x.reshape(seen)
  const centred = isCentred ? sub(rows, over(rows)) : rows
  const normal = centred.div(add(over(mul(centred, centred)), 0.01).sqrt())
  const [weight, bias] = affine.map((t) => t?.reshape([seen[1]!, seen[2]!, 1]))
  const scaled = weight === undefined ? normal : mul(normal, weight)
  return (bias === undefined ? scaled : add(scaled, bias)).reshape(x.shape)
}

eachFloat(
  'the gradients of layerNorm, groupNorm and rmsNorm are those of their formulas, whichever operands need one',
  async (device, dtype) => {
    const results: [string, number][] = []
    const operands = (x: readonly number[], affine: readonly number[]): Data[] => [
      random(dtype, x, { low: -1, high: 3, salt: 1 }),
      random(dtype, affine, { salt: 2 }),
      random(dtype, affine, { salt: 3 }),
    ]
    const eps = 0.01
    for (let wanted = 1; wanted < 8; wanted++) {
      const only = (f: (x: Tensor, w: Tensor, b: Tensor) => Tensor): Differentiable => {
        return (inputs) =>
          f(...(inputs.map((t, i) => ((wanted >> i) & 1 ? t : t.detach())) as [Tensor, Tensor, Tensor]))
      }
      const compare = async (
        name: string,
        data: readonly Data[],
        fused: (x: Tensor, w: Tensor, b: Tensor) => Tensor,
        written: (x: Tensor, w: Tensor, b: Tensor) => Tensor,
      ): Promise<void> => {
        results.push([`${name}, operands ${wanted.toString(2)}`, await apart(only(fused), only(written), data, device)])
      }
      await compare(
        'layerNorm',
        operands([70, 3, 11], [3, 11]),
        (x, weight, bias) => tilegrad.layerNorm(x, { normalizedShape: [3, 11], weight, bias, eps }),
        (x, w, b) => normalized(x, [w, b], [70, 1, 33, 1], true),
      )
      await compare(
        'groupNorm',
        operands([9, 6, 5, 7], [6]),
        (x, weight, bias) => tilegrad.groupNorm(x, { groups: 2, weight, bias, eps }),
        (x, w, b) => normalized(x, [w, b], [9, 2, 3, 35], true),
      )
      if (wanted > 3) continue
      await compare(
        'rmsNorm',
        operands([70, 33], [33]).slice(0, 2),
        (x, weight) => tilegrad.rmsNorm(x, { normalizedShape: 33, weight, eps }),
        (x, w) => normalized(x, [w], [70, 1, 33, 1], false),
      )
    }
    return results
  },
)

for (const reduction of ['mean', 'sum', 'none'] as const) {
  eachFloat(`the gradient of cross-entropy, ${reduction}, is that of its formula`, async (device, dtype) => {
    const rows = 17
    const classes = 10
    const targets = array('i32', [rows], (i) => (i % 5 === 0 ? -100 : (i * 3) % classes))
    const hot = array(dtype, [rows, classes], (p) => +(targets.values[Math.floor(p / classes)] === p % classes))
    const counted = [...targets.values].filter((v) => v !== -100).length
    const data = [random(dtype, [rows, classes], { low: -3, high: 3 })]
    const fused: Differentiable = ([z]) =>
      tilegrad.nn.crossEntropy(z!, tilegrad.tensor(targets.values, { dtype: 'i32', device }), { reduction })
    const written: Differentiable = ([z]) => {
      const mask = tilegrad.tensor(hot.values, { shape: hot.shape, dtype, device })
      const items = mul(sub(z!, sum(exp(z!), 1, { keepDims: true }).log()), mask)
        .sum(1)
        .neg()
      return reduction === 'none' ? items : reduction === 'sum' ? items.sum() : items.sum().div(counted)
    }
    return [[reduction, await apart(fused, written, data, device)]]
  })
}

eachFloat('the gradients of variance and mean squared error are those of their formulas', async (device, dtype) => {
  const data = [random(dtype, [4, 33, 5], { salt: 1 }), random(dtype, [4, 33, 5], { salt: 2 })]
  const written = (x: Tensor): Tensor => {
    const centred = sub(x, x.mean(1, { keepDims: true }))
    return centred.mul(centred).sum(1).div(32)
  }
  return [
    [
      'variance',
      await apart(
        ([x]) => x!.variance(1),
        ([x]) => written(x!),
        data.slice(0, 1),
        device,
      ),
    ],
    [
      'mse',
      await apart(
        ([p, y]) => tilegrad.nn.mse(p!, y!),
        ([p, y]) => sub(p!, y!).pow(2).mean(),
        data,
        device,
      ),
    ],
  ]
})

for (const [shape, axis] of [
  [[33, 5], 1],
  [[4, 5, 7], 1],
  [[4, 7, 5], -1],
] as const) {
  eachFloat(
    `the gradient of batchNorm of [${shape.join(', ')}] along ${axis} is that of its formula, masked and not`,
    async (device, dtype) => {
      const channels = shape.at(axis)!
      const at = axis < 0 ? axis + shape.length : axis
      const rest = shape.filter((_, i) => i !== at)
      const data = [
        random(dtype, shape, { salt: 1 }),
        random(dtype, [channels], { salt: 2 }),
        random(dtype, [channels], { salt: 3 }),
      ]
      const axes = shape.flatMap((_, i) => (i === at ? [] : [i]))
      const wide = (t: Tensor): Tensor => t.reshape(shape.map((d, i) => (i === at ? d : 1)))
      const results: [string, number][] = []
      for (const masked of [false, true]) {
        const flags = array('bool', rest, (i) => +(!masked || i % 3 !== 1))
        const mask = (): Tensor => tilegrad.tensor(flags.values, { shape: rest, dtype: 'bool', device })
        const counted = flags.values.reduce((n, on) => n + on, 0)
        const written: Differentiable = ([x, w, b]) => {
          const on = mask().reshape(shape.map((d, i) => (i === at ? 1 : d)))
          const mean = where(on, x!, 0).sum(axes, { keepDims: true }).div(counted)
          const centred = where(on, sub(x!, mean), 0)
          const spread = centred.mul(centred).sum(axes, { keepDims: true }).div(counted).add(1e-5).sqrt()
          return where(on, add(mul(centred.div(spread), wide(w!)), wide(b!)), 0)
        }
        const fused: Differentiable = ([weighted, weight, bias]) =>
          tilegrad.batchNorm(weighted!, {
            weight: weight!,
            bias: bias!,
            training: true,
            axis,
            mask: masked ? mask() : null,
          })
        results.push([masked ? 'masked' : 'plain', await apart(fused, written, data, device)])
      }
      return results
    },
  )
}

test('the comparison sees a wrong factor', async (t) => {
  const device = await tilegrad.openDevice('js')
  const data = [random('f64', [5])]
  t.true(
    (await apart(
      ([x]) => x!.square(),
      ([x]) => mul(x!, x!),
      data,
      device,
    )) < 1e-15,
  )
  t.true(
    (await apart(
      ([x]) => x!.square(),
      ([x]) => mul(mul(x!, x!), 1.001),
      data,
      device,
    )) > 5e-4,
  )
  await device.close()
})
