/**
 * Opening devices in tests: as users do, but an adapter that computes on the processor is a `gpu` too. Nobody wants one
 * for work; tests do, because it is there on machines without a GPU. Children use this as well, so it imports no ava.
 */

import * as tilegrad from '../../ts/index.ts'
import type { Device, DeviceInfo, DeviceKind, DeviceOptions } from '../../ts/index.ts'

/** Opens a device. */
export function openDevice(options: DeviceKind | DeviceOptions): Promise<Device> {
  return tilegrad.openDevice({ allowSoftware: true, ...(typeof options === 'string' ? { kind: options } : options) })
}

/** Whether tests can run on a device of the list: it can be used, or is kept from use only because it is software. */
export function isTestable({ available, adapter }: DeviceInfo): boolean {
  return available || (adapter?.type === 'software' && adapter.refusal === undefined)
}
