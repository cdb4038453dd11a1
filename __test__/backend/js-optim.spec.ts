/**
 * The interpreter's optimiser steps over slabs against formulas and published values, and the changes in place beside them.
 * Optimisers as users see them are in `__test__/optim`.
 */

import test from 'ava'

import { type Evaluated, type Given, evaluate, numbers, result } from '../helpers/evaluate.ts'

const close = (actual: readonly number[], wanted: readonly number[], bound = 1e-15): boolean =>
  actual.length === wanted.length &&
  actual.every((v, i) => Math.abs(v - wanted[i]!) <= bound * Math.max(1, Math.abs(wanted[i]!)))

interface Update {
  readonly p: readonly number[]
  readonly states: readonly (readonly number[] | null)[]
  readonly steps: readonly number[]
  readonly gradients: readonly (readonly number[])[]
  readonly segments: readonly number[]
  readonly attributes: readonly number[]
  readonly scale?: number
  readonly ok?: boolean
  readonly dtype?: 'f32' | 'f64'
}

function update(name: 'sgd' | 'adam' | 'rmsprop' | 'ema', u: Update): Evaluated['inputs'] {
  const dtype = u.dtype ?? 'f64'
  const vector = (data: readonly number[]): Given => [dtype, [data.length], data]
  return evaluate(
    name,
    [
      vector(u.p),
      ...u.states.map((s) => (s === null ? null : vector(s))),
      ['i32', [u.steps.length], u.steps],
      u.scale === undefined ? null : [dtype, [], [u.scale]],
      u.ok === undefined ? null : ['bool', [], [+u.ok]],
      ...u.gradients.map(vector),
    ],
    [],
    [...u.attributes, u.segments],
  ).inputs
}

test('squaredNorm sums the squares of all its operands, in f64', (t) => {
  const [a, b] = [numbers(31, 1), numbers(7, 2)]
  const wanted = [...a, ...b].reduce((sum, v) => sum + v * v, 0)
  const given: Given[] = [['f64', [31], a], ['f64', [7], b], ['f64', [0], []]] // prettier-ignore
  t.deepEqual(result('squaredNorm', given, ['f64', []]), [wanted])
  t.deepEqual(result('squaredNorm', [['f32', [2], [3, 4]]], ['f32', []]), [25])
  t.deepEqual(result('squaredNorm', [['f32', [0], []]], ['f32', []]), [0])
})

/** lr, momentum, dampening, weightDecay, nesterov. */
const SGD = { p: [1], states: [[0]], steps: [0], gradients: [[1]], segments: [0, 0] }

test('sgd twice over gives the published values, plain momentum and nesterov', (t) => {
  for (const [nesterov, wanted] of [
    [0, [0.9, 0.71]],
    [1, [0.81, 0.539]],
  ] as const) {
    const attributes = [0.1, 0.9, 0, 0, nesterov]
    const [p, buf, steps] = update('sgd', { ...SGD, attributes })
    t.true(close(p!, [wanted[0]]))
    t.deepEqual(steps, [1])
    const [again] = update('sgd', { ...SGD, p: p!, states: [buf!], steps: steps!, attributes })
    t.true(close(again!, [wanted[1]]))
  }
})

test('sgd decays, dampens from the second step on, and needs no momentum slab', (t) => {
  const [plain] = update('sgd', { ...SGD, p: [2], states: [null], attributes: [0.5, 0, 0, 0.1, 0] })
  t.true(close(plain!, [2 - 0.5 * (1 + 0.2)]))
  const [p, buf] = update('sgd', { ...SGD, p: [2], states: [[3]], steps: [4], attributes: [0.5, 0.9, 0.25, 0, 0] })
  t.true(close(buf!, [0.9 * 3 + 0.75]))
  t.true(close(p!, [2 - 0.5 * (0.9 * 3 + 0.75)]))
})

/** lr, beta1, beta2, eps, weightDecay, decoupled. */
const ADAMW = { p: [1], states: [[0], [0], null], steps: [0], gradients: [[2]], segments: [0, 0] }
const DEFAULTS = [0.1, 0.9, 0.999, 1e-8, 0.01, 1]

test('adam with decoupled decay gives the published first step and follows its formula later', (t) => {
  const [p, m, v, , steps] = update('adam', { ...ADAMW, attributes: DEFAULTS })
  t.true(close(p!, [0.899], 1e-9))
  t.true(close(m!, [0.2]))
  t.true(close(v!, [0.004]))
  t.deepEqual(steps, [1])
  const [p2, m2, v2] = update('adam', { ...ADAMW, p: [3], states: [[0.5], [0.25], null], steps: [6], gradients: [[-1]], attributes: DEFAULTS }) // prettier-ignore
  const [first, second] = [0.9 * 0.5 - 0.1, 0.999 * 0.25 + 0.001]
  const wanted = 3 * (1 - 0.001) - ((0.1 / (1 - 0.9 ** 7)) * first) / (Math.sqrt(second / (1 - 0.999 ** 7)) + 1e-8)
  t.true(close(m2!, [first]))
  t.true(close(v2!, [second]))
  t.true(close(p2!, [wanted], 1e-13))
})

test('bias corrections keep their digits for β close to 1 and work for β = 0', (t) => {
  const beta = 1 - 2 ** -40
  const [p] = update('adam', { ...ADAMW, attributes: [0.1, beta, beta, 0, 0, 1] })
  t.true(close(p!, [0.9], 1e-12), `${p}`)
  const [q] = update('adam', { ...ADAMW, attributes: [0.1, 0, 0, 0, 0, 1] })
  t.true(close(q!, [0.9]))
})

test('adam with coupled decay and with the greatest moment', (t) => {
  const coupled = [0.1, 0.9, 0.999, 1e-8, 0.01, 0]
  const [p, m] = update('adam', { ...ADAMW, attributes: coupled })
  t.true(close(p!, [0.9], 1e-8))
  t.true(close(m!, [0.1 * 2.01]))
  const [q, , v, most] = update('adam', { ...ADAMW, states: [[0], [0], [0.25]], steps: [4], attributes: DEFAULTS })
  t.true(close(v!, [0.004]))
  t.deepEqual(most, [0.25])
  const wanted = 0.999 - ((0.1 / (1 - 0.9 ** 5)) * 0.2) / (Math.sqrt(0.25) / Math.sqrt(1 - 0.999 ** 5) + 1e-8)
  t.true(close(q!, [wanted], 1e-13))
  const [, , , greater] = update('adam', { ...ADAMW, states: [[0], [0], [0.001]], attributes: DEFAULTS })
  t.true(close(greater!, [0.004]))
})

test('rmsprop plain, centered and with momentum; a variance is never negative', (t) => {
  const rmsprop = { p: [1], steps: [3], gradients: [[2]], segments: [0, 0] }
  const attributes = [0.1, 0.75, 0.5, 0.25, 0]
  // g = 2 + 0.25·1
  const [p, v] = update('rmsprop', { ...rmsprop, states: [[1], null, null], attributes })
  const square = 0.75 + 0.25 * 2.25 ** 2
  t.true(close(v!, [square]))
  t.true(close(p!, [1 - (0.1 * 2.25) / (Math.sqrt(square) + 0.5)]))
  const [q, , a, b] = update('rmsprop', {
    ...rmsprop,
    states: [[1], [0.5], [3]],
    attributes: [0.1, 0.75, 0.5, 0.25, 0.5],
  })
  const mean = 0.75 * 0.5 + 0.25 * 2.25
  t.true(close(a!, [mean]))
  const d = 1.5 + 2.25 / (Math.sqrt(square - mean ** 2) + 0.5)
  t.true(close(b!, [d]))
  t.true(close(q!, [1 - 0.1 * d]))
  const [r] = update('rmsprop', { ...rmsprop, states: [[0], [100], null], attributes })
  t.true(close(r!, [1 - (0.1 * 2.25) / 0.5]))
})

test('ema takes the first value as it is and weighs later ones, unless the gate is shut', (t) => {
  const ema = {
    p: [NaN, 4],
    states: [],
    steps: [0, 5],
    gradients: [[2], [8]],
    segments: [0, 0, 1, 1],
    attributes: [0.25],
  }
  t.deepEqual(update('ema', ema).slice(0, 2), [[2, 5], [1, 6]]) // prettier-ignore
  t.deepEqual(update('ema', { ...ema, attributes: [0.75] })[0], [2, 7])
  t.deepEqual(update('ema', { ...ema, p: [1, -Infinity], attributes: [1] })[0], [2, 8])
  t.deepEqual(update('ema', { ...ema, p: [1, 4], ok: false }).slice(0, 2), [[1, 4], [0, 5]]) // prettier-ignore
})

test('segments update their own part of the slabs; parameters without gradient keep everything', (t) => {
  const [p, buf, steps] = update('sgd', {
    p: [1, 2, 3, 4, 5, 6],
    states: [[9, 9, 9, 9, 9, 9]],
    steps: [0, 7, 1],
    gradients: [[1], [1, 2]],
    segments: [2, 5, 0, 0],
    attributes: [1, 0.5, 0, 0, 0],
  })
  t.deepEqual(steps, [1, 7, 2])
  t.deepEqual(p, [0, 0, 3, 4, 5, 6 - (4.5 + 1)])
  t.deepEqual(buf, [1, 2, 9, 9, 9, 5.5])
})

test('the scale multiplies gradients; a shut gate changes nothing at all', (t) => {
  const [scaled] = update('sgd', { ...SGD, states: [null], attributes: [1, 0, 0, 0, 0], scale: 0.25 })
  t.deepEqual(scaled, [0.75])
  t.deepEqual(update('sgd', { ...SGD, states: [null], attributes: [1, 0, 0, 0, 0], ok: true })[0], [0])
  const shut = update('sgd', { ...SGD, gradients: [[NaN]], attributes: [1, 0.9, 0, 0, 0], ok: false })
  t.deepEqual(shut.slice(0, 3), [[1], [0], [0]])
  const adam = update('adam', { ...ADAMW, gradients: [[NaN]], attributes: DEFAULTS, ok: false })
  t.deepEqual(adam.slice(0, 5), [[1], [0], [0], [], [0]])
  const both = update('adam', { ...ADAMW, gradients: [[4]], attributes: DEFAULTS, scale: 0.5, ok: true })
  t.true(close(both[0]!, [0.899], 1e-9))
})

test('f32 slabs hold rounded values of f64 arithmetic', (t) => {
  const [p, m, v] = update('adam', { ...ADAMW, attributes: DEFAULTS, dtype: 'f32' })
  t.deepEqual([p, m, v], [[Math.fround(1 * 0.999 - 0.1)], [Math.fround(0.2)], [Math.fround(0.004)]])
})

test('assign copies and addInto adds in place, wrapping for i32', (t) => {
  for (const dtype of ['f32', 'f64', 'i32'] as const) {
    const pair: Given[] = [[dtype, [3], [1, 2, 3]], [dtype, [3], [10, 20, 30]]] // prettier-ignore
    t.deepEqual(evaluate('assign', pair).inputs[0], [10, 20, 30])
    t.deepEqual(evaluate('addInto', pair).inputs[0], [11, 22, 33])
  }
  t.deepEqual(evaluate('assign', [['bool', [2], [1, 0]], ['bool', [2], [0, 1]]]).inputs[0], [0, 1]) // prettier-ignore
  const most = 2 ** 31 - 1
  t.deepEqual(evaluate('addInto', [['i32', [1], [most]], ['i32', [1], [1]]]).inputs[0], [-most - 1]) // prettier-ignore
  t.deepEqual(evaluate('addInto', [['f32', [0], []], ['f32', [0], []]]).inputs[0], []) // prettier-ignore
})
