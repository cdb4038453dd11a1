/**
 * Normalisation of each row by its own statistics: layerNorm, groupNorm and rmsNorm, forward and backward in one
 * instruction each. The batch plays no part, so a row of a batch has the bits of the row alone; that also sets them
 * apart from batchNorm, which is elsewhere. Variances are biased, eps stands inside the root.
 *
 * All three are one layout: x is `[outer, groups, channels, inner]`, statistics are those of `channels · inner` neighbours,
 * weight and bias have an element for each of `groups · channels`.
 */

import { recording, track } from '../autograd/tape.ts'
import { type Names, TilegradError, checkOptions, expected } from '../errors.ts'
import type { OutputSpec } from '../program/code.ts'
import { checkShape, numel, sameShape, showShape, type Shape } from '../shape.ts'
import { Tensor } from '../tensor.ts'
import { checkDtypeClass, checkSameDtype, checkTensor, sharedDevice } from './apply.ts'
import { add, mul, rsqrt, square, sub } from './elementwise.ts'
import { mean, sum } from './reduce.ts'
import { reshape } from './shape.ts'

const WANT_X = 1
const WANT_WEIGHT = 2
const WANT_BIAS = 4

/** Options of {@link layerNorm}. */
export interface LayerNormOptions {
  /** The trailing axes that are normalised together; a number is the last axis alone. */
  readonly normalizedShape: number | Shape
  /** Multiplies what has been normalised; of shape `normalizedShape`. Default: none. */
  readonly weight?: Tensor | null
  /** Is added in the end; of shape `normalizedShape`. Default: none. */
  readonly bias?: Tensor | null
  /** Added to the variance. Default 1e-5. */
  readonly eps?: number
}

/** Options of {@link groupNorm}. */
export interface GroupNormOptions {
  /** Into how many groups the channels are cut. */
  readonly groups: number
  /** Multiplies what has been normalised, by channel: `[C]`. Default: none. */
  readonly weight?: Tensor | null
  /** Is added in the end, by channel: `[C]`. Default: none. */
  readonly bias?: Tensor | null
  /** Added to the variance. Default 1e-5. */
  readonly eps?: number
}

/** Options of {@link rmsNorm}. */
export interface RMSNormOptions {
  /** The trailing axes that are normalised together; a number is the last axis alone. */
  readonly normalizedShape: number | Shape
  /** Multiplies what has been normalised; of shape `normalizedShape`. Default: none. */
  readonly weight?: Tensor | null
  /** Added to the mean of the squares. `null`, the default, is the machine epsilon of the dtype: 2⁻²³ for f32. */
  readonly eps?: number | null
}

const LAYER_NORM: Names<LayerNormOptions> = { normalizedShape: true, weight: true, bias: true, eps: true }
const GROUP_NORM: Names<GroupNormOptions> = { groups: true, weight: true, bias: true, eps: true }
const RMS_NORM: Names<RMSNormOptions> = { normalizedShape: true, weight: true, eps: true }

/**
 * (x − mean)/√(variance + eps) · weight + bias, with mean and variance over the trailing axes of `normalizedShape`.
 *
 * @param x `[…, ...normalizedShape]`
 * @throws `ERR_SHAPE`, `ERR_DTYPE`, `ERR_DEVICE_MISMATCH` when operands do not fit
 *
 * @example
 * ```ts
 * import { layerNorm, tensor } from 'tilegrad'
 * const y = layerNorm(tensor([[1, 2, 3, 4]]), { normalizedShape: 4 })
 * console.log(await y.array()) // [[-1.341635, -0.447212, 0.447212, 1.341635]]
 * ```
 */
export function layerNorm(x: Tensor, options: LayerNormOptions): Tensor {
  const op = 'layerNorm'
  checkTensor(op, 'x', x)
  checkOptions(op, options, LAYER_NORM)
  const { weight = null, bias = null, eps = 1e-5 } = options
  const shape = checkTrailing(op, x, options.normalizedShape)
  const layout = rowsOf(x, shape)
  return normalize(op, layout, { x, weight, bias, shape, eps: checkEps(op, eps) })
}

/**
 * (x − mean)/√(variance + eps) · weight + bias, with mean and variance over each group of C / `groups` neighbouring
 * channels and all positions of one example.
 *
 * @param x `[N, C, …]`
 * @throws `ERR_SHAPE` when C is no multiple of `groups`, or operands do not fit; `ERR_DTYPE`, `ERR_DEVICE_MISMATCH`
 *
 * @example
 * ```ts
 * import { groupNorm, tensor } from 'tilegrad'
 * const y = groupNorm(tensor([[[1, 3], [5, 7]]]), { groups: 2, eps: 0 })
 * console.log(await y.array()) // [[[-1, 1], [-1, 1]]]
 * ```
 */
export function groupNorm(x: Tensor, options: GroupNormOptions): Tensor {
  const op = 'groupNorm'
  checkTensor(op, 'x', x)
  checkOptions(op, options, GROUP_NORM)
  const { groups, weight = null, bias = null, eps = 1e-5 } = options
  checkGroups(op, groups)
  if (x.shape.length < 2)
    throw new TilegradError('ERR_SHAPE', `groupNorm: x ${showShape(x.shape)} has no channels; it has to be [N, C, …]`)
  const [outer, all] = x.shape as [number, number]
  checkDivides(op, all, groups)
  const layout = { outer, groups, channels: all / groups, inner: numel(x.shape.slice(2)) }
  return normalize(op, layout, { x, weight, bias, shape: [all], eps: checkEps(op, eps) })
}

/**
 * x/√(mean of x² + eps) · weight, with the mean over the trailing axes of `normalizedShape`.
 *
 * @param x `[…, ...normalizedShape]`
 * @throws `ERR_SHAPE`, `ERR_DTYPE`, `ERR_DEVICE_MISMATCH` when operands do not fit
 *
 * @example
 * ```ts
 * import { rmsNorm, tensor } from 'tilegrad'
 * const y = rmsNorm(tensor([3, 4]), { normalizedShape: 2, eps: 0 })
 * console.log(await y.array()) // [0.848528, 1.131371]
 * ```
 */
export function rmsNorm(x: Tensor, options: RMSNormOptions): Tensor {
  const op = 'rmsNorm'
  checkTensor(op, 'x', x)
  checkOptions(op, options, RMS_NORM)
  const { weight = null, eps = null } = options
  const shape = checkTrailing(op, x, options.normalizedShape)
  const added = eps === null ? (x.dtype === 'f64' ? 2 ** -52 : 2 ** -23) : checkEps(op, eps)
  return normalize(op, rowsOf(x, shape), { x, weight, bias: null, shape, eps: added })
}

type NormName = 'layerNorm' | 'groupNorm' | 'rmsNorm'

/** How x is seen. */
interface Layout {
  readonly outer: number
  readonly groups: number
  /** Of a group. */
  readonly channels: number
  readonly inner: number
}

interface Operands {
  readonly x: Tensor
  readonly weight: Tensor | null
  readonly bias: Tensor | null
  /** Of weight and bias. */
  readonly shape: Shape
  readonly eps: number
}

function rowsOf(x: Tensor, shape: Shape): Layout {
  const outer = numel(x.shape.slice(0, x.shape.length - shape.length))
  return { outer, groups: 1, channels: numel(shape), inner: 1 }
}

/** The layout as the instructions write it: where there is one group of single elements, that is left out. */
function attributesOf(op: NormName, { outer, groups, channels, inner }: Layout): number[] {
  return op === 'groupNorm' ? [outer, groups, channels, inner] : [outer, channels]
}

function normalize(op: NormName, layout: Layout, { x, weight, bias, shape, eps }: Operands): Tensor {
  checkDtypeClass(op, 'float', x.dtype)
  checkAffine(op, 'weight', x, weight, shape)
  checkAffine(op, 'bias', x, bias, shape)
  const device = sharedDevice(op, x, weight, bias)
  const { dtype } = x
  const isCentred = op !== 'rmsNorm'
  const perRow: OutputSpec = { dtype, shape: [layout.outer * layout.groups] }
  const [y, ...statistics] = device.recorder.emitMany(
    op,
    isCentred ? [x.value, weight?.value ?? null, bias?.value ?? null] : [x.value, weight?.value ?? null],
    [{ dtype, shape: x.shape }, ...(isCentred ? [perRow, perRow] : [perRow])],
    [...attributesOf(op, layout), eps],
  )
  const result = new Tensor(device, y!)
  const kept = statistics.map((value) => new Tensor(device, value, false))
  track(
    result,
    op,
    [x, weight, bias],
    [x, ...kept, ...(weight === null ? [] : [weight])],
    (dy, [x, ...rest], needs) => {
      const weightThen = weight === null ? null : rest.pop()!
      if (recording()) return decomposed(op, layout, dy, x!, weightThen, shape, eps, needs)
      return gradients(op, layout, dy, x!, weightThen, rest, shape, needs)
    },
  )
  for (const tensor of kept) tensor.dispose()
  return result
}

function gradients(
  op: NormName,
  layout: Layout,
  dy: Tensor,
  x: Tensor,
  weight: Tensor | null,
  statistics: readonly Tensor[],
  shape: Shape,
  needs: readonly boolean[],
): (Tensor | null)[] {
  const { device, dtype } = dy
  const specs: OutputSpec[] = []
  if (needs[0]) specs.push({ dtype, shape: x.shape })
  if (needs[1]) specs.push({ dtype, shape })
  if (needs[2]) specs.push({ dtype, shape })
  const wanted = (needs[0] ? WANT_X : 0) | (needs[1] ? WANT_WEIGHT : 0) | (needs[2] ? WANT_BIAS : 0)
  const values = device.recorder
    .emitMany(`${op}Grad`, [dy.value, x.value, weight?.value ?? null, ...statistics.map((s) => s.value)], specs, [
      ...attributesOf(op, layout),
      wanted,
    ])
    .map((value) => new Tensor(device, value))
  return needs.map((needed) => (needed ? values.shift()! : null))
}

/** The same from differentiable operations, for second derivatives. The statistics are computed again: saved ones have no place in the graph. */
function decomposed(
  op: NormName,
  { outer, groups, channels, inner }: Layout,
  dy: Tensor,
  x: Tensor,
  weight: Tensor | null,
  shape: Shape,
  eps: number,
  needs: readonly boolean[],
): (Tensor | null)[] {
  const seen = [outer, groups, channels, inner]
  const over = (t: Tensor): Tensor => mean(t, [2, 3], { keepDims: true })
  const rows = reshape(x, seen)
  const slopes = reshape(dy, seen)
  const centred = op === 'rmsNorm' ? rows : sub(rows, over(rows))
  const scale = rsqrt(add(over(square(centred)), eps))
  const normal = mul(centred, scale)
  let dx: Tensor | null = null
  if (needs[0]) {
    const g = weight === null ? slopes : mul(slopes, reshape(weight, [groups, channels, 1]))
    const along = mul(normal, over(mul(g, normal)))
    dx = reshape(mul(scale, sub(op === 'rmsNorm' ? g : sub(g, over(g)), along)), x.shape)
  }
  return [
    dx,
    needs[1] ? reshape(sum(mul(slopes, normal), [0, 3]), shape) : null,
    needs[2] ? reshape(sum(slopes, [0, 3]), shape) : null,
  ]
}

/** @internal Checks what is normalised, as a list of sizes. */
export function checkNormalizedShape(op: string, normalizedShape: unknown): number[] {
  const shape = checkShape(op, typeof normalizedShape === 'number' ? [normalizedShape] : normalizedShape)
  if (shape.length === 0) {
    throw new TilegradError('ERR_SHAPE', `${op}: normalizedShape [] names no axis; give the trailing sizes of x`)
  }
  return shape
}

function checkTrailing(op: string, x: Tensor, normalizedShape: unknown): number[] {
  const shape = checkNormalizedShape(op, normalizedShape)
  if (shape.length > x.shape.length || !sameShape(x.shape.slice(-shape.length), shape)) {
    throw new TilegradError(
      'ERR_SHAPE',
      `${op}: x ${showShape(x.shape)} does not end with normalizedShape ${showShape(shape)}`,
    )
  }
  return shape
}

/** @internal Throws unless a number of groups is one. */
export function checkGroups(op: string, groups: unknown): asserts groups is number {
  if (typeof groups !== 'number' || !Number.isInteger(groups) || groups < 1)
    throw expected(`${op}: groups`, 'a whole number ≥ 1', groups)
}

/** @internal Throws unless the groups are of equal size. */
export function checkDivides(op: string, channels: number, groups: number): void {
  if (channels % groups !== 0) {
    throw new TilegradError(
      'ERR_SHAPE',
      `${op}: ${channels} channels do not fall into ${groups} groups; take a divisor of ${channels}`,
    )
  }
}

/** @internal Throws unless eps is a number that can be added to a variance. */
export function checkEps(op: string, eps: unknown): number {
  if (typeof eps !== 'number' || !(eps >= 0) || eps === Infinity) throw expected(`${op}: eps`, 'a number ≥ 0', eps)
  return eps
}

function checkAffine(op: string, name: string, x: Tensor, affine: Tensor | null, shape: Shape): void {
  if (affine === null) return
  checkTensor(op, name, affine)
  checkSameDtype(op, x, affine)
  if (!sameShape(affine.shape, shape)) {
    throw new TilegradError(
      'ERR_SHAPE',
      `${op}: ${name} ${showShape(affine.shape)} does not fit x ${showShape(x.shape)}: it has to be ${showShape(shape)}`,
    )
  }
}
