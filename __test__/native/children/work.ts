/** Work for children: a device that is busy for a while, and a product that is known to be right. */

import { type Device, type Tensor, matmul, tensor } from '../../../ts/index.ts'

/** Starts products that together take a good part of a second on a few cores; the reads are under way when it returns. */
export function begin(device: Device): Promise<unknown>[] {
  // A processor that plays a GPU is an order slower.
  const size = device.kind === 'gpu' ? 192 : 512
  const a = tensor(new Float32Array(size * size).fill(1), { shape: [size, size], device })
  const reads: Promise<unknown>[] = []
  let x: Tensor = a
  for (let i = 0; i < 32; i++) {
    x = matmul(x, a).mul(1 / size)
    if (i % 8 === 7) reads.push(x.data())
  }
  device.recorder.flush()
  return reads
}

/** A product of whole numbers, computed and checked. */
export async function productIsRight(device: Device, size = 61): Promise<boolean> {
  const a = Float32Array.from({ length: size * size }, (_, i) => ((i * 7) % 11) - 5)
  const b = Float32Array.from({ length: size * size }, (_, i) => ((i * 5) % 13) - 6)
  const shape = [size, size]
  const c = await matmul(tensor(a, { shape, device }), tensor(b, { shape, device })).data()
  return c.every((v, at) => {
    let sum = 0
    for (let i = 0; i < size; i++) sum += a[Math.floor(at / size) * size + i]! * b[i * size + (at % size)]!
    return v === sum
  })
}
