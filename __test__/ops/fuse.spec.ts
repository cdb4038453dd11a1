/**
 * Fused against unfused, bit for bit on each device: chains of elementwise operations, whole training steps, and an
 * activation inside a layer against the activation after it.
 */

import {
  type ActivationName,
  type Device,
  type Tensor,
  TilegradError,
  type TypedArray,
  gelu,
  linear,
  nn,
  openDevice,
  optim,
  scope,
  tensor,
  where,
} from '../../ts/index.ts'
import * as tilegrad from '../../ts/index.ts'
import { differentBits } from '../helpers/compare.ts'
import { generator, random, upload } from '../helpers/data.ts'
import { onDevices, open } from '../helpers/devices.ts'
import { ACTIVATION_FORMULAS } from '../helpers/formulas.ts'

/** Which NaN comes of two is open: compilers may swap what they add. */
function oneNaN(data: TypedArray): TypedArray {
  return data instanceof Float32Array ? data.map((value) => (Number.isNaN(value) ? NaN : value)) : data
}

type Run = (device: Device) => readonly Tensor[]

/** The first difference between a device that fuses and one that does not. */
async function difference(kind: Device['kind'], run: Run): Promise<string | null> {
  const results = await Promise.all(
    [{ kind }, { kind, fuse: false }].map(async (options) => {
      const device = await open(options)
      return Promise.all(scope(() => run(device)).map((x) => x.data()))
    }),
  )
  const [fused, single] = results as [Awaited<ReturnType<Tensor['data']>>[], Awaited<ReturnType<Tensor['data']>>[]]
  for (const [i, data] of fused.entries()) {
    const different = differentBits(oneNaN(data), oneNaN(single[i]!))
    if (different !== null) return `result ${i}: ${different}`
  }
  return null
}

const CHAINS: Readonly<Record<string, Run>> = {
  'a chain of unary operations': (device) => [
    upload(random('f32', [1009]), device)
      .square()
      .add(0.5)
      .sqrt()
      .log()
      .tanh()
      .exp()
      .reciprocal()
      .neg(),
  ],
  'a chain over stretched operands': (device) => {
    const x = upload(random('f32', [33, 257]), device)
    const row = upload(random('f32', [257], { salt: 1 }), device)
    const column = upload(random('f32', [33, 1], { salt: 2 }), device)
    return [x.mul(row).add(column).sub(row.mul(column)).maximum(x).div(row.square().add(1)).sigmoid()]
  },
  'a chain whose middle is needed too': (device) => {
    const x = upload(random('f32', [4097]), device)
    const middle = x.mul(1.1).add(0.3)
    return [middle, middle.gelu().mul(middle), middle.silu()]
  },
  'comparisons, logic and selection': (device) => {
    const x = upload(random('f32', [17, 31]), device)
    const y = upload(random('f32', [31], { salt: 1 }), device)
    const mask = x.greater(y).logicalAnd(x.abs().less(1.5)).logicalOr(y.isFinite().logicalNot())
    return [where(mask, x.mul(y), y.clip(-0.5, 0.5)), mask, mask.cast('f32').add(x), x.mul(3).cast('i32').mul(2)]
  },
  'a chain that becomes smaller and larger again': (device) => {
    const x = upload(random('f32', [31, 65]), device)
    const centred = x.sub(x.mean(1, { keepDims: true }))
    return [
      centred
        .div(centred.square().mean(1, { keepDims: true }).add(1e-5).sqrt())
        .mul(2)
        .add(1),
    ]
  },
  'reductions of chains': (device) =>
    [[1009], [7, 1031], [300, 37], [5, 33, 40], [2, 0, 3], [1, 1], [1100, 3]].flatMap((shape) => {
      const a = upload(random('f32', shape), device)
      const b = upload(random('f32', shape.slice(1), { salt: 1 }), device)
      const column = upload(random('f32', [shape[0]!, ...shape.slice(1).map(() => 1)], { salt: 2 }), device)
      const terms = (): Tensor => a.sub(b).square().mul(column).add(0.5)
      const axes = [undefined, ...shape.keys()]
      return axes.flatMap((axis) => [
        terms().sum(axis),
        terms().mean(axis),
        ...(shape.includes(0) ? [] : [terms().neg().max(axis), terms().mul(a.sign()).min(axis)]),
      ])
    }),
  'chains behind products': (device) =>
    [
      [1, 5, 3],
      [33, 65, 31],
      [64, 1, 257],
      [7, 0, 16],
      [0, 4, 5],
      [130, 300, 4],
      [300, 40, 520],
    ].flatMap(([m, k, n]) => {
      const x = upload(random('f32', [m!, k!]), device)
      const w = upload(random('f32', [k!, n!], { salt: 1 }), device)
      const row = upload(random('f32', [n!], { salt: 2 }), device)
      const column = upload(random('f32', [m!, 1], { salt: 3 }), device)
      const mask = upload(random('f32', [m!, n!], { salt: 4 }), device)
      const kept = x.matmul(w).mul(0.5)
      return [
        x.matmul(w).gelu().mul(mask).add(row),
        linear(x, w, row, { activation: 'relu' }).mul(column).sub(mask),
        linear(x, w).greater(row),
        x.matmul(w).cast('i32').add(1),
        kept,
        kept.exp().add(mask),
        x.matmul(w).sub(mask).square().mean(),
      ]
    }),
  'chains behind batched products': (device) => {
    const q = upload(random('f32', [3, 2, 17, 8]), device)
    const k = upload(random('f32', [3, 1, 19, 8], { salt: 1 }), device)
    const mask = upload(random('f32', [17, 19], { salt: 2 }), device)
    const scores = q.matmul(k, { transposeB: true })
    return [scores.mul(0.3).add(mask), q.matmul(k, { transposeB: true }).add(mask).softmax()]
  },
  'nothing and one': (device) =>
    [[0], [1], [], [3, 0]].map((shape) => upload(random('f32', shape), device).mul(2).add(1).exp()),
  'special values': (device) => {
    const x = tensor([0, -0, NaN, Infinity, -Infinity, 1e-42, 3e38], { device })
    return [x.mul(2).add(1).relu(), x.exp().sub(1).abs().sqrt(), x.maximum(0).minimum(1).sign(), x.square().log1p()]
  },
}

for (const [title, run] of Object.entries(CHAINS)) {
  onDevices(`${title}: fused as one by one`, async (t, { kind }) => {
    t.is(await difference(kind, run), null)
  })
}

/** Functions that compilers know laws of: √x·√x = |x|, 1 ÷ (1 ÷ x) = x, x − x = 0, none of which holds of rounded numbers. */
const LAWFUL: Readonly<Record<string, (x: Tensor) => Tensor>> = {
  neg: (x) => x.neg(),
  abs: (x) => x.abs(),
  square: (x) => x.square(),
  sqrt: (x) => x.sqrt(),
  rsqrt: (x) => x.rsqrt(),
  reciprocal: (x) => x.reciprocal(),
  exp: (x) => x.exp(),
  log: (x) => x.log(),
  erf: (x) => x.erf(),
  whole: (x) => x.clip(-1e9, 1e9).cast('i32').cast('f32'),
  third: (x) => x.div(3),
  thrice: (x) => x.mul(3),
  shift: (x) => x.add(0.1),
  twice: (x) => x.add(x),
  nothing: (x) => x.sub(x.relu()),
  one: (x) => x.relu().div(x.relu()),
  either: (x) => where(x.greater(0), x, x.neg()),
}

onDevices('what compilers could simplify has the bits of one after the other', async (t, { kind }) => {
  const special = [0, -0, NaN, Infinity, -Infinity, 1e-42, -1e-20, 1e20, 3e38, -3e38, 16_777_217, 2 ** 31]
  for (const [name, first] of Object.entries(LAWFUL)) {
    const run: Run = (device) => {
      const x = tensor([...special, ...random('f32', [500]).values], { device })
      return Object.values(LAWFUL).map((second) => second(first(x)))
    }
    t.is(await difference(kind, run), null, name)
  }
})

const UNARY = [
  'neg',
  'abs',
  'square',
  'exp',
  'tanh',
  'sigmoid',
  'relu',
  'gelu',
  'softplus',
  'erf',
  'floor',
  'expm1',
  'sign',
  'elu',
  'sqrt',
  'rsqrt',
  'reciprocal',
  'log',
  'log1p',
  'silu',
] as const
const BINARY = ['add', 'sub', 'mul', 'maximum', 'minimum', 'div'] as const

/** A random program of elementwise operations over tensors that broadcast; some results are kept, some are temporaries. */
function randomProgram(seed: number): Run {
  return (device) => {
    const next = generator(seed)
    const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)]!
    const shapes = [[5, 33], [33], [5, 1], [], [1, 33]]
    const values = shapes.map((shape, i) => upload(random('f32', shape, { salt: seed + i }), device))
    const kept: Tensor[] = []
    for (let i = 0; i < 24; i++) {
      const made =
        next() < 0.5 ? tilegrad[pick(UNARY)](pick(values)) : tilegrad[pick(BINARY)](pick(values), pick(values))
      // Keeps magnitudes from running away.
      const tame = made.tanh()
      values.push(tame)
      if (next() < 0.3) kept.push(tame)
    }
    return [...kept, values.at(-1)!]
  }
}

onDevices('random elementwise programs: fused as one by one', async (t, { kind }) => {
  for (let seed = 1; seed <= 40; seed++) t.is(await difference(kind, randomProgram(seed)), null, `seed ${seed}`)
})

/** A random program of products and reductions with elementwise operations between them. */
function randomMixture(seed: number): Run {
  return (device) => {
    const next = generator(seed)
    const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)]!
    const sizes = [1, 5, 16, 33]
    const make = (shape: number[]): Tensor => upload(random('f32', shape, { salt: Math.floor(next() * 1e6) }), device)
    let x = make([pick(sizes), pick(sizes)])
    const kept: Tensor[] = []
    for (let i = 0; i < 12; i++) {
      const [rows, columns] = x.shape as [number, number]
      const width = pick(sizes)
      x = pick([
        () =>
          linear(
            x,
            make([columns, width]),
            make([width]),
            pick([{}, { activation: 'relu' }, { activation: 'tanh' }] as const),
          ),
        () => make([width, rows]).matmul(x),
      ])()
      const shape = pick([x.shape, [x.shape[1]!], [x.shape[0]!, 1], []])
      for (let n = Math.floor(next() * 4); n > 0; n--) {
        x = next() < 0.5 ? tilegrad[pick(UNARY)](x) : tilegrad[pick(BINARY)](x, make([...shape]))
        x = x.tanh()
        if (next() < 0.1) kept.push(x)
      }
      const reduced = x.mul(make([...shape]))[pick(['sum', 'mean', 'max', 'min'] as const)](pick([0, 1, undefined]))
      if (next() < 0.7) kept.push(reduced)
      if (reduced.size === 1 && next() < 0.5) x = x.mul(reduced.reshape([1]).tanh())
    }
    return [...kept, x]
  }
}

onDevices('random programs of products and reductions: fused as one by one', async (t, { kind }) => {
  for (let seed = 1; seed <= (kind === 'gpu' ? 10 : 40); seed++) {
    t.is(await difference(kind, randomMixture(seed)), null, `seed ${seed}`)
  }
})

/** Some steps of training; gives the loss and every parameter. */
function train(device: Device, make: (p: Tensor[]) => optim.Optimizer): Tensor[] {
  const shapes = [[20, 31], [31], [31, 10], [10]]
  const parameters = shapes.map((shape, i) =>
    upload(random('f32', shape, { low: -0.3, high: 0.3, salt: i }), device, true),
  )
  const [w1, b1, w2, b2] = parameters as [Tensor, Tensor, Tensor, Tensor]
  const x = upload(random('f32', [17, 20]), device)
  const targets = tensor(
    Int32Array.from({ length: 17 }, (_, i) => i % 10),
    { device },
  )
  const optimizer = make(parameters)
  let loss = tensor(0, { device })
  for (let step = 0; step < 3; step++) {
    optimizer.zeroGrad()
    const hidden = gelu(linear(x, w1, b1))
      .mul(1.5)
      .add(linear(x, w1, b1, { activation: 'tanh' }))
    loss = nn.crossEntropy(linear(hidden, w2, b2), targets)
    loss.backward()
    optimizer.step()
  }
  return [loss, ...parameters]
}

onDevices('training is the same to the bit with and without fusion', async (t, { kind }) => {
  t.is(await difference(kind, (device) => train(device, (p) => new optim.AdamW(p, { lr: 0.01 }))), null)
  t.is(await difference(kind, (device) => train(device, (p) => new optim.SGD(p, { lr: 0.1, momentum: 0.9 }))), null)
})

onDevices('a layer with an activation has the bits of the layer and then the activation', async (t, device) => {
  for (const [m, k, n] of [
    [33, 65, 31],
    [1, 257, 129],
    [64, 0, 16],
  ] as const) {
    const x = upload(random('f32', [m, k], { salt: 1 }), device)
    const w = upload(random('f32', [k, n], { salt: 2 }), device)
    const b = upload(random('f32', [n], { salt: 3 }), device)
    for (const name of Object.keys(ACTIVATION_FORMULAS) as ActivationName[]) {
      const apply = name === 'geluTanh' ? (z: Tensor): Tensor => gelu(z, { approximate: 'tanh' }) : tilegrad[name]
      for (const bias of [b, null]) {
        const fused = await linear(x, w, bias, { activation: name }).data()
        const after = await apply(linear(x, w, bias)).data()
        t.is(differentBits(fused, after), null, `${name} of [${m}, ${k}, ${n}]${bias === null ? '' : ' with bias'}`)
      }
    }
  }
})

onDevices('fuse takes true or false', async (t, { kind }) => {
  await t.throwsAsync(openDevice({ kind, fuse: 1 as never }), { instanceOf: TilegradError, code: 'ERR_ARGUMENT' })
})
