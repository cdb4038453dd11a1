/**
 * Elementwise operations of random programs. Functions with poles or narrow domains are applied to 1 + x², which has
 * neither; what jumps sees whole numbers only.
 */

import {
  type Tensor,
  add,
  div,
  equal,
  greater,
  greaterEqual,
  less,
  lessEqual,
  logicalAnd,
  logicalOr,
  maximum,
  minimum,
  mul,
  notEqual,
  pow,
  sub,
  where,
} from '../../../ts/index.ts'
import { type Shape, numel } from '../../../ts/shape.ts'
import type { Known } from '../program-generator.ts'
import { type Rule, float, pick, shaped, stretched, whole } from './rule.ts'

/** y = f(x), element by element: magnitude and error of y from those of x. */
function unary(
  op: string,
  apply: (x: Tensor) => Tensor,
  bounds: (m: number, e: number) => [magnitude: number, error: number],
  more: { whole?: boolean; only?: (k: Known) => boolean; corner?: number } = {},
): Rule {
  const { corner } = more
  return {
    op,
    plan(choices, known) {
      const at = pick(choices, known, more.only ?? float)
      if (at === null) return null
      const k = known[at]!
      const [magnitude, error] = bounds(k.magnitude, k.error)
      return { inputs: [at], result: shaped(k, { magnitude, error, whole: k.whole && more.whole === true }) }
    },
    apply: ([x]) => apply(x!),
    ...(corner !== undefined && { distance: ([x]) => nearest(x!, corner) }),
  }
}

function nearest(x: ArrayLike<number>, corner: number): number {
  return Array.from(x).reduce((least, v) => Math.min(least, Math.abs(v - corner)), Infinity)
}

/** Two operands of one kind that broadcast. */
function binary(
  op: string,
  apply: (a: Tensor, b: Tensor) => Tensor,
  bounds: (a: Known, b: Known) => Partial<Known>,
  fits: (k: Known) => boolean = float,
  distance?: Rule['distance'],
): Rule {
  return {
    op,
    plan(choices, known) {
      const a = pick(choices, known, fits)
      if (a === null) return null
      const first = known[a]!
      const b = pick(
        choices,
        known,
        (k) => fits(k) && k.kind === first.kind && stretched(first.shape, k.shape) !== null,
      )
      if (b === null) return null
      const second = known[b]!
      const shape = stretched(first.shape, second.shape)!
      return {
        inputs: [a, b],
        result: shaped({ ...first, whole: first.whole && second.whole, shape }, bounds(first, second)),
      }
    },
    apply: ([a, b]) => apply(a!, b!),
    ...(distance !== undefined && { distance }),
  }
}

/** How near the elements of two stretched operands come to each other. */
const closest: NonNullable<Rule['distance']> = ([a, b], _, [sa, sb]) => {
  const shape = stretched(sa!, sb!)!
  const at = (of: Shape, i: number): number => {
    let [rest, index, stride] = [i, 0, 1]
    for (let d = 1; d <= shape.length; d++) {
      const size = shape[shape.length - d]!
      const own = d <= of.length ? of[of.length - d]! : 1
      if (own !== 1) index += (rest % size) * stride
      stride *= own
      rest = Math.floor(rest / size)
    }
    return index
  }
  let least = Infinity
  for (let i = 0; i < numel(shape); i++) least = Math.min(least, Math.abs(a![at(sa!, i)]! - b![at(sb!, i)]!))
  return least
}

const comparison = (op: string, apply: (a: Tensor, b: Tensor) => Tensor): Rule =>
  binary(op, apply, () => ({ kind: 'bool', whole: true, magnitude: 1 }), whole)

/** Elementwise operations. */
export const ELEMENTWISE: readonly Rule[] = [
  binary('add', add, (a, b) => ({
    magnitude: a.magnitude + b.magnitude,
    error: a.error + b.error + a.magnitude + b.magnitude,
  })),
  binary('sub', sub, (a, b) => ({
    magnitude: a.magnitude + b.magnitude,
    error: a.error + b.error + a.magnitude + b.magnitude,
  })),
  binary('mul', mul, (a, b) => ({
    magnitude: a.magnitude * b.magnitude,
    error: a.error * b.magnitude + b.error * a.magnitude + a.magnitude * b.magnitude,
  })),
  binary('div', (a, b) => div(a, b.square().add(1)), (a, b) => ({ whole: false, magnitude: a.magnitude, error: a.error + a.magnitude * (b.error + 4) })), // prettier-ignore
  binary(
    'maximum',
    maximum,
    (a, b) => ({ magnitude: Math.max(a.magnitude, b.magnitude), error: Math.max(a.error, b.error) }),
    float,
    closest,
  ),
  binary(
    'minimum',
    minimum,
    (a, b) => ({ magnitude: Math.max(a.magnitude, b.magnitude), error: Math.max(a.error, b.error) }),
    float,
    closest,
  ),
  comparison('equal', equal),
  comparison('notEqual', notEqual),
  comparison('greater', greater),
  comparison('greaterEqual', greaterEqual),
  comparison('less', less),
  comparison('lessEqual', lessEqual),
  binary(
    'logicalAnd',
    logicalAnd,
    () => ({}),
    (k) => k.kind === 'bool',
  ),
  binary(
    'logicalOr',
    logicalOr,
    () => ({}),
    (k) => k.kind === 'bool',
  ),
  unary(
    'logicalNot',
    (x) => x.logicalNot(),
    () => [1, 0],
    { only: (k) => k.kind === 'bool', whole: true },
  ),
  unary(
    'neg',
    (x) => x.neg(),
    (m, e) => [m, e],
    { whole: true },
  ),
  unary(
    'abs',
    (x) => x.abs(),
    (m, e) => [m, e],
    { whole: true, corner: 0 },
  ),
  unary(
    'square',
    (x) => x.square(),
    (m, e) => [m * m, 2 * m * e + m * m],
    { whole: true },
  ),
  unary(
    'cube',
    (x) => pow(x, 3),
    (m, e) => [m ** 3, 3 * m * m * e + 16 * m ** 3],
  ),
  unary(
    'root',
    (x) => x.square().add(1).sqrt(),
    (m, e) => [m + 1, e + 2 * m + 2],
  ),
  unary(
    'power',
    (x) => pow(x.square().add(1), 0.5),
    (m, e) => [m + 1, e + 16 * (m + 1)],
  ),
  unary(
    'rsqrt',
    (x) => x.square().add(1).rsqrt(),
    (_, e) => [1, e + 4],
  ),
  unary(
    'reciprocal',
    (x) => x.square().add(1).reciprocal(),
    (_, e) => [1, e + 4],
  ),
  unary(
    'exp',
    (x) => x.exp(),
    (m, e) => [Math.exp(m), Math.exp(m) * (e + 8)],
  ),
  unary(
    'expm1',
    (x) => x.expm1(),
    (m, e) => [Math.exp(m), Math.exp(m) * (e + 8)],
  ),
  unary(
    'log',
    (x) => x.square().add(1).log(),
    (m, e) => [m, e + 12],
  ),
  unary(
    'log1p',
    (x) => x.square().log1p(),
    (m, e) => [m, e + 12],
  ),
  unary(
    'erf',
    (x) => x.erf(),
    (_, e) => [1, 1.2 * e + 8],
  ),
  unary(
    'sign',
    (x) => x.sign(),
    () => [1, 0],
    { only: whole, whole: true },
  ),
  unary(
    'floor',
    (x) => x.mul(0.5).add(0.25).floor(),
    (m) => [m, 0],
    { only: whole, whole: true },
  ),
  unary(
    'ceil',
    (x) => x.mul(0.5).add(0.25).ceil(),
    (m) => [m + 1, 0],
    { only: whole, whole: true },
  ),
  unary(
    'heaviside',
    (x) => x.heaviside(),
    () => [1, 0],
    { only: whole, whole: true },
  ),
  unary(
    'relu',
    (x) => x.relu(),
    (m, e) => [m, e],
    { whole: true, corner: 0 },
  ),
  unary(
    'leakyRelu',
    (x) => x.leakyRelu(0.1),
    (m, e) => [m, e + m],
    { corner: 0 },
  ),
  unary(
    'elu',
    (x) => x.elu(),
    (m, e) => [Math.max(m, 1), e + 8],
  ),
  unary(
    'sigmoid',
    (x) => x.sigmoid(),
    (_, e) => [1, e + 8],
  ),
  unary(
    'tanh',
    (x) => x.tanh(),
    (_, e) => [1, e + 8],
  ),
  unary(
    'silu',
    (x) => x.silu(),
    (m, e) => [m, 1.2 * e + 8 * (m + 1)],
  ),
  unary(
    'softplus',
    (x) => x.softplus(),
    (m, e) => [m + 1, e + 8 * (m + 1)],
  ),
  unary(
    'gelu',
    (x) => x.gelu(),
    (m, e) => [m, 1.2 * e + 8 * (m + 1)],
  ),
  unary(
    'geluTanh',
    (x) => x.gelu({ approximate: 'tanh' }),
    (m, e) => [m, 1.2 * e + 8 * (m + 1)],
  ),
  unary(
    'shift',
    (x) => x.add(1),
    (m, e) => [m + 1, e + m + 1],
    { whole: true },
  ),
  unary(
    'halve',
    (x) => mul(0.5, x),
    (m, e) => [m / 2, e / 2],
  ),
  unary(
    'fromOne',
    (x) => sub(1, x),
    (m, e) => [m + 1, e + m + 1],
    { whole: true },
  ),
  unary(
    'clip',
    (x) => x.clip(-1.5, 1),
    (_, e) => [1.5, e],
  ),
  unary(
    'asIndex',
    (x) => x.cast('i32').cast(x.dtype),
    (m) => [m, 0],
    { only: whole, whole: true },
  ),
  {
    op: 'cast',
    plan(choices, known) {
      const at = pick(choices, known, (k) => k.kind === 'bool')
      const like = pick(choices, known, float)
      if (at === null || like === null) return null
      return { inputs: [at, like], result: shaped(known[at]!, { kind: 'float', whole: true, magnitude: 1 }) }
    },
    // Which dtype floats have differs from run to run: the second operand tells, and gives nothing else.
    apply: ([x, like]) => x!.cast(like!.dtype),
  },
  {
    op: 'where',
    plan(choices, known) {
      const condition = pick(choices, known, (k) => k.kind === 'bool')
      if (condition === null) return null
      const c = known[condition]!
      const a = pick(choices, known, (k) => float(k) && stretched(c.shape, k.shape) !== null)
      if (a === null) return null
      const first = known[a]!
      const shape = stretched(c.shape, first.shape)!
      const b = pick(choices, known, (k) => float(k) && stretched(shape, k.shape) !== null)
      if (b === null) return null
      const second = known[b]!
      const magnitude = Math.max(first.magnitude, second.magnitude)
      const error = Math.max(first.error, second.error)
      const result = shaped(first, {
        shape: stretched(shape, second.shape)!,
        magnitude,
        error,
        whole: first.whole && second.whole,
      })
      return { inputs: [condition, a, b], result }
    },
    apply: ([c, a, b]) => where(c!, a!, b!),
  },
]
