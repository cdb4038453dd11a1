/** The instructions of optimisers and those that change memory in place. */

import { ones, tensor } from '../../ts/index.ts'
import { FAMILIES } from '../helpers/cases.ts'
import { onDevices } from '../helpers/devices.ts'
import { declareForward } from '../helpers/run.ts'

declareForward(FAMILIES.optim)

onDevices('assign and addInto change the memory that views share', async (t, device) => {
  const { recorder } = device
  const x = tensor([1, 2, 3, 4], { device })
  const view = x.reshape([2, 2])
  recorder.emitMany('addInto', [x.value, ones([4], { device }).mul(10).value], [])
  t.deepEqual(await view.array(), [
    [11, 12],
    [13, 14],
  ])
  recorder.emitMany(
    'assign',
    [
      view.value,
      tensor(
        [
          [5, 6],
          [7, 8],
        ],
        { device },
      ).value,
    ],
    [],
  )
  t.deepEqual(await x.array(), [5, 6, 7, 8])
  const i = tensor(Int32Array.of(1, 2), { device })
  recorder.emitMany('addInto', [i.value, i.neg().value], [])
  t.deepEqual([...(await i.data())], [0, 0])
})
