/**
 * Gradients where a difference quotient says nothing: at corners, at ties, at the ends of a domain. Both ways a gradient
 * is computed have to agree there too.
 */

import * as tilegrad from '../../ts/index.ts'
import { type Device, type Tensor, grad, tensor } from '../../ts/index.ts'
import { onDevices } from '../helpers/devices.ts'

interface Corner {
  readonly title: string
  readonly at: readonly number[]
  readonly of: (x: Tensor) => Tensor
  readonly slope: readonly number[]
}

/** Numbers on the device of `x`. */
function beside(x: Tensor, values: number[]): Tensor {
  return tensor(values, { device: x.device })
}

const CORNERS: readonly Corner[] = [
  { title: 'abs at 0 has slope 0', at: [0, -0, 2, -2], of: (x) => x.abs(), slope: [0, 0, 1, -1] },
  { title: 'sign has slope 0', at: [0, 3], of: (x) => x.sign(), slope: [0, 0] },
  { title: 'relu at 0 has slope 0', at: [0, -0, 1e-30], of: (x) => x.relu(), slope: [0, 0, 1] },
  { title: 'leakyRelu at 0 has the slope of the left', at: [0, 1], of: (x) => x.leakyRelu(0.25), slope: [0.25, 1] },
  { title: 'elu at 0 has the slope of the left', at: [0, 1], of: (x) => x.elu(0.5), slope: [0.5, 1] },
  { title: 'heaviside has slope 0', at: [-1, 0, 1], of: (x) => x.heaviside(), slope: [0, 0, 0] },
  {
    title: 'clip has slope 1 inside, the ends included, and 0 outside',
    at: [-2, -1, 0, 1, 2],
    of: (x) => x.clip(-1, 1),
    slope: [0, 1, 1, 1, 0],
  },
  {
    title: 'equal operands of maximum share the gradient',
    at: [1, 2, 3],
    of: (x) => x.maximum(beside(x, [1, 1, 4])),
    slope: [0.5, 1, 0],
  },
  {
    title: 'equal operands of minimum share the gradient',
    at: [1, 2, 3],
    of: (x) => x.minimum(beside(x, [1, 1, 4])),
    slope: [0.5, 0, 1],
  },
  { title: 'maximum of x with itself is x', at: [1, -2], of: (x) => x.maximum(x), slope: [1, 1] },
  {
    title: 'equal maxima of a reduction share the gradient',
    at: [3, 1, 3, 3, 3],
    of: (x) => x.max(),
    slope: [0.25, 0, 0.25, 0.25, 0.25],
  },
  { title: 'equal minima of a reduction share the gradient', at: [1, 1, 2], of: (x) => x.min(), slope: [0.5, 0.5, 0] },
  { title: 'x⁰ is constant, at 0 too', at: [0, 2], of: (x) => x.pow(0), slope: [0, 0] },
  { title: 'x¹ and x² at 0', at: [0, -1], of: (x) => x.pow(1).add(x.pow(2)), slope: [1, -1] },
  {
    title: 'exponents from a tensor, 0 among them',
    at: [0, 0, 3],
    of: (x) => x.pow(beside(x, [0, 1, 2])),
    slope: [0, 1, 6],
  },
  { title: '0ˣ is constant where x > 0', at: [1, 2], of: (x) => tilegrad.pow(0, x), slope: [0, 0] },
  { title: '0ˣ from a tensor', at: [2, 2], of: (x) => beside(x, [0, 1]).pow(x), slope: [0, 0] },
  { title: '√x at 0 rises without bound', at: [0, 4], of: (x) => x.sqrt(), slope: [Infinity, 0.25] },
  { title: 'softplus above its threshold has slope 1', at: [25, 30], of: (x) => x.softplus(), slope: [1, 1] },
  {
    title: 'what where does not choose has no gradient',
    at: [1, 2, 3],
    of: (x) => tilegrad.where(beside(x, [1, 0, 1]).greater(0), x.mul(5), x.mul(7)),
    slope: [5, 7, 5],
  },
  { title: 'floor and ceil have slope 0', at: [1, 1.5], of: (x) => x.floor().add(x.ceil()), slope: [0, 0] },
]

async function slopes(device: Device, { at, of }: Corner, twice: boolean): Promise<number[]> {
  const x = tensor([...at], { device, requiresGrad: twice })
  return Array.from(await grad((x) => of(x).sum())(x)[0]!.data())
}

for (const corner of CORNERS) {
  onDevices(corner.title, async (t, device) => {
    // 0 and −0 are the same slope.
    const plain = (values: readonly number[]): number[] => values.map((v) => v + 0)
    t.deepEqual(plain(await slopes(device, corner, false)), plain(corner.slope), 'by its instruction')
    t.deepEqual(plain(await slopes(device, corner, true)), plain(corner.slope), 'by operations')
  })
}
