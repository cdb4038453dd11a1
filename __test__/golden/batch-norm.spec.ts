/** batchNorm, its gradients and the running statistics that it leaves beside PyTorch's, from `scripts/golden/batch-norm.py`. */

import { add, batchNorm, nn, noGrad } from '../../ts/index.ts'
import { declareGolden } from '../helpers/golden.ts'

declareGolden(
  'batch-norm',
  {
    batchNorm: ({ x, ...operands }, options) => ({ y: batchNorm(x, { ...operands, ...options }) }),
    running: ({ x, ...operands }, options) => {
      // Every run changes some of its own.
      const running = { runningMean: add(operands.runningMean, 0), runningVar: add(operands.runningVar, 0) }
      return { y: batchNorm(x, { ...operands, ...running, ...options }), ...running }
    },
    layer: ({ x0, x1, x2 }, { channels, ...options }, device) => {
      const layer = new nn.BatchNorm(channels, { ...options, device, dtype: x0.dtype })
      const { running_mean: mean, running_var: variance, num_batches_tracked: batches } = layer
      const results = noGrad(() => ({
        y0: layer.forward(x0),
        y1: layer.forward(x1),
        y2: layer.forward(x2),
        evaluated: layer.eval().forward(x0),
      }))
      if (mean === null) return results
      return { ...results, mean, var: variance!, batches: batches!.reshape([1]) }
    },
  },
  // What a compiled function changes is made before it.
  { eagerOnly: ['running', 'layer'] },
)
