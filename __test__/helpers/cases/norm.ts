/**
 * layerNorm, groupNorm and rmsNorm: forward through the public functions, backward as instructions. Rows of no element, of
 * one, of primes and around the widths of vectors, blocks and workgroups; with weight and bias, either or none.
 */

import * as tilegrad from '../../../ts/index.ts'
import type { Dtype, Shape, Tensor } from '../../../ts/index.ts'
import { Tensor as TensorClass } from '../../../ts/index.ts'
import type { OpcodeName } from '../../../ts/program/opcodes.ts'
import type { Want } from '../compare.ts'
import { type Data, array, count, random } from '../data.ts'
import { type NormSizes, normalize, normalizeGrad } from '../reference.ts'
import { type Case, LOSS, type Row, shapesOf } from './case.ts'

type NormName = 'layerNorm' | 'groupNorm' | 'rmsNorm'

interface Norm {
  readonly x: Shape
  /** Trailing axes that are normalised; of groupNorm the number of groups. */
  readonly over: number
  /** Which of weight (1) and bias (2) there are. */
  readonly affine?: 0 | 1 | 2 | 3
  readonly eps?: number
  readonly grad?: boolean
}

const ROWS: readonly Norm[] = [
  { x: [0, 5], over: 1, grad: true },
  { x: [3, 0], over: 1, grad: true },
  { x: [3, 0, 4], over: 2 },
  { x: [4], over: 1, grad: true },
  { x: [3, 1], over: 1 },
  { x: [5, 2], over: 1 },
  { x: [3, 5], over: 1, affine: 0, grad: true },
  { x: [3, 5], over: 1, affine: 1, grad: true },
  { x: [3, 5], over: 1, affine: 2, grad: true },
  { x: [3, 5], over: 1, affine: 3, grad: true },
  { x: [2, 2, 3], over: 2, affine: 3, eps: 0.1, grad: true },
  { x: [2, 1, 4], over: 1, affine: 3, eps: 0, grad: true },
  ...[7, 8, 31, 32, 33, 255, 256, 257, 1000, 1009].map((size) => ({ x: [5, size], over: 1 })),
  { x: [65, 64], over: 1 },
  { x: [257, 17], over: 1 },
  { x: [3, 33, 31], over: 2 },
  { x: [2, 2049], over: 1, affine: 0 },
  { x: [2, 8193], over: 1 },
  { x: [1, 20011], over: 1 },
]

const GROUPS: readonly Norm[] = [
  { x: [0, 4, 3], over: 2, grad: true },
  { x: [2, 4, 0], over: 2 },
  { x: [2, 0, 3], over: 1 },
  { x: [3, 1, 1], over: 1 },
  { x: [2, 4], over: 2 },
  { x: [2, 6], over: 2, affine: 3, grad: true },
  { x: [2, 2, 3], over: 2, affine: 0, grad: true },
  { x: [2, 2, 3], over: 1, affine: 1, grad: true },
  { x: [2, 4, 2], over: 2, affine: 2, grad: true },
  { x: [2, 4, 1, 3], over: 2, affine: 3, eps: 0.1, grad: true },
  { x: [3, 6, 5, 7], over: 3 },
  { x: [2, 12, 3], over: 4 },
  { x: [2, 8, 8, 8], over: 8 },
  { x: [1, 32, 33], over: 4, affine: 0 },
  { x: [5, 7, 31], over: 7 },
  { x: [70, 3, 4], over: 1 },
  { x: [2, 4, 300], over: 2 },
  { x: [3, 130], over: 2 },
  { x: [2, 2, 65, 64], over: 1 },
]

const NORMS: Readonly<Record<NormName, readonly Norm[]>> = {
  layerNorm: ROWS,
  groupNorm: GROUPS,
  // A bias is what this one does not have.
  rmsNorm: ROWS.filter(({ affine }) => affine !== 2 && affine !== 0).map((norm) => ({ ...norm, affine: 1 as const })),
}

const DEFAULT_EPS: Readonly<Record<NormName, (dtype: Dtype) => number>> = {
  layerNorm: () => 1e-5,
  groupNorm: () => 1e-5,
  rmsNorm: (dtype) => (dtype === 'f64' ? 2 ** -52 : 2 ** -23),
}

/** Of weight and bias. */
function shapeOf(op: NormName, { x, over }: Norm): Shape {
  return op === 'groupNorm' ? [x[1]!] : x.slice(x.length - over)
}

function sizesOf(op: NormName, norm: Norm): NormSizes {
  const { x, over } = norm
  const isCentred = op !== 'rmsNorm'
  if (op === 'groupNorm')
    return { outer: x[0]!, groups: over, channels: x[1]! / over, inner: count(x.slice(2)), isCentred }
  const shape = shapeOf(op, norm)
  return { outer: count(x.slice(0, x.length - over)), groups: 1, channels: count(shape), inner: 1, isCentred }
}

function operands(op: NormName, dtype: Dtype, norm: Norm): [Data, Data | null, Data | null] {
  const { x, affine = 3 } = norm
  const shape = shapeOf(op, norm)
  return [
    // A mean away from 0, as activations have it.
    random(dtype, x, { low: -1, high: 3, salt: 1 }),
    (affine & 1) === 0 ? null : random(dtype, shape, { salt: 2 }),
    (affine & 2) === 0 ? null : random(dtype, shape, { salt: 3 }),
  ]
}

function forwardCase(op: NormName, dtype: Dtype, norm: Norm): Case {
  const { over, eps, affine = 3, grad = false } = norm
  const [x, weight, bias] = operands(op, dtype, norm)
  const inputs = [x, weight, bias].filter((t) => t !== null)
  const shape = shapeOf(op, norm)
  const given = eps === undefined ? {} : { eps }
  return {
    title: `${shapesOf([x])} over ${op === 'groupNorm' ? `${over} groups` : `[${shape.join(', ')}]`}, affine ${affine}`,
    inputs,
    run: ([x, ...rest]): Tensor => {
      const weight = (affine & 1) === 0 ? null : rest.shift()!
      const bias = (affine & 2) === 0 ? null : rest.shift()!
      if (op === 'groupNorm') return tilegrad.groupNorm(x!, { groups: over, weight, bias, ...given })
      if (op === 'rmsNorm') return tilegrad.rmsNorm(x!, { normalizedShape: shape, weight, ...given })
      return tilegrad.layerNorm(x!, { normalizedShape: shape, weight, bias, ...given })
    },
    want: () => normalize(x, weight, bias, sizesOf(op, norm), eps ?? DEFAULT_EPS[op](dtype)).y,
    grad,
  }
}

function backwardCase(op: NormName, dtype: Dtype, norm: Norm, wanted: number): Case {
  const [x, given] = operands(op, dtype, norm)
  const shape = shapeOf(op, norm)
  const weight = given ?? ((wanted & 2) === 0 ? null : random(dtype, shape, { salt: 2 }))
  const sizes = sizesOf(op, norm)
  const { means, scales } = normalize(x, null, null, sizes, norm.eps ?? DEFAULT_EPS[op](dtype))
  const statistics = (sizes.isCentred ? [means, scales] : [scales]).map((v) => array(dtype, v.shape, v.values))
  const dy = random(dtype, norm.x, { salt: 4 })
  const has = (bit: number): boolean => (wanted & bit) !== 0
  const { outer, groups, channels, inner } = sizes
  const attributes = op === 'groupNorm' ? [outer, groups, channels, inner] : [outer, channels]
  return {
    title: `${shapesOf([x])} over ${norm.over}, ${weight === null ? 'no weight' : 'weight'}: ${wanted.toString(2)}`,
    inputs: [dy, x, ...statistics, ...(weight === null ? [] : [weight])],
    run: ([dy, x, ...rest], device): Tensor[] => {
      const w = weight === null ? null : rest.pop()!.value
      const shapes = [has(1) && norm.x, has(2) && shape, has(4) && shape].filter((s) => s !== false)
      return device.recorder
        .emitMany(
          `${op}Grad`,
          [dy!.value, x!.value, w, ...rest.map((s) => s.value)],
          shapes.map((shape) => ({ dtype, shape })),
          [...attributes, wanted],
        )
        .map((value) => new TensorClass(device, value))
    },
    want: () => {
      const [mean, scale] = sizes.isCentred ? statistics : [null, statistics[0]]
      const exact = normalizeGrad(dy, x, weight, mean ?? null, scale!, sizes)
      // Of two elements a centred row keeps only a sign: its gradient is what the cancellation leaves.
      const dx: Want = channels * inner > 2 ? { ...exact.dx, tolerance: LOSS } : exact.dx
      const affine = (want: Want): Want => ({ ...want, shape, tolerance: LOSS })
      return [has(1) && dx, has(2) && affine(exact.dweight), has(4) && affine(exact.dbias)].filter((w) => w !== false)
    },
  }
}

function forwardRow(op: NormName): Row {
  return {
    api: [op],
    tolerance: LOSS,
    gradient: 'smooth',
    cases: (dtype) => NORMS[op].map((norm) => forwardCase(op, dtype, norm)),
  }
}

function backwardRow(op: NormName): Row {
  const all = op === 'rmsNorm' ? 3 : 7
  const some = NORMS[op].filter(({ grad }) => grad === true)
  return {
    api: [],
    tolerance: { kind: 'sum' },
    gradient: 'none',
    cases: (dtype) => [
      ...NORMS[op].map((norm) => backwardCase(op, dtype, norm, all)),
      ...some.flatMap((norm) => Array.from({ length: all - 1 }, (_, i) => backwardCase(op, dtype, norm, i + 1))),
    ],
  }
}

export const NORM = {
  layerNorm: forwardRow('layerNorm'),
  layerNormGrad: backwardRow('layerNorm'),
  groupNorm: forwardRow('groupNorm'),
  groupNormGrad: backwardRow('groupNorm'),
  rmsNorm: forwardRow('rmsNorm'),
  rmsNormGrad: backwardRow('rmsNorm'),
} as const satisfies Readonly<Partial<Record<OpcodeName, Row>>>
