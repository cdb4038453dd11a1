/** The `cpu` device beside numpy, onnxruntime-node and jax-js, each with the same number of threads, and `js` beside a plain loop. */

import { openDevice } from 'tilegrad'
import { host } from './measure.ts'
import { ChildPeer } from './children/peer.ts'
import { fusedLinear, fusedLinearRead, gemm, mlpInference, mlpStep, naiveGemm, recordAdd, replayStep } from './ours.ts'
import { Numpy } from './peer-numpy.ts'
import { ortGemm, ortLinear, ortMlp } from './peer-onnxruntime.ts'
import { type Line, measure, save } from './report.ts'

const threads = 2
const lines: Line[] = []

const cpu = await openDevice({ kind: 'cpu', threads })
const numpy = await Numpy.start(threads)
const jax = await ChildPeer.start('jax-wasm')
console.log({
  ...host(),
  device: cpu.name,
  jax: jax instanceof ChildPeer ? jax.description : `not measured: ${jax.reason}`,
  numpy: numpy?.version ?? 'not found: python3 with numpy is needed for its lines',
})

for (const n of [512, 1024, 2048]) {
  await measure(lines, { work: `gemm ${n}`, goals: { numpy: 0.9 } }, [
    gemm(cpu, n),
    numpy?.contestant('gemm', [n]),
    await ortGemm(n, threads),
  ])
}
for (const m of [1, 8, 32, 128, 512]) {
  await measure(lines, { work: `relu(XW+b) [${m}, 1024, 1024]`, goals: { onnxruntime: 0.9 } }, [
    fusedLinear(cpu, m, 1024, 1024),
    await ortLinear(m, 1024, 1024, threads),
    fusedLinearRead(cpu, m, 1024, 1024),
    numpy?.contestant('linear', [m, 1024, 1024]),
  ])
}
for (const b of [32, 256]) {
  const goals = { numpy: b === 32 ? 1.5 : 1.15, 'jax-wasm': 8 }
  await measure(lines, { work: `mlp 784-512-256-10 AdamW step b=${b}`, goals }, [
    mlpStep(cpu, b),
    numpy?.contestant('mlp', [b]),
    jax instanceof ChildPeer ? jax.contestant('mlp', [b]) : undefined,
    mlpStep(cpu, b, 'tilegrad, eager', false),
  ])
}
for (const b of [1, 32, 256]) {
  await measure(lines, { work: `mlp 784-512-256-10 inference b=${b}`, goals: { onnxruntime: 1 } }, [
    mlpInference(cpu, b),
    await ortMlp(b, threads),
  ])
}
await measure(lines, { work: 'record one add of 4 numbers' }, [recordAdd(cpu)])
await measure(lines, { work: 'compiled AdamW step of an MLP 1-1-1-1' }, [replayStep(cpu)])
await cpu.close()
const js = await openDevice('js')
await measure(lines, { work: 'js gemm 512', goals: { 'naive loop': 3 } }, [gemm(js, 512), naiveGemm(512)], 3)
numpy?.stop()
if (jax instanceof ChildPeer) jax.stop()
save('peers', lines, { threads, numpy: numpy?.version })
