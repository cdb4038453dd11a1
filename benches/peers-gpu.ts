/**
 * The `gpu` device beside WebGPU in Node: onnxruntime's provider, TensorFlow.js, jax-js, and the naive kernel, each in
 * a process of its own on the adapter that the Vulkan loader offers first. See README.md on how to offer Mesa 25.
 */

import { openDevice } from 'tilegrad'
import { host } from './measure.ts'
import { gemm, gemmHost, mlpStep } from './ours.ts'
import { type Line, measure, save } from './report.ts'
import { ChildPeer } from './children/peer.ts'

const PEERS = ['onnxruntime', 'tfjs', 'jax', 'naive'] as const
const lines: Line[] = []

const gpu = await openDevice({ kind: 'gpu', allowSoftware: true })
const peers: Partial<Record<(typeof PEERS)[number], ChildPeer>> = {}
const descriptions: Record<string, string> = {}
for (const name of PEERS) {
  const peer = await ChildPeer.start(name)
  if (peer instanceof ChildPeer) peers[name] = peer
  descriptions[name] = peer instanceof ChildPeer ? peer.description : `not measured: ${peer.reason}`
}
console.log({ ...host(), device: gpu.name, ...descriptions })

const { onnxruntime, tfjs, jax, naive } = peers
await measure(lines, { work: 'gemm 1024', goals: { onnxruntime: 2, tfjs: 2, naive: 7 } }, [
  gemm(gpu, 1024),
  onnxruntime?.contestant('gemm', [1024]),
  tfjs?.contestant('gemm', [1024]),
  jax?.contestant('gemm', [1024]),
  naive?.contestant('gemm', [1024]),
])
await measure(lines, { work: 'gemm 1024, from host to host', goals: { onnxruntime: 2, tfjs: 2 } }, [
  gemmHost(gpu, 1024),
  onnxruntime?.contestant('gemmHost', [1024]),
  tfjs?.contestant('gemmHost', [1024]),
  jax?.contestant('gemmHost', [1024]),
])
for (const b of [32, 256]) {
  await measure(
    lines,
    { work: `mlp 784-512-256-10 AdamW step b=${b}`, ...(b === 256 ? { goals: { jax: 2, tfjs: 2 } } : {}) },
    [mlpStep(gpu, b), tfjs?.contestant('mlp', [b]), jax?.contestant('mlp', [b])],
  )
}
for (const peer of Object.values(peers)) peer.stop()
await gpu.close()
save('peers-gpu', lines, { device: gpu.name, peers: descriptions })
