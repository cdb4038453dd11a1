/**
 * The case table: for every instruction that computes something, how it is called, what it has to give, how near, and
 * which gradients flow through it. Forward tests, gradient tests and the page of operations read it. It is total over the
 * opcode table, so that an instruction without cases is a type error.
 */

import type { OpcodeName } from '../../ts/program/opcodes.ts'
import { ACTIVATION } from './cases/activation.ts'
import { BATCH_NORMS } from './cases/batch-norm.ts'
import type { Row } from './cases/case.ts'
import { ELEMENT } from './cases/element.ts'
import { LOSSES } from './cases/loss.ts'
import { MATRIX } from './cases/matmul.ts'
import { MOVE } from './cases/move.ts'
import { NORM } from './cases/norm.ts'
import { OPTIM } from './cases/optim.ts'
import { RANDOM } from './cases/random.ts'
import { REDUCE, SOFTMAX } from './cases/reduce.ts'
import { SCAN } from './cases/scan.ts'
import { SELECT } from './cases/select.ts'
import { TOP_K } from './cases/top-k.ts'

export { type Case, type Gradient, type Row, dtypesOf, listOf } from './cases/case.ts'

/** Bindings of a program to slots, and changes in place, which the tests of programs and optimisers look at. */
export type Structural = 'input' | 'output' | 'assign' | 'addInto'

/** Instructions that compute or move something. */
export type TestedOpcode = Exclude<OpcodeName, Structural>

/** The rows by family, as the spec files take them. */
export const FAMILIES = {
  element: { ...ELEMENT, ...SELECT },
  activation: ACTIVATION,
  reduce: REDUCE,
  topK: TOP_K,
  scan: SCAN,
  softmax: SOFTMAX,
  matrix: MATRIX,
  move: MOVE,
  loss: LOSSES,
  optim: OPTIM,
  random: RANDOM,
  norm: NORM,
  batchNorm: BATCH_NORMS,
} as const

/** Every row. */
export const CASES: Readonly<Record<TestedOpcode, Row>> = {
  ...ELEMENT,
  ...SELECT,
  ...ACTIVATION,
  ...REDUCE,
  ...TOP_K,
  ...SCAN,
  ...SOFTMAX,
  ...MATRIX,
  ...MOVE,
  ...LOSSES,
  ...OPTIM,
  ...RANDOM,
  ...NORM,
  ...BATCH_NORMS,
}
