/**
 * The tensor: a handle on a value, with its place in the autograd graph. It holds one owner of the value until it is
 * disposed, leaves its scope or is collected. Operations are functions in `ts/ops/`; the methods of the same names are
 * added by `ops/methods.ts`. A tensor never changes its shape, dtype or device.
 */

import { inspect } from 'node:util'
import { backward } from './autograd/backward.ts'
import type { Node } from './autograd/tape.ts'
import { type Awaited, Deadline, type WaitOptions } from './deadline.ts'
import { type Device, checkDevice } from './device.ts'
import { type DataTypes, type Dtype, type TypedArray, allocate } from './dtype.ts'
import { type Names, TilegradError, checkOptions, expected } from './errors.ts'
import type { TensorMethods } from './ops/methods.ts'
import { Cell } from './program/cell.ts'
import { refuseTracing, tracing } from './program/tracing.ts'
import type { Value } from './program/value.ts'
import { currentScope } from './scope.ts'
import { type Shape, showShape } from './shape.ts'

/** Nested arrays of numbers or booleans: what `array()` gives. */
export type NestedArray = number | boolean | NestedArray[]

/** One owner of a value: what a tensor holds, and what is left of it for the finaliser. */
class Handle {
  value: Value | null
  /** Whether the value was lost because the recording that made it has ended. */
  expired = false

  constructor(value: Value) {
    this.value = value
  }
}

const registry = new FinalizationRegistry<Handle>((handle) => {
  const { value } = handle
  handle.value = null
  if (value !== null) value.recorder.finalise(value)
})

/**
 * An n-dimensional array on a device. Made by {@link tensor}, `zeros`, `randn` … and by every operation.
 *
 * @example
 * ```ts
 * import { tensor } from 'tilegrad'
 * const x = tensor([[1, 2], [3, 4]])
 * console.log(x.shape, await x.mul(10).data()) // [2, 2] Float32Array [10, 20, 30, 40]
 * ```
 */
export class Tensor {
  /** The device the elements live on. */
  readonly device: Device
  /** Dimensions; `[]` is one number. */
  readonly shape: Shape
  /** Element type. */
  readonly dtype: Dtype
  /** Number of elements. */
  readonly size: number
  /** @internal How this tensor was computed; `null` for leaves and untracked results. */
  node: Node | null = null
  /** @internal Where gradients of this leaf arrive; made when an operation first uses it. */
  leaf: Node | null = null
  #requiresGrad = false
  #gradient: Cell | null = null
  #handle: Handle

  /** @internal Takes over one owner of `value`. Tensors the library holds for itself stay out of the user's scopes. */
  constructor(device: Device, value: Value, scoped = true) {
    this.device = device
    this.shape = value.shape
    this.dtype = value.dtype
    this.size = value.size
    this.#handle = new Handle(value)
    registry.register(this, this.#handle, this.#handle)
    if (scoped) currentScope()?.push(this)
    tracing()?.made(this)
  }

  /** @internal The value behind the handle. `ERR_DISPOSED` once disposed. */
  get value(): Value {
    const { value } = this.#handle
    if (value === null) {
      if (this.#handle.expired) {
        throw new TilegradError(
          'ERR_TRACE',
          `a tensor of shape ${showShape(this.shape)} was made inside a compiled function, which runs only while it is recorded; return the tensor from the function to use it outside`,
        )
      }
      throw new TilegradError(
        'ERR_DISPOSED',
        `a tensor of shape ${showShape(this.shape)} was used after it had been disposed; keep() it, or dispose of it later`,
      )
    }
    tracing()?.touch(this, value)
    return value
  }

  /** @internal The value, whatever is being recorded; `null` once disposed. */
  get heldValue(): Value | null {
    return this.#handle.value
  }

  /** Gradient accumulated by `backward()` on leaves; `null` until there is one. */
  get grad(): Tensor | null {
    const trace = tracing()
    if (trace === null) return this.#gradient === null ? null : this.#gradient.held
    const cell = trace.gradient(this)
    return cell === null ? (this.#gradient?.held ?? null) : cell.tensor
  }

  set grad(grad: Tensor | null) {
    const cell = tracing()?.gradient(this)
    if (cell != null) cell.tensor = grad
    else if (grad !== null || this.#gradient !== null) this.gradientCell.held = grad
  }

  /** @internal Frees the gradient. */
  clearGrad(): void {
    const trace = tracing()
    const cell = trace === null ? this.#gradient : trace.gradient(this)
    cell?.clear()
  }

  /** @internal Where the gradient is kept. */
  get gradientCell(): Cell {
    return (this.#gradient ??= new Cell())
  }

  /** @internal Ends the life of a tensor that a recorded function has made. */
  expire(): void {
    this.#handle.expired = this.#handle.value !== null
    this.#free()
  }

  /** @internal Replaces the value in place (gradients that grow, parameters that move into a slab); shape and dtype stay. */
  replaceValue(value: Value): void {
    this.#checkOwn('moving the memory of a tensor from outside', 'make optimisers outside')
    const old = this.value
    this.#handle.value = value
    old.release()
  }

  /** @internal Another handle on the same value at the same place in the graph, outside every scope. */
  alias(): Tensor {
    const other = new Tensor(this.device, this.value.retain(), false)
    other.node = this.node
    other.leaf = this.leaf
    other.#requiresGrad = this.#requiresGrad
    return other
  }

  /** Number of dimensions. */
  get rank(): number {
    return this.shape.length
  }

  /** Whether `dispose()` has been called or the scope that made this tensor has ended. */
  get disposed(): boolean {
    return this.#handle.value === null
  }

  /** Whether gradients flow to this tensor. May be set on leaves of a float dtype. */
  get requiresGrad(): boolean {
    tracing()?.look(this, this.#requiresGrad)
    return this.#requiresGrad
  }

  set requiresGrad(wanted: boolean) {
    const trace = tracing()
    if (trace !== null && wanted !== this.#requiresGrad && (!trace.owns(this) || trace.standsIn(this)))
      throw trace.refusal('changing requiresGrad of a tensor from outside', 'change it outside')
    if (this.node !== null && !wanted) {
      throw new TilegradError('ERR_ARGUMENT', 'requiresGrad of a computed tensor cannot be switched off; use detach()')
    }
    if (wanted && this.dtype !== 'f32' && this.dtype !== 'f64') {
      throw new TilegradError('ERR_DTYPE', `requiresGrad: only float tensors have gradients, this one is ${this.dtype}`)
    }
    this.#requiresGrad = wanted
  }

  /**
   * The elements in row-major order, in a fresh typed array. Waits for the work that leads to them, without blocking
   * the event loop on native devices.
   *
   * @param options how long to wait. The work goes on after that and can be read later; on `js` it is always done
   * @throws `ERR_DISPOSED`; whatever went wrong while computing this tensor; `ERR_TIMEOUT`, `ERR_ABORTED`
   *
   * @example
   * ```ts
   * import { TilegradError, randn } from 'tilegrad'
   * const y = randn([512, 512]).matmul(randn([512, 512]))
   * try {
   *   console.log((await y.data({ timeout: 1000, signal: AbortSignal.timeout(2000) })).length) // 262144
   * } catch (error) {
   *   if (!(error instanceof TilegradError && error.code === 'ERR_TIMEOUT')) throw error
   *   console.log('busy: answer without it, read again later')
   * }
   * ```
   */
  data(options: WaitOptions = {}): Promise<TypedArray> {
    this.#refuseReading()
    return this.#read('data', options)
  }

  async #read(op: string, options: WaitOptions): Promise<TypedArray> {
    const deadline = Deadline.from(op, options)
    const { value } = this
    const into = allocate(this.dtype, this.size)
    if (this.size === 0) return into
    this.device.flush()
    const copied = this.device.backend.read(value.slot, into)
    if (copied === undefined) return into
    // Until the copy is there, collection of this handle must not free the slot, whether or not anybody still waits.
    value.retain()
    const release = (): void => value.release()
    copied.then(release, release)
    await this.device.wait(copied, deadline, this.#awaited())
    return into
  }

  /**
   * {@link data}, blocking the event loop until it is there. For scripts and tests.
   *
   * @param options.timeout as for {@link data}, looked at every 20 ms
   */
  dataSync(options: Pick<WaitOptions, 'timeout'> = {}): TypedArray {
    this.#refuseReading()
    const deadline = Deadline.from('dataSync', options)
    const { value } = this
    const into = allocate(this.dtype, this.size)
    if (this.size === 0) return into
    this.device.flush()
    try {
      const there = this.device.backend.readSync(value.slot, into, deadline?.end)
      if (!there && deadline !== undefined) throw deadline.timeout(this.#awaited())
    } catch (error) {
      this.device.forget()
      throw error
    }
    return into
  }

  #awaited(): Awaited {
    return {
      what: `the ${this.dtype} tensor of shape ${showShape(this.shape)} was not there`,
      advice: 'read again later, or allow more time',
    }
  }

  /**
   * The elements as nested arrays; booleans for `bool`, a bare number for rank 0.
   *
   * @param options as for {@link data}
   */
  array(options: WaitOptions = {}): Promise<NestedArray> {
    this.#refuseReading()
    return this.#read('array', options).then((data) => nest(data, this.shape, this.dtype))
  }

  /**
   * The one element as a number.
   *
   * @param options as for {@link data}
   * @throws `ERR_SHAPE` unless there is exactly one; what {@link data} throws
   */
  item(options: WaitOptions = {}): Promise<number> {
    this.#refuseReading()
    return this.#item(options)
  }

  async #item(options: WaitOptions): Promise<number> {
    if (this.size !== 1) {
      throw new TilegradError(
        'ERR_SHAPE',
        `item: the tensor has shape ${showShape(this.shape)}, not one element; use data()`,
      )
    }
    return (await this.#read('item', options))[0]!
  }

  /** A copy on another device, or this tensor when it is there already. Gradients do not flow through it. */
  to(device: Device): Promise<Tensor> {
    refuseTracing('moving a tensor to another device', 'move it outside')
    return this.#copyTo(device)
  }

  async #copyTo(device: Device): Promise<Tensor> {
    if (device === this.device) return this
    checkDevice('to', device)
    device.checkDtype('to', this.dtype)
    const data = await this.#read('to', {})
    const copy = new Tensor(device, device.recorder.upload(this.dtype, this.shape, data))
    copy.requiresGrad = this.#requiresGrad && this.node === null
    return copy
  }

  /** The same memory outside the autograd graph. */
  detach(): Tensor {
    return new Tensor(this.device, this.value.retain())
  }

  /**
   * Computes the gradients of this tensor with respect to every leaf that requires one and adds them to `leaf.grad`.
   * The memory saved for it is freed unless `retainGraph` is set.
   *
   * @param options.gradient upstream gradient of this shape; may be left out for one element (then it is 1)
   * @param options.retainGraph keep what was saved, to run backward again; default false
   * @throws `ERR_ARGUMENT` when nothing requires a gradient or the graph has been freed; `ERR_STALE` when a saved
   * tensor has been changed in place since
   */
  backward(options: { retainGraph?: boolean; gradient?: Tensor } = {}): void {
    // PyTorch takes the gradient by position.
    if (options instanceof Tensor) throw expected('backward: options', '{ gradient }', options)
    checkOptions('backward', options, { retainGraph: true, gradient: true } satisfies Names<typeof options>)
    backward(this, options)
  }

  /** Frees the memory as soon as nothing else needs it. Using the tensor afterwards is `ERR_DISPOSED`; disposing twice is fine. */
  dispose(): void {
    if (this.#handle.value === null) return
    this.#checkOwn('disposing of a tensor from outside', 'dispose of it outside')
    this.#free()
  }

  #free(): void {
    const { value } = this.#handle
    if (value === null) return
    this.#handle.value = null
    registry.unregister(this.#handle)
    value.release()
  }

  /** Throws at once: nobody in a recorded function waits for a promise, so nobody would handle its rejection. */
  #refuseReading(): void {
    refuseTracing('reading a tensor', 'return the tensor, and read it outside')
  }

  /** Throws for a tensor that is not the recorded function's own. */
  #checkOwn(what: string, instead: string): void {
    const trace = tracing()
    if (trace !== null && !trace.owns(this)) throw trace.refusal(what, instead)
  }

  /** `using x = …` disposes at the end of the block. */
  [Symbol.dispose](): void {
    this.dispose()
  }

  /** @internal What `console.log` shows: shape, dtype, device, and the values when there are few. */
  [inspect.custom](): string {
    const head = `Tensor ${this.dtype} ${showShape(this.shape)} on ${this.device.kind}`
    if (this.disposed) return `${head} (disposed)`
    const grad = this.#requiresGrad ? (this.node === null ? ', requires grad' : `, grad by ${this.node.op}`) : ''
    if (this.size > 64 || tracing() !== null) return `${head}${grad}`
    try {
      return `${head}${grad} ${inspect(nest(this.dataSync(), this.shape, this.dtype), { depth: 8, breakLength: 100 })}`
    } catch (error) {
      return `${head}${grad} (${error instanceof Error ? error.message : String(error)})`
    }
  }
}

// Every operation is also a method; see ops/methods.ts.
// eslint-disable-next-line
export interface Tensor extends TensorMethods {}

function nest(data: TypedArray, shape: Shape, dtype: Dtype): NestedArray {
  let at = 0
  const walk = (axis: number): NestedArray => {
    if (axis === shape.length) {
      const v = data[at++]!
      return dtype === 'bool' ? v !== 0 : v
    }
    return Array.from({ length: shape[axis]! }, () => walk(axis + 1))
  }
  return walk(0)
}

/** The typed arrays `data()` gives, by dtype. */
export type { DataTypes }
