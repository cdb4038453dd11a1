/** Runs a compiled function twice and an eager one, and prints what came out. Arguments: kind, then `good` or `bad`. */

import {
  type DeviceKind,
  type Tensor,
  type TilegradError,
  compile,
  gather,
  ones,
  profile,
  tensor,
} from '../../../ts/index.ts'
import { openDevice } from '../../helpers/open.ts'

const [kind, what] = process.argv.slice(2)
const device = await openDevice(kind as DeviceKind)

function wrong() {
  return gather(ones([2], { device }), tensor(new Int32Array([7]), { device })).mul(2)
}

if (what === 'bad') {
  try {
    await wrong().data()
  } catch (error) {
    console.log(JSON.stringify({ code: (error as TilegradError).code, message: (error as TilegradError).message }))
  }
} else {
  const x = ones([4, 4], { device })
  const step = compile((x: Tensor) => x.matmul(x).sum(), { name: 'step' })
  for (let i = 0; i < 2; i++) await step(x).item()
  for (let i = 0; i < 2; i++) await x.exp().data()
  const trace = await profile(() => x.log().data(), { device })
  console.log(JSON.stringify(trace.events.map(({ name }) => name)))
}
await device.close()
