/** The generator itself, below tensors and devices: vectors of its publication, determinism, bounds, distribution. */

import test from 'ava'

import { Philox, SITES, nextDraw, philox, splitSeed } from '../../ts/random.ts'
import { manualSeed } from '../../ts/index.ts'
import { codeOf } from '../helpers/errors.ts'

const hex = (words: Uint32Array): string => Array.from(words, (w) => w.toString(16).padStart(8, '0')).join(' ')
const ALL = 0xffff_ffff

test('Philox 4x32-10 gives the known answers', (t) => {
  t.is(hex(philox(0, 0, 0, 0, 0, 0)), '6627e8d5 e169c58d bc57ac4c 9b00dbd8')
  t.is(hex(philox(ALL, ALL, ALL, ALL, ALL, ALL)), '408f276d 41c83b0e a20bc7c6 6d5451fd')
  const pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344, 0xa409_3822, 0x299f_31d0] as const
  t.is(hex(philox(...pi)), 'd16cfe09 94fdcceb 5001e420 24126ea1')
})

test('Philox agrees with one written in big integers', (t) => {
  const reference = (counter: readonly number[], key: readonly number[]): string => {
    let [c0, c1, c2, c3] = counter.map(BigInt) as [bigint, bigint, bigint, bigint]
    let [k0, k1] = key.map(BigInt) as [bigint, bigint]
    const mask = 0xffff_ffffn
    for (let round = 0; round < 10; round++) {
      const p0 = 0xd251_1f53n * c0
      const p1 = 0xcd9e_8d57n * c2
      ;[c0, c1, c2, c3] = [(p1 >> 32n) ^ c1 ^ k0, p1 & mask, (p0 >> 32n) ^ c3 ^ k1, p0 & mask]
      k0 = (k0 + 0x9e37_79b9n) & mask
      k1 = (k1 + 0xbb67_ae85n) & mask
    }
    return [c0, c1, c2, c3].map((c) => c.toString(16).padStart(8, '0')).join(' ')
  }
  const source = new Philox({ site: 7 }, [1, 2])
  for (let i = 0; i < 500; i++) {
    const [a, b, c, d, e, f] = Array.from({ length: 6 }, () => source.next()) as [
      number,
      number,
      number,
      number,
      number,
      number,
    ]
    t.is(hex(philox(a, b, c, d, e, f)), reference([a, b, c, d], [e, f]))
  }
})

test('lanes and blocks follow index, row, site and draw', (t) => {
  const stream = new Philox({ row: 3, site: 5, draw: 9 }, [11, 12])
  for (let block = 0; block < 3; block++) {
    t.is(hex(Uint32Array.from({ length: 4 }, () => stream.next())), hex(philox(block, 3, 5, 9, 11, 12)))
  }
})

test('the first four kept elements of a dropout of one half are as documented', (t) => {
  // Seed 0, site 0, draw 0, row 0, p = 0.5: dropped, kept, kept, kept.
  const stream = new Philox({ site: 0 }, [0, 0])
  t.deepEqual(
    Array.from({ length: 4 }, () => stream.next() >>> 8 >= 2 ** 23),
    [false, true, true, true],
  )
})

test('manualSeed repeats a sequence, and another seed gives another one', (t) => {
  const take = (seed: number): number[] => {
    manualSeed(seed)
    const random = new Philox({ site: SITES.user, draw: nextDraw(SITES.user) })
    return Array.from({ length: 16 }, () => random.next())
  }
  const first = take(42)
  t.deepEqual(take(42), first)
  t.notDeepEqual(take(43), first)
  // The high word of the seed counts too.
  t.notDeepEqual(take(42 + 2 ** 32), first)
})

test('manualSeed starts the draws of every site anew', (t) => {
  manualSeed(1)
  t.deepEqual([nextDraw(1), nextDraw(1), nextDraw(2)], [0, 1, 0])
  manualSeed(1)
  t.deepEqual([nextDraw(1), nextDraw(2)], [0, 0])
})

test('a seed is a whole number from 0 to 2⁵³ − 1', (t) => {
  for (const wrong of [-1, 0.5, Number.NaN, Infinity, 2 ** 53, '1', null, undefined, 1n]) {
    t.is(
      codeOf(() => manualSeed(wrong as number)),
      'ERR_ARGUMENT',
      String(wrong),
    )
  }
  t.deepEqual(splitSeed('test', 2 ** 53 - 1), [ALL, 2 ** 21 - 1])
})

test('uniform numbers are multiples of 2⁻²⁴ in [0, 1) with the moments of a uniform distribution', (t) => {
  const random = new Philox({ site: 1 }, [3, 4])
  const count = 100_000
  let sum = 0
  let squares = 0
  for (let i = 0; i < count; i++) {
    const u = random.uniform()
    if (!(u >= 0 && u < 1 && Number.isInteger(u * 2 ** 24))) t.fail(`${u}`)
    sum += u
    squares += u * u
  }
  // Five standard deviations of the mean and of the second moment.
  t.true(Math.abs(sum / count - 1 / 2) < 5 * Math.sqrt(1 / 12 / count))
  t.true(Math.abs(squares / count - 1 / 3) < 5 * Math.sqrt(4 / 45 / count))
})

test('below(n) stays below n and visits every value equally often', (t) => {
  const random = new Philox({ site: 2 }, [5, 6])
  for (const n of [1, 2, 3, 7, 10, 1000]) {
    const perValue = Math.max(200, Math.floor(20_000 / n))
    const counts = new Float64Array(n)
    for (let i = 0; i < n * perValue; i++) {
      const value = random.below(n)
      if (!(Number.isInteger(value) && value >= 0 && value < n)) t.fail(`${value} for ${n}`)
      counts[value]!++
    }
    // Chi-squared with n − 1 degrees of freedom: mean n − 1, variance 2(n − 1).
    const chi = counts.reduce((sum, c) => sum + (c - perValue) ** 2 / perValue, 0)
    t.true(Math.abs(chi - (n - 1)) <= 5 * Math.sqrt(2 * (n - 1)), `n ${n}: chi² ${chi}`)
  }
})

test('below(n) does not favour the low values of a large n', (t) => {
  // Without rejection every third value would come twice as often as the others.
  const n = 3 * 2 ** 30
  const random = new Philox({ site: 3 }, [7, 8])
  const thirds = [0, 0, 0]
  const draws = 30_000
  for (let i = 0; i < draws; i++) thirds[random.below(n) % 3]!++
  for (const third of thirds) t.true(Math.abs(third - draws / 3) < 5 * Math.sqrt(draws * (2 / 9)), `${third}`)
})

test('normals have the moments of the normal distribution, are finite and uncorrelated', (t) => {
  const random = new Philox({ site: 4 }, [9, 10])
  const pairs = 100_000
  const moments = [0, 0, 0, 0]
  let product = 0
  let largest = 0
  for (let i = 0; i < pairs; i++) {
    const [a, b] = random.normals()
    if (!(Number.isFinite(a) && Number.isFinite(b))) t.fail(`${a} ${b}`)
    largest = Math.max(largest, Math.abs(a), Math.abs(b))
    product += a * b
    for (let k = 0; k < 4; k++) moments[k]! += a ** (k + 1) + b ** (k + 1)
  }
  const count = 2 * pairs
  const within = (value: number, mean: number, variance: number): boolean =>
    Math.abs(value / count - mean) < 5 * Math.sqrt(variance / count)
  // Variances of x, x², x³ and x⁴ of a standard normal x: 1, 2, 15, 96.
  t.true(within(moments[0]!, 0, 1))
  t.true(within(moments[1]!, 1, 2))
  t.true(within(moments[2]!, 0, 15))
  t.true(within(moments[3]!, 3, 96))
  t.true(Math.abs(product / pairs) < 5 / Math.sqrt(pairs))
  t.true(largest > 3.8 && largest < 6, `${largest}`)
})
