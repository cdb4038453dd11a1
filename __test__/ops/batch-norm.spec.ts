/** Batch normalisation as a function. */

import { FAMILIES } from '../helpers/cases.ts'
import { declareForward } from '../helpers/run.ts'

declareForward(FAMILIES.batchNorm)
