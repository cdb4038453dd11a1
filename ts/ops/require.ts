/**
 * Conditions that only the device knows. Waiting for one would stop the step, so what depends on it goes through here:
 * reading it, or anything computed from it, fails where the condition does not hold, and updates made of it are not
 * applied. What the host knows is checked by the operations themselves, at once.
 */

import { track } from '../autograd/tape.ts'
import { REASONS } from '../program/words.ts'
import { Tensor } from '../tensor.ts'

/** What may be found wrong. */
export type Reason = (typeof REASONS)[number]

/**
 * @internal `x`, poisoned with `ERR_ARGUMENT` unless `ok` is true. The gradient passes under the same condition.
 *
 * @param ok bool of one element, rank 0, on the device of `x`
 */
export function require(x: Tensor, ok: Tensor, reason: Reason): Tensor {
  const { device, dtype, shape } = x
  const value = device.recorder.emit('require', [x.value, ok.value], { dtype, shape }, [REASONS.indexOf(reason)])
  return track(new Tensor(device, value), 'require', [x], [ok], (dy, [ok]) => [require(dy, ok!, reason)])
}
