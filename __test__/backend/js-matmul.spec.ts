/**
 * The interpreter's products against the plain loop, to the bit: blocks, transposed operands, the one order of the sum over K,
 * and that blocking pays.
 */

import test from 'ava'

import { type Matrix, gemm } from '../../ts/backend/js/gemm.ts'
import type { OpcodeName } from '../../ts/program/opcodes.ts'
import { ACTIVATION_CODES } from '../../ts/program/words.ts'
import { type Given, evaluate, numbers, result } from '../helpers/evaluate.ts'

/** Plain triple loop over row-major [m, k] and [k, n]. */
function product(a: readonly number[], b: readonly number[], m: number, n: number, k: number): number[] {
  const c: number[] = []
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0
      for (let p = 0; p < k; p++) sum += a[i * k + p]! * b[p * n + j]!
      c.push(sum)
    }
  }
  return c
}

function transposed(x: readonly number[], rows: number, columns: number): number[] {
  return Array.from({ length: x.length }, (_, i) => x[(i % rows) * columns + Math.floor(i / rows)]!)
}

/** Empty, single, prime, a tile of four and one more or less, and K beyond one block. */
const SIZES: readonly (readonly [number, number, number])[] = [
  [0, 3, 2],
  [3, 0, 2],
  [2, 3, 0],
  [5, 3, 0],
  [1, 1, 1],
  [1, 5, 7],
  [2, 8, 3],
  [3, 3, 5],
  [4, 4, 4],
  [5, 7, 13],
  [8, 9, 31],
  [67, 5, 2049],
  [2, 3, 4100],
  [16, 16, 3],
  [18, 1030, 3],
  [17, 130, 1100],
  [6, 70, 2100],
]

test('matmul gives exactly the sums of the plain loop, whichever operand is transposed', (t) => {
  for (const [m, n, k] of SIZES) {
    const [a, b] = [numbers(m * k, 1), numbers(k * n, 2)]
    const wanted = product(a, b, m, n, k)
    for (const [ta, tb] of [
      [0, 0],
      [0, 1],
      [1, 0],
      [1, 1],
    ] as const) {
      const left: Given = ['f64', ta ? [k, m] : [m, k], ta ? transposed(a, m, k) : a]
      const right: Given = ['f64', tb ? [n, k] : [k, n], tb ? transposed(b, k, n) : b]
      t.deepEqual(result('matmul', [left, right], ['f64', [m, n]], [ta, tb]), wanted, `${m} ${n} ${k} ${ta}${tb}`)
    }
  }
})

test('f32 products are the f64 sums rounded once', (t) => {
  const [m, n, k] = [5, 6, 300]
  const [a, b] = [numbers(m * k, 3).map(Math.fround), numbers(k * n, 4).map(Math.fround)]
  const actual = result(
    'matmul',
    [
      ['f32', [m, k], a],
      ['f32', [k, n], b],
    ],
    ['f32', [m, n]],
    [0, 0],
  )
  t.deepEqual(actual, product(a, b, m, n, k).map(Math.fround))
})

test('batch dimensions of matmul broadcast', (t) => {
  const [m, n, k] = [3, 2, 5]
  const cases: readonly (readonly [readonly number[], readonly number[], readonly number[]])[] = [
    [[2], [2], [2]],
    [[2], [], [2]],
    [[], [2], [2]],
    [[2, 1], [3], [2, 3]],
    [
      [1, 3],
      [2, 1],
      [2, 3],
    ],
    [
      [4, 1, 2],
      [3, 1],
      [4, 3, 2],
    ],
    [[0], [], [0]],
  ]
  const size = (shape: readonly number[]): number => shape.reduce((p, d) => p * d, 1)
  for (const [ba, bb, bo] of cases) {
    for (const ta of [0, 1]) {
      const [a, b] = [numbers(size(ba) * m * k, 5), numbers(size(bb) * k * n, 6)]
      const wanted: number[] = []
      for (let o = 0; o < size(bo); o++) {
        const at = (shape: readonly number[]): number => {
          let [rest, stride, offset] = [o, 1, 0]
          for (let i = 1; i <= bo.length; i++) {
            const d = shape[shape.length - i] ?? 1
            if (d > 1) offset += (rest % bo[bo.length - i]!) * stride
            stride *= d
            rest = Math.floor(rest / bo[bo.length - i]!)
          }
          return offset
        }
        const left = a.slice(at(ba) * m * k, (at(ba) + 1) * m * k)
        const right = b.slice(at(bb) * k * n, (at(bb) + 1) * k * n)
        wanted.push(...product(ta ? transposed(left, k, m) : left, right, m, n, k))
      }
      const given: Given[] = [['f64', [...ba, ...(ta ? [k, m] : [m, k])], a], ['f64', [...bb, k, n], b]] // prettier-ignore
      t.deepEqual(result('matmul', given, ['f64', [...bo, m, n]], [ta, 0]), wanted, `${ba} × ${bb} ${ta}`)
    }
  }
})

test('a row of linear has the bits of the row alone, whatever the batch', (t) => {
  const [n, k] = [37, 71]
  for (const rows of [2, 3, 4, 5, 9]) {
    const x = numbers(rows * k, 7)
    const rest: Given[] = [['f32', [k, n], numbers(k * n, 8)], ['f32', [n], numbers(n, 9)]] // prettier-ignore
    const all = result('linear', [['f32', [rows, k], x], ...rest], ['f32', [rows, n]], [ACTIVATION_CODES.gelu, 0])
    for (let i = 0; i < rows; i++) {
      const row: Given = ['f32', [1, k], x.slice(i * k, (i + 1) * k)]
      const alone = result('linear', [row, ...rest], ['f32', [1, n]], [ACTIVATION_CODES.gelu, 0])
      t.deepEqual(alone, all.slice(i * n, (i + 1) * n), `row ${i} of ${rows}`)
    }
  }
})

test('the sum over K has one order for few rows, many rows and K beyond a block', (t) => {
  const [n, k] = [5, 4500]
  const b = numbers(n * k, 10)
  for (const transposeB of [0, 1]) {
    const right: Given = ['f32', transposeB ? [n, k] : [k, n], b]
    const row = numbers(k, 11)
    const alone = result('matmul', [['f32', [1, k], row], right], ['f32', [1, n]], [0, transposeB])
    const many = result(
      'matmul',
      [['f32', [70, k], Array<number[]>(70).fill(row).flat()], right],
      ['f32', [70, n]],
      [0, transposeB],
    )
    t.deepEqual(many, Array<number[]>(70).fill(alone).flat())
  }
})

/** Activations with the instruction that computes each alone; gradients by what `linear` saves for them. */
const ACTIVATIONS: readonly (readonly [keyof typeof ACTIVATION_CODES, 'y' | 'z', ...number[]])[] = [
  ['none', 'z'],
  ['relu', 'y'],
  ['leakyRelu', 'z', 0.01],
  ['elu', 'y', 1],
  ['sigmoid', 'y'],
  ['tanh', 'y'],
  ['silu', 'z'],
  ['softplus', 'z', 1, 20],
  ['heaviside', 'z'],
  ['gelu', 'z'],
  ['geluTanh', 'z'],
]

test('linear fuses bias and activation, and saves z, for any leading shape', (t) => {
  for (const [name, , ...attributes] of ACTIVATIONS) {
    for (const lead of [[], [5], [2, 3], [0]]) {
      const rows = lead.reduce((p, d) => p * d, 1)
      const [n, k] = [7, 6]
      const [x, w, b] = [numbers(rows * k, 1), numbers(k * n, 2), numbers(n, 3)]
      const z = product(x, w, rows, n, k).map((v, i) => v + b[i % n]!)
      const shape = [...lead, n]
      const y = name === 'none' ? z : result(name, [['f64', shape, z]], ['f64', shape], attributes)
      const given: Given[] = [['f64', [...lead, k], x], ['f64', [k, n], w], ['f64', [n], b]] // prettier-ignore
      const code = ACTIVATION_CODES[name]
      t.deepEqual(evaluate('linear', given, [['f64', shape], ['f64', shape]], [code, 1]).outputs, [y, z], name) // prettier-ignore
      t.deepEqual(result('linear', given, ['f64', shape], [code, 0]), y)
    }
  }
  const noBias = result('linear', [['f32', [1, 2], [1, 2]], ['f32', [2, 1], [3, 4]], null], ['f32', [1, 1]], [0, 0])
  t.deepEqual(noBias, [11])
  const nothing = result(
    'linear',
    [
      ['f32', [2, 0], []],
      ['f32', [0, 2], []],
      ['f32', [2], [1, -1]],
    ],
    ['f32', [2, 2]],
    [1, 0],
  )
  t.deepEqual(nothing, [1, 0, 1, 0])
})

test('linearGrad gives any of dx, dweight and dbias from dz = dy · act′', (t) => {
  const [rows, n, k] = [5, 7, 6]
  const [dy, saved, x, w] = [numbers(rows * n, 4), numbers(rows * n, 5), numbers(rows * k, 6), numbers(k * n, 7)]
  for (const [name, , ...attributes] of ACTIVATIONS) {
    const pair: Given[] = [['f64', [rows, n], dy], ['f64', [rows, n], saved]] // prettier-ignore
    const dz =
      name === 'none'
        ? dy
        : name === 'heaviside'
          ? dy.map(() => 0)
          : result(`${name}Grad` as OpcodeName, pair, ['f64', [rows, n]], attributes)
    const dx = product(dz, transposed(w, k, n), rows, k, n)
    const dw = product(transposed(x, rows, k), dz, k, n, rows)
    const db = Array.from({ length: n }, (_, j) => dz.reduce((sum, v, i) => (i % n === j ? sum + v : sum), 0))
    for (let wanted = 1; wanted < 8; wanted++) {
      const given = [
        pair[0]!,
        name === 'none' ? null : pair[1]!,
        wanted & 2 ? (['f64', [rows, k], x] as const) : null,
        wanted & 1 ? (['f64', [k, n], w] as const) : null,
      ]
      const all = [['f64', [rows, k]], ['f64', [k, n]], ['f64', [n]]] as const // prettier-ignore
      const outputs = all.filter((_, bit) => (wanted >> bit) & 1)
      const values = [dx, dw, db].filter((_, bit) => (wanted >> bit) & 1)
      t.deepEqual(
        evaluate('linearGrad', given, outputs, [ACTIVATION_CODES[name], wanted]).outputs,
        values,
        `${name} ${wanted}`,
      )
    }
  }
})

test('linearGrad over no rows gives zeros for weight and bias', (t) => {
  const given: (Given | null)[] = [['f32', [0, 2], []], null, ['f32', [0, 3], []], null]
  t.deepEqual(evaluate('linearGrad', given, [['f32', [3, 2]], ['f32', [2]]], [0, 6]).outputs, [[0, 0, 0, 0, 0, 0], [0, 0]]) // prettier-ignore
})

test('the perceptron rows give their golden vectors, in the batch and alone', (t) => {
  const weight: Given = ['f32', [3, 3], [-2, -3, 3, 1522, 111, -3263, 8, 23, 0]]
  const bias: Given = ['f32', [3], [10, 0, -44]]
  const x = [[10000, 10, 2000], [5500, 15, 1988], [78000, 32, 2021], [100000, 25, 1999]] // prettier-ignore
  const z = [[11230, 17110, -2674], [27744, 30889, -32489], [-91118, -183965, 129540], [-145948, -251248, 218381]] // prettier-ignore
  const run = (rows: readonly number[][], activation: number): number[] =>
    result('linear', [['f32', [rows.length, 3], rows.flat()], weight, bias], ['f32', [rows.length, 3]], [activation, 0])
  t.deepEqual(run(x, 0), z.flat())
  t.deepEqual(run(x, ACTIVATION_CODES.heaviside), z.flat().map((v) => +(v > 0))) // prettier-ignore
  x.forEach((row, i) => t.deepEqual(run([row], 0), z[i]!))
})

test('the blocked product is at least twice as fast as the plain loop', (t) => {
  // The aim is 3 at 512³, measured alone; here the machine is shared with other tests.
  const n = 384
  const [a, b] = [Float32Array.from(numbers(n * n, 1)), Float32Array.from(numbers(n * n, 2))]
  const c = new Float32Array(n * n)
  const matrix = (data: Float32Array<ArrayBuffer>): Matrix => ({ data, offset: 0, rowStride: n, columnStride: 1 })
  const blocked = (): void =>
    gemm(n, n, n, matrix(a), matrix(b), (z, start, row, column, count) => {
      for (let i = 0; i < count; i++) c[row * n + column + i] = z[start + i]!
    })
  const plain = (): void => {
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) {
        let sum = 0
        for (let p = 0; p < n; p++) sum += a[i * n + p]! * b[p * n + j]!
        c[i * n + j] = sum
      }
    }
  }
  const best = { blocked: Infinity, plain: Infinity }
  for (let round = 0; round < 5; round++) {
    for (const [name, run] of Object.entries({ blocked, plain }) as [keyof typeof best, () => void][]) {
      const start = performance.now()
      run()
      best[name] = Math.min(best[name], performance.now() - start)
    }
  }
  t.log(`${(best.plain / best.blocked).toFixed(1)} × the plain loop at ${n}³`)
  t.true(best.plain / best.blocked >= 2)
})
