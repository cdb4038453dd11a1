/**
 * Matrix products and the fused layer, with the textbook bound element by element: shapes around the edges of tiles, all
 * four transposes, batches that broadcast, vectors, every activation with and without bias, forward and backward.
 */

import * as tilegrad from '../../../ts/index.ts'
import type { ActivationName, Dtype, Shape, Tensor } from '../../../ts/index.ts'
import { Tensor as TensorClass } from '../../../ts/index.ts'
import type { OpcodeName } from '../../../ts/program/opcodes.ts'
import { ACTIVATION_CODES } from '../../../ts/program/words.ts'
import type { Want } from '../compare.ts'
import { type Data, array, count, random, whole } from '../data.ts'
import { ACTIVATION_FORMULAS, type Formula } from '../formulas.ts'
import { linear, map, matmul } from '../reference.ts'
import { type Case, type Row, SUM, shapesOf } from './case.ts'

/** What an activation may add to the error of the sum it is applied to, relative to the sum's magnitude. */
const ACTIVATION_BUDGET = 6e-7

/** [M, K, N]: empty, one, primes, edges of vectors and tiles, a long sum, a single row and a single column. */
const SIZES: readonly (readonly [number, number, number])[] = [
  [0, 3, 4],
  [3, 0, 4],
  [3, 4, 0],
  [1, 1, 1],
  [2, 3, 5],
  [15, 16, 17],
  [16, 16, 16],
  [17, 33, 31],
  [33, 31, 65],
  [64, 64, 64],
  [1, 257, 300],
  [300, 257, 1],
  [65, 129, 33],
  [7, 1009, 15],
]

const TRANSPOSES = [false, true].flatMap((transposeA) =>
  [false, true].map((transposeB) => ({ transposeA, transposeB })),
)

function stored(rows: number, columns: number, transposed: boolean): number[] {
  return transposed ? [columns, rows] : [rows, columns]
}

interface Product {
  readonly a: Shape
  readonly b: Shape
  readonly transposeA: boolean
  readonly transposeB: boolean
  readonly grad?: boolean
}

const PRODUCTS: readonly Product[] = TRANSPOSES.flatMap(({ transposeA, transposeB }) => {
  const product = (
    batchA: Shape,
    batchB: Shape,
    [m, k, n]: readonly [number, number, number],
    grad = false,
  ): Product => ({
    a: [...batchA, ...stored(m, k, transposeA)],
    b: [...batchB, ...stored(k, n, transposeB)],
    transposeA,
    transposeB,
    grad,
  })
  return [
    ...SIZES.map((size) => product([], [], size)),
    product([], [], [3, 4, 2], true),
    product([], [], [0, 4, 2], true),
    product([], [], [3, 0, 2], true),
    product([5], [5], [3, 4, 2]),
    product([2, 3], [3], [2, 3, 4], true),
    product([2, 1], [3], [3, 2, 2], true),
    product([], [4], [17, 15, 3]),
    product([4], [], [3, 15, 17]),
    product([1], [2, 1], [2, 2, 2], true),
    product([0], [1], [2, 3, 4]),
    product([3, 2], [3, 2], [33, 17, 16]),
  ]
})

/** A vector is a row on the left and a column on the right; its axis is dropped. */
const VECTORS: readonly { readonly a: Shape; readonly b: Shape; readonly out: Shape; readonly transpose?: boolean }[] =
  [
    { a: [5], b: [5], out: [] },
    { a: [0], b: [0], out: [] },
    { a: [4], b: [4, 3], out: [3] },
    { a: [3, 4], b: [4], out: [3] },
    { a: [2, 3, 4], b: [4], out: [2, 3] },
    { a: [4], b: [2, 4, 3], out: [2, 3] },
    { a: [4, 3], b: [4], out: [3], transpose: true },
    { a: [4], b: [3, 4], out: [3], transpose: true },
    { a: [257], b: [257, 33], out: [33] },
  ]

function vectorCase(dtype: Dtype, { a, b, out, transpose = false }: (typeof VECTORS)[number]): Case {
  const inputs = [random(dtype, a, { salt: 1 }), random(dtype, b, { salt: 2 })]
  const options = { transposeA: transpose, transposeB: transpose }
  return {
    title: `vector ${shapesOf(inputs)}${transpose ? ' transposed' : ''}`,
    inputs,
    run: ([a, b]) => tilegrad.matmul(a!, b!, options),
    want: ([a, b]) => {
      const row = a!.shape.length === 1 ? { ...a!, shape: [1, a!.shape[0]!] } : a!
      const column = b!.shape.length === 1 ? { ...b!, shape: [b!.shape[0]!, 1] } : b!
      const full = matmul(row, column, transpose && a!.shape.length > 1, transpose && b!.shape.length > 1)
      return { ...full, shape: out }
    },
    grad: count(a) < 50,
  }
}

const MATMUL: Row = {
  api: ['matmul'],
  tolerance: SUM,
  gradient: 'smooth',
  cases: (dtype) => [
    ...PRODUCTS.map(({ a, b, transposeA, transposeB, grad = false }): Case => {
      const inputs = [random(dtype, a, { salt: 1 }), random(dtype, b, { salt: 2 })]
      return {
        title: `${shapesOf(inputs)}${transposeA ? ' Aᵀ' : ''}${transposeB ? ' Bᵀ' : ''}`,
        inputs,
        run: ([a, b]) => tilegrad.matmul(a!, b!, { transposeA, transposeB }),
        want: ([a, b]) => matmul(a!, b!, transposeA, transposeB),
        grad,
      }
    }),
    ...VECTORS.map((v) => vectorCase(dtype, v)),
  ],
}

const ACTIVATIONS = Object.keys(ACTIVATION_FORMULAS) as ActivationName[]

interface Layer {
  readonly x: Shape
  readonly out: number
  readonly bias: boolean
  readonly activation?: ActivationName
  readonly grad?: boolean
}

const LAYERS: readonly Layer[] = [
  ...[true, false].flatMap((bias) => [
    ...SIZES.map(([m, k, n]) => ({ x: [m, k], out: n, bias })),
    { x: [3, 4], out: 2, bias, grad: true },
    { x: [2, 3, 4], out: 5, bias, grad: true },
    { x: [4], out: 3, bias, grad: true },
    { x: [0, 4], out: 3, bias, grad: true },
    { x: [3, 0], out: 2, bias, grad: true },
    { x: [2, 0, 4], out: 3, bias },
  ]),
  ...ACTIVATIONS.flatMap((activation) =>
    [true, false].flatMap((bias) => [
      { x: [7, 33], out: 17, bias, activation },
      { x: [33, 16], out: 65, bias, activation },
      { x: [1, 257], out: 31, bias, activation },
      { x: [3, 0], out: 4, bias, activation },
      { x: [2, 3, 5], out: 4, bias, activation, grad: true },
    ]),
  ),
]

/** A step is only exact where the sum is. */
function operand(dtype: Dtype, shape: Shape, activation: ActivationName | undefined, salt: number): Data {
  return activation === 'heaviside'
    ? whole(dtype, shape, -3, 3, salt)
    : random(dtype, shape, { low: -1, high: 1, salt })
}

/** act of a sum: its error is that of the sum, stretched, and its own. */
function activate(z: Want, activation: ActivationName | undefined): Want {
  if (activation === undefined) return z
  const { f, lipschitz }: Formula = ACTIVATION_FORMULAS[activation]
  const values = map(z.dtype, f, z).values
  const magnitude = z.magnitude!.map((m, i) => Math.max(m * Math.max(lipschitz, 1), Math.abs(values[i]!)))
  return { ...z, values, magnitude, tolerance: { kind: 'sum', budget: ACTIVATION_BUDGET } }
}

const LINEAR: Row = {
  api: ['linear'],
  tolerance: SUM,
  gradient: 'smooth',
  cases: (dtype) =>
    LAYERS.map(({ x, out, bias, activation, grad = false }): Case => {
      const inputs = [
        operand(dtype, x, activation, 1),
        operand(dtype, [x.at(-1)!, out], activation, 2),
        ...(bias ? [operand(dtype, [out], activation, 3)] : []),
      ]
      return {
        title: `${shapesOf(inputs)} ${activation ?? ''}`,
        inputs,
        run: ([x, w, b]) => tilegrad.linear(x!, w!, b, activation === undefined ? {} : { activation }),
        want: ([x, w, b]) => activate(linear(x!, w!, b ?? null), activation),
        grad: grad && activation !== 'heaviside',
      }
    }),
}

/** Which gradients an instruction computes, by the bits of its attribute. */
const WANTED = ['dx', 'dweight', 'dbias']

interface Backward {
  readonly size: readonly [number, number, number]
  readonly activation: ActivationName | 'none'
  readonly wanted: number
}

const BACKWARDS: readonly Backward[] = [
  ...SIZES.map((size): Backward => ({ size, activation: 'none', wanted: 7 })),
  ...[1, 2, 3, 4, 5, 6].map((wanted): Backward => ({ size: [17, 33, 15], activation: 'gelu', wanted })),
  ...ACTIVATIONS.flatMap((activation) => [
    { size: [33, 17, 31], activation, wanted: 7 } as const,
    { size: [5, 3, 65], activation, wanted: 7 } as const,
  ]),
]

function backwardCase(dtype: Dtype, { size: [m, k, n], activation, wanted }: Backward): Case {
  const formula: Formula | null = activation === 'none' ? null : ACTIVATION_FORMULAS[activation]
  const z = random(dtype, [m, n], { low: -3, high: 3, corners: formula?.corners ?? [], salt: 1 })
  const saved = formula?.saves === 'y' ? array(dtype, [m, n], map(dtype, formula.f, z).values) : z
  const inputs = [
    random(dtype, [m, n], { salt: 2 }),
    saved,
    random(dtype, [m, k], { salt: 3 }),
    random(dtype, [k, n], { salt: 4 }),
  ]
  const has = (bit: number): boolean => (wanted & bit) !== 0
  return {
    title: `[${m}, ${k}, ${n}] ${activation}: ${WANTED.filter((_, i) => has(1 << i)).join(', ')}`,
    inputs,
    run: ([dy, saved, x, w], device): Tensor[] => {
      const specs = [has(1) && [m, k], has(2) && [k, n], has(4) && [n]].filter((s) => s !== false)
      return device.recorder
        .emitMany(
          'linearGrad',
          [dy!.value, formula === null ? null : saved!.value, has(2) ? x!.value : null, has(1) ? w!.value : null],
          specs.map((shape) => ({ dtype, shape })),
          [ACTIVATION_CODES[activation], wanted],
        )
        .map((value) => new TensorClass(device, value))
    },
    want: ([dy, , x, w]) => {
      const dz = formula === null ? dy! : map(dtype, (g, z) => g * formula.derivative(z), dy!, z)
      const one = array(dtype, [1, m], () => 1)
      const exact = [
        has(1) && matmul(dz, w!, false, true),
        has(2) && matmul(x!, dz, true, false),
        has(4) && { ...matmul(one, dz), shape: [n] },
      ].filter((v) => v !== false)
      // The derivative's own error is relative to dy, which may be larger than dz.
      const bound = [
        has(1) && matmul(dy!, w!, false, true),
        has(2) && matmul(x!, dy!, true, false),
        has(4) && matmul(one, dy!),
      ].filter((v) => v !== false)
      return exact.map((want, i) => ({
        ...want,
        magnitude: want.magnitude!.map((v, j) => Math.max(v, bound[i]!.magnitude![j]!)),
        tolerance: { kind: 'sum', budget: formula === null ? 0 : 1e-6 },
      }))
    },
  }
}

const LINEAR_GRAD: Row = {
  api: [],
  tolerance: SUM,
  gradient: 'none',
  cases: (dtype) => BACKWARDS.map((b) => backwardCase(dtype, b)),
}

export const MATRIX = { matmul: MATMUL, linear: LINEAR, linearGrad: LINEAR_GRAD } as const satisfies Readonly<
  Partial<Record<OpcodeName, Row>>
>
