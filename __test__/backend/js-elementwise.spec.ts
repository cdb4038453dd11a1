/**
 * The interpreter's elementwise kernels, program by program, against formulas in f64 and known values. What every device has to
 * give is in `__test__/ops`; here is what is the interpreter's own: f64, its special functions, IEEE where JavaScript differs.
 */

import test from 'ava'

import type { OpcodeName } from '../../ts/program/opcodes.ts'
import { erf, erfc, normalCdf } from '../../ts/backend/js/erf.ts'
import { type Given, numbers, result, rounded } from '../helpers/evaluate.ts'

const SIZES = [0, 1, 2, 31, 67]

/** erf by its series in powers of x, which alternates: good to 1e-13 below 3. */
function erfSeries(x: number): number {
  let term = x
  let sum = x
  for (let n = 1; n < 120; n++) {
    term *= (-x * x) / n
    sum += term / (2 * n + 1)
  }
  return (2 / Math.sqrt(Math.PI)) * sum
}

const sigma = (z: number): number => 1 / (1 + Math.exp(-z))
const phi = (z: number): number => 0.5 * (1 + erfSeries(z / Math.SQRT2))
const inner = (z: number): number => Math.sqrt(2 / Math.PI) * (z + 0.044715 * z ** 3)

const UNARY: Partial<Record<OpcodeName, readonly [(x: number) => number, ...number[]]>> = {
  neg: [(x) => -x],
  abs: [(x) => (x < 0 ? -x : x)],
  sign: [(x) => (x < 0 ? -1 : x > 0 ? 1 : 0)],
  square: [(x) => x * x],
  sqrt: [(x) => x ** 0.5],
  rsqrt: [(x) => x ** -0.5],
  reciprocal: [(x) => x ** -1],
  exp: [(x) => Math.E ** x],
  expm1: [(x) => Math.exp(x) - 1],
  log: [(x) => Math.log2(x) * Math.LN2],
  log1p: [(x) => Math.log(1 + x)],
  erf: [erfSeries],
  floor: [(x) => x - (((x % 1) + 1) % 1)],
  ceil: [(x) => -(-x - (((-x % 1) + 1) % 1))],
  relu: [(x) => (x > 0 ? x : 0)],
  leakyRelu: [(x) => (x > 0 ? x : 0.25 * x), 0.25],
  elu: [(x) => (x > 0 ? x : 1.5 * (Math.exp(x) - 1)), 1.5],
  sigmoid: [sigma],
  tanh: [(x) => 2 * sigma(2 * x) - 1],
  silu: [(x) => x * sigma(x)],
  softplus: [(x) => Math.log(1 + Math.exp(3 * x)) / 3, 3, 20],
  heaviside: [(x) => (x > 0 ? 1 : 0)],
  gelu: [(x) => x * phi(x)],
  geluTanh: [(x) => (x / 2) * (1 + 2 * sigma(2 * inner(x)) - 1)],
}

test('functions of one operand agree with their formulas, in f64 and in f32', (t) => {
  for (const [name, [f, ...attributes]] of Object.entries(UNARY) as [
    OpcodeName,
    NonNullable<(typeof UNARY)['neg']>,
  ][]) {
    for (const size of SIZES) {
      const x = numbers(size, 3).map((v) => (['sqrt', 'rsqrt', 'log', 'log1p'].includes(name) ? v + 2.5 : v))
      result(name, [['f64', [size], x]], ['f64', [size]], attributes).forEach((y, i) => {
        const wanted = f(x[i]!)
        t.true(
          Math.abs(y - wanted) <= 2e-13 * Math.max(1, Math.abs(wanted)),
          `f64 ${name}(${x[i]}) = ${y}, not ${wanted}`,
        )
      })
      const x32 = rounded(x)
      result(name, [['f32', [size], x32]], ['f32', [size]], attributes).forEach((y, i) => {
        const wanted = f(x32[i]!)
        t.true(
          Math.abs(y - wanted) <= 1.2e-7 * Math.max(1e-6, Math.abs(wanted)),
          `f32 ${name}(${x32[i]}) = ${y}, not ${wanted}`,
        )
      })
    }
  }
})

/** Gradients: the function, whether the saved operand is y, and the attributes. */
const GRADIENTS: readonly (readonly [OpcodeName, OpcodeName, 'y' | 'z', ...number[]])[] = [
  ['reluGrad', 'relu', 'y'],
  ['leakyReluGrad', 'leakyRelu', 'z', 0.25],
  ['eluGrad', 'elu', 'y', 1.5],
  ['sigmoidGrad', 'sigmoid', 'y'],
  ['tanhGrad', 'tanh', 'y'],
  ['siluGrad', 'silu', 'z'],
  ['softplusGrad', 'softplus', 'z', 3, 20],
  ['geluGrad', 'gelu', 'z'],
  ['geluTanhGrad', 'geluTanh', 'z'],
]

test('gradients of activations agree with central differences', (t) => {
  const size = 41
  const z = numbers(size, 5).map((v) => 2 * v)
  const dy = numbers(size, 6)
  for (const [grad, name, saves, ...attributes] of GRADIENTS) {
    const at = (shift: number): number[] =>
      result(name, [['f64', [size], z.map((v) => v + shift)]], ['f64', [size]], attributes)
    const saved = saves === 'y' ? at(0) : z
    const [above, below] = [at(1e-6), at(-1e-6)]
    const operands: Given[] = [['f64', [size], dy], ['f64', [size], saved]] // prettier-ignore
    result(grad, operands, ['f64', [size]], attributes).forEach((dz, i) => {
      const wanted = (dy[i]! * (above[i]! - below[i]!)) / 2e-6
      t.true(Math.abs(dz - wanted) <= 1e-5 + 1e-5 * Math.abs(wanted), `${grad} at ${z[i]}: ${dz}, not ${wanted}`)
    })
  }
})

test('the derivative at 0 is 0 for relu, the slope for leakyRelu', (t) => {
  t.deepEqual(result('reluGrad', [['f32', [1], [5]], ['f32', [1], [0]]], ['f32', [1]]), [0]) // prettier-ignore
  t.deepEqual(result('leakyReluGrad', [['f32', [1], [5]], ['f32', [1], [0]]], ['f32', [1]], [0.5]), [2.5]) // prettier-ignore
})

test('erf, erfc and the normal distribution keep f64 accuracy in all ranges', (t) => {
  // From 40-digit arithmetic.
  const values: readonly (readonly [(x: number) => number, number, number])[] = [
    [erf, 1e-300, 1.1283791670955126e-300],
    [erf, 0.25, 0.27632639016823696],
    [erf, -0.46875, -0.49261347321793797],
    [erf, 0.5, 0.5204998778130465],
    [erf, 1, 0.8427007929497149],
    [erf, 3, 0.9999779095030014],
    [erf, 7, 1],
    [erfc, 0.5, 0.4795001221869535],
    [erfc, 2, 0.004677734981047266],
    [erfc, 4, 1.541725790028002e-8],
    [erfc, 5, 1.537459794428035e-12],
    [erfc, 10, 2.088487583762545e-45],
    [erfc, 26, 5.663192408856143e-296],
    [erfc, -3, 1.9999779095030015],
    [normalCdf, -3, 0.0013498980316300946],
    [normalCdf, -10, 7.619853024160525e-24],
    [normalCdf, 1, 0.8413447460685429],
  ]
  for (const [f, x, wanted] of values) {
    t.true(Math.abs(f(x) - wanted) <= 4e-15 * Math.abs(wanted), `${f.name}(${x}) = ${f(x)}, not ${wanted}`)
  }
  for (let x = -3; x <= 3; x += 0.01) t.true(Math.abs(erf(x) - erfSeries(x)) < 1e-13, `erf(${x})`)
  t.is(erfc(30), 0)
  t.is(erf(-Infinity), -1)
  t.is(erfc(-Infinity), 2)
  t.true(Number.isNaN(erf(NaN)) && Number.isNaN(erfc(NaN)))
})

test('gelu has its published values, and a left tail that does not cancel', (t) => {
  const y = result('gelu', [['f64', [4], [1, -1, -3, -20]]], ['f64', [4]])
  t.deepEqual(y.slice(0, 3).map((v) => v.toFixed(7)), ['0.8413447', '-0.1586553', '-0.0040497']) // prettier-ignore
  t.true(Math.abs(y[3]! / (-20 * 2.7536241186062337e-89) - 1) < 1e-12)
  const tanh = result('geluTanh', [['f64', [3], [1, -1, -3]]], ['f64', [3]])
  t.deepEqual(tanh.map((v) => v.toFixed(7)), ['0.8411920', '-0.1588080', '-0.0036374']) // prettier-ignore
})

test('no activation overflows into NaN', (t) => {
  const x = [-1e30, -100, -20, 20, 100, 1e30]
  for (const name of ['sigmoid', 'tanh', 'silu', 'elu', 'geluTanh', 'gelu'] as const) {
    for (const y of result(name, [['f32', [6], x]], ['f32', [6]], name === 'elu' ? [1] : []))
      t.false(Number.isNaN(y), name)
  }
  t.deepEqual(result('softplus', [['f64', [3], [-1e30, 20.5, 1e30]]], ['f64', [3]], [1, 20]), [0, 20.5, 1e30])
})

test('NaN passes relu, maximum, minimum and clip; isFinite finds it', (t) => {
  const x: Given = ['f32', [4], [NaN, Infinity, -Infinity, -1]]
  const zero: Given = ['f32', [], [0]]
  t.deepEqual(result('relu', [x], ['f32', [4]]), [NaN, Infinity, 0, 0])
  t.deepEqual(result('maximum', [x, zero], ['f32', [4]]), [NaN, Infinity, 0, 0])
  t.deepEqual(result('minimum', [zero, x], ['f32', [4]]), [NaN, 0, -Infinity, -1])
  t.deepEqual(result('clip', [x], ['f32', [4]], [-0.5, 2]), [NaN, 2, -0.5, -0.5])
  t.deepEqual(result('isFinite', [x], ['bool', [4]]), [0, 0, 0, 1])
})

test('i32 wraps around', (t) => {
  const [least, most] = [-(2 ** 31), 2 ** 31 - 1]
  const pair: Given[] = [['i32', [3], [most, least, 65537]], ['i32', [3], [1, 1, 65537]]] // prettier-ignore
  t.deepEqual(result('add', pair, ['i32', [3]]), [least, least + 1, 131074])
  t.deepEqual(result('sub', pair, ['i32', [3]]), [most - 1, most, 0])
  t.deepEqual(result('mul', pair, ['i32', [3]]), [most, least, 131073])
  t.deepEqual(result('maximum', pair, ['i32', [3]]), [most, 1, 65537])
  t.deepEqual(result('minimum', pair, ['i32', [3]]), [1, least, 65537])
  const x: Given = ['i32', [3], [least, -7, 65537]]
  t.deepEqual(result('neg', [x], ['i32', [3]]), [least, 7, -65537])
  t.deepEqual(result('abs', [x], ['i32', [3]]), [least, 7, 65537])
  t.deepEqual(result('sign', [x], ['i32', [3]]), [-1, -1, 1])
  t.deepEqual(result('square', [x], ['i32', [3]]), [0, 49, 131073])
  t.deepEqual(result('clip', [x], ['i32', [3]], [-1e12, 10]), [least, -7, 10])
})

const BINARY: Partial<Record<OpcodeName, (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  pow: (a, b) => Math.abs(a) ** b,
  maximum: (a, b) => (a > b ? a : b),
  minimum: (a, b) => (a < b ? a : b),
  equal: (a, b) => +(a === b),
  notEqual: (a, b) => +(a !== b),
  greater: (a, b) => +(a > b),
  greaterEqual: (a, b) => +(a >= b),
  less: (a, b) => +(a < b),
  lessEqual: (a, b) => +(a <= b),
}

/** Pairs of shapes that broadcast, and what they broadcast to. */
const SHAPES: readonly (readonly [readonly number[], readonly number[], readonly number[]])[] = [
  [[], [], []],
  [[5], [5], [5]],
  [[5], [], [5]],
  [[1], [2, 3], [2, 3]],
  [[2, 3], [3], [2, 3]],
  [
    [2, 3],
    [2, 1],
    [2, 3],
  ],
  [
    [2, 1],
    [1, 3],
    [2, 3],
  ],
  [
    [4, 1, 3],
    [7, 1],
    [4, 7, 3],
  ],
  [
    [2, 1, 3, 1],
    [5, 1, 2],
    [2, 5, 3, 2],
  ],
  [[0, 3], [3], [0, 3]],
  [[2, 0], [1], [2, 0]],
]

function at(shape: readonly number[], to: readonly number[], flat: number): number {
  let [index, stride, offset] = [flat, 1, 0]
  for (let i = 1; i <= to.length; i++) {
    const own = shape[shape.length - i] ?? 1
    if (own !== 1) offset += (index % to[to.length - i]!) * stride
    stride *= own
    index = Math.floor(index / to[to.length - i]!)
  }
  return offset
}

test('functions of two operands broadcast by the rules of NumPy, on every dtype they take', (t) => {
  for (const [name, f] of Object.entries(BINARY) as [OpcodeName, (a: number, b: number) => number][]) {
    const compares = ['equal', 'notEqual', 'greater', 'greaterEqual', 'less', 'lessEqual'].includes(name)
    for (const dtype of ['f64', 'f32', 'i32'] as const) {
      if (dtype === 'i32' && (name === 'div' || name === 'pow')) continue
      for (const [sa, sb, so] of SHAPES) {
        const size = (shape: readonly number[]): number => shape.reduce((n, d) => n * d, 1)
        const whole = (v: number): number => (dtype === 'f64' ? v : Math.round(v * 4))
        const a = numbers(size(sa), 11).map((v) => (name === 'pow' ? Math.abs(whole(v)) + 1 : whole(v)))
        const b = numbers(size(sb), 12).map((v) => (name === 'div' ? whole(v) + 16 : whole(v)))
        const wanted = Array.from({ length: size(so) }, (_, i) => f(a[at(sa, so, i)]!, b[at(sb, so, i)]!))
        const actual = result(name, [[dtype, sa, a], [dtype, sb, b]], [compares ? 'bool' : dtype, so]) // prettier-ignore
        t.deepEqual(
          actual,
          dtype === 'f32' ? rounded(wanted) : dtype === 'i32' ? wanted.map((v) => v | 0) : wanted,
          `${name} ${dtype} ${sa} ${sb}`,
        )
      }
    }
  }
})

test('bool compares, and joins by and, or and not', (t) => {
  const pair: Given[] = [['bool', [4], [0, 0, 1, 1]], ['bool', [4], [0, 1, 0, 1]]] // prettier-ignore
  t.deepEqual(result('logicalAnd', pair, ['bool', [4]]), [0, 0, 0, 1])
  t.deepEqual(result('logicalOr', pair, ['bool', [4]]), [0, 1, 1, 1])
  t.deepEqual(result('equal', pair, ['bool', [4]]), [1, 0, 0, 1])
  t.deepEqual(result('notEqual', pair, ['bool', [4]]), [0, 1, 1, 0])
  t.deepEqual(result('logicalNot', [pair[1]!], ['bool', [4]]), [1, 0, 1, 0])
})

test('pow follows IEEE where JavaScript does not', (t) => {
  const bases = [1, 1, -1, -1, 0, -8, 2]
  const exponents = [NaN, Infinity, Infinity, -Infinity, 0, 1 / 3, -1]
  t.deepEqual(result('pow', [['f64', [7], bases], ['f64', [7], exponents]], ['f64', [7]]), [1, 1, 1, 1, 1, NaN, 0.5]) // prettier-ignore
})

test('where chooses per element and broadcasts all three operands', (t) => {
  const condition: Given = ['bool', [2, 1], [1, 0]]
  for (const dtype of ['f32', 'i32', 'f64', 'bool'] as const) {
    const [a, b]: Given[] = [[dtype, [3], [1, 0, 1]], [dtype, [], [0]]] // prettier-ignore
    t.deepEqual(result('where', [condition, a!, b!], [dtype, [2, 3]]), [1, 0, 1, 0, 0, 0])
  }
  t.deepEqual(result('where', [['bool', [1], [1]], ['f32', [0], []], ['f32', [], [1]]], ['f32', [0]]), []) // prettier-ignore
  const masked: Given[] = [['bool', [2], [0, 1]], ['f32', [2], [NaN, 1]], ['f32', [2], [3, NaN]]] // prettier-ignore
  t.deepEqual(result('where', masked, ['f32', [2]]), [3, 1])
})
