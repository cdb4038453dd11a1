/**
 * Says which devices work on this machine: opens each that is there and lets it compute something. One line for each:
 * `tested device: <kind>, …` or `not tested: <kind>, because …`. A device that is there and does not work is an error.
 */

import { devices, ones, openDevice } from 'tilegrad'

for (const info of await devices()) {
  if (!info.available) {
    console.log(`not tested: ${info.kind}, because ${info.reason?.split('\n', 1)[0]}`)
    continue
  }
  const device = await openDevice(info.kind)
  const sum = await ones([3, 5], { device }).sum().item()
  if (sum !== 15) throw new Error(`${info.kind}: the sum of 15 ones is ${sum}`)
  console.log(`tested device: ${info.kind}, ${device.name}`)
  await device.close()
}
