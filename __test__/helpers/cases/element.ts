/** Elementwise functions of one and of two operands, the latter with every way of broadcasting. */

import * as tilegrad from '../../../ts/index.ts'
import type { Dtype, Shape, Tensor } from '../../../ts/index.ts'
import type { OpcodeName } from '../../../ts/program/opcodes.ts'
import type { Tolerance } from '../compare.ts'
import { type Data, type Range, SIZES, array, pairs, random, round, whole } from '../data.ts'
import { erf, pow } from '../formulas.ts'
import { map } from '../reference.ts'
import { BUDGET, type Case, EXACT, type Gradient, type Row, shapesOf } from './case.ts'
import { special } from './special.ts'

/** Shapes that broadcast: stretched on the left, the right, both, inside, to and from rank 0, with nothing in them. */
export const SHAPE_PAIRS: readonly (readonly [Shape, Shape])[] = [
  ...SIZES.map((n): [Shape, Shape] => [[n], [n]]),
  [[], []],
  [[], [2, 3]],
  [[2, 3], []],
  [[1], [17]],
  [[257], [1]],
  [[5], [2, 3, 5]],
  [
    [2, 3, 5],
    [3, 1],
  ],
  [
    [3, 1],
    [1, 4],
  ],
  [
    [4, 1, 3],
    [2, 1],
  ],
  [
    [2, 1, 3, 1],
    [4, 1, 5],
  ],
  [[31, 257], [257]],
  [
    [31, 1],
    [31, 257],
  ],
  [[0, 3], [3]],
  [
    [2, 0, 1],
    [1, 1, 5],
  ],
]

/** Those of them where derivatives are taken. */
const GRAD_PAIRS: readonly (readonly [Shape, Shape])[] = [
  [[7], [7]],
  [[], [2, 3]],
  [[2, 3], []],
  [
    [3, 1],
    [1, 4],
  ],
  [
    [4, 1, 3],
    [2, 1],
  ],
  [[0, 3], [3]],
]

type Function1 =
  | 'neg'
  | 'abs'
  | 'sign'
  | 'square'
  | 'sqrt'
  | 'rsqrt'
  | 'reciprocal'
  | 'exp'
  | 'expm1'
  | 'log'
  | 'log1p'
  | 'erf'
  | 'floor'
  | 'ceil'
  | 'logicalNot'
  | 'isFinite'

interface UnaryOptions {
  readonly gradient?: Gradient
  readonly range?: Range
  readonly result?: Dtype
  readonly integer?: (x: number) => number
}

function unary(
  op: Function1 & OpcodeName,
  f: (x: number) => number,
  tolerance: Tolerance,
  options: UnaryOptions = {},
): Row {
  const { gradient = 'none', range = {}, result, integer = f } = options
  const run = ([x]: readonly Tensor[]): Tensor => tilegrad[op](x!)
  const make = (title: string, x: Data, grad = false): Case => ({
    title,
    inputs: [x],
    run,
    want: ([x]) => map(result ?? x!.dtype, x!.dtype === 'i32' ? integer : f, x!),
    grad,
  })
  return {
    api: [op],
    tolerance,
    gradient,
    cases: (dtype) => [
      ...[...SIZES.map((n) => [n]), [], [2, 3, 5]].map((shape) => {
        const x = random(dtype, shape, range)
        return make(shapesOf([x]), x, shape.length === 3 || shape[0] === 0)
      }),
      ...(dtype === 'bool' ? [] : [make('special values', special(dtype))]),
    ],
  }
}

type Function2 =
  | 'add'
  | 'sub'
  | 'mul'
  | 'div'
  | 'pow'
  | 'maximum'
  | 'minimum'
  | 'equal'
  | 'notEqual'
  | 'greater'
  | 'greaterEqual'
  | 'less'
  | 'lessEqual'

interface BinaryOptions {
  readonly gradient?: Gradient
  readonly left?: Range
  readonly right?: Range
  readonly result?: Dtype
  readonly integer?: (a: number, b: number) => number
}

function binary(
  op: Function2 & OpcodeName,
  f: (a: number, b: number) => number,
  tolerance: Tolerance,
  options: BinaryOptions = {},
): Row {
  const { gradient = 'none', left = {}, right = left, result, integer = f } = options
  const want = ([a, b]: readonly Data[]): ReturnType<typeof map> =>
    map(result ?? a!.dtype, a!.dtype === 'i32' ? integer : f, a!, b!)
  const make = (title: string, inputs: Data[], grad = false): Case => ({
    title,
    inputs,
    run: ([a, b]) => tilegrad[op](a!, b!),
    want,
    grad,
  })
  // Comparisons have to meet equal operands.
  const fill = (dtype: Dtype, shape: Shape, range: Range, salt: number): Data =>
    result === 'bool' && dtype !== 'bool' ? whole(dtype, shape, -3, 3, salt) : random(dtype, shape, { ...range, salt })
  return {
    api: [op],
    tolerance,
    gradient,
    cases: (dtype) => [
      ...[...SHAPE_PAIRS, ...GRAD_PAIRS].map(([a, b], i) => {
        const inputs = [fill(dtype, a, left, 1), fill(dtype, b, right, 2)]
        return make(shapesOf(inputs), inputs, i >= SHAPE_PAIRS.length)
      }),
      ...(dtype === 'bool'
        ? []
        : [make('special values', pairs(special(dtype), special(dtype))), ...withNumber(dtype)]),
    ],
  }

  /** A plain number on either side takes the other's dtype. */
  function withNumber(dtype: Dtype): Case[] {
    const number = round(dtype === 'i32' ? 'i32' : 'f32', 1.7)
    const constant = array(dtype, [], [number])
    const x = fill(dtype, [2, 3], left, 3)
    return [
      {
        title: `[2, 3] and ${number}`,
        inputs: [x],
        run: ([a]) => tilegrad[op](a!, number),
        want: ([a]) => want([a!, constant]),
        grad: true,
      },
      {
        title: `${number} and [2, 3]`,
        inputs: [fill(dtype, [2, 3], right, 4)],
        run: ([b]) => tilegrad[op](number, b!),
        want: ([b]) => want([constant, b!]),
        grad: true,
      },
    ]
  }
}

function logical(op: 'logicalAnd' | 'logicalOr', f: (a: number, b: number) => number): Row {
  return {
    api: [op],
    tolerance: EXACT,
    gradient: 'none',
    cases: () =>
      SHAPE_PAIRS.map(([a, b]) => {
        const inputs = [random('bool', a, { salt: 1 }), random('bool', b, { salt: 2 })]
        return {
          title: shapesOf(inputs),
          inputs,
          run: ([a, b]) => tilegrad[op](a!, b!),
          want: ([a, b]) => map('bool', f, a!, b!),
        }
      }),
  }
}

const POSITIVE: Range = { low: 0.25, high: 4 }

const nanMax = (a: number, b: number): number => (Number.isNaN(a) || Number.isNaN(b) ? NaN : Math.max(a, b))
const nanMin = (a: number, b: number): number => (Number.isNaN(a) || Number.isNaN(b) ? NaN : Math.min(a, b))

export const ELEMENT = {
  neg: unary('neg', (x) => -x, EXACT, { gradient: 'smooth' }),
  abs: unary('abs', Math.abs, EXACT, { gradient: 'corners', range: { corners: [0] } }),
  sign: unary('sign', Math.sign, EXACT, { gradient: 'zero', range: { corners: [0] } }),
  square: unary('square', (x) => x * x, EXACT, { gradient: 'smooth', integer: (x) => Math.imul(x, x) }),
  sqrt: unary('sqrt', Math.sqrt, EXACT, { gradient: 'smooth', range: POSITIVE }),
  rsqrt: unary('rsqrt', (x) => 1 / Math.sqrt(x), BUDGET, { gradient: 'smooth', range: POSITIVE }),
  reciprocal: unary('reciprocal', (x) => 1 / x, EXACT, { gradient: 'smooth', range: POSITIVE }),
  exp: unary('exp', Math.exp, BUDGET, { gradient: 'smooth' }),
  expm1: unary('expm1', Math.expm1, BUDGET, { gradient: 'smooth' }),
  log: unary('log', Math.log, BUDGET, { gradient: 'smooth', range: POSITIVE }),
  log1p: unary('log1p', Math.log1p, BUDGET, { gradient: 'smooth', range: { low: -0.9, high: 3 } }),
  erf: unary('erf', erf, BUDGET, { gradient: 'smooth' }),
  floor: unary('floor', Math.floor, EXACT, { gradient: 'zero', range: { corners: [-2, -1, 0, 1, 2] } }),
  ceil: unary('ceil', Math.ceil, EXACT, { gradient: 'zero', range: { corners: [-2, -1, 0, 1, 2] } }),
  logicalNot: unary('logicalNot', (x) => +(x === 0), EXACT),
  isFinite: unary('isFinite', (x) => +Number.isFinite(x), EXACT, { result: 'bool' }),
  add: binary('add', (a, b) => a + b, EXACT, { gradient: 'smooth' }),
  sub: binary('sub', (a, b) => a - b, EXACT, { gradient: 'smooth' }),
  mul: binary('mul', (a, b) => a * b, EXACT, { gradient: 'smooth', integer: Math.imul }),
  div: binary('div', (a, b) => a / b, EXACT, { gradient: 'smooth', right: POSITIVE }),
  pow: binary('pow', pow, BUDGET, { gradient: 'smooth', left: POSITIVE, right: {} }),
  maximum: binary('maximum', nanMax, EXACT, { gradient: 'corners' }),
  minimum: binary('minimum', nanMin, EXACT, { gradient: 'corners' }),
  equal: binary('equal', (a, b) => +(a === b), EXACT, { result: 'bool' }),
  notEqual: binary('notEqual', (a, b) => +(a !== b), EXACT, { result: 'bool' }),
  greater: binary('greater', (a, b) => +(a > b), EXACT, { result: 'bool' }),
  greaterEqual: binary('greaterEqual', (a, b) => +(a >= b), EXACT, { result: 'bool' }),
  less: binary('less', (a, b) => +(a < b), EXACT, { result: 'bool' }),
  lessEqual: binary('lessEqual', (a, b) => +(a <= b), EXACT, { result: 'bool' }),
  logicalAnd: logical('logicalAnd', (a, b) => a & b),
  logicalOr: logical('logicalOr', (a, b) => a | b),
} as const satisfies Readonly<Partial<Record<OpcodeName, Row>>>
