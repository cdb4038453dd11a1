/**
 * Normalisations and softmax on the `gpu` device beside onnxruntime's WebGPU provider, forward, results staying on the GPU;
 * and our gradients beside our own forward pass.
 */

import { openDevice } from 'tilegrad'
import { host, unchecked } from './measure.ts'
import { backward, forward } from './ours-norms.ts'
import { type Line, measure, save } from './report.ts'
import { ChildPeer } from './children/peer.ts'

const lines: Line[] = []

const gpu = await openDevice({ kind: 'gpu', allowSoftware: true })
const started = await ChildPeer.start('onnxruntime')
const peer = started instanceof ChildPeer ? started : undefined
const onnxruntime = started instanceof ChildPeer ? started.description : `not measured: ${started.reason}`
console.log({ ...host(), device: gpu.name, onnxruntime })
const shape = [4096, 1024]
for (const norm of ['softmax', 'layerNorm', 'rmsNorm', 'batchNormEvaluation'] as const) {
  const work = `${norm} [${shape.join(', ')}]`
  await measure(lines, { work, goals: { onnxruntime: 2 } }, [forward(norm, gpu, shape), peer?.contestant(norm, shape)])
  await measure(lines, { work: `${work} backward`, goals: { forward: 0.4 } }, [
    backward(norm, gpu, shape),
    unchecked(forward(norm, gpu, shape, 'forward')),
  ])
}
// onnxruntime has these on WebGPU only in pieces, or not at all.
for (const norm of ['groupNorm', 'batchNormTraining', 'maskedSoftmax'] as const) {
  const work = `${norm} [${shape.join(', ')}]`
  await measure(lines, { work }, [forward(norm, gpu, shape)])
  await measure(lines, { work: `${work} backward`, goals: { forward: 0.4 } }, [
    backward(norm, gpu, shape),
    unchecked(forward(norm, gpu, shape, 'forward')),
  ])
}
peer?.stop()
await gpu.close()
save('peers-gpu-norms', lines, { device: gpu.name, onnxruntime })
