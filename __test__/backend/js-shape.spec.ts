/** What moves elements in the interpreter: fills, casts, shapes and indices, empty ones and those out of range included. */

import test from 'ava'

import type { Dtype } from '../../ts/dtype.ts'
import { type Given, numbers, result } from '../helpers/evaluate.ts'

const DTYPES: readonly Dtype[] = ['f32', 'f64', 'i32', 'bool']

const count = (shape: readonly number[]): number => shape.reduce((n, d) => n * d, 1)

/** Different numbers, as far as the dtype has them. */
function range(dtype: Dtype, size: number): number[] {
  return Array.from({ length: size }, (_, i) => (dtype === 'bool' ? +(i % 3 === 0) : i + 1))
}

/** All indices of a shape, in row-major order. */
function indices(shape: readonly number[]): number[][] {
  return shape.reduce<number[][]>((all, d) => all.flatMap((i) => Array.from({ length: d }, (_, k) => [...i, k])), [[]])
}

function flat(index: readonly number[], shape: readonly number[]): number {
  return index.reduce((offset, i, axis) => offset * shape[axis]! + i, 0)
}

test('full fills with a scalar of its dtype', (t) => {
  t.deepEqual(result('full', [], ['f32', [2, 2]], [0.1]), Array<number>(4).fill(Math.fround(0.1)))
  t.deepEqual(result('full', [], ['f64', []], [0.1]), [0.1])
  t.deepEqual(result('full', [], ['i32', [2]], [-2.9]), [-2, -2])
  t.deepEqual(result('full', [], ['i32', [1]], [1e20]), [2 ** 31 - 1])
  t.deepEqual(result('full', [], ['bool', [2]], [5]), [1, 1])
  t.deepEqual(result('full', [], ['bool', [0]], [1]), [])
})

test('casts truncate, saturate, and make NaN 0 as an integer and true as a bool', (t) => {
  const x = [-2.7, 2.7, NaN, 1e10, -Infinity, 0, 0.5]
  for (const dtype of ['f32', 'f64'] as const) {
    t.deepEqual(result('cast', [[dtype, [7], x]], ['i32', [7]]), [-2, 2, 0, 2 ** 31 - 1, -(2 ** 31), 0, 0])
    t.deepEqual(result('cast', [[dtype, [7], x]], ['bool', [7]]), [1, 1, 1, 1, 1, 0, 1])
  }
  t.deepEqual(result('cast', [['f64', [1], [0.1]]], ['f32', [1]]), [Math.fround(0.1)])
  t.deepEqual(result('cast', [['i32', [2], [2 ** 24 + 1, -3]]], ['f32', [2]]), [2 ** 24, -3])
  t.deepEqual(result('cast', [['i32', [2], [2 ** 24 + 1, 0]]], ['f64', [2]]), [2 ** 24 + 1, 0])
  t.deepEqual(result('cast', [['i32', [2], [256, 0]]], ['bool', [2]]), [1, 0])
  t.deepEqual(result('cast', [['bool', [2], [1, 0]]], ['f32', [2]]), [1, 0])
  t.deepEqual(result('cast', [['bool', [2], [1, 0]]], ['i32', [2]]), [1, 0])
})

test('expand repeats along stretched axes', (t) => {
  const cases: readonly (readonly [readonly number[], readonly number[]])[] = [
    [[], [3]],
    [[1], [2, 3]],
    [[3], [2, 3]],
    [
      [2, 1],
      [2, 3],
    ],
    [
      [2, 1, 3],
      [5, 2, 2, 3],
    ],
    [
      [1, 0],
      [4, 0],
    ],
  ]
  for (const dtype of DTYPES) {
    for (const [from, to] of cases) {
      const x = range(dtype, count(from))
      const own = (index: readonly number[]): number[] =>
        from.map((d, axis) => (d === 1 ? 0 : index[axis + to.length - from.length]!))
      const wanted = indices(to).map((index) => x[flat(own(index), from)]!)
      t.deepEqual(result('expand', [[dtype, from, x]], [dtype, to]), wanted, `${dtype} ${from} to ${to}`)
    }
  }
})

test('transpose permutes axes', (t) => {
  const cases: readonly (readonly [readonly number[], readonly number[]])[] = [
    [[], []],
    [[5], [0]],
    [
      [3, 7],
      [1, 0],
    ],
    [
      [2, 3, 37],
      [1, 0, 2],
    ],
    [
      [2, 3, 5],
      [2, 0, 1],
    ],
    [
      [2, 1, 3, 4],
      [3, 1, 0, 2],
    ],
    [
      [4, 0, 2],
      [2, 1, 0],
    ],
  ]
  for (const dtype of DTYPES) {
    for (const [shape, axes] of cases) {
      const x = range(dtype, count(shape))
      const to = axes.map((axis) => shape[axis]!)
      const wanted = indices(to).map((index) => {
        const source = shape.map(() => 0)
        axes.forEach((axis, place) => (source[axis] = index[place]!))
        return x[flat(source, shape)]!
      })
      t.deepEqual(result('transpose', [[dtype, shape, x]], [dtype, to], [axes]), wanted, `${shape} by ${axes}`)
    }
  }
})

test('concat puts tensors side by side, empty ones too', (t) => {
  for (const dtype of DTYPES) {
    for (const axis of [0, 1, 2]) {
      const sizes = [2, 0, 1, 3]
      const shapes = sizes.map((size) => [2, 3, 35].map((d, i) => (i === axis ? size : d)))
      const parts = shapes.map((shape, i) =>
        range(dtype, count(shape)).map((v) => (dtype === 'bool' ? v : v + 1000 * i)),
      )
      const to = [2, 3, 35].map((d, i) => (i === axis ? 6 : d))
      const wanted = indices(to).map((index) => {
        const part = [0, 0, 2, 3, 3, 3][index[axis]!]!
        const start = [0, 2, 2, 3][part]!
        return parts[part]![
          flat(
            index.map((v, i) => (i === axis ? v - start : v)),
            shapes[part]!,
          )
        ]!
      })
      const given = shapes.map((shape, i): Given => [dtype, shape, parts[i]!])
      t.deepEqual(result('concat', given, [dtype, to], [axis]), wanted, `${dtype} axis ${axis}`)
    }
  }
  t.deepEqual(result('concat', [['f32', [1], [7]]], ['f32', [1]], [0]), [7])
})

test('slice cuts out, pad puts back', (t) => {
  const shape = [3, 4, 5]
  for (const dtype of DTYPES) {
    const x = range(dtype, 60)
    for (const [starts, to] of [
      [
        [0, 0, 0],
        [3, 4, 5],
      ],
      [
        [1, 0, 2],
        [2, 4, 3],
      ],
      [
        [2, 3, 4],
        [1, 1, 1],
      ],
      [
        [1, 1, 1],
        [0, 2, 2],
      ],
    ] as const) {
      const wanted = indices(to).map(
        (index) =>
          x[
            flat(
              index.map((v, i) => v + starts[i]!),
              shape,
            )
          ]!,
      )
      const cut = result('slice', [[dtype, shape, x]], [dtype, to], [starts])
      t.deepEqual(cut, wanted, `slice ${starts} ${to}`)
      const back = indices(shape).map((index) => {
        const inside = index.map((v, i) => v - starts[i]!)
        return inside.every((v, i) => v >= 0 && v < to[i]!) ? cut[flat(inside, to)]! : 1
      })
      t.deepEqual(result('pad', [[dtype, to, cut]], [dtype, shape], [starts, 1]), back, `pad ${starts} ${to}`)
    }
  }
  t.deepEqual(result('slice', [['f32', [], [3]]], ['f32', []], [[]]), [3])
  t.deepEqual(result('pad', [['i32', [1], [3]]], ['i32', [3]], [[1], -1.5]), [-1, 3, -1])
})

test('gather takes slices along an axis, scatterAdd adds them back', (t) => {
  const shape = [2, 5, 3]
  for (const dtype of DTYPES) {
    for (const axis of [0, 1, 2]) {
      const size = shape[axis]!
      const x = range(dtype, 30)
      const taken = [size - 1, 0, size - 1, 1]
      const to = [...shape.slice(0, axis), 2, 2, ...shape.slice(axis + 1)]
      const where = (index: readonly number[]): number[] => [
        ...index.slice(0, axis),
        taken[index[axis]! * 2 + index[axis + 1]!]!,
        ...index.slice(axis + 2),
      ]
      const wanted = indices(to).map((index) => x[flat(where(index), shape)]!)
      const positions: Given = ['i32', [2, 2], taken]
      t.deepEqual(result('gather', [[dtype, shape, x], positions], [dtype, to], [axis, 0]), wanted)
      if (dtype === 'bool') continue
      const sums = Array<number>(30).fill(0)
      indices(to).forEach((index, i) => (sums[flat(where(index), shape)]! += wanted[i]!))
      t.deepEqual(result('scatterAdd', [[dtype, to, wanted], positions], [dtype, shape], [axis, 0]), sums)
    }
  }
})

test('gather by a rank 0 index drops the axis; no indices take nothing and scatter zeros', (t) => {
  t.deepEqual(
    result(
      'gather',
      [
        ['f32', [3, 2], [1, 2, 3, 4, 5, 6]],
        ['i32', [], [2]],
      ],
      ['f32', [2]],
      [0, 0],
    ),
    [5, 6],
  )
  t.deepEqual(
    result(
      'gather',
      [
        ['f32', [3, 2], [1, 2, 3, 4, 5, 6]],
        ['i32', [0], []],
      ],
      ['f32', [0, 2]],
      [0, 0],
    ),
    [],
  )
  t.deepEqual(
    result(
      'scatterAdd',
      [
        ['f32', [0, 2], []],
        ['i32', [0], []],
      ],
      ['f32', [3, 2]],
      [0, 0],
    ),
    Array<number>(6).fill(0),
  )
})

test('scatterAdd accumulates in f64 and rounds once; i32 wraps around', (t) => {
  const dy = [2 ** 24, 1, 1, 1]
  t.deepEqual(
    result(
      'scatterAdd',
      [
        ['f32', [4], dy],
        ['i32', [4], [1, 1, 1, 1]],
      ],
      ['f32', [2]],
      [0, 0],
    ),
    [0, 2 ** 24 + 4],
  )
  const most = 2 ** 31 - 1
  t.deepEqual(
    result(
      'scatterAdd',
      [
        ['i32', [2], [most, 2]],
        ['i32', [2], [0, 0]],
      ],
      ['i32', [1]],
      [0, 0],
    ),
    [-most],
  )
})

test('an index outside its axis is an error that names op, position, value and range', (t) => {
  const x = numbers(6)
  for (const index of [3, -1, 2 ** 31 - 1]) {
    const message = new RegExp(`index ${index} at position 1 is outside \\[0, 3\\)`)
    const positions: Given = ['i32', [2], [0, index]]
    t.throws(() => result('gather', [['f32', [3, 2], x], positions], ['f32', [2, 2]], [0, 0]), {
      code: 'ERR_ARGUMENT',
      message,
    })
    t.throws(() => result('scatterAdd', [['f32', [2, 2], x.slice(2)], positions], ['f32', [3, 2]], [0, 1]), {
      code: 'ERR_ARGUMENT',
      message,
    })
  }
})
