/** Random numbers: uniform, by the generator of `random.ts`. */

import { philox } from '../../random.ts'
import type { Call, Kernels } from './kernel.ts'

/** A scalar as a whole number of 32 bits; what is none is the nearest one, NaN 0. */
function toWord(x: number): number {
  if (x >= 0xffff_ffff) return 0xffff_ffff
  return x > 0 ? x >>> 0 : 0
}

function uniform({ outputs, attributes }: Call): void {
  const { data, size } = outputs[0]!
  const inner = attributes[0]!
  const [low, high, site, draw, base] = attributes.slice(1).map(toWord) as [number, number, number, number, number]
  const rows = inner === 0 ? 0 : size / inner
  const block = new Uint32Array(4)
  let at = 0
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < inner; i++) {
      if ((i & 3) === 0) philox(i >>> 2, (base + row) >>> 0, site, draw, low, high, block)
      data[at++] = (block[i & 3]! >>> 8) * 2 ** -24
    }
  }
}

/** Kernels of this file. */
export const RANDOM: Pick<Kernels, 'uniform'> = { uniform }
