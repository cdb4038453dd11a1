/** Prints what a process without a usable GPU finds: the devices, what `auto` opens, and the error of asking for `gpu`. */

import { TilegradError, devices, ones, openDevice } from '../../../ts/index.ts'
import { describe } from '../../helpers/errors.ts'

const list = await devices()
const auto = await openDevice('auto')
const sum = await ones([3, 4], { device: auto }).sum().item()
const errors = []
for (const options of [{}, { allowSoftware: true }, { adapter: 'nobody' }]) {
  try {
    const device = await openDevice({ kind: 'gpu', ...options })
    errors.push({ code: `opened ${device.name}`, message: '' })
  } catch (error) {
    errors.push({ code: describe(error), message: error instanceof TilegradError ? error.message : '' })
  }
}
console.log(JSON.stringify({ list, auto: auto.kind, sum, errors }))
await auto.close()
