/**
 * What the training step of the peers has in common: the MLP 784-512-256-10 with cross-entropy and AdamW, its numbers
 * those of our own contestant and of NumPy's.
 */

import { numbers } from '../measure.ts'

/** Widths of the layers. */
export const SIZES = [784, 512, 256, 10] as const

/** AdamW's settings: our defaults. */
export const ADAM = { rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 1e-2 } as const

/** Parameters at the beginning: weight [inputs, outputs] and bias of each layer in turn. */
export function initial(): { shape: number[]; data: Float32Array<ArrayBuffer> }[] {
  const shapes = SIZES.slice(1).flatMap((outputs, i) => [[SIZES[i]!, outputs], [outputs]])
  return shapes.map((shape, i) => ({
    shape,
    data: numbers(
      shape.reduce((a, b) => a * b, 1),
      7 + 2 * i,
    ).map((v) => Math.fround(v * Math.fround(0.1))),
  }))
}

/** Rows of the batch, and their classes. */
export function batchOf(size: number): { x: Float32Array<ArrayBuffer>; classes: Int32Array<ArrayBuffer> } {
  return { x: numbers(size * SIZES[0], 3), classes: Int32Array.from({ length: size }, (_, i) => i % SIZES[3]) }
}
