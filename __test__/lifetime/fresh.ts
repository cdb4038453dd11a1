/** Tests on devices of their own, whose counters and errors nobody else touches. */

import test, { type ExecutionContext } from 'ava'

import type { Device, DeviceOptions } from '../../ts/index.ts'
import { DEVICES, open } from '../helpers/devices.ts'

/** Declares a test for each kind of device; each run opens its own. */
export function onFreshDevices(
  title: string,
  body: (t: ExecutionContext, device: Device) => Promise<void> | void,
  options: Omit<DeviceOptions, 'kind'> = {},
): void {
  for (const { kind } of DEVICES) test(`${title} [${kind}]`, async (t) => body(t, await open({ ...options, kind })))
}

/** Slots in use once all that was recorded has run. */
export async function liveSlots(device: Device): Promise<number> {
  await device.sync()
  return device.stats().liveSlots
}
