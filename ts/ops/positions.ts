/**
 * The numbers 0, 1, 2, … on a device: what classes and places in a sequence are compared with. They are the same in every
 * step of a loop, so a few of them are kept with the device instead of being uploaded each time. Compiled functions have
 * their own, as constants.
 */

import type { Device } from '../device.ts'
import { tracing } from '../program/tracing.ts'
import { keep } from '../scope.ts'
import type { Tensor } from '../tensor.ts'
import { arange } from './creation.ts'

/** Lists that are kept: those that were asked for last. */
const MOST = 8

/** Longer ones are not: 64 KiB each. */
const LONGEST = 1 << 14

/** @internal i32 `[count]`, a handle of the caller's own. */
export function positions(device: Device, count: number): Tensor {
  const make = (): Tensor => arange(count, { dtype: 'i32', device })
  if (tracing() !== null || count > LONGEST) return make()
  const { positions: kept } = device
  const list = kept.get(count) ?? keep(make())
  // The one that was asked for last goes to the end.
  kept.delete(count)
  kept.set(count, list)
  const [first] = kept
  if (kept.size > MOST && first !== undefined) {
    kept.delete(first[0])
    first[1].dispose()
  }
  return list.detach()
}
