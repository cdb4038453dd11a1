/** topK with its gradient beside PyTorch's, from `scripts/golden/topK.py`. */

import { topK } from '../../ts/index.ts'
import { declareGolden } from '../helpers/golden.ts'

declareGolden('topK', {
  topK({ x }, { k, axis }) {
    const { values, indices } = topK(x, k, axis)
    return { y: values, indices }
  },
})
