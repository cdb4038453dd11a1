/** Plain cross-entropy with class indices: forward through the public function, backward as an instruction. */

import * as tilegrad from '../../../ts/index.ts'
import type { Dtype, Shape } from '../../../ts/index.ts'
import { Tensor as TensorClass } from '../../../ts/index.ts'
import type { OpcodeName } from '../../../ts/program/opcodes.ts'
import type { Want } from '../compare.ts'
import { type Data, array, random } from '../data.ts'
import { logSoftmax, logSumExp, total } from '../reference.ts'
import { type Case, LOSS, type Row, shapesOf } from './case.ts'
import { WEIGHTED } from './weighted-loss.ts'

const IGNORED = -100

interface Batch {
  readonly shape: Shape
  /** Every how many items one is ignored; 0 for none. */
  readonly ignore: number
  readonly grad?: boolean
}

const BATCHES: readonly Batch[] = [
  { shape: [1, 1], ignore: 0 },
  { shape: [3, 5], ignore: 0, grad: true },
  { shape: [3, 5], ignore: 2, grad: true },
  { shape: [2, 3, 4], ignore: 3, grad: true },
  { shape: [4], ignore: 0, grad: true },
  { shape: [3, 4], ignore: 1, grad: true },
  { shape: [0, 5], ignore: 0, grad: true },
  { shape: [17, 10], ignore: 5 },
  { shape: [33, 31], ignore: 0 },
  { shape: [257, 257], ignore: 7 },
  { shape: [3, 1009], ignore: 0 },
]

function targets({ shape, ignore }: Batch): Data {
  const items = shape.slice(0, -1)
  const classes = shape.at(-1)!
  return array('i32', items, (i) => (ignore > 0 && i % ignore === 0 ? IGNORED : (i * 31 + 2) % classes))
}

/** The loss of each item, and how many are counted. */
function crossEntropy(logits: Data, targets: Data, ignored: number): [Want, Want] {
  const { dtype } = logits
  const classes = logits.shape.at(-1)!
  const losses = [...targets.values].map((target, i) => {
    if (target === ignored) return 0
    return -logSoftmax(Array.from(logits.values.subarray(i * classes, (i + 1) * classes)))[target]!
  })
  const counted = total([...targets.values].map((t) => +(t !== ignored)))
  return [array(dtype, targets.shape, losses), array(dtype, [], [counted])]
}

function lossCase(dtype: Dtype, batch: Batch): Case {
  const inputs = [random(dtype, batch.shape, { low: -4, high: 4 }), targets(batch)]
  return {
    title: `${shapesOf(inputs)}, ${batch.ignore === 0 ? 'none' : `one in ${batch.ignore}`} ignored`,
    inputs,
    run: ([logits, targets]) => {
      const { sum, count } = tilegrad.nn.crossEntropy(logits!, targets!, { reduction: 'parts' })
      count.dispose()
      sum.dispose()
      return tilegrad.nn.crossEntropy(logits!, targets!, { reduction: 'none' })
    },
    want: ([logits, targets]) => crossEntropy(logits!, targets!, IGNORED)[0],
    grad: batch.grad ?? false,
  }
}

function reductionCase(dtype: Dtype, batch: Batch, reduction: 'mean' | 'sum'): Case {
  const inputs = [random(dtype, batch.shape, { low: -4, high: 4 }), targets(batch)]
  return {
    title: `${reduction} of ${shapesOf(inputs)}, ${batch.ignore === 0 ? 'none' : `one in ${batch.ignore}`} ignored`,
    inputs,
    run: ([logits, targets]) => tilegrad.nn.crossEntropy(logits!, targets!, { reduction }),
    want: ([logits, targets]) => {
      const [losses, counted] = crossEntropy(logits!, targets!, IGNORED)
      const sum = total([...losses.values])
      // Nothing to count gives 0, not 0/0.
      return array(dtype, [], [reduction === 'sum' ? sum : sum / Math.max(counted.values[0]!, 1)])
    },
    grad: batch.grad ?? false,
  }
}

/** The sum of what is counted and the count, of which `mean` is the quotient. */
function partsCase(dtype: Dtype, batch: Batch): Case {
  const inputs = [random(dtype, batch.shape, { low: -4, high: 4 }), targets(batch)]
  return {
    title: `parts of ${shapesOf(inputs)}, ${batch.ignore === 0 ? 'none' : `one in ${batch.ignore}`} ignored`,
    inputs,
    run: ([logits, targets]) => {
      const { sum, count } = tilegrad.nn.crossEntropy(logits!, targets!, { reduction: 'parts' })
      return [sum, count]
    },
    want: ([logits, targets]) => {
      const [losses, counted] = crossEntropy(logits!, targets!, IGNORED)
      return [array(dtype, [], [total([...losses.values])]), counted]
    },
  }
}

const CROSS_ENTROPY: Row = {
  api: ['nn.crossEntropy'],
  tolerance: LOSS,
  gradient: 'smooth',
  cases: (dtype) => [
    ...BATCHES.flatMap((batch) => [
      lossCase(dtype, batch),
      reductionCase(dtype, batch, 'mean'),
      reductionCase(dtype, batch, 'sum'),
      partsCase(dtype, batch),
    ]),
    {
      title: 'what an ignored item holds does not matter',
      inputs: [array(dtype, [3, 2], [NaN, 1, 0.5, 1, Infinity, -Infinity]), array('i32', [3], [-7, 1, -7])],
      run: ([logits, targets]) => tilegrad.nn.crossEntropy(logits!, targets!, { ignoreIndex: -7 }),
      want: ([logits, targets]) => {
        const [losses] = crossEntropy(logits!, targets!, -7)
        return array(dtype, [], [losses.values[1]!])
      },
    },
    {
      title: 'a class may be the ignored index',
      inputs: [random(dtype, [4, 3]), array('i32', [4], [0, 1, 2, 0])],
      run: ([logits, targets]) => tilegrad.nn.crossEntropy(logits!, targets!, { ignoreIndex: 0, reduction: 'none' }),
      want: ([logits, targets]) => crossEntropy(logits!, targets!, 0)[0],
    },
    {
      title: 'large logits',
      inputs: [array(dtype, [2, 3], [1e4, -1e4, 0, -1e4, -1e4, -9999]), array('i32', [2], [1, 2])],
      run: ([logits, targets]) => tilegrad.nn.crossEntropy(logits!, targets!, { reduction: 'none' }),
      want: ([logits, targets]) => crossEntropy(logits!, targets!, IGNORED)[0],
    },
  ],
}

const CROSS_ENTROPY_GRAD: Row = {
  api: [],
  tolerance: LOSS,
  gradient: 'none',
  cases: (dtype) =>
    BATCHES.map((batch): Case => {
      const { shape } = batch
      const classes = shape.at(-1)!
      const logits = random(dtype, shape, { low: -4, high: 4 })
      const line = (i: number): number[] => Array.from(logits.values.subarray(i * classes, (i + 1) * classes))
      const norms = array(dtype, shape.slice(0, -1), (i) => logSumExp(line(i)))
      const inputs = [logits, targets(batch), norms, random(dtype, shape.slice(0, -1), { salt: 3 })]
      return {
        title: shapesOf(inputs),
        inputs,
        run: ([logits, targets, norms, dy], device) =>
          new TensorClass(
            device,
            device.recorder.emit(
              'crossEntropyGrad',
              [logits!.value, targets!.value, norms!.value, dy!.value],
              { dtype, shape },
              [IGNORED >>> 0],
            ),
          ),
        want: ([, targets, norms, dy]) =>
          array('f64', shape, (p) => {
            const item = Math.floor(p / classes)
            const target = targets!.values[item]!
            if (target === IGNORED) return 0
            const probability = Math.exp(logits.values[p]! - norms!.values[item]!)
            return dy!.values[item]! * (probability - +(p % classes === target))
          }),
      }
    }).map((c): Case => ({ ...c, want: (inputs) => ({ ...(c.want(inputs) as Want), dtype }) })),
}

export const LOSSES = {
  crossEntropy: CROSS_ENTROPY,
  crossEntropyGrad: CROSS_ENTROPY_GRAD,
  ...WEIGHTED,
} as const satisfies Readonly<Partial<Record<OpcodeName, Row>>>
