/**
 * The largest elements over the middle of [outer, count, inner], sorted: NaN before everything, of equals the first. Few
 * are kept in order while a line is gone through; many are sorted.
 */

import type { TypedArray } from '../../dtype.ts'
import type { Call, Kernels } from './kernel.ts'

/** Most elements that are kept in order one by one. */
const FEW = 32

/** Whether `a` counts as larger than `b`. */
function larger(a: number, b: number): boolean {
  return a > b || (a !== a && b === b)
}

/** Writes the indices of the `k` largest of a line whose elements lie `step` apart to the begin of `best`. */
function select(x: TypedArray, start: number, count: number, step: number, k: number, best: Int32Array): void {
  if (k > FEW) {
    const all = best.subarray(0, count)
    for (let i = 0; i < count; i++) all[i] = i
    all.sort((i, j) => {
      const [a, b] = [x[start + i * step]!, x[start + j * step]!]
      return larger(a, b) ? -1 : larger(b, a) ? 1 : i - j
    })
    return
  }
  let found = 0
  for (let i = 0, at = start; i < count; i++, at += step) {
    const v = x[at]!
    // What came before stays before its equals, so that only a larger one moves others back.
    if (found === k && (k === 0 || !larger(v, x[start + best[k - 1]! * step]!))) continue
    let place = found < k ? found++ : k - 1
    for (; place > 0 && larger(v, x[start + best[place - 1]! * step]!); place--) best[place] = best[place - 1]!
    best[place] = i
  }
}

function topK({ inputs, outputs, attributes }: Call): void {
  const x = inputs[0]!.data
  const [values, indices, places] = outputs.map((output) => output.data) as [TypedArray, TypedArray, TypedArray]
  const [outer, count, inner, k] = attributes as [number, number, number, number]
  const best = new Int32Array(k > FEW ? count : k)
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const start = o * count * inner + i
      select(x, start, count, inner, k, best)
      for (let j = 0; j < k; j++) {
        const to = (o * k + j) * inner + i
        const from = start + best[j]! * inner
        values[to] = x[from]!
        indices[to] = best[j]!
        places[to] = from
      }
    }
  }
}

/** The kernel. */
export const TOP_K: Pick<Kernels, 'topK'> = { topK }
