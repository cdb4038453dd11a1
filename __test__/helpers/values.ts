/** Numbers for tests of whole features: read from tensors, made reproducibly, compared against a scale. */

import type { ExecutionContext } from 'ava'

import type { Shape } from '../../ts/shape.ts'
import { numel } from '../../ts/shape.ts'
import { Philox } from '../../ts/random.ts'
import type { Tensor } from '../../ts/tensor.ts'

/** The elements of a tensor as plain numbers. −0 becomes 0, so that `deepEqual` means equal. */
export async function values(tensor: Tensor | null | undefined): Promise<number[]> {
  if (tensor == null) throw new Error('there is no tensor')
  return Array.from(await tensor.data(), (v) => v + 0)
}

/** Numbers in [−2, 2), or whole numbers in [−integers, integers]; the same for the same seed. */
export function random(shape: Shape, options: { seed: number; integers?: number }): Float64Array<ArrayBuffer> {
  const source = new Philox({ site: 1 }, [options.seed, 0x7e57])
  const { integers } = options
  return Float64Array.from({ length: numel(shape) }, () =>
    integers === undefined ? Math.fround(4 * source.uniform() - 2) : source.below(2 * integers + 1) - integers,
  )
}

/** The largest magnitude. */
export function largest(list: ArrayLike<number>): number {
  return Array.from(list).reduce((most, v) => Math.max(most, Math.abs(v)), 0)
}

/** Largest difference of two lists; `Infinity` when they differ in length or a NaN meets a number. */
export function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity
  let most = 0
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [a[i]!, b[i]!]
    if (Object.is(x, y) || x === y) continue
    const difference = Math.abs(x - y)
    if (!(difference <= most)) most = Number.isNaN(difference) ? Infinity : difference
  }
  return most
}

/** Asserts that two lists agree within `tolerance` times the scale: the largest expected magnitude. */
export function near(
  t: ExecutionContext,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
  what = '',
): void {
  const scale = largest(expected)
  const off = distance(actual, expected)
  t.true(off <= tolerance * scale, `${what} differs by ${off}, allowed ${tolerance} of ${scale}`)
}

/** What `await` would wait for, without being a promise. */
// oxlint-disable-next-line unicorn/no-thenable -- a thenable is what is tested
export const THENABLE: object = { then: (): void => {} }
