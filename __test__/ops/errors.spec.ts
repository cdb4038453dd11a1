/**
 * What is not allowed: the same code and the same text on every device, thrown at the call, naming the operation and
 * what does not fit. After all of it a device works as before.
 */

import { inspect } from 'node:util'
import test from 'ava'
import * as tilegrad from '../../ts/index.ts'
import type { Device, ErrorCode, Tensor } from '../../ts/index.ts'
import { DEVICES, onDevices, open } from '../helpers/devices.ts'

const { add, arange, clip, concat, expand, full, gather, linear, matmul, pad, randn } = tilegrad
const { groupNorm, layerNorm, rmsNorm } = tilegrad
const { nn, optim, scatterAdd, scope, slice, sum, tensor, transpose, where, zeros } = tilegrad

/** A device, and zeros of a shape on it: floats, integers, booleans. */
class Place {
  readonly device: Device

  constructor(device: Device) {
    this.device = device
  }

  readonly f = (...shape: number[]): Tensor => zeros(shape, { device: this.device })
  readonly i = (...shape: number[]): Tensor => zeros(shape, { dtype: 'i32', device: this.device })
  readonly b = (...shape: number[]): Tensor => zeros(shape, { dtype: 'bool', device: this.device })
}

type Misuse = readonly [ErrorCode, RegExp, (place: Place) => unknown]

/** TypeScript would refuse it; JavaScript does not. */
function any(x: unknown): never {
  return x as never
}

const SHAPES: readonly Misuse[] = [
  ['ERR_SHAPE', /^add: shapes \[2, 3\] and \[4\] do not broadcast: 3 ≠ 4/, ({ f }) => add(f(2, 3), f(4))],
  ['ERR_SHAPE', /^where: shapes/, ({ f, b }) => where(b(2), f(3), 0)],
  ['ERR_SHAPE', /^linear: x \[2, 3\] and weight \[4, 5\] do not fit: 3 ≠ 4/, ({ f }) => linear(f(2, 3), f(4, 5))],
  ['ERR_SHAPE', /^linear: .*weight has to be \[in, out\]/, ({ f }) => linear(f(2, 3), f(3))],
  ['ERR_SHAPE', /^linear: x \[\]/, ({ f }) => linear(f(), f(1, 5))],
  ['ERR_SHAPE', /^linear: bias \[4\] .*: it has to be \[5\]/, ({ f }) => linear(f(2, 3), f(3, 5), f(4))],
  ['ERR_SHAPE', /^linear: bias \[1, 5\]/, ({ f }) => linear(f(2, 3), f(3, 5), f(1, 5))],
  ['ERR_SHAPE', /^matmul: a \[2, 3\] and b \[4, 5\] do not fit: 3 ≠ 4/, ({ f }) => matmul(f(2, 3), f(4, 5))],
  ['ERR_SHAPE', /^matmul: a \[2, 3\]ᵀ .*: 2 ≠ 3/, ({ f }) => matmul(f(2, 3), f(3, 5), { transposeA: true })],
  ['ERR_SHAPE', /^matmul: shapes \[2\] and \[3\] do not broadcast/, ({ f }) => matmul(f(2, 1, 1), f(3, 1, 1))],
  ['ERR_SHAPE', /^matmul: .*use mul\(\) for numbers/, ({ f }) => matmul(f(), f(3))],
  ['ERR_SHAPE', /^matmul: .*4 ≠ 3/, ({ f }) => matmul(f(4), f(3))],
  ['ERR_SHAPE', /^reshape: \[2, 3\] has 6 elements, \[4\] needs 4/, ({ f }) => f(2, 3).reshape([4])],
  ['ERR_SHAPE', /^reshape: .*may be -1/, ({ f }) => f(2, 3).reshape([-1, -1])],
  ['ERR_SHAPE', /^reshape: .*-1 in \[-1, 4\]/, ({ f }) => f(2, 3).reshape([-1, 4])],
  ['ERR_SHAPE', /^reshape: .*-1 in \[-1, 0\]/, ({ f }) => f(2, 0).reshape([-1, 0])],
  ['ERR_SHAPE', /^expand: \[2, 3\] does not stretch to \[2, 6\]/, ({ f }) => expand(f(2, 3), [2, 6])],
  ['ERR_SHAPE', /^expand: \[2, 3\] does not stretch to \[3\]/, ({ f }) => expand(f(2, 3), [3])],
  ['ERR_SHAPE', /^slice: 3 elements from 2 leave axis 0 of \[4\]/, ({ f }) => slice(f(4), [2], [3])],
  ['ERR_SHAPE', /^slice/, ({ f }) => slice(f(4), [-1])],
  ['ERR_SHAPE', /^slice/, ({ f }) => slice(f(4), [0.5])],
  ['ERR_SHAPE', /^concat: \[2, 3\] and \[2, 4\] differ outside axis 0/, ({ f }) => concat([f(2, 3), f(2, 4)])],
  ['ERR_SHAPE', /^concat: axis 0 is outside a tensor of rank 0/, ({ f }) => concat([f(), f()])],
  ['ERR_SHAPE', /^sum: axis 2 is outside a tensor of rank 2/, ({ f }) => sum(f(2, 3), 2)],
  ['ERR_SHAPE', /^softmax: axis -3 is outside/, ({ f }) => f(2, 3).softmax(-3)],
  [
    'ERR_SHAPE',
    /^layerNorm: x \[2, 3\] does not end with normalizedShape \[2\]/,
    ({ f }) => layerNorm(f(2, 3), { normalizedShape: 2 }),
  ],
  ['ERR_SHAPE', /^layerNorm: x \[3\] does not end with/, ({ f }) => layerNorm(f(3), { normalizedShape: [2, 3] })],
  ['ERR_SHAPE', /^layerNorm: normalizedShape \[\] names no axis/, ({ f }) => layerNorm(f(3), { normalizedShape: [] })],
  [
    'ERR_SHAPE',
    /^layerNorm: weight \[1, 3\] does not fit x \[2, 3\]: it has to be \[3\]/,
    ({ f }) => layerNorm(f(2, 3), { normalizedShape: 3, weight: f(1, 3) }),
  ],
  [
    'ERR_SHAPE',
    /^layerNorm: bias \[2\] .* it has to be \[3\]/,
    ({ f }) => layerNorm(f(2, 3), { normalizedShape: 3, bias: f(2) }),
  ],
  [
    'ERR_SHAPE',
    /^groupNorm: 4 channels do not fall into 3 groups; take a divisor of 4/,
    ({ f }) => groupNorm(f(2, 4, 5), { groups: 3 }),
  ],
  ['ERR_SHAPE', /^groupNorm: x \[4\] has no channels/, ({ f }) => groupNorm(f(4), { groups: 2 })],
  [
    'ERR_SHAPE',
    /^groupNorm: weight \[2\] .* it has to be \[4\]/,
    ({ f }) => groupNorm(f(2, 4, 5), { groups: 2, weight: f(2) }),
  ],
  ['ERR_SHAPE', /^rmsNorm: x \[2, 3\] does not end with/, ({ f }) => rmsNorm(f(2, 3), { normalizedShape: 4 })],
  ['ERR_SHAPE', /^max: an empty axis of \[2, 0\]/, ({ f }) => f(2, 0).max(1)],
  ['ERR_SHAPE', /^min: an empty axis of \[0\]/, ({ f }) => f(0).min()],
  ['ERR_SHAPE', /^topK: axis 1 of \[2, 3\] has 3 elements, fewer than k = 4; take k ≤ 3/, ({ f }) => f(2, 3).topK(4)],
  ['ERR_SHAPE', /^argmax: an empty axis of \[0, 3\]/, ({ f }) => f(0, 3).argmax(0)],
  ['ERR_SHAPE', /^gather: axis 1 is outside/, ({ f, i }) => gather(f(3), i(1), 1)],
  ['ERR_SHAPE', /^scatterAdd: updates \[2, 3\] have to be \[2, 4\]/, ({ f, i }) => scatterAdd(f(2, 3), i(2), [5, 4])],
  ['ERR_SHAPE', /^crossEntropy: logits \[2, 3\] and targets \[3\]/, ({ f, i }) => nn.crossEntropy(f(2, 3), i(3))],
  ['ERR_SHAPE', /^crossEntropy: logits \[\]/, ({ f, i }) => nn.crossEntropy(f(), i())],
  ['ERR_SHAPE', /^mse: prediction \[2\] and target \[1\] differ/, ({ f }) => nn.mse(f(2), f(1))],
  [
    'ERR_SHAPE',
    /^tensor: 3 values do not fill shape \[2, 2\]/,
    ({ device }) => tensor([1, 2, 3], { shape: [2, 2], device }),
  ],
  ['ERR_SHAPE', /ragged: 1 elements where axis 1 has 2/, ({ device }) => tensor([[1, 2], [3]], { device })],
  ['ERR_SHAPE', /ragged: 3 where axis 1 has 1/, ({ device }) => tensor([[1], 3], { device })],
  ['ERR_SHAPE', /ragged at depth 1/, ({ device }) => tensor([1, [2]], { device })],
  ['ERR_SHAPE', /9 dimensions are more than the 8/, ({ f }) => f(1, 1, 1, 1, 1, 1, 1, 1, 1)],
  ['ERR_SHAPE', /^gather: 9 dimensions/, ({ f, i }) => gather(f(1, 1, 1, 1), i(1, 1, 1, 1, 1, 1))],
  ['ERR_SHAPE', /whole numbers ≥ 0, not -1/, ({ f }) => f(2, -1)],
  ['ERR_SHAPE', /whole numbers ≥ 0, not 1\.5/, ({ f }) => f(1.5)],
  ['ERR_SHAPE', /whole numbers ≥ 0, not NaN/, ({ f }) => f(NaN)],
  ['ERR_SHAPE', /whole numbers ≥ 0, not '2'/, ({ f }) => f(any('2'))],
  ['ERR_SHAPE', /a shape is an array/, ({ device }) => zeros(any(3), { device })],
  ['ERR_SHAPE', /a shape is an array/, ({ f }) => f(2).reshape(any('2'))],
  ['ERR_SHAPE', /^item: .*\[2\]/, ({ f }) => f(2).item()],
  ['ERR_SHAPE', /^backward: the tensor has shape \[2\]/, ({ f }) => needing(f(2)).mul(2).backward()],
  [
    'ERR_SHAPE',
    /^backward: gradient \[3\] and tensor \[2\] differ/,
    ({ f }) =>
      needing(f(2))
        .mul(2)
        .backward({ gradient: f(3) }),
  ],
]

const WIDE = 2 ** 16

const TOO_LARGE: readonly Misuse[] = [
  ['ERR_SHAPE', /shape \[2147483648\] has 2147483648 elements/, ({ f }) => f(2 ** 31)],
  ['ERR_SHAPE', /above the limit/, ({ device }) => full([WIDE, WIDE], 1, { device })],
  ['ERR_SHAPE', /above the limit/, ({ device }) => randn([2 ** 40], { device })],
  ['ERR_SHAPE', /above the limit/, ({ f }) => f(0, 2 ** 33)],
  ['ERR_SHAPE', /^eye: .*above the limit/, ({ device }) => tilegrad.eye(WIDE, { device })],
  ['ERR_SHAPE', /^arange: .*above the limit/, ({ device }) => arange(2 ** 32, { device })],
  ['ERR_SHAPE', /^tensor: .*above the limit/, ({ device }) => tensor([], { shape: [0, 2 ** 31], device })],
  ['ERR_SHAPE', /^reshape: .*above the limit/, ({ f }) => f(0).reshape([0, 2 ** 31])],
  ['ERR_SHAPE', /^expand: .*above the limit/, ({ f }) => expand(f(1), [2 ** 31])],
  ['ERR_SHAPE', /^pad: .*above the limit/, ({ f }) => pad(f(1), [[2 ** 31 - 1, 2]])],
  ['ERR_SHAPE', /^concat: .*above the limit/, ({ f }) => concat([f(0, 2 ** 30), f(0, 2 ** 30)], 1)],
  ['ERR_SHAPE', /^add: .*above the limit/, ({ f }) => add(f(WIDE, 1), f(1, WIDE))],
  ['ERR_SHAPE', /^greater: .*above the limit/, ({ i }) => i(WIDE, 1).greater(i(WIDE))],
  ['ERR_SHAPE', /^where: .*above the limit/, ({ f, b }) => where(b(WIDE, 1), f(WIDE), 0)],
  ['ERR_SHAPE', /^matmul: .*above the limit/, ({ f }) => matmul(f(WIDE, 0), f(0, WIDE))],
  ['ERR_SHAPE', /^matmul: .*above the limit/, ({ f }) => matmul(f(WIDE, 1, 1), f(1, 1, WIDE))],
  ['ERR_SHAPE', /^linear: .*above the limit/, ({ f }) => linear(f(WIDE, 1), f(1, WIDE))],
  ['ERR_UNSUPPORTED', /^concat: 70000 operands are more/, ({ f }) => concat(new Array<Tensor>(70_000).fill(f(1)))],
  ['ERR_SHAPE', /^gather: .*above the limit/, ({ f, i }) => gather(f(1, WIDE), i(WIDE))],
  ['ERR_SHAPE', /^scatterAdd: .*above the limit/, ({ f, i }) => scatterAdd(f(1), i(1), [2 ** 31])],
]

const DTYPES: readonly Misuse[] = [
  ['ERR_DTYPE', /^add: operands are f32 and i32; cast\(\)/, ({ f, i }) => add(f(2), i(2))],
  ['ERR_DTYPE', /^div: takes f32 or f64, not i32/, ({ i }) => i(2).div(2)],
  ['ERR_DTYPE', /^exp: takes f32 or f64, not bool/, ({ b }) => b(2).exp()],
  ['ERR_DTYPE', /^layerNorm: takes f32 or f64, not i32/, ({ i }) => layerNorm(i(2), { normalizedShape: 2 })],
  ['ERR_DTYPE', /^groupNorm: operands are f32 and i32/, ({ f, i }) => groupNorm(f(1, 2), { groups: 1, bias: i(2) })],
  ['ERR_DTYPE', /^relu: takes f32 or f64, not i32/, ({ i }) => i(2).relu()],
  ['ERR_DTYPE', /^logicalAnd: takes bool, not f32/, ({ f }) => f(2).logicalAnd(f(2))],
  ['ERR_DTYPE', /^sum: takes .*, not bool/, ({ b }) => b(2).sum()],
  ['ERR_DTYPE', /^mean: takes f32 or f64, not i32/, ({ i }) => i(2).mean()],
  ['ERR_DTYPE', /^less: takes .*, not bool/, ({ b }) => b(2).less(b(2))],
  ['ERR_DTYPE', /^add: 0\.5 does not fit the i32 operand/, ({ i }) => i(2).add(0.5)],
  ['ERR_DTYPE', /^mul: 2147483648 does not fit the i32 operand/, ({ i }) => i(2).mul(2 ** 31)],
  ['ERR_DTYPE', /^maximum: NaN does not fit the i32 operand/, ({ i }) => i(2).maximum(NaN)],
  ['ERR_DTYPE', /^equal: a number and a bool tensor/, ({ b }) => b(2).equal(1)],
  ['ERR_DTYPE', /^where: the condition is bool, not f32/, ({ f }) => where(f(2), f(2), 0)],
  ['ERR_DTYPE', /^where: operands are f32 and i32/, ({ f, i, b }) => where(b(2), f(2), i(2))],
  ['ERR_DTYPE', /^matmul: takes f32 or f64, not i32/, ({ i }) => matmul(i(2, 2), i(2, 2))],
  ['ERR_DTYPE', /^linear: takes f32 or f64, not i32/, ({ i }) => linear(i(2, 2), i(2, 2))],
  ['ERR_DTYPE', /^linear: operands are f32 and i32/, ({ f, i }) => linear(f(2, 2), f(2, 2), i(2))],
  ['ERR_DTYPE', /^gather: indices are i32, not f32/, ({ f }) => gather(f(2, 2), f(2))],
  ['ERR_DTYPE', /^scatterAdd: bool cannot be added/, ({ b, i }) => scatterAdd(b(2), i(2), [3])],
  ['ERR_DTYPE', /^crossEntropy: targets .* i32, not f32/, ({ f }) => nn.crossEntropy(f(2, 3), f(2))],
  ['ERR_DTYPE', /^crossEntropy: takes f32 or f64, not i32/, ({ i }) => nn.crossEntropy(i(2, 3), i(2))],
  ['ERR_DTYPE', /^concat: operands are f32 and bool/, ({ f, b }) => concat([f(2), b(2)])],
  ['ERR_DTYPE', /^pad: 0\.5 does not fit/, ({ i }) => pad(i(2), [[1, 1]], 0.5)],
  ['ERR_DTYPE', /1\.5 at position 0 is no 32-bit integer/, ({ device }) => tensor([1.5], { dtype: 'i32', device })],
  ['ERR_DTYPE', /2147483648 at position 1 is no/, ({ device }) => tensor(Uint32Array.of(1, 2 ** 31), { device })],
  ['ERR_DTYPE', /0\.5 .* is no 32-bit integer/, ({ device }) => full([2], 0.5, { dtype: 'i32', device })],
  ['ERR_DTYPE', /BigInt64Array cannot be read/, ({ device }) => tensor(new BigInt64Array(2), { device })],
  ['ERR_DTYPE', /dtype must be .*, not 'f16'/, ({ device }) => zeros([2], { dtype: any('f16'), device })],
  ['ERR_DTYPE', /dtype must be .*, not 'f16'/, ({ f }) => f(2).cast(any('f16'))],
  ['ERR_DTYPE', /^randn: random numbers are f32 or f64/, ({ device }) => randn([2], { dtype: 'i32', device })],
  ['ERR_DTYPE', /^requiresGrad: only float tensors/, ({ i }) => needing(i(2))],
  [
    'ERR_DTYPE',
    /^backward: operands are f32 and i32/,
    ({ f, i }) =>
      needing(f(2))
        .mul(2)
        .backward({ gradient: i(2) }),
  ],
]

const ARGUMENTS: readonly Misuse[] = [
  ['ERR_ARGUMENT', /^add: one of the operands must be a tensor/, () => add(1, 2)],
  ['ERR_ARGUMENT', /^add: operand must be a tensor or a number, not 'x'/, ({ f }) => add(f(2), any('x'))],
  ['ERR_ARGUMENT', /^exp: x must be a tensor, not undefined/, () => tilegrad.exp(any(undefined))],
  ['ERR_ARGUMENT', /^layerNorm: x must be a tensor/, () => layerNorm(any(1), { normalizedShape: 1 })],
  ['ERR_ARGUMENT', /^layerNorm: options must be an object/, ({ f }) => layerNorm(f(2), any(2))],
  [
    'ERR_ARGUMENT',
    /^layerNorm: eps must be a number ≥ 0/,
    ({ f }) => layerNorm(f(2), { normalizedShape: 2, eps: NaN }),
  ],
  [
    'ERR_ARGUMENT',
    /^layerNorm: weight must be a tensor/,
    ({ f }) => layerNorm(f(2), { normalizedShape: 2, weight: any([1, 1]) }),
  ],
  ['ERR_ARGUMENT', /^groupNorm: groups must be a whole number ≥ 1/, ({ f }) => groupNorm(f(2, 2), { groups: 0 })],
  ['ERR_ARGUMENT', /^groupNorm: groups must be a whole/, ({ f }) => groupNorm(f(2, 2), any({}))],
  ['ERR_ARGUMENT', /^rmsNorm: eps must be a number ≥ 0/, ({ f }) => rmsNorm(f(2), { normalizedShape: 2, eps: -1 })],
  ['ERR_ARGUMENT', /^linear: weight must be a tensor/, ({ f }) => linear(f(2, 3), any([1]))],
  [
    'ERR_ARGUMENT',
    /^linear: activation must be one of relu, .*, not 'rleu'/,
    ({ f }) => linear(f(2, 3), f(3, 1), null, { activation: any('rleu') }),
  ],
  [
    'ERR_ARGUMENT',
    /^linear: activation .*'toString'/,
    ({ f }) => linear(f(2, 3), f(3, 1), null, { activation: any('toString') }),
  ],
  ['ERR_ARGUMENT', /^gelu: approximate must be/, ({ f }) => f(2).gelu({ approximate: any('erf') })],
  ['ERR_ARGUMENT', /^leakyRelu: slope must be a finite number, not NaN/, ({ f }) => f(2).leakyRelu(NaN)],
  ['ERR_ARGUMENT', /^elu: alpha must be .*, not NaN/, ({ f }) => f(2).elu(NaN)],
  ['ERR_ARGUMENT', /^elu: alpha must be .*≥ 0, not -1/, ({ f }) => f(2).elu(-1)],
  ['ERR_ARGUMENT', /^softplus: beta must be .*, not 0/, ({ f }) => f(2).softplus({ beta: 0 })],
  ['ERR_ARGUMENT', /^softplus: threshold must be .*, not NaN/, ({ f }) => f(2).softplus({ threshold: NaN })],
  ['ERR_ARGUMENT', /^clip: low and high must be ordered numbers/, ({ f }) => clip(f(2), 2, 1)],
  ['ERR_ARGUMENT', /^clip/, ({ f }) => clip(f(2), NaN, 1)],
  ['ERR_ARGUMENT', /^clip/, ({ f }) => clip(f(2), any('0'), any('1'))],
  ['ERR_ARGUMENT', /^clip: .*whole number/, ({ i }) => clip(i(2), 0.2, 0.8)],
  ['ERR_ARGUMENT', /^clip: .*whole number/, ({ i }) => clip(i(2), Infinity, Infinity)],
  ['ERR_ARGUMENT', /^variance: correction .* ≥ 0, not NaN/, ({ f }) => f(2).variance(0, { correction: NaN })],
  ['ERR_ARGUMENT', /^sum: axis must be a whole number, not 0\.5/, ({ f }) => sum(f(2), 0.5)],
  ['ERR_ARGUMENT', /^sum: axes must be distinct/, ({ f }) => sum(f(2, 2), [0, -2])],
  ['ERR_ARGUMENT', /^transpose: axes of a tensor of rank 2/, ({ f }) => transpose(f(2, 2), [0, 0])],
  ['ERR_ARGUMENT', /^transpose: axes/, ({ f }) => transpose(f(2, 2), [0])],
  ['ERR_ARGUMENT', /^concat: tensors must be a list/, () => concat([])],
  ['ERR_ARGUMENT', /^concat: tensors must be a tensor/, ({ f }) => concat([f(2), any(1)])],
  ['ERR_ARGUMENT', /^pad: paddings/, ({ f }) => pad(f(2), [[1, -1]])],
  ['ERR_ARGUMENT', /^pad: paddings of a tensor of rank 2/, ({ f }) => pad(f(2, 2), [[1, 1]])],
  ['ERR_ARGUMENT', /^slice: begin/, ({ f }) => slice(f(2), [0, 0])],
  ['ERR_ARGUMENT', /^arange: step must be a finite number, not NaN/, ({ device }) => arange(3, { step: NaN, device })],
  ['ERR_ARGUMENT', /^arange: step must be a number other than 0/, ({ device }) => arange(3, { step: 0, device })],
  [
    'ERR_ARGUMENT',
    /^full: value must be a number or a scalar, not '1'/,
    ({ device }) => full([2], any('1'), { device }),
  ],
  ['ERR_ARGUMENT', /^tensor: data .*all numbers or all booleans/, ({ device }) => tensor([1, true], { device })],
  ['ERR_ARGUMENT', /^tensor: data must be numbers/, ({ device }) => tensor(any(['1']), { device })],
  ['ERR_ARGUMENT', /shared memory/, ({ device }) => tensor(new Float32Array(new SharedArrayBuffer(8)), { device })],
  [
    'ERR_ARGUMENT',
    /^crossEntropy: ignoreIndex must be a 32-bit integer, not NaN/,
    ({ f, i }) => nn.crossEntropy(f(2, 3), i(2), { ignoreIndex: NaN }),
  ],
  ['ERR_ARGUMENT', /^mse: reduction must be 'mean'/, ({ f }) => nn.mse(f(2), f(2), { reduction: any('avg') })],
  ['ERR_ARGUMENT', /^SGD: lr .*≥ 0, not NaN/, ({ f }) => new optim.SGD([needing(f(2))], { lr: NaN })],
  ['ERR_ARGUMENT', /^manualSeed: seed/, () => tilegrad.manualSeed(NaN)],
  ['ERR_ARGUMENT', /^scope: the function must be synchronous/, () => scope(() => Promise.resolve())],
  ['ERR_ARGUMENT', /^noGrad: the function must be synchronous/, () => tilegrad.noGrad(() => Promise.resolve())],
  ['ERR_ARGUMENT', /^backward: nothing that led to this tensor/, ({ f }) => f().backward()],
]

function needing(x: Tensor): Tensor {
  x.requiresGrad = true
  return x
}

/** The error of a call, thrown or rejected, with everything it made freed. */
async function errorOf(call: () => unknown): Promise<unknown> {
  try {
    let result: unknown
    scope(() => {
      result = call()
    })
    await result
    return undefined
  } catch (error) {
    return error
  }
}

const TOPICS = { shapes: SHAPES, 'sizes, beyond every index,': TOO_LARGE, dtypes: DTYPES, arguments: ARGUMENTS }

for (const [topic, misuses] of Object.entries(TOPICS)) {
  onDevices(`wrong ${topic} are refused at the call, and the device works on`, async (t, device) => {
    for (const [code, says, call] of misuses) {
      const error = await errorOf(() => call(new Place(device)))
      if (!(error instanceof tilegrad.TilegradError)) {
        t.fail(`${says}: ${inspect(error)}`)
        continue
      }
      t.is(error.code, code, error.message)
      t.regex(error.message, says)
    }
    const x = full([3, 5], 2, { device })
    t.is(await sum(x).item(), 30)
  })
}

test('the texts are the same on every device', async (t) => {
  for (const [code, says, call] of Object.values(TOPICS).flat()) {
    const texts = await Promise.all(
      DEVICES.map(async (device) => ((await errorOf(() => call(new Place(device)))) as Error | undefined)?.message),
    )
    t.is(new Set(texts).size, 1, `${code} ${says}`)
  }
})

onDevices('refused calls leave no memory behind', async (t, { kind }) => {
  const device = await open({ kind })
  // A graph that never ran backward is freed by the collector, at a time of its own.
  const calls = [...SHAPES, ...DTYPES].filter(([, says]) => !/backward/.test(says.source))
  for (const [, , call] of calls) await errorOf(() => call(new Place(device)))
  await device.sync()
  t.is(device.stats().liveSlots, 0)
})

onDevices('operands of two devices are refused by name, and both work on', async (t, device) => {
  const other = await open({ kind: device.kind })
  const [here, there] = [new Place(device), new Place(other)]
  const calls: (() => unknown)[] = [
    () => add(here.f(2), there.f(2)),
    () => where(here.b(2), there.f(2), 0),
    () => matmul(here.f(2, 2), there.f(2, 2)),
    () => linear(here.f(2, 2), here.f(2, 2), there.f(2)),
    () => concat([here.f(2), there.f(2)]),
    () => gather(here.f(2), there.i(2)),
    () => nn.crossEntropy(here.f(2, 2), there.i(2)),
    () => nn.mse(here.f(2), there.f(2)),
    () =>
      needing(here.f(2))
        .mul(2)
        .backward({ gradient: there.f(2) }),
  ]
  for (const call of calls) {
    const error = await errorOf(call)
    t.is((error as tilegrad.TilegradError | undefined)?.code, 'ERR_DEVICE_MISMATCH', String(error))
    t.regex(String(error), /live on different devices/)
  }
  t.is(await here.f(3).add(1).sum().item(), 3)
  t.is(await there.f(3).add(1).sum().item(), 3)
})

onDevices('a disposed tensor is refused wherever it is used', async (t, device) => {
  const x = full([2, 2], 3, { device, requiresGrad: true })
  const y = x.mul(2).sum()
  x.dispose()
  x.dispose()
  const calls = [
    () => x.add(1),
    () => matmul(x, x),
    () => linear(x, x),
    () => x.sum(),
    () => x.reshape([4]),
    () => x.data(),
    () => x.dataSync(),
    () => x.detach(),
    () => concat([x]),
  ]
  for (const call of calls) {
    const error = await errorOf(call)
    t.is((error as tilegrad.TilegradError | undefined)?.code, 'ERR_DISPOSED', String(error))
    t.regex(String(error), /a tensor of shape \[2, 2\]/)
  }
  t.is(await y.item(), 24, 'what was computed from it stays')
})

onDevices('f64 lives on the js device only', async (t, device) => {
  if (device.dtypes.includes('f64')) t.is(await tensor([1, 2], { dtype: 'f64', device }).sum().item(), 3)
  else {
    for (const call of [
      () => zeros([2], { dtype: 'f64', device }),
      () => tensor([1], { dtype: 'f64', device }),
      () => zeros([2], { device }).cast('f64'),
    ]) {
      const error = await errorOf(call)
      t.is((error as tilegrad.TilegradError | undefined)?.code, 'ERR_DTYPE', String(error))
      t.regex(String(error), new RegExp(`the ${device.kind} device has no f64`))
    }
  }
})
