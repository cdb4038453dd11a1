/** Losses and their gradients beside PyTorch's, from `scripts/golden/loss.py`. */

import { nn } from '../../ts/index.ts'
import { type GoldenCall, declareGolden } from '../helpers/golden.ts'

/** A loss of scores with classes as targets: weights and masks are inputs of the file and options of the function. */
const ofClasses =
  (loss: typeof nn.crossEntropy): GoldenCall =>
  ({ scores, targets, ...tensors }, options) => ({ loss: loss(scores, targets, { ...options, ...tensors }) })

/** A loss of numbers. */
const ofNumbers =
  (loss: typeof nn.mse): GoldenCall =>
  ({ prediction, target, ...tensors }, options) => ({ loss: loss(prediction, target, { ...options, ...tensors }) })

declareGolden('loss', {
  crossEntropy: ofClasses(nn.crossEntropy),
  nll: ofClasses(nn.nll),
  mse: ofNumbers(nn.mse),
  mae: ofNumbers(nn.mae),
  huber: ofNumbers(nn.huber),
  bceWithLogits: ofNumbers(nn.bceWithLogits),
})
