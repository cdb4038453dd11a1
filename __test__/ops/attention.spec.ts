/**
 * Masked softmax and attention: what masks leave out contributes nothing, whatever it holds; rows are rows. Values and
 * gradients beside PyTorch's are in `golden/attention.spec.ts`.
 */

import type { ExecutionContext } from 'ava'
import {
  type AttentionOptions,
  type Device,
  type Tensor,
  compile,
  concat,
  grad,
  manualSeed,
  scaledDotProductAttention,
  slice,
  softmax,
  tensor,
  where,
  zeros,
} from '../../ts/index.ts'
import { agree } from '../helpers/compiled.ts'
import { differentBits } from '../helpers/compare.ts'
import { random, upload } from '../helpers/data.ts'
import { DEVICES, JS, onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { gradcheck } from '../helpers/gradcheck.ts'
import { near, values } from '../helpers/values.ts'

const X = [
  [0.5, NaN, -1, 2],
  [NaN, Infinity, -Infinity, 1],
  [1, 2, 3, 4],
  [-3.4e38, 1, -3.4e38, NaN],
  // The lowest number there is.
  [-(2 - 2 ** -23) * 2 ** 127, 3, -(2 - 2 ** -23) * 2 ** 127, -Infinity],
]
const MASK = [
  [true, false, true, true],
  [false, false, false, false],
  [true, true, true, true],
  [true, false, true, false],
  [true, false, true, false],
]

function expected(log: boolean): number[] {
  return X.flatMap((row, i) => {
    const within = row.filter((_, j) => MASK[i]![j])
    const highest = Math.max(...within)
    const total = within.reduce((sum, x) => sum + Math.exp(x - highest), 0)
    return row.map((x, j) => {
      if (!MASK[i]![j]) return 0
      return log ? x - highest - Math.log(total) : Math.exp(x - highest) / total
    })
  })
}

for (const how of ['eager', 'compiled'] as const) {
  onDevices(
    `what a mask leaves out of a softmax may hold anything, and gets no gradient, ${how}`,
    async (t, device) => {
      const x = tensor(X, { device })
      const mask = tensor(MASK, { device })
      const weights = upload(random('f32', [5, 4]), device)
      for (const op of ['softmax', 'logSoftmax'] as const) {
        const body = (x: Tensor): Tensor[] => [
          x[op](-1, { mask }),
          x.transpose()[op](0, { mask: mask.transpose() }).transpose(),
          grad((x) => x.softmax(-1, { mask })[op === 'softmax' ? 'mul' : 'add'](weights).mul(weights).sum())(x)[0]!,
        ]
        const [rows, columns, slope] = (how === 'compiled' ? compile(body) : body)(x) as [Tensor, Tensor, Tensor]
        near(t, [...(await rows.data())], expected(op === 'logSoftmax'), 1e-6)
        near(t, [...(await columns.data())], expected(op === 'logSoftmax'), 1e-6)
        const got = [...(await slope.data())]
        MASK.flat().forEach((within, i) => (within ? t.true(Number.isFinite(got[i]!)) : t.is(got[i]!, 0)))
      }
    },
  )
}

for (const how of ['eager', 'compiled'] as const) {
  onDevices(
    `a masked softmax of −∞ alone is NaN where the mask is, as it is without the rest, ${how}`,
    async (t, device) => {
      const x = tensor(
        [
          [-Infinity, 5, -Infinity, 7],
          [-Infinity, -Infinity, -Infinity, -Infinity],
        ],
        { device },
      )
      const mask = tensor(
        [
          [true, false, true, false],
          [true, true, true, true],
        ],
        { device },
      )
      for (const op of ['softmax', 'logSoftmax'] as const) {
        const body = (x: Tensor): Tensor[] => [
          x[op](-1, { mask }),
          x.transpose()[op](0, { mask: mask.transpose() }).transpose(),
          x.add(-Infinity)[op](-1),
        ]
        const [rows, columns, whole] = (how === 'compiled' ? compile(body) : body)(x) as [Tensor, Tensor, Tensor]
        for (const y of [rows, columns]) t.deepEqual(await values(y), [NaN, 0, NaN, 0, NaN, NaN, NaN, NaN], op)
        t.deepEqual(
          await values(whole),
          Array.from({ length: 8 }, () => NaN),
          op,
        )
      }
    },
  )
}

onDevices('a mask of all changes nothing, and a mask stretches', async (t, device) => {
  const x = upload(random('f32', [3, 5, 7]), device)
  const all = tensor([[true]], { device })
  // One more rounding: of the distance from the largest.
  near(t, [...(await softmax(x, 1, { mask: all }).data())], [...(await softmax(x, 1).data())], 1e-6)
  const some = tensor([true, false, true, false, true, true, false], { device })
  const wide = some.expand([3, 5, 7])
  const [a, b] = [softmax(x, -1, { mask: some }), softmax(x, -1, { mask: wide })]
  t.is(differentBits(await a.data(), await b.data()), null)
})

onDevices('gradients of masked softmax and of attention are those of differences', (t) => {
  if (JS === undefined) return
  const mask = random('bool', [2, 3, 4])
  for (const op of ['softmax', 'logSoftmax'] as const) {
    for (const path of ['fused', 'decomposed'] as const) {
      const x = random('f64', [2, 3, 4])
      t.is(
        gradcheck(([x, mask]) => [x![op](-1, { mask: mask! })], [x, mask], JS, path),
        null,
        `${op}, ${path}`,
      )
    }
  }
  const qkv = [
    [2, 2, 3, 4],
    [2, 2, 5, 4],
    [2, 2, 5, 3],
  ].map((shape, salt) => random('f64', shape, { salt }))
  const ids = tensor(
    [
      [1, 1, 2, 0, 2],
      [0, 0, 0, 0, 0],
    ],
    { dtype: 'i32', device: JS },
  )
  const queries = slice(ids, [0, 0], [2, 3])
  for (const options of [{}, { causal: true }, { segmentIds: [queries, ids] as const }]) {
    const fn = ([q, k, v]: readonly Tensor[]): Tensor[] => [scaledDotProductAttention(q!, k!, v!, options)]
    for (const path of ['fused', 'decomposed'] as const)
      t.is(gradcheck(fn, qkv, JS, path), null, `${Object.keys(options).join()} ${path}`)
  }
})

function qkv(device: Device, batch: readonly number[], length: number, salt = 0): Tensor[] {
  return [0, 1, 2].map((i) => upload(random('f32', [...batch, length, 8], { salt: salt * 3 + i }), device))
}

onDevices('a row of a batch has the bits that it has alone', async (t, device) => {
  const [q, k, v] = qkv(device, [5, 2], 33) as [Tensor, Tensor, Tensor]
  const all = await scaledDotProductAttention(q, k, v, { causal: true }).data()
  for (const i of [0, 1, 4]) {
    const [a, b, c] = [q, k, v].map((x) => slice(x, [i, 0, 0, 0], [1, 2, 33, 8])) as [Tensor, Tensor, Tensor]
    const one = await scaledDotProductAttention(a, b, c, { causal: true }).data()
    t.is(differentBits(one, all.slice(i * one.length, (i + 1) * one.length)), null)
  }
})

/** NaN behind a sequence. */
function padded(x: Tensor, length: number): Tensor {
  const shape = [...x.shape.slice(0, -2), length - x.shape.at(-2)!, x.shape.at(-1)!]
  return concat([x, zeros(shape, { device: x.device }).div(0)], -2)
}

onDevices('longer padding changes no bit of what is real, and padding may hold anything', async (t, device) => {
  const real = qkv(device, [3, 2], 21)
  const results: { y: Tensor; slopes: Tensor[] }[] = []
  for (const length of [24, 40, 300]) {
    const ids = tensor(
      Array.from({ length: 3 }, () => Array.from({ length }, (_, i) => (i < 21 ? 1 : 0))),
      { dtype: 'i32', device },
    )
    const keys = ids.greater(0).reshape([3, 1, 1, length])
    for (const masks of [{ segmentIds: ids }, { mask: keys.logicalAnd(keys.reshape([3, 1, length, 1])) }]) {
      const attend = (...x: readonly Tensor[]): Tensor => {
        const [q, k, v] = x.map((x) => padded(x, length)) as [Tensor, Tensor, Tensor]
        return scaledDotProductAttention(q, k, v, masks)
      }
      const y = attend(...real)
      const tail = slice(y, [0, 0, 21, 0], [3, 2, length - 21, 8])
      t.true([...(await tail.data())].every((x) => x === 0))
      const slopes = grad((...x) =>
        attend(...x)
          .square()
          .sum(),
      )(...real)
      results.push({ y: slice(y, [0, 0, 0, 0], [3, 2, 21, 8]), slopes })
    }
  }
  const [first, ...others] = results
  for (const other of others) {
    t.is(differentBits(await other.y.data(), await first!.y.data()), null)
    for (const [i, slope] of other.slopes.entries()) {
      const [got, want] = [await slope.data(), await first!.slopes[i]!.data()]
      t.is(differentBits(got, want), null, `gradient ${i}`)
    }
  }
})

onDevices('segments of a packed row attend as if they were alone', async (t, device) => {
  const parts = [qkv(device, [1, 2], 5, 1), qkv(device, [1, 2], 7, 2)]
  const [q, k, v] = [0, 1, 2].map((i) => concat([parts[0]![i]!, parts[1]![i]!, zeros([1, 2, 3, 8], { device })], -2))
  const ids = tensor([[1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0]], { dtype: 'i32', device })
  const packed = scaledDotProductAttention(q!, k!, v!, { segmentIds: ids, causal: true })
  let at = 0
  for (const [a, b, c] of parts as [Tensor, Tensor, Tensor][]) {
    const alone = scaledDotProductAttention(a, b, c, { causal: true })
    const length = a.shape[2]!
    const part = await slice(packed, [0, 0, at, 0], [1, 2, length, 8]).data()
    near(t, [...part], [...(await alone.data())], 1e-6)
    at += length
  }
})

onDevices('eager and compiled attention agree, with dropout too', async (t, device) => {
  const [q, k, v] = qkv(device, [2, 2], 9) as [Tensor, Tensor, Tensor]
  const attend = (q: Tensor, k: Tensor, v: Tensor): Tensor =>
    grad((q) => scaledDotProductAttention(q, k, v, { causal: true, dropout: 0.4 }).square().sum())(q)[0]!
  const compiled = compile(attend)
  manualSeed(4)
  const eager = [attend(q, k, v), attend(q, k, v)]
  manualSeed(4)
  const again = [compiled(q, k, v), compiled(q, k, v)]
  for (const i of [0, 1]) await agree(t, again[i]!, eager[i]!, `call ${i}`)
  t.not(differentBits(await eager[0]!.data(), await eager[1]!.data()), null)
})

onDevices('attention over no keys, of no queries and of no features is defined', async (t, device) => {
  const shapes = [
    [
      [2, 3, 4],
      [2, 0, 4],
      [2, 0, 5],
    ],
    [
      [2, 0, 4],
      [2, 3, 4],
      [2, 3, 5],
    ],
    [
      [2, 3, 0],
      [2, 3, 0],
      [2, 3, 5],
    ],
    [
      [0, 3, 4],
      [0, 3, 4],
      [0, 3, 5],
    ],
  ]
  for (const [a, b, c] of shapes) {
    for (const causal of [false, true]) {
      const ones = tensor(true, { device })
      for (const masks of [{ causal }, { causal, mask: ones }]) {
        const inputs = [zeros(a!, { device }), zeros(b!, { device }), zeros(c!, { device }).add(1)] as const
        const y = scaledDotProductAttention(...inputs, masks)
        t.deepEqual(y.shape, [a![0]!, a![1]!, 5])
        const want = b![1] === 0 ? 0 : 1
        t.true([...(await y.data())].every((x) => Math.abs(x - want) < 1e-6))
      }
    }
  }
})

function refused(t: ExecutionContext, device: Device): void {
  const x = zeros([2, 3, 4], { device })
  const attend =
    (options: object, k = x, v = x) =>
    () =>
      scaledDotProductAttention(x, k, v, options)
  const i32 = (shape: number[]): Tensor => zeros(shape, { device, dtype: 'i32' })
  for (const fn of [
    attend({}, zeros([2, 3, 5], { device })),
    attend({}, x, zeros([2, 2, 4], { device })),
    attend({}, zeros([4], { device })),
    attend({}, zeros([3, 3, 4], { device })),
    attend({ mask: zeros([4, 3], { device }) }),
    attend({ segmentIds: i32([2, 4]) }),
    attend({ segmentIds: i32([3, 3]) }),
    () => softmax(x, -1, { mask: zeros([5], { device, dtype: 'bool' }) }),
  ])
    t.is(codeOf(fn), 'ERR_SHAPE')
  for (const fn of [
    attend({}, i32([2, 3, 4])),
    attend({ mask: i32([3, 3]) }),
    attend({ segmentIds: zeros([2, 3], { device }) }),
    () => softmax(x, -1, { mask: x }),
  ])
    t.is(codeOf(fn), 'ERR_DTYPE')
  for (const options of [{ scale: NaN }, { dropout: 2 }, { causal: 1 }]) t.is(codeOf(attend(options)), 'ERR_ARGUMENT')
  t.throws(() => softmax(x, -1, { masks: x } as object), {
    message: "softmax: there is no option 'masks'; there are mask",
  })
  const other = DEVICES.find((d) => d !== device)
  if (other !== undefined)
    t.is(codeOf(attend({ mask: zeros([3, 3], { device: other, dtype: 'bool' }) })), 'ERR_DEVICE_MISMATCH')
}

onDevices('what does not fit is refused at once', refused)

/** Ways of keeping the last four of eleven positions from the first seven. */
function partings(device: Device): readonly (readonly [string, AttentionOptions])[] {
  const segmentIds = tensor([Array.from({ length: 11 }, (_, i) => (i < 7 ? 1 : 2))], { dtype: 'i32', device })
  const mask = segmentIds.reshape([1, 11, 1]).equal(segmentIds.reshape([1, 1, 11]))
  return [
    ['segments', { segmentIds }],
    ['segments in causal order', { segmentIds, causal: true }],
    ['a mask', { mask }],
    ['a mask that is added', { mask: where(mask, 0.5, tensor(-Infinity, { device })) }],
    ['causal order', { causal: true }],
  ]
}

for (const how of ['eager', 'compiled'] as const) {
  onDevices(
    `what a mask keeps apart stays apart, whatever it holds, forward and backward, ${how}`,
    async (t, device) => {
      const clean = qkv(device, [2], 11, 7)
      for (const [name, options] of partings(device)) {
        const body = (...x: readonly Tensor[]): Tensor[] => {
          const attend = (...[q, k, v]: readonly Tensor[]): Tensor => scaledDotProductAttention(q!, k!, v!, options)
          // What the last four come to does not count.
          const slopes = grad((...x) => slice(attend(...x), [0, 0, 0], [2, 7, 8]).square().sum())(...x) // prettier-ignore
          return [attend(...x), ...slopes]
        }
        const run = how === 'compiled' ? compile(body) : body
        const want = await Promise.all(run(...clean).map((x) => x.data()))
        for (const bad of [Number.NaN, Infinity, -Infinity]) {
          for (const spoilt of [[0], [1], [2], [0, 1, 2]]) {
            // One element of position 8, in the first example of two.
            const hole = tensor(Float32Array.from({ length: 176 }, (_, i) => (i === 8 * 8 + 3 ? bad : 0)), { shape: [2, 11, 8], device }) // prettier-ignore
            const given = clean.map((x, i) => (spoilt.includes(i) ? x.add(hole) : x))
            const [y, ...slopes] = await Promise.all(run(...given).map((x) => x.data()))
            const what = `${name}, ${bad} in ${spoilt.join()}`
            t.is(differentBits(y!.subarray(0, 56), want[0]!.subarray(0, 56)), null, what)
            t.is(differentBits(y!.subarray(88), want[0]!.subarray(88)), null, `${what}, the other example`)
            const keys = spoilt.some((i) => i > 0)
            for (let row = 7; row < 11; row++) {
              const meets = row === 8 || (keys && (row > 8 || options.causal !== true))
              const all = y!.subarray(row * 8, row * 8 + 8)
              t.true(meets ? all.every(Number.isNaN) : all.every(Number.isFinite), `${what}, row ${row}`)
            }
            for (const [i, slope] of slopes.entries()) {
              t.is(differentBits(slope, want[i + 1]!), null, `${what}, gradient ${i}`)
              t.true(slope.some((v) => v !== 0) && slope.every(Number.isFinite))
            }
          }
        }
      }
    },
  )
}

onDevices('a query that may attend to nothing gives 0, whatever it and the keys hold', async (t, device) => {
  const [q, k, v] = qkv(device, [1], 3).map((x) => x.mul(Number.NaN)) as [Tensor, Tensor, Tensor]
  // Each condition alone leaves the second query a key, both together none.
  const mask = tensor([[true, false, false], [false, false, true], [false, true, false]], { device }) // prettier-ignore
  const y = await scaledDotProductAttention(q, k, v, { mask, causal: true }).data()
  t.true(y.subarray(0, 8).every(Number.isNaN) && y.subarray(16).every(Number.isNaN))
  t.deepEqual([...y.subarray(8, 16)], [0, 0, 0, 0, 0, 0, 0, 0])
  // No key at all.
  const none = zeros([0, 8], { device })
  const body = (q: Tensor): Tensor => scaledDotProductAttention(q, none, none, { causal: true })
  for (const attend of [body, compile(body)])
    t.deepEqual(
      await values(attend(q)),
      Array.from({ length: 24 }, () => 0),
    )
})

onDevices('causal order with more queries than keys, and with fewer, keeps apart what it should', async (t, device) => {
  for (const [queries, keys] of [
    [9, 4],
    [4, 9],
    [1, 3],
  ] as const) {
    const [q] = qkv(device, [2, 3], queries, 1)
    const [, k, v] = qkv(device, [3], keys, 2)
    const clean = await scaledDotProductAttention(q!, k!, v!, { causal: true }).data()
    for (const at of [0, 2, keys - 1]) {
      // An infinite value of the last head alone.
      const hole = tensor(Float32Array.from({ length: 3 * keys * 8 }, (_, i) => (i === (2 * keys + at) * 8 ? Infinity : 0)), { shape: [3, keys, 8], device }) // prettier-ignore
      for (const [a, b] of [
        [k!.add(hole), v!],
        [k!, v!.sub(hole)],
      ] as const) {
        const y = await scaledDotProductAttention(q!, a, b, { causal: true }).data()
        y.forEach((value, i) => {
          const [head, query] = [Math.floor(i / queries / 8) % 3, Math.floor(i / 8) % queries]
          if (head === 2 && query >= at) t.true(Number.isNaN(value), `${queries} × ${keys}, ${at}: ${i}`)
          else t.is(value, clean[i]!, `${queries} × ${keys}, ${at}: ${i}`)
        })
      }
    }
  }
})
