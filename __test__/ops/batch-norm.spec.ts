/** Batch normalisation as a function. */

import { batchNorm, ones, tensor, zeros } from '../../ts/index.ts'
import { FAMILIES } from '../helpers/cases.ts'
import { onDevices } from '../helpers/devices.ts'
import { declareForward } from '../helpers/run.ts'
import { random } from '../helpers/values.ts'

declareForward(FAMILIES.batchNorm)

onDevices('a mean of ten thousand deviations leaves the variance its digits', async (t, device) => {
  for (const [rows, channels, length] of [
    [3000, 4, 1],
    [5, 4, 700],
  ] as const) {
    const noise = random([rows, channels, length], { seed: rows })
    const data = Float32Array.from(noise, (v) => 11547 + v)
    const running = { runningMean: zeros([channels], { device }), runningVar: ones([channels], { device }) }
    batchNorm(tensor(data, { shape: [rows, channels, length], device }), { ...running, training: true, momentum: 1 })
    const variances = await running.runningVar.data()
    for (let c = 0; c < channels; c++) {
      const own = [...data].filter((_, i) => Math.floor(i / length) % channels === c)
      const mean = own.reduce((sum, x) => sum + x, 0) / own.length
      const want = own.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (own.length - 1)
      t.true(Math.abs(variances[c]! - want) <= 1e-6 * want, `${channels} × ${length}: ${variances[c]} ${want}`)
    }
  }
})
