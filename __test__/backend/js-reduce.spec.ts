/**
 * The interpreter's reductions, softmax and cross-entropy against their definitions: sums in f64 rounded once, empty and
 * infinite operands, targets that are no class.
 */

import test from 'ava'

import { type Given, evaluate, numbers, result } from '../helpers/evaluate.ts'

/** [outer, count, inner] with empty, single and prime sizes. */
const SIZES: readonly (readonly [number, number, number])[] = [
  [1, 1, 1],
  [3, 7, 1],
  [2, 5, 3],
  [1, 31, 2],
  [0, 4, 2],
  [2, 4, 0],
]

/** The lines that a reduction reduces, in the order of its results. */
function lines(x: readonly number[], [outer, count, inner]: readonly [number, number, number]): number[][] {
  const all: number[][] = []
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) all.push(Array.from({ length: count }, (_, c) => x[(o * count + c) * inner + i]!))
  }
  return all
}

const add = (line: readonly number[]): number => line.reduce((a, b) => a + b, 0)
const average = (line: readonly number[]): number => add(line) / line.length

const REDUCTIONS = {
  sum: add,
  mean: average,
  max: (line: readonly number[]) => line.reduce((a, b) => (b > a ? b : a)),
  min: (line: readonly number[]) => line.reduce((a, b) => (b < a ? b : a)),
  argmax: (line: readonly number[]) => line.findIndex((v) => line.every((w) => w <= v)),
  argmin: (line: readonly number[]) => line.findIndex((v) => line.every((w) => w >= v)),
}

test('reductions agree with their definitions along any axis', (t) => {
  for (const sizes of SIZES) {
    const [outer, count, inner] = sizes
    for (const dtype of ['f64', 'f32', 'i32'] as const) {
      const x = numbers(outer * count * inner, 7).map((v) => Math.round(v * 8) + 0)
      for (const [name, f] of Object.entries(REDUCTIONS) as [
        keyof typeof REDUCTIONS,
        (l: readonly number[]) => number,
      ][]) {
        if (name === 'mean' && dtype === 'i32') continue
        const to = name.startsWith('arg') ? 'i32' : dtype
        const wanted = lines(x, sizes).map(f)
        const shape = [outer, count, inner]
        const actual = result(name, [[dtype, shape, x]], [to, [outer, inner]], shape)
        t.deepEqual(actual, dtype === 'f32' ? wanted.map(Math.fround) : wanted, `${name} ${dtype} ${shape}`)
      }
    }
  }
})

test('variance takes two passes and the correction', (t) => {
  for (const sizes of SIZES) {
    const shape = [...sizes]
    // A large mean: a single pass over squares would lose every digit.
    const x = numbers(sizes[0] * sizes[1] * sizes[2], 8).map((v) => v + 1e8)
    for (const correction of [0, 1]) {
      const wanted = lines(x, sizes).map((l) => add(l.map((v) => (v - average(l)) ** 2)) / (l.length - correction))
      result('variance', [['f64', shape, x]], ['f64', [sizes[0], sizes[2]]], [...shape, correction]).forEach((v, i) => {
        if (Number.isNaN(wanted[i]!)) t.true(Number.isNaN(v))
        else t.true(Math.abs(v - wanted[i]!) <= 1e-12 * wanted[i]!, `${shape} ${correction}: ${v}, not ${wanted[i]}`)
      })
    }
  }
  t.deepEqual(result('variance', [['f32', [2], [1, 3]]], ['f32', []], [1, 2, 1, 0.5]), [Math.fround(2 / 1.5)])
})

test('nothing sums to 0, has the mean NaN and no maximum', (t) => {
  const nothing: Given = ['f32', [2, 0], []]
  t.deepEqual(result('sum', [nothing], ['f32', [2]], [2, 0, 1]), [0, 0])
  t.deepEqual(result('mean', [nothing], ['f32', [2]], [2, 0, 1]), [NaN, NaN])
  t.deepEqual(result('variance', [nothing], ['f32', [2]], [2, 0, 1, 1]), [NaN, NaN])
  t.throws(() => result('max', [nothing], ['f32', [2]], [2, 0, 1]), { code: 'ERR_SHAPE', message: /max/ })
  t.throws(() => result('argmin', [nothing], ['i32', [2]], [2, 0, 1]), { code: 'ERR_SHAPE' })
})

test('NaN wins max, min, argmax and argmin; of equals the first is chosen', (t) => {
  const x: Given = ['f32', [5], [3, NaN, 9, NaN, -1]]
  t.deepEqual(result('max', [x], ['f32', []], [1, 5, 1]), [NaN])
  t.deepEqual(result('min', [x], ['f32', []], [1, 5, 1]), [NaN])
  t.deepEqual(result('argmax', [x], ['i32', []], [1, 5, 1]), [1])
  t.deepEqual(result('argmin', [x], ['i32', []], [1, 5, 1]), [1])
  t.deepEqual(result('argmax', [['f32', [2], [NaN, 5]]], ['i32', []], [1, 2, 1]), [0])
  t.deepEqual(result('argmax', [['i32', [4], [1, 7, 7, 0]]], ['i32', []], [1, 4, 1]), [1])
  t.deepEqual(result('argmin', [['i32', [4], [1, 0, 7, 0]]], ['i32', []], [1, 4, 1]), [1])
})

test('sums accumulate in f64 and round once; sums of i32 wrap around', (t) => {
  const x = [2 ** 24, 1, 1, 1]
  t.deepEqual(result('sum', [['f32', [4], x]], ['f32', []], [1, 4, 1]), [Math.fround(2 ** 24 + 3)])
  t.deepEqual(result('sum', [['f32', [4, 1], x]], ['f32', [1]], [1, 4, 1]), [Math.fround(2 ** 24 + 3)])
  const most = 2 ** 31 - 1
  t.deepEqual(result('sum', [['i32', [3], [most, most, 3]]], ['i32', []], [1, 3, 1]), [1])
})

test('appended zeros change no bit of a sum', (t) => {
  const x = numbers(37, 9)
  const sum = (values: readonly number[]): number[] =>
    result('sum', [['f32', [values.length], values]], ['f32', []], [1, values.length, 1])
  t.deepEqual(sum([...x, ...Array<number>(60).fill(0)]), sum(x))
})

function softmax(line: readonly number[]): number[] {
  const e = line.map((v) => Math.exp(v))
  return e.map((v) => v / add(e))
}

test('softmax, its logarithm and their gradients agree with their formulas', (t) => {
  for (const sizes of SIZES) {
    const shape = [...sizes]
    const size = sizes[0] * sizes[1] * sizes[2]
    const [x, dy] = [numbers(size, 10), numbers(size, 11)]
    for (const [dtype, bound] of [
      ['f64', 1e-14],
      ['f32', 1e-6],
    ] as const) {
      const close = (
        name: 'softmax' | 'logSoftmax' | 'softmaxGrad' | 'logSoftmaxGrad',
        given: Given[],
        wanted: number[][],
      ): number[] => {
        const actual = result(name, given, [dtype, shape], shape)
        const back = lines(actual, sizes)
        wanted.forEach((line, l) =>
          line.forEach((w, i) =>
            t.true(Math.abs(back[l]![i]! - w) <= bound * Math.max(1, Math.abs(w)), `${name} ${dtype} ${shape}`),
          ),
        )
        t.is(back.length, wanted.length)
        return actual
      }
      const xs = lines(x, sizes)
      const dys = lines(dy, sizes)
      const y = close('softmax', [[dtype, shape, x]], xs.map(softmax))
      const logY = close(
        'logSoftmax',
        [[dtype, shape, x]],
        xs.map((l) => softmax(l).map(Math.log)),
      )
      const dx = xs.map((l, i) => {
        const p = softmax(l)
        const dot = add(p.map((v, c) => v * dys[i]![c]!))
        return p.map((v, c) => v * (dys[i]![c]! - dot))
      })
      close(
        'softmaxGrad',
        [
          [dtype, shape, dy],
          [dtype, shape, y],
        ],
        dx,
      )
      const dlog = xs.map((l, i) => softmax(l).map((v, c) => dys[i]![c]! - v * add(dys[i]!)))
      close(
        'logSoftmaxGrad',
        [
          [dtype, shape, dy],
          [dtype, shape, logY],
        ],
        dlog,
      )
    }
  }
})

test('softmax of huge and of infinitely small logits does not overflow', (t) => {
  t.deepEqual(result('softmax', [['f32', [3], [3e38, -3e38, 3e38]]], ['f32', [3]], [1, 3, 1]), [0.5, 0, 0.5])
  t.deepEqual(result('softmax', [['f32', [2], [-Infinity, 0]]], ['f32', [2]], [1, 2, 1]), [0, 1])
  t.deepEqual(result('logSoftmax', [['f64', [2], [1e300, 0]]], ['f64', [2]], [1, 2, 1]), [0, -1e300])
  t.deepEqual(result('softmax', [['f32', [2], [NaN, 0]]], ['f32', [2]], [1, 2, 1]), [NaN, NaN])
})

test('cross-entropy gives losses, norms and the count of items that are not ignored', (t) => {
  const logits = [0, Math.LN2, 0, 5, NaN, 1, 2, 1, 0]
  const { outputs } = evaluate(
    'crossEntropy',
    [
      ['f64', [3, 3], logits],
      ['i32', [3], [1, -100, 0]],
    ],
    [
      ['f64', [3]],
      ['f64', [3]],
      ['f64', []],
    ],
    [-100],
  )
  const norm = Math.log(Math.exp(2) + Math.exp(1) + 1)
  t.true(Math.abs(outputs[0]![0]! - Math.LN2) < 1e-15)
  t.is(outputs[0]![1], 0)
  t.true(Math.abs(outputs[0]![2]! - (norm - 2)) < 1e-15)
  t.true(Math.abs(outputs[1]![0]! - Math.log(4)) < 1e-15)
  t.deepEqual(outputs[2], [2])
})

test('the gradient of cross-entropy is g (softmax − one-hot), and 0 where ignored', (t) => {
  const x = numbers(12, 13)
  x[5] = NaN
  const norms = [0, 1, 2].map((i) => Math.log(add(x.slice(4 * i, 4 * i + 4).map(Math.exp))))
  const dx = result(
    'crossEntropyGrad',
    [
      ['f64', [3, 4], x],
      ['i32', [3], [2, 7, 0]],
      ['f64', [3], norms],
      ['f64', [3], [1, 5, -2]],
    ],
    ['f64', [3, 4]],
    [7],
  )
  const wanted = [0, 1, 2].flatMap((i) =>
    softmax(x.slice(4 * i, 4 * i + 4)).map((p, c) => (i === 1 ? 0 : [1, 5, -2][i]! * (p - +(c === [2, 7, 0][i])))),
  )
  dx.forEach((v, i) => t.true(Math.abs(v - wanted[i]!) < 1e-14, `${i}: ${v}, not ${wanted[i]}`))
})

test('cross-entropy over no items counts 0; rank 1 logits are one item', (t) => {
  const none = evaluate(
    'crossEntropy',
    [
      ['f32', [0, 3], []],
      ['i32', [0], []],
    ],
    [
      ['f32', [0]],
      ['f32', [0]],
      ['f32', []],
    ],
    [-100],
  )
  t.deepEqual(none.outputs, [[], [], [0]])
  const one = evaluate(
    'crossEntropy',
    [
      ['f32', [2], [0, 0]],
      ['i32', [], [1]],
    ],
    [
      ['f32', []],
      ['f32', []],
      ['f32', []],
    ],
    [-100],
  )
  t.deepEqual(one.outputs, [[Math.fround(Math.LN2)], [Math.fround(Math.LN2)], [1]])
})

test('a target that is no class is an error that names op, position, value and range', (t) => {
  const run = (target: number): unknown =>
    evaluate(
      'crossEntropy',
      [
        ['f32', [2, 3], [0, 0, 0, 0, 0, 0]],
        ['i32', [2], [1, target]],
      ],
      [
        ['f32', [2]],
        ['f32', [2]],
        ['f32', []],
      ],
      [-100],
    )
  for (const target of [3, -1, -99]) {
    t.throws(() => run(target), {
      code: 'ERR_ARGUMENT',
      message: new RegExp(
        `crossEntropy: target ${target} at position 1 is outside \\[0, 3\\) .*program line 2: .* = crossEntropy`,
      ),
    })
  }
  t.notThrows(() => run(-100))
})
