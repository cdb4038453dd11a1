/** layerNorm, groupNorm and rmsNorm and their gradients beside PyTorch's, from `scripts/golden/norm.py`. */

import { groupNorm, layerNorm, rmsNorm } from '../../ts/index.ts'
import { declareGolden } from '../helpers/golden.ts'

declareGolden('norm', {
  layerNorm: ({ x, weight, bias }, options) => ({ y: layerNorm(x, { weight, bias, ...options }) }),
  groupNorm: ({ x, weight, bias }, options) => ({ y: groupNorm(x, { weight, bias, ...options }) }),
  rmsNorm: ({ x, weight }, options) => ({ y: rmsNorm(x, { weight, ...options }) }),
})
