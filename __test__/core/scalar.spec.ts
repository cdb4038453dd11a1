/** Scalars outside compiled functions: worth their value at the moment they are used. Inside: `program/compile-*`. */

import { scalar, tensor, where } from '../../ts/index.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { values } from '../helpers/values.ts'

onDevices('a scalar is worth its value when it is used, also for the gradient', async (t, device) => {
  const s = scalar(3)
  const x = tensor([1, 2], { device, requiresGrad: true })
  const y = x.mul(s).pow(s).sum()
  s.value = 100
  y.backward()
  t.deepEqual(await values(x.grad), [81, 324]) // d(27x³)
  t.deepEqual(await values(x.detach().add(s)), [101, 102])
  t.deepEqual(await values(where(x.detach().greater(s), s, x.detach())), [1, 2])
})

onDevices('a scalar counts as a number in JavaScript, and is checked where an integer is needed', (t, device) => {
  const s = scalar(0.5)
  t.is(1 - Number(s), 0.5)
  t.is(`${s.value}`, '0.5')
  t.is(Math.exp(s as unknown as number), Math.exp(0.5))
  t.is(codeOf(() => tensor([1, 2], { dtype: 'i32', device }).add(s)), 'ERR_DTYPE') // prettier-ignore
  t.is(codeOf(() => tensor([true], { device }).equal(s)), 'ERR_DTYPE') // prettier-ignore
  t.is(codeOf(() => (s.value = '1' as unknown as number)), 'ERR_ARGUMENT') // prettier-ignore
})
