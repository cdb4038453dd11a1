/** Random numbers that devices draw: the bits of the generator, the same rows however they are split, one program for all draws. */

import { manualSeed, rand } from '../../ts/index.ts'
import { readStream } from '../../ts/program/decode.ts'
import { capture } from '../helpers/capture.ts'
import { FAMILIES } from '../helpers/cases.ts'
import { drawUniform } from '../helpers/cases/random.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { declareForward } from '../helpers/run.ts'

declareForward(FAMILIES.random)

onDevices('the first numbers of seed 0 are the known answer of Philox', async (t, device) => {
  const zero = { seed: [0, 0], site: 0, draw: 0, rowBase: 0 } as const
  const words = [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
  t.deepEqual(
    [...(await drawUniform(device, 'f32', [4], 4, zero).data())],
    words.map((word) => (word >>> 8) / 2 ** 24),
  )
})

onDevices('a micro-batch that starts at row k sees the rows of the big batch from k on', async (t, device) => {
  for (const inner of [1, 6, 8, 33]) {
    const drawn = { seed: [5, 6], site: 7, draw: 8, rowBase: 1000 } as const
    const batch = await drawUniform(device, 'f32', [40, inner], inner, drawn).data()
    for (const [first, rows] of [
      [0, 7],
      [7, 1],
      [13, 27],
    ] as const) {
      const part = { ...drawn, rowBase: drawn.rowBase + first }
      const data = await drawUniform(device, 'f32', [rows, inner], inner, part).data()
      t.deepEqual(data, batch.slice(first * inner, (first + rows) * inner), `${rows} rows of ${inner} from ${first}`)
    }
  }
})

onDevices('every draw is the same program with other scalars, and nothing is uploaded', async (t, device) => {
  await device.sync()
  const { sent, stop } = capture(device)
  const [first, second] = [rand([33], { device }).dataSync(), rand([33], { device }).dataSync()]
  stop()
  t.notDeepEqual(first, second)
  const streams = sent.flatMap((one) => (one.kind === 'submit' ? [readStream(one.words)] : []))
  t.is(streams.length, sent.length, 'an upload')
  const [one, other, ...more] = streams.filter((stream) => stream.scalars.length > 0)
  t.deepEqual(one!.code, other!.code)
  t.notDeepEqual(one!.scalars, other!.scalars)
  t.deepEqual(more, [])
})

onDevices('a shape changes the shape alone, and a call that fails draws nothing', async (t, device) => {
  manualSeed(9)
  t.is(
    codeOf(() => rand([2], { device, dtype: 'i32' })),
    'ERR_DTYPE',
  )
  const flat = await rand([30], { device }).data()
  manualSeed(9)
  const x = rand([2, 3, 5], { device, requiresGrad: true })
  t.true(x.requiresGrad)
  t.deepEqual(await x.data(), flat)
  x.mul(x).sum().backward()
  t.deepEqual([...(await x.grad!.data())], [...flat].map((v) => 2 * v)) // prettier-ignore
})
