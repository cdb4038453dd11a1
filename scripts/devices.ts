/**
 * Says which devices work on this machine: opens each that is there, software adapters included, and lets it compute
 * something. One line for each: `tested device: <kind>, …` or `not tested: <kind>, because …`. A device that is there and
 * does not work is an error.
 */

import { devices, ones } from 'tilegrad'
import { isTestable, openDevice } from '../__test__/helpers/open.ts'

for (const info of await devices()) {
  const { kind, adapter } = info
  if (!isTestable(info)) {
    console.log(`not tested: ${kind}, because ${info.reason?.split('\n', 1)[0]}`)
    continue
  }
  const device = await openDevice({ kind, ...(adapter !== undefined && { adapter: adapter.name }) })
  const sum = await ones([3, 5], { device }).sum().item()
  if (sum !== 15) throw new Error(`${device.name}: the sum of 15 ones is ${sum}`)
  console.log(`tested device: ${kind}, ${device.name}${adapter === undefined ? '' : `, ${adapter.driver}`}`)
  await device.close()
}
