/** `npm run bench`: our own figures on every device. Peers: `npm run bench:peers`. */

import { devices, openDevice } from 'tilegrad'
import { host, unchecked } from './measure.ts'
import { fusedLinear, gemm, mlpInference, mlpStep, naiveGemm, recordAdd, replayStep } from './ours.ts'
import { NORMS, backward, forward } from './ours-norms.ts'
import { type Line, measure, save } from './report.ts'

const lines: Line[] = []

console.log(host())
for (const info of await devices()) {
  if (!info.available) {
    console.log(`${info.kind}: not measured, ${info.reason}`)
    continue
  }
  const device = await openDevice(info.kind)
  console.log(`\n${device.name}`)
  if (info.kind === 'js') {
    await measure(lines, { work: 'gemm 512', goals: { 'naive loop': 3 } }, [gemm(device, 512), naiveGemm(512)], 3)
    await measure(lines, { work: 'mlp step b=32' }, [mlpStep(device, 32)], 3)
  } else {
    for (const n of [512, 1024, 2048]) await measure(lines, { work: `gemm ${n}` }, [gemm(device, n)])
    for (const m of [1, 8, 32, 128, 512])
      await measure(lines, { work: `relu(XW+b) [${m}, 1024, 1024]` }, [fusedLinear(device, m, 1024, 1024)])
    for (const b of [32, 256]) {
      await measure(lines, { work: `mlp 784-512-256-10 AdamW step b=${b}` }, [
        mlpStep(device, b),
        mlpStep(device, b, 'tilegrad, eager', false),
      ])
    }
    for (const b of [1, 32, 256])
      await measure(lines, { work: `mlp 784-512-256-10 inference b=${b}` }, [mlpInference(device, b)])
    for (const norm of NORMS) {
      await measure(lines, { work: `${norm} [4096, 1024]` }, [
        forward(norm, device, [4096, 1024]),
        unchecked(backward(norm, device, [4096, 1024], 'backward')),
      ])
    }
  }
  await measure(lines, { work: `record one add of 4 numbers (${info.kind})` }, [recordAdd(device)])
  await measure(lines, { work: `compiled AdamW step of an MLP 1-1-1-1 (${info.kind})` }, [replayStep(device)])
  await device.close()
}
save('ours', lines)
