/** Making tensors: from data, constant, counted, random. Only uniform numbers are drawn on the device (see `random.ts`). */

import { type Device, checkDevice, defaultDevice } from '../device.ts'
import { type Dtype, type TypedArray, allocate, checkDtype, isFloat } from '../dtype.ts'
import { type Names, TilegradError, checkOptions, expected, show } from '../errors.ts'
import { checkEach } from '../program/tracing.ts'
import { Philox, SITES, nextDraw, seedWords } from '../random.ts'
import { Scalar } from '../scalar.ts'
import { type Shape, checkShape, numel, showShape } from '../shape.ts'
import { Tensor } from '../tensor.ts'

/** Options of functions that make tensors. */
export interface CreationOptions {
  /** Default: f32, unless the data says otherwise. */
  readonly dtype?: Dtype
  /** Default: `defaultDevice()`. */
  readonly device?: Device
  /** Whether gradients are collected for it. Default false. */
  readonly requiresGrad?: boolean
}

const OPTIONS: Names<CreationOptions> = { dtype: true, device: true, requiresGrad: true }

/** Numbers or booleans, nested to any depth, or a typed array. */
export type TensorData = number | boolean | ArrayBufferView | readonly TensorData[]

/**
 * A tensor from data, which is copied.
 *
 * dtype, unless given: numbers, `Float32Array` and `Float64Array` → f32; integer typed arrays → i32; booleans → bool.
 *
 * @param data a number, nested arrays of one depth, or a typed array (row-major)
 * @param options.shape default: the nesting of the data; `[length]` for a typed array
 * @throws `ERR_SHAPE` for ragged data or a shape that does not fit; `ERR_DTYPE` for values the dtype cannot hold
 *
 * @example
 * ```ts
 * import { tensor } from 'tilegrad'
 * const x = tensor([[1, 2, 3], [4, 5, 6]])
 * const y = tensor(new Float32Array(6), { shape: [2, 3] })
 * console.log(x.shape, y.shape) // [2, 3] [2, 3]
 * ```
 */
export function tensor(data: TensorData, options: CreationOptions & { readonly shape?: Shape } = {}): Tensor {
  checkOptions('tensor', options, { ...OPTIONS, shape: true } satisfies Names<typeof options>)
  const flat = ArrayBuffer.isView(data) ? typed(data) : nested(data)
  const dtype = options.dtype ?? flat.dtype
  checkDtype('tensor', dtype)
  const shape = options.shape === undefined ? checkShape('tensor', flat.shape) : checkShape('tensor', options.shape)
  if (numel(shape) !== flat.values.length) {
    throw new TilegradError(
      'ERR_SHAPE',
      `tensor: ${flat.values.length} values do not fill shape ${showShape(shape)} of ${numel(shape)}`,
    )
  }
  return fromHost('tensor', shape, convert('tensor', flat.values, dtype), dtype, options)
}

/**
 * Zeros.
 *
 * @example
 * ```ts
 * import { zeros } from 'tilegrad'
 * console.log(await zeros([2, 2]).array()) // [[0, 0], [0, 0]]
 * ```
 */
export function zeros(shape: Shape, options: CreationOptions = {}): Tensor {
  return full(shape, 0, options)
}

/**
 * Ones.
 *
 * @example
 * ```ts
 * import { ones } from 'tilegrad'
 * console.log(await ones([3], { dtype: 'i32' }).array()) // [1, 1, 1]
 * ```
 */
export function ones(shape: Shape, options: CreationOptions = {}): Tensor {
  return full(shape, 1, options)
}

/**
 * Every element is `value`, a number or a {@link Scalar}.
 *
 * @example
 * ```ts
 * import { full } from 'tilegrad'
 * console.log(await full([2], 7).array()) // [7, 7]
 * ```
 */
export function full(shape: Shape, value: number | Scalar, options: CreationOptions = {}): Tensor {
  const dims = checkShape('full', shape)
  checkOptions('full', options, OPTIONS)
  if (typeof value !== 'number' && !(value instanceof Scalar))
    throw expected('full: value', 'a number or a scalar', value)
  const { dtype = 'f32', device = defaultDevice() } = options
  checkDtype('full', dtype)
  checkDevice('full', device)
  device.checkDtype('full', dtype)
  const checked = (x: number): number => (isFloat(dtype) ? x : convert('full', [x], dtype)[0]!)
  const element = value instanceof Scalar ? (): number => checked(value.read()) : checked(value)
  if (typeof element === 'function') checkEach(element)
  const out = new Tensor(device, device.recorder.emit('full', [], { dtype, shape: dims }, [element]))
  if (options.requiresGrad) out.requiresGrad = true
  return out
}

/**
 * Zeros of the shape, dtype and device of `x`.
 *
 * @example
 * ```ts
 * import { tensor, zerosLike } from 'tilegrad'
 * console.log(await zerosLike(tensor([1, 2])).array()) // [0, 0]
 * ```
 */
export function zerosLike(x: Tensor): Tensor {
  return full(x.shape, 0, { dtype: x.dtype, device: x.device })
}

/**
 * Ones of the shape, dtype and device of `x`.
 *
 * @example
 * ```ts
 * import { onesLike, tensor } from 'tilegrad'
 * console.log(await onesLike(tensor([5, 6])).array()) // [1, 1]
 * ```
 */
export function onesLike(x: Tensor): Tensor {
  return full(x.shape, 1, { dtype: x.dtype, device: x.device })
}

/**
 * `start`, `start + step`, … below `end`: `arange(n)`, or with options.
 *
 * @param end not included
 * @param options.start default 0
 * @param options.step default 1; negative counts down
 *
 * @example
 * ```ts
 * import { arange } from 'tilegrad'
 * console.log(await arange(3).array(), await arange(7, { start: 1, step: 2 }).array()) // [0, 1, 2] [1, 3, 5]
 * ```
 */
export function arange(
  end: number,
  options: CreationOptions & { readonly start?: number; readonly step?: number } = {},
): Tensor {
  checkOptions('arange', options, { ...OPTIONS, start: true, step: true } satisfies Names<typeof options>)
  const { start = 0, step = 1, dtype = 'f32' } = options
  for (const [name, x] of Object.entries({ end, start, step })) {
    if (!Number.isFinite(x)) throw expected(`arange: ${name}`, 'a finite number', x)
  }
  if (step === 0) throw expected('arange: step', 'a number other than 0', step)
  checkDtype('arange', dtype)
  const shape = checkShape('arange', [Math.max(0, Math.ceil((end - start) / step))])
  const values = allocate('f64', shape[0]!)
  for (let i = 0; i < values.length; i++) values[i] = start + i * step
  return fromHost('arange', shape, convert('arange', values, dtype), dtype, options)
}

/**
 * The identity matrix `[n, n]`.
 *
 * @example
 * ```ts
 * import { eye } from 'tilegrad'
 * console.log(await eye(2).array()) // [[1, 0], [0, 1]]
 * ```
 */
export function eye(n: number, options: CreationOptions = {}): Tensor {
  const shape = checkShape('eye', [n, n])
  checkOptions('eye', options, OPTIONS)
  const { dtype = 'f32' } = options
  checkDtype('eye', dtype)
  const data = allocate(dtype, n * n)
  for (let i = 0; i < n; i++) data[i * (n + 1)] = 1
  return fromHost('eye', shape, data, dtype, options)
}

/**
 * Uniform in [0, 1), from the generator that `manualSeed` sets.
 *
 * @example
 * ```ts
 * import { manualSeed, rand } from 'tilegrad'
 * manualSeed(0)
 * const x = await rand([1000]).data()
 * console.log(x.every((v) => v >= 0 && v < 1)) // true
 * ```
 */
export function rand(shape: Shape, options: CreationOptions = {}): Tensor {
  const dims = checkShape('rand', shape)
  checkOptions('rand', options, OPTIONS)
  const { dtype = 'f32', device = defaultDevice() } = options
  checkFloat('rand', dtype)
  checkDevice('rand', device)
  device.checkDtype('rand', dtype)
  // One row, whatever the shape: a reshaped tensor has the same numbers.
  // Functions, so that a compiled one draws anew in each run.
  const attributes = [
    numel(dims),
    () => seedWords()[0],
    () => seedWords()[1],
    SITES.user,
    () => nextDraw(SITES.user),
    0,
  ]
  const out = new Tensor(device, device.recorder.emit('uniform', [], { dtype, shape: dims }, attributes))
  if (options.requiresGrad) out.requiresGrad = true
  return out
}

/**
 * Normal with mean 0 and variance 1, from the generator that `manualSeed` sets. Drawn on the host.
 *
 * @example
 * ```ts
 * import { randn } from 'tilegrad'
 * const x = randn([10_000])
 * console.log(Math.abs(await x.mean().item()) < 0.1, Math.abs((await x.variance().item()) - 1) < 0.2) // true true
 * ```
 */
export function randn(shape: Shape, options: CreationOptions = {}): Tensor {
  return drawn('randn', shape, options, (data) => {
    fillNormal(data, new Philox({ site: SITES.user, draw: nextDraw(SITES.user) }))
  })
}

/**
 * @internal Parameters drawn uniformly from (−bound, bound), from the generator of initialisations.
 */
export function initUniform(shape: Shape, bound: number, options: CreationOptions): Tensor {
  return drawn('init', shape, options, (data) => {
    const random = new Philox({ site: SITES.init, draw: nextDraw(SITES.init) })
    for (let i = 0; i < data.length; i++) data[i] = (2 * random.uniform() - 1) * bound
  })
}

/**
 * @internal Parameters drawn from the normal distribution of mean 0 and variance 1, from the generator of initialisations.
 *
 * @param zero which slices along axis 0 are 0
 */
export function initNormal(shape: Shape, options: CreationOptions, zero: (i: number) => boolean): Tensor {
  return drawn('init', shape, options, (data) => {
    const random = new Philox({ site: SITES.init, draw: nextDraw(SITES.init) })
    fillNormal(data, random)
    const inner = numel(shape.slice(1))
    for (let i = 0; i < shape[0]!; i++) if (zero(i)) data.fill(0, i * inner, (i + 1) * inner)
  })
}

function fillNormal(data: TypedArray, random: Philox): void {
  for (let i = 0; i < data.length; i += 2) {
    const [a, b] = random.normals()
    data[i] = a
    if (i + 1 < data.length) data[i + 1] = b
  }
}

/** A compiled function draws anew in each run. */
function drawn(op: string, shape: Shape, options: CreationOptions, fill: (data: TypedArray) => void): Tensor {
  const dims = checkShape(op, shape)
  checkOptions(op, options, OPTIONS)
  const { dtype = 'f32', device = defaultDevice() } = options
  checkFloat(op, dtype)
  checkDevice(op, device)
  device.checkDtype(op, dtype)
  const value = device.recorder.uploadEach(dtype, dims, () => {
    const data = allocate(dtype, numel(dims))
    fill(data)
    return data
  })
  const out = new Tensor(device, value)
  if (options.requiresGrad) out.requiresGrad = true
  return out
}

function checkFloat(op: string, dtype: Dtype): void {
  if (dtype !== 'f32' && dtype !== 'f64')
    throw new TilegradError('ERR_DTYPE', `${op}: random numbers are f32 or f64, not ${show(dtype)}`)
}

function fromHost(op: string, shape: Shape, data: TypedArray, dtype: Dtype, options: CreationOptions): Tensor {
  const { device = defaultDevice() } = options
  checkDevice(op, device)
  device.checkDtype(op, dtype)
  const out = new Tensor(device, device.recorder.upload(dtype, shape, data))
  if (options.requiresGrad) out.requiresGrad = true
  return out
}

interface Flat {
  readonly values: ArrayLike<number>
  readonly shape: number[]
  readonly dtype: Dtype
}

function typed(view: ArrayBufferView): Flat {
  if (view.buffer instanceof SharedArrayBuffer) {
    throw new TilegradError(
      'ERR_ARGUMENT',
      'tensor: shared memory may change while it is read; copy it with slice() first',
    )
  }
  if (view instanceof Float32Array || view instanceof Float64Array)
    return { values: view, shape: [view.length], dtype: 'f32' }
  if (
    view instanceof Int8Array ||
    view instanceof Uint8Array ||
    view instanceof Uint8ClampedArray ||
    view instanceof Int16Array ||
    view instanceof Uint16Array ||
    view instanceof Int32Array ||
    view instanceof Uint32Array
  ) {
    return { values: view, shape: [view.length], dtype: 'i32' }
  }
  throw new TilegradError(
    'ERR_DTYPE',
    `tensor: ${view.constructor.name} cannot be read; use Float32Array, Float64Array or an integer array of at most 32 bits`,
  )
}

function nested(data: unknown): Flat {
  const shape: number[] = []
  for (let level = data; Array.isArray(level); level = (level as unknown[])[0]) {
    shape.push(level.length)
    if (shape.length > 8) break
  }
  checkShape('tensor', shape)
  const values: number[] = []
  let booleans = 0
  const walk = (node: unknown, axis: number): void => {
    if (axis < shape.length) {
      if (!Array.isArray(node) || node.length !== shape[axis]) {
        const found = Array.isArray(node) ? `${node.length} elements` : show(node)
        throw new TilegradError(
          'ERR_SHAPE',
          `tensor: nested arrays are ragged: ${found} where axis ${axis} has ${shape[axis]}`,
        )
      }
      for (const child of node) walk(child, axis + 1)
    } else if (typeof node === 'number') values.push(node)
    else if (typeof node === 'boolean') {
      booleans++
      values.push(+node)
    } else if (Array.isArray(node))
      throw new TilegradError('ERR_SHAPE', `tensor: nested arrays are ragged at depth ${axis}`)
    else throw expected('tensor: data', 'numbers, booleans, nested arrays of them or a typed array', node)
  }
  walk(data, 0)
  if (booleans > 0 && booleans < values.length) throw expected('tensor: data', 'all numbers or all booleans', data)
  return { values, shape, dtype: booleans > 0 ? 'bool' : 'f32' }
}

function convert(op: string, values: ArrayLike<number>, dtype: Dtype): TypedArray {
  const out = allocate(dtype, values.length)
  if (dtype === 'f32' || dtype === 'f64') {
    out.set(values)
    return out
  }
  for (let i = 0; i < values.length; i++) {
    const v = values[i]!
    if (dtype === 'bool') out[i] = v !== 0 ? 1 : 0
    else if (Number.isInteger(v) && v >= -(2 ** 31) && v < 2 ** 31) out[i] = v
    else throw new TilegradError('ERR_DTYPE', `${op}: ${v} at position ${i} is no 32-bit integer`)
  }
  return out
}
