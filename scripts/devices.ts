/**
 * Says which devices work on this machine: opens each and lets it compute something. One line for each:
 * `tested device: <kind> …` or `not tested: <kind>, because …`.
 */

import { devices, ones, openDevice } from 'tilegrad'

for (const { kind } of await devices()) {
  try {
    const device = await openDevice(kind)
    const sum = await ones([3, 5], { device }).sum().item()
    if (sum !== 15) throw new Error(`the sum of 15 ones is ${sum}`)
    console.log(`tested device: ${kind}, ${device.name}`)
    await device.close()
  } catch (error) {
    console.log(`not tested: ${kind}, because ${error instanceof Error ? error.message : String(error)}`)
  }
}
