/**
 * Tensors large enough that a device shares the work between threads, with sizes that divide by nothing: what falls
 * between two parts would show here. The formulas are those of the case table.
 */

import * as tilegrad from '../../ts/index.ts'
import type { Case } from '../helpers/cases.ts'
import { EXACT, LOSS, SUM } from '../helpers/cases/case.ts'
import type { Tolerance } from '../helpers/compare.ts'
import { type Data, array, random } from '../helpers/data.ts'
import { onDevices } from '../helpers/devices.ts'
import {
  absoluteTotal,
  alongAxis,
  concat,
  extremumAt,
  gather,
  logSoftmax,
  map,
  pick,
  build,
  reduce,
  scatterAdd,
  softmax,
  total,
  transpose,
} from '../helpers/reference.ts'
import { checkAll } from '../helpers/run.ts'

const ROWS = 523
const COLUMNS = 521

const MATRIX = random('f32', [ROWS, COLUMNS])
const ROW = random('f32', [COLUMNS], { salt: 1 })
const COLUMN = random('f32', [ROWS, 1], { salt: 2 })

const INDICES = array('i32', [1009], (i) => (i * 7919) % ROWS)

const CLOSE: Tolerance = { kind: 'budget', relative: 1e-6, absolute: 1e-6 }

function summed(x: Data, axis: number | undefined): ReturnType<Case['want']> {
  const want = reduce(x, axis, false, total)
  return {
    ...want,
    magnitude: reduce(x, axis, false, absoluteTotal).values,
    terms: x.values.length / want.values.length,
  }
}

const CASES: readonly [Tolerance, Case[]][] = [
  [
    CLOSE,
    [
      {
        title: 'a chain over a matrix, a row and a column',
        inputs: [MATRIX, ROW, COLUMN],
        run: ([x, row, column]) => x!.mul(row!).add(column!).tanh(),
        want: ([x, row, column]) => map('f32', (x, r, c) => Math.tanh(x * r + c), x!, row!, column!),
      },
    ],
  ],
  [
    SUM,
    [undefined, 0, 1].map((axis) => ({
      title: `sum over ${axis ?? 'all'}`,
      inputs: [MATRIX],
      run: ([x]) => x!.sum(axis),
      want: ([x]) => summed(x!, axis),
    })),
  ],
  [
    EXACT,
    [
      ...[undefined, 0, 1].flatMap((axis): Case[] => [
        {
          title: `max over ${axis ?? 'all'}`,
          inputs: [MATRIX],
          run: ([x]) => x!.max(axis),
          want: ([x]) => reduce(x!, axis, false, (list) => list[extremumAt(list, 1)]!),
        },
        {
          title: `argmin over ${axis ?? 'all'}`,
          inputs: [MATRIX],
          run: ([x]) => x!.argmin(axis),
          want: ([x]) => reduce(x!, axis, false, (list) => extremumAt(list, -1), 'i32'),
        },
      ]),
      {
        title: 'transpose',
        inputs: [MATRIX],
        run: ([x]) => x!.transpose(),
        want: ([x]) => transpose(x!),
      },
      {
        title: 'transpose of three axes',
        inputs: [random('f32', [67, 61, 65])],
        run: ([x]) => x!.transpose([2, 0, 1]),
        want: ([x]) => transpose(x!, [2, 0, 1]),
      },
      {
        title: 'concat along the last axis',
        inputs: [MATRIX, COLUMN, random('f32', [ROWS, 7])],
        run: (list) => tilegrad.concat(list, 1),
        want: (list) => concat(list, 1),
      },
      {
        title: 'slice and pad',
        inputs: [MATRIX],
        run: ([x]) => x!.slice([3, 5], [515, 510]).pad([[1, 2], [3, 0]], 7), // prettier-ignore
        want: ([x]) =>
          build('f32', [518, 513], ([i, j]) => {
            const inside = i! >= 1 && i! < 516 && j! >= 3
            return inside ? pick(x!, [i! + 2, j! + 2]) : 7
          }),
      },
      {
        title: 'gather of rows',
        inputs: [MATRIX, INDICES],
        run: ([x, at]) => x!.gather(at!),
        want: ([x, at]) => gather(x!, at!, 0),
      },
      {
        title: 'comparison and selection',
        inputs: [MATRIX, ROW],
        run: ([x, row]) => tilegrad.where(x!.greater(row!), x!, 0),
        want: ([x, row]) => map('f32', (x, r) => (x > r ? x : 0), x!, row!),
      },
    ],
  ],
  [
    SUM,
    [
      {
        title: 'scatterAdd with rows that meet',
        inputs: [random('f32', [1009, 131]), INDICES],
        run: ([x, at]) => tilegrad.scatterAdd(x!, at!, [ROWS, 131]),
        want: ([x, at]) => scatterAdd(x!, at!, [ROWS, 131], 0),
      },
    ],
  ],
  [
    LOSS,
    [
      ...[0, 1].map((axis): Case => ({
        title: `softmax along ${axis}`,
        inputs: [MATRIX],
        run: ([x]) => x!.softmax(axis),
        want: ([x]) => alongAxis(x!, axis, softmax),
      })),
      {
        title: 'cross-entropy of many rows',
        inputs: [random('f32', [4099, 61]), array('i32', [4099], (i) => (i % 9 === 0 ? -100 : i % 61))],
        run: ([x, targets]) => tilegrad.nn.crossEntropy(x!, targets!, { reduction: 'none' }),
        want: ([x, targets]) =>
          build('f32', [4099], ([i]) => {
            const target = targets!.values[i!]!
            return target < 0 ? 0 : -logSoftmax(Array.from(x!.values.subarray(i! * 61, (i! + 1) * 61)))[target]!
          }),
      },
      {
        title: 'a step of AdamW',
        inputs: [MATRIX, random('f32', [ROWS, COLUMNS], { salt: 3 })],
        run: ([p, g]) => {
          const parameter = new tilegrad.Parameter(p!.detach())
          parameter.grad = g!.detach()
          new tilegrad.optim.AdamW([parameter], { lr: 0.1, weightDecay: 0 }).step()
          return parameter
        },
        // The first step divides the gradient by its own size.
        want: ([p, g]) => map('f32', (p, g) => p - (0.1 * g) / (Math.abs(g) + 1e-8), p!, g!),
      },
    ],
  ],
]

for (const [tolerance, cases] of CASES) {
  for (const one of cases) {
    onDevices(`large: ${one.title}`, (t, device) => checkAll(t, device, [one], tolerance))
  }
}
