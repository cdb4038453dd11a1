/** Elementwise instructions that choose, convert, stretch or fill. */

import * as tilegrad from '../../../ts/index.ts'
import type { Shape } from '../../../ts/index.ts'
import type { OpcodeName } from '../../../ts/program/opcodes.ts'
import { type Data, SIZES, array, random } from '../data.ts'
import { toInteger } from '../formulas.ts'
import { at, build, map } from '../reference.ts'
import { type Case, EXACT, type Row, shapesOf } from './case.ts'
import { special } from './special.ts'

const WHERE: Row = {
  api: ['where'],
  tolerance: EXACT,
  gradient: 'smooth',
  cases: (dtype) => {
    const shapes: (readonly [Shape, Shape, Shape])[] = [
      ...SIZES.map((n): [Shape, Shape, Shape] => [[n], [n], [n]]),
      [[], [], []],
      [[3, 1], [1, 4], []],
      [[5], [2, 1, 5], [3, 1]],
      [[2, 3, 5], [], [5]],
      [[], [2, 3], [3]],
    ]
    const select = ([c, a, b]: readonly Data[]): ReturnType<typeof map> =>
      map(dtype, (c, a, b) => (c !== 0 ? a : b), c!, a!, b!)
    const three = shapes.map(([c, a, b], i): Case => {
      const inputs = [random('bool', c), random(dtype, a, { salt: 1 }), random(dtype, b, { salt: 2 })]
      return {
        title: shapesOf(inputs),
        inputs,
        run: ([c, a, b]) => tilegrad.where(c!, a!, b!),
        want: select,
        grad: i >= SIZES.length || i < 5,
      }
    })
    if (dtype === 'bool') return three
    const nan = array(dtype, [4], dtype === 'i32' ? [1, 2, 3, 4] : [NaN, 1, Infinity, NaN])
    return [
      ...three,
      {
        title: 'what is not chosen leaves no trace',
        inputs: [array('bool', [4], [0, 1, 0, 0]), nan],
        run: ([c, a]) => tilegrad.where(c!, a!, 7),
        want: ([c, a]) => select([c!, a!, array(dtype, [], [7])]),
      },
      {
        title: 'a number on the left',
        inputs: [random('bool', [5, 3]), random(dtype, [3], { salt: 2 })],
        run: ([c, b]) => tilegrad.where(c!, -1, b!),
        want: ([c, b]) => select([c!, array(dtype, [], [-1]), b!]),
        grad: true,
      },
    ]
  },
}

const CLIP: Row = {
  api: ['clip'],
  tolerance: EXACT,
  gradient: 'corners',
  cases: (dtype) =>
    [
      { low: -1, high: 1 },
      { low: -Infinity, high: 0.5 },
      { low: 0.5, high: Infinity },
      { low: -Infinity, high: Infinity },
      { low: 1, high: 1 },
    ].flatMap(({ low, high }) => {
      const [lowest, highest] = dtype === 'i32' ? [Math.ceil(low), Math.floor(high)] : [low, high]
      const limit = (v: number): number => (v < lowest ? lowest : v > highest ? highest : v)
      const inputs = [
        random(dtype, [0]),
        random(dtype, [3, 7], { corners: [low, high] }),
        random(dtype, [257]),
        special(dtype),
      ]
      return inputs.map((x, i): Case => ({
        title: `${shapesOf([x])} to ${low}…${high}`,
        inputs: [x],
        run: ([x]) => tilegrad.clip(x!, low, high),
        want: ([x]) => map(dtype, limit, x!),
        grad: i < 2,
      }))
    }),
}

/** From each dtype to each; f64 is reached from f64 only, because the case runs on devices that have no f64. */
const CAST: Row = {
  api: ['cast'],
  tolerance: EXACT,
  gradient: 'smooth',
  cases: (dtype) =>
    (['f32', 'i32', 'bool', 'f64'] as const)
      .filter((to) => to !== 'f64' || dtype === 'f64')
      .flatMap((to) =>
        [
          random(dtype, [0]),
          random(dtype, [2, 3, 5], { low: -9, high: 9 }),
          random(dtype, [257]),
          ...(dtype === 'bool' ? [] : [special(dtype)]),
        ].map((x, i): Case => ({
          title: `${shapesOf([x])} to ${to}`,
          inputs: [x],
          run: ([x]) => tilegrad.cast(x!, to),
          want: ([x]) => map(to, (v) => (to === 'i32' ? toInteger(v) : to === 'f32' ? Math.fround(v) : v), x!),
          // Through f32 a difference quotient would see the steps of the rounding.
          grad: i < 2 && to === dtype,
        })),
      ),
}

const EXPAND: Row = {
  api: ['expand'],
  tolerance: EXACT,
  gradient: 'smooth',
  cases: (dtype) =>
    (
      [
        [[], []],
        [[], [3]],
        [[1], [17]],
        [[3], [2, 3]],
        [
          [3, 1],
          [3, 4],
        ],
        [
          [1, 3, 1],
          [2, 3, 4],
        ],
        [
          [2, 1, 3, 1],
          [5, 2, 4, 3, 2],
        ],
        [[1], [0]],
        [
          [257, 1],
          [257, 33],
        ],
        [
          [1, 257],
          [33, 257],
        ],
      ] as readonly (readonly [Shape, Shape])[]
    ).map(([from, to], i): Case => {
      const x = random(dtype, from)
      return {
        title: `${shapesOf([x])} to [${to.join(', ')}]`,
        inputs: [x],
        run: ([x]) => tilegrad.expand(x!, to),
        want: ([x]) => build(dtype, to, (index) => at(x!, index)),
        grad: i < 8,
      }
    }),
}

const FULL: Row = {
  api: ['full', 'zeros', 'ones', 'zerosLike', 'onesLike'],
  tolerance: EXACT,
  gradient: 'none',
  cases: (dtype) =>
    [[], [0], [1], [7], [257], [3, 0], [2, 3, 5]].flatMap((shape) =>
      (dtype === 'bool' ? [0, 1, 5] : dtype === 'i32' ? [0, 7, -(2 ** 31)] : [0, 1.5, -3e38, Infinity, NaN]).map(
        (value): Case => ({
          title: `[${shape.join(', ')}] of ${value}`,
          inputs: [],
          run: (_, device) => tilegrad.full(shape, value, { dtype, device }),
          want: () => array(dtype, shape, () => value),
        }),
      ),
    ),
}

export const SELECT = { full: FULL, expand: EXPAND, cast: CAST, where: WHERE, clip: CLIP } as const satisfies Readonly<
  Partial<Record<OpcodeName, Row>>
>
