/** Random numbers, and what they leave of a tensor, by the generator of `random.ts`. */

import { philox } from '../../random.ts'
import type { Call, Kernels } from './kernel.ts'

/** A scalar as a whole number of 32 bits; what is none is the nearest one, NaN 0. */
function toWord(x: number): number {
  if (x >= 0xffff_ffff) return 0xffff_ffff
  return x > 0 ? x >>> 0 : 0
}

/** Calls `put` with the place and the upper 24 bits of the word of every element of `size / inner` rows. */
function walk(inner: number, size: number, counter: readonly number[], put: (at: number, bits: number) => void): void {
  const [low, high, site, draw, base] = counter.map(toWord) as [number, number, number, number, number]
  const rows = inner === 0 ? 0 : size / inner
  const block = new Uint32Array(4)
  let at = 0
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < inner; i++) {
      if ((i & 3) === 0) philox(i >>> 2, (base + row) >>> 0, site, draw, low, high, block)
      put(at++, block[i & 3]! >>> 8)
    }
  }
}

function uniform({ outputs, attributes }: Call): void {
  const { data, size } = outputs[0]!
  const [inner, ...counter] = attributes
  walk(inner!, size, counter, (at, bits) => (data[at] = bits * 2 ** -24))
}

function dropout({ inputs, outputs, attributes }: Call): void {
  const { data, dtype, size } = outputs[0]!
  const from = inputs[0]!.data
  const [inner, threshold, factor, ...counter] = attributes
  // Rounded once, as on other devices; the product is rounded where it is stored.
  const scale = dtype === 'f32' ? Math.fround(factor!) : factor!
  walk(inner!, size, counter, (at, bits) => (data[at] = bits >= threshold! ? from[at]! * scale : 0))
}

/** Kernels of this file. */
export const RANDOM: Pick<Kernels, 'dropout' | 'uniform'> = { dropout, uniform }
