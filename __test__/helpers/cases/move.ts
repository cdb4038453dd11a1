/** Instructions that move elements: views, transposes, joins, blocks, and taking slices by index. */

import * as tilegrad from '../../../ts/index.ts'
import type { Dtype, Shape } from '../../../ts/index.ts'
import { require } from '../../../ts/ops/require.ts'
import type { OpcodeName } from '../../../ts/program/opcodes.ts'
import { array, random } from '../data.ts'
import { build, concat, gather, pick, scatterAdd, transpose } from '../reference.ts'
import { type Case, EXACT, type Row, SUM, shapesOf } from './case.ts'

const VIEWS: readonly (readonly [Shape, Shape])[] = [
  [[], [1]],
  [[1], []],
  [[6], [2, 3]],
  [[2, 3], [6]],
  [
    [2, 3],
    [2, 3],
  ],
  [
    [2, 3],
    [3, -1],
  ],
  [[2, 3, 4], [-1]],
  [
    [0, 3],
    [3, 0],
  ],
  [[0], [-1]],
  [
    [0, 3],
    [-1, 3],
  ],
  [[257], [1, 257, 1]],
]

const RESHAPE: Row = {
  api: ['reshape'],
  tolerance: EXACT,
  gradient: 'smooth',
  cases: (dtype) =>
    VIEWS.map(([from, to]): Case => {
      const inputs = [random(dtype, from)]
      return {
        title: `${shapesOf(inputs)} to [${to.join(', ')}]`,
        inputs,
        run: ([x]) => tilegrad.reshape(x!, to),
        want: ([x]) => {
          const known = to.reduce((n, d) => (d === -1 ? n : n * d), 1)
          return { ...x!, shape: to.map((d) => (d === -1 ? x!.values.length / known : d)) }
        },
        grad: true,
      }
    }),
}

const ORDERS: readonly { readonly shape: Shape; readonly axes?: readonly number[] }[] = [
  { shape: [] },
  { shape: [7] },
  { shape: [0, 3] },
  { shape: [2, 3] },
  { shape: [1, 257] },
  { shape: [31, 33] },
  { shape: [16, 64] },
  { shape: [257, 65] },
  { shape: [2, 3, 4] },
  { shape: [2, 3, 4], axes: [0, 2, 1] },
  { shape: [2, 3, 4], axes: [1, 0, 2] },
  { shape: [2, 3, 4], axes: [-1, 0, 1] },
  { shape: [2, 3, 4], axes: [0, 1, 2] },
  { shape: [3, 33, 17], axes: [2, 0, 1] },
  { shape: [2, 3, 2, 5], axes: [3, 1, 0, 2] },
  { shape: [2, 1, 3, 1, 2, 1, 2, 2], axes: [7, 0, 6, 1, 5, 2, 4, 3] },
]

const TRANSPOSE: Row = {
  api: ['transpose'],
  tolerance: EXACT,
  gradient: 'smooth',
  cases: (dtype) =>
    ORDERS.map(({ shape, axes }): Case => {
      const inputs = [random(dtype, shape)]
      return {
        title: `${shapesOf(inputs)} by ${axes?.join(', ') ?? 'default'}`,
        inputs,
        run: ([x]) => tilegrad.transpose(x!, axes),
        want: ([x]) => transpose(x!, axes),
        grad: inputs[0]!.values.length < 60,
      }
    }),
}

const JOINS: readonly { readonly shapes: readonly Shape[]; readonly axis: number }[] = [
  { shapes: [[3]], axis: 0 },
  { shapes: [[3], [0], [4]], axis: 0 },
  {
    shapes: [
      [2, 3],
      [1, 3],
    ],
    axis: 0,
  },
  {
    shapes: [
      [2, 3],
      [2, 1],
      [2, 4],
    ],
    axis: 1,
  },
  {
    shapes: [
      [2, 3, 2],
      [2, 1, 2],
    ],
    axis: -2,
  },
  {
    shapes: [
      [0, 3],
      [0, 2],
    ],
    axis: 1,
  },
  {
    shapes: [
      [17, 31],
      [17, 33],
      [17, 257],
    ],
    axis: -1,
  },
  { shapes: Array.from({ length: 40 }, (_, i) => [i % 3, 5]), axis: 0 },
]

const CONCAT: Row = {
  api: ['concat'],
  tolerance: EXACT,
  gradient: 'smooth',
  cases: (dtype) =>
    JOINS.map(({ shapes, axis }): Case => {
      const inputs = shapes.map((shape, i) => random(dtype, shape, { salt: i }))
      return {
        title: `${shapes.length} along ${axis}: ${shapesOf(inputs)}`,
        inputs,
        run: (list) => tilegrad.concat(list, axis),
        want: (list) => concat(list, axis),
        grad: shapes.length < 6 && shapes[0]!.length > 0 && inputs[0]!.values.length < 60,
      }
    }),
}

const BLOCKS: readonly {
  readonly shape: Shape
  readonly begin: readonly number[]
  readonly size?: readonly number[]
}[] = [
  { shape: [], begin: [] },
  { shape: [7], begin: [2] },
  { shape: [7], begin: [7] },
  { shape: [7], begin: [2], size: [0] },
  { shape: [7], begin: [2], size: [3] },
  { shape: [4, 5], begin: [1] },
  { shape: [4, 5], begin: [1, 2], size: [-1, 2] },
  { shape: [3, 4, 5], begin: [0, 1, 2], size: [3, 2, 3] },
  { shape: [0, 5], begin: [0, 1] },
  { shape: [33, 257], begin: [1, 17], size: [31, 33] },
]

const SLICE: Row = {
  api: ['slice'],
  tolerance: EXACT,
  gradient: 'smooth',
  cases: (dtype) =>
    BLOCKS.map(({ shape, begin, size }): Case => {
      const inputs = [random(dtype, shape)]
      const block = shape.map((d, i) => {
        const wanted = size?.[i] ?? -1
        return wanted === -1 ? d - (begin[i] ?? 0) : wanted
      })
      return {
        title: `[${block.join(', ')}] from [${begin.join(', ')}] of ${shapesOf(inputs)}`,
        inputs,
        run: ([x]) => tilegrad.slice(x!, begin, size),
        want: ([x]) =>
          build(dtype, block, (index) =>
            pick(
              x!,
              index.map((v, i) => v + (begin[i] ?? 0)),
            ),
          ),
        grad: inputs[0]!.values.length < 70,
      }
    }),
}

const PADDINGS: readonly {
  readonly shape: Shape
  readonly by: readonly (readonly [number, number])[]
  readonly value?: number
}[] = [
  { shape: [], by: [] },
  { shape: [3], by: [[2, 1]] },
  { shape: [3], by: [[0, 0]] },
  { shape: [0], by: [[2, 3]], value: 1 },
  {
    shape: [2, 3],
    by: [
      [1, 0],
      [0, 2],
    ],
    value: 1,
  },
  {
    shape: [2, 2, 2],
    by: [
      [0, 1],
      [2, 0],
      [1, 1],
    ],
  },
  {
    shape: [31, 33],
    by: [
      [1, 1],
      [0, 224],
    ],
  },
]

const PAD: Row = {
  api: ['pad'],
  tolerance: EXACT,
  gradient: 'smooth',
  cases: (dtype) =>
    PADDINGS.map(({ shape, by, value = 0 }): Case => {
      const inputs = [random(dtype, shape)]
      const larger = shape.map((d, i) => d + by[i]![0] + by[i]![1])
      return {
        title: `${shapesOf(inputs)} by ${JSON.stringify(by)} with ${value}`,
        inputs,
        run: ([x]) => tilegrad.pad(x!, by, value),
        want: ([x]) =>
          build(dtype, larger, (index) =>
            pick(
              x!,
              index.map((v, i) => v - by[i]![0]),
              value,
            ),
          ),
        grad: inputs[0]!.values.length < 60,
      }
    }),
}

const TAKES: readonly {
  readonly shape: Shape
  readonly indices: readonly number[]
  readonly of?: Shape
  readonly axis: number
}[] = [
  { shape: [5], indices: [4, 0, 0, 2], axis: 0 },
  { shape: [5], indices: [3], of: [], axis: 0 },
  { shape: [5], indices: [], axis: 0 },
  { shape: [0], indices: [], axis: 0 },
  { shape: [4, 3], indices: [3, 3, 0, 1, 3], axis: 0 },
  { shape: [4, 3], indices: [2, 0], axis: 1 },
  { shape: [4, 3], indices: [2, 0, 1, 1, 2, 2], of: [2, 3], axis: -1 },
  { shape: [2, 3, 4], indices: [1, 1, 0, 2], of: [2, 2], axis: 1 },
  { shape: [2, 0, 4], indices: [], of: [0, 2], axis: 1 },
  { shape: [257, 33], indices: Array.from({ length: 65 }, (_, i) => (i * 91) % 257), axis: 0 },
  { shape: [17, 31], indices: Array.from({ length: 300 }, (_, i) => (i * i) % 31), axis: 1 },
]

const GATHER: Row = {
  api: ['gather'],
  tolerance: EXACT,
  gradient: 'smooth',
  cases: (dtype) =>
    TAKES.map(({ shape, indices, of = [indices.length], axis }): Case => {
      const inputs = [random(dtype, shape), array('i32', of, indices)]
      return {
        title: `${shapesOf(inputs)} along ${axis}`,
        inputs,
        run: ([x, at]) => tilegrad.gather(x!, at!, axis),
        want: ([x, at]) => gather(x!, at!, axis),
        grad: inputs[0]!.values.length < 60,
      }
    }),
}

const SCATTER: Row = {
  api: ['scatterAdd'],
  tolerance: SUM,
  gradient: 'smooth',
  cases: (dtype: Dtype) =>
    TAKES.map(({ shape, indices, of = [indices.length], axis }): Case => {
      const at = array('i32', of, indices)
      const updates = gather(
        array(dtype, shape, () => 0),
        at,
        axis,
      ).shape
      const inputs = [random(dtype, updates), at]
      return {
        title: `${shapesOf(inputs)} into [${shape.join(', ')}] along ${axis}`,
        inputs,
        run: ([x, at]) => tilegrad.scatterAdd(x!, at!, shape, axis),
        want: ([x, at]) => scatterAdd(x!, at!, shape, axis),
        grad: inputs[0]!.values.length < 60,
      }
    }),
}

/** The condition holds; `poison.spec.ts` has what happens when it does not. */
const REQUIRE: Row = {
  api: [],
  tolerance: EXACT,
  gradient: 'smooth',
  cases: (dtype) =>
    [[], [0], [7], [3, 5], [64, 33]].map((shape): Case => {
      const inputs = [random(dtype, shape), array('bool', [], [1])]
      return {
        title: shapesOf(inputs),
        inputs,
        run: ([x, ok]) => require(x!, ok!, 'clipGradNorm: a gradient is not finite'),
        want: ([x]) => x!,
        grad: inputs[0]!.values.length < 60,
      }
    }),
}

export const MOVE = {
  view: RESHAPE,
  transpose: TRANSPOSE,
  concat: CONCAT,
  slice: SLICE,
  pad: PAD,
  gather: GATHER,
  scatterAdd: SCATTER,
  require: REQUIRE,
} as const satisfies Readonly<Partial<Record<OpcodeName, Row>>>
