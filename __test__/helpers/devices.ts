/**
 * The devices tests run on: one of each kind that opens here, software adapters included, each named in the output.
 * `REQUIRE_DEVICES=gpu,cpu,js` turns one that is missing into a failing test. A spec file imports this once and declares
 * its tests by {@link onDevices}.
 */

import test, { type ExecutionContext } from 'ava'
import { type Device, type DeviceKind, type DeviceOptions, devices } from '../../ts/index.ts'
import { isTestable, openDevice } from './open.ts'

const missing = new Map<DeviceKind, string>()
const broken: string[] = []

async function openAll(): Promise<Device[]> {
  const opened: Device[] = []
  // The list has a line for each adapter; the first that can be opened stands for all of its kind.
  const list = await devices()
  for (const kind of new Set(list.map((line) => line.kind))) {
    const lines = list.filter((line) => line.kind === kind)
    if (!lines.some(isTestable)) {
      missing.set(kind, lines.map(({ name, reason }) => `${name}: ${reason ?? 'it does not say why'}`).join('; '))
      continue
    }
    try {
      opened.push(await openDevice(kind))
    } catch (error) {
      broken.push(`${kind}: ${String(error)}`)
    }
  }
  return opened
}

/** The devices, best first. */
export const DEVICES: readonly Device[] = await openAll()

/** The device that also computes in f64. */
export const JS: Device = DEVICES.find((d) => d.kind === 'js')!

const others: Device[] = []

/** Another device of a kind, closed after the last test. */
export async function open(options: DeviceOptions): Promise<Device> {
  const device = await openDevice(options)
  others.push(device)
  return device
}

/** Declares a test for each device. */
export function onDevices(title: string, body: (t: ExecutionContext, device: Device) => Promise<void> | void): void {
  for (const device of DEVICES) test(`${title} [${device.kind}]`, (t) => body(t, device))
}

test('the devices this file was tested on', (t) => {
  for (const device of DEVICES) t.log(`tested device: ${device.name}`)
  for (const [kind, reason] of missing) t.log(`not tested: ${kind}, because ${reason}`)
  const required = (process.env['REQUIRE_DEVICES'] ?? '').split(',').filter((kind) => kind !== '')
  const absent = required.filter((kind) => DEVICES.every((d) => d.kind !== kind))
  t.deepEqual(broken, [], 'devices that are there do not open')
  t.deepEqual(absent, [], 'REQUIRE_DEVICES names devices that do not open here')
})

test.after.always('devices close', async () => {
  await Promise.all([...DEVICES, ...others].map((device) => device.close()))
})
