/** Losses and their gradients beside PyTorch's, from `scripts/golden/loss.py`. */

import { nn } from '../../ts/index.ts'
import { declareGolden } from '../helpers/golden.ts'

declareGolden('loss', {
  crossEntropy: ({ logits, targets }, options) => ({ loss: nn.crossEntropy(logits, targets, options) }),
  mse: ({ prediction, target }, options) => ({ loss: nn.mse(prediction, target, options) }),
})
