/**
 * Running sums and products over the middle of [outer, count, inner], from either end, with the element itself or without.
 * They accumulate in f64, in order of position; those of i32 wrap around.
 */

import type { Call, Kernel, Kernels } from './kernel.ts'

type Combine = (a: number, b: number) => number

function scan(neutral: number, float: Combine, int: Combine): Kernel {
  return ({ inputs, outputs, attributes }: Call) => {
    const { data: x, dtype } = inputs[0]!
    const y = outputs[0]!.data
    const combine = dtype === 'i32' ? int : float
    const [outer, count, inner, reverse, exclusive] = attributes as [number, number, number, number, number]
    const step = reverse === 0 ? inner : -inner
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < inner; i++) {
        let at = (o * count + (reverse === 0 ? 0 : count - 1)) * inner + i
        let so = neutral
        for (let c = 0; c < count; c++, at += step) {
          // The first one is taken as it is: 0 + −0 would lose its sign.
          const next = c === 0 ? x[at]! : combine(so, x[at]!)
          y[at] = exclusive === 0 ? next : so
          so = next
        }
      }
    }
  }
}

/** Kernels of running sums and products. */
export const SCAN: Pick<Kernels, 'cumsum' | 'cumprod'> = {
  cumsum: scan(0, (a, b) => a + b, (a, b) => (a + b) | 0), // prettier-ignore
  cumprod: scan(1, (a, b) => a * b, Math.imul),
}
