/**
 * Operands so long that an invocation would loop over them more often than every driver allows: lavapipe silently leaves
 * loops after 65,535 rounds. Results are those of the cpu, or the operation is refused as too large; never other numbers.
 */

import test from 'ava'

import { type Device, type Tensor, TilegradError, gather, matmul, scatterAdd, tensor } from '../../ts/index.ts'
import { DEVICES } from '../helpers/devices.ts'
import { distance, largest } from '../helpers/values.ts'

const LONG = 200_003

/** Small whole numbers. */
function numbers(shape: readonly number[], device: Device): Tensor {
  const count = shape.reduce((n, d) => n * d, 1)
  const data = Float32Array.from({ length: count }, (_, i) => ((i * 7) % 17) - 8)
  return tensor(data, { shape, device, requiresGrad: true })
}

function indices(device: Device, at: (i: number) => number): Tensor {
  return tensor(Int32Array.from({ length: LONG }, (_, i) => at(i)), { device }) // prettier-ignore
}

const WORK: Record<string, (device: Device) => Tensor> = {
  'sum of all': (device) => numbers([3_000_001], device).sum(),
  'sum of columns': (device) => numbers([LONG, 3], device).sum(0),
  'sum of rows': (device) => numbers([3, LONG], device).sum(1),
  'argmax of columns': (device) => numbers([LONG, 3], device).argmax(0),
  'topK of rows': (device) => numbers([3, LONG], device).topK(LONG).indices,
  'topK of columns': (device) => numbers([LONG, 3], device).topK(70_000, 0).indices,
  'cumsum of rows': (device) => numbers([3, LONG], device).cumsum(1),
  'cumsum of columns': (device) => numbers([LONG, 3], device).cumsum(0, { reverse: true }),
  'softmax of rows': (device) => numbers([3, LONG], device).softmax(1),
  'softmax of columns': (device) => numbers([LONG, 3], device).softmax(0),
  'a product of long rows': (device) => matmul(numbers([2, LONG], device), numbers([LONG, 3], device)),
  'a product of very long rows': (device) => matmul(numbers([1, 1_000_003], device), numbers([1_000_003, 1], device)),
  'scatterAdd into one row': (device) => scatterAdd(numbers([LONG, 3], device), indices(device, () => 1), [3, 3]), // prettier-ignore
  'scatterAdd into many rows': (device) => scatterAdd(numbers([LONG, 3], device), indices(device, (i) => (i * 7919) % 97), [97, 3]), // prettier-ignore
  'the gradient of gather': (device) => {
    const x = numbers([3, 3], device)
    gather(x, indices(device, (i) => (i % 5 === 0 ? i % 3 : 2))).sum().backward() // prettier-ignore
    return x.grad!
  },
}
/** Operations that may be refused: their loops cannot be cut without another order of sums. */
const REFUSED = new Set(['softmax of columns', 'a product of very long rows'])

const gpu = DEVICES.find((d) => d.kind === 'gpu')
const reference = DEVICES.find((d) => d.kind === 'cpu')

if (gpu !== undefined && reference !== undefined) {
  for (const [title, work] of Object.entries(WORK)) {
    test(`long loops: ${title} [gpu]`, async (t) => {
      const expected = await work(reference).data()
      let actual
      try {
        actual = await work(gpu).data()
      } catch (error) {
        if (!(error instanceof TilegradError) || !REFUSED.has(title)) throw error
        t.is(error.code, 'ERR_OUT_OF_MEMORY')
        t.regex(error.message, /rounds of a loop/)
        return
      }
      const off = distance(actual, expected)
      t.true(off <= 1e-5 * largest(expected), `off by ${off}`)
    })
  }
}
