/** Values where functions change: the ends of their ranges, both zeros, what is not a number. */

import type { Dtype } from '../../../ts/index.ts'
import { type Data, array } from '../data.ts'

/** Zeros of both signs, both infinities, NaN, subnormals, and the ends of what exponentials can hold in f32. */
export const SPECIAL: readonly number[] = [
  0,
  -0,
  0.5,
  -0.5,
  1,
  -1,
  2,
  3.5,
  -20,
  88.5,
  -87,
  -100,
  -103.5,
  1e10,
  -1e10,
  3e38,
  -3e38,
  1e-20,
  -1e-20,
  1e-42,
  2 ** -149,
  Infinity,
  -Infinity,
  NaN,
]

/** The ends of i32, where arithmetic wraps around. */
const INTEGERS: readonly number[] = [0, 1, -1, 2, 46341, -46341, 2 ** 30, -(2 ** 30), 2 ** 31 - 1, -(2 ** 31)]

/** The special values of a dtype. */
export function special(dtype: Dtype): Data {
  const values = dtype === 'i32' ? INTEGERS : SPECIAL
  return array(dtype, [values.length], values)
}
