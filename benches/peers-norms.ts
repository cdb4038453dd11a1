/**
 * Normalisations and softmax on the `cpu` device beside numpy and onnxruntime-node, each with the same number of threads;
 * gradients beside numpy, and beside our own forward pass, to which they are held.
 */

import { openDevice } from 'tilegrad'
import { host, unchecked } from './measure.ts'
import { type Norm, backward, forward } from './ours-norms.ts'
import { Numpy } from './peer-numpy.ts'
import { ortNorm } from './peer-onnxruntime.ts'
import { type Line, measure, save } from './report.ts'

const threads = 2
const lines: Line[] = []

/** What the peers do not have: onnxruntime normalises a batch by given statistics only, and has no masks. */
const WITHOUT_ONNXRUNTIME: readonly Norm[] = ['maskedSoftmax', 'batchNormTraining']

const device = await openDevice({ kind: 'cpu', threads })
const numpy = await Numpy.start(threads)
console.log({
  ...host(),
  device: device.name,
  numpy: numpy?.version ?? 'not found: python3 with numpy is needed for its lines',
})
const works: readonly (readonly [Norm, readonly number[]])[] = [
  ['softmax', [4096, 1024]],
  ['maskedSoftmax', [4096, 1024]],
  ['layerNorm', [4096, 1024]],
  ['rmsNorm', [4096, 1024]],
  ['groupNorm', [4096, 1024]],
  ['groupNorm', [4096, 256, 2, 2]],
  ['groupNorm', [64, 64, 32, 32]],
  ['batchNormTraining', [4096, 1024]],
  ['batchNormEvaluation', [4096, 1024]],
]
for (const [norm, shape] of works) {
  const work = `${norm} [${shape.join(', ')}]`
  await measure(lines, { work, goals: { numpy: 1.2, onnxruntime: 1.2 } }, [
    forward(norm, device, shape),
    numpy?.contestant(norm, shape),
    WITHOUT_ONNXRUNTIME.includes(norm) ? undefined : await ortNorm(norm, shape, threads),
  ])
  await measure(lines, { work: `${work} backward`, goals: { forward: 0.4 } }, [
    backward(norm, device, shape),
    unchecked(forward(norm, device, shape, 'forward')),
    norm === 'groupNorm' ? undefined : numpy?.contestant(`${norm}Backward`, shape),
  ])
}
await device.close()
numpy?.stop()
save('peers-norms', lines, { threads, numpy: numpy?.version })
