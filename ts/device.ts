/**
 * Devices as users see them: opening, listing, the default, and what each can do. A device is a backend with the
 * recorder of its stream. Which backend an option means is decided in `backend/select.ts`.
 */

import type { Backend, BackendStats, DeviceKind } from './backend/backend.ts'
import { type DeviceInfo, type OpenedBackend, listDevices, openBackend } from './backend/select.ts'
import { type Awaited, Deadline, type WaitOptions } from './deadline.ts'
import { DebugBackend } from './debug/backend.ts'
import { debugLevel } from './debug/level.ts'
import { Places } from './debug/places.ts'
import type { Dtype } from './dtype.ts'
import { type Names, TilegradError, checkOptions, expected } from './errors.ts'
import { Recorder } from './program/record.ts'
import { refuseTracing, tracing } from './program/tracing.ts'
import type { Tensor } from './tensor.ts'

/** What to open: a kind, or a kind with options. */
export interface DeviceOptions {
  /** Which device. `'auto'` takes the best there is. Default `'auto'`. */
  readonly kind?: 'auto' | DeviceKind
  /** Threads of the `cpu` device. Default: the physical cores. */
  readonly threads?: number
  /**
   * Upper bound, in bytes, of what the device may hold; above it operations fail with `ERR_OUT_OF_MEMORY`. Default: four
   * fifths of the machine's memory on `cpu`, and on `gpu` where the adapter shares that memory (integrated, software);
   * what the driver gives on other GPUs; none on `js`.
   */
  readonly memoryLimit?: number
  /**
   * `false` runs every instruction by itself instead of fusing chains. Results are the same bits. Default
   * `true`.
   */
  readonly fuse?: boolean
  /** Whether `gpu` may be an adapter that computes on the processor, such as lavapipe: for tests. Default `false`. */
  readonly allowSoftware?: boolean
  /** Part of the name of the adapter that `gpu` is to be, in any case of letters. Default: the first that can be used. */
  readonly adapter?: string
}

const OPTIONS: Names<DeviceOptions> = {
  kind: true,
  threads: true,
  memoryLimit: true,
  fuse: true,
  allowSoftware: true,
  adapter: true,
}

/** Counters of a device; see {@link Device.stats}. */
export type DeviceStats = BackendStats

/** A place where tensors live and operations run. */
export class Device {
  readonly kind: DeviceKind
  /** What it is, for people: `cpu (AVX-512, 2 threads)`, `gpu (NVIDIA H200, vulkan)`. */
  readonly name: string
  /**
   * Whether a row of a batch has the same bits as the row alone. True on every device of this version.
   */
  readonly batchInvariant = true
  /** @internal */
  readonly recorder: Recorder
  /** @internal By length; see `ops/positions.ts`. */
  readonly positions = new Map<number, Tensor>()
  readonly #dtypes: readonly Dtype[]
  #closing: Promise<void> | undefined
  /** What work has failed with that somebody had stopped waiting for. */
  #late: TilegradError | undefined

  /** @internal Use {@link openDevice}. */
  constructor(opened: OpenedBackend) {
    this.kind = opened.backend.kind
    this.name = opened.name
    this.#dtypes = opened.dtypes
    const level = debugLevel()
    if (level === 0) {
      this.recorder = new Recorder(opened.backend)
    } else {
      const places = new Places()
      this.recorder = new Recorder(new DebugBackend(opened.backend, opened.name, level, places), places)
    }
  }

  /** @internal */
  get backend(): Backend {
    return this.recorder.backend
  }

  /** Element types this device computes with. */
  get dtypes(): readonly Dtype[] {
    return this.#dtypes
  }

  /** Whether {@link close} has been called. */
  get closed(): boolean {
    return this.#closing !== undefined
  }

  /** @internal `ERR_DTYPE` unless tensors of this type can live here. */
  checkDtype(op: string, dtype: Dtype): void {
    if (!this.#dtypes.includes(dtype)) {
      throw new TilegradError(
        'ERR_DTYPE',
        `${op}: the ${this.kind} device has no ${dtype}; ${dtype} tensors live on the js device`,
      )
    }
  }

  /** @internal Hands over what has been recorded. */
  flush(): void {
    this.recorder.flush()
  }

  /**
   * Resolves when everything recorded so far has been computed.
   *
   * @param options how long to wait; the work goes on after that
   * @throws the first error of that work that nobody has read yet; `ERR_TIMEOUT`, `ERR_ABORTED`
   */
  sync(options: WaitOptions = {}): Promise<void> {
    refuseTracing('sync()', 'call it outside')
    return this.#sync(options)
  }

  async #sync(options: WaitOptions): Promise<void> {
    const deadline = Deadline.from('sync', options)
    this.#checkOpen()
    this.flush()
    await this.wait(this.backend.sync(), deadline, {
      what: `the ${this.kind} device was not done`,
      advice: 'wait again later, or allow more time',
    })
    this.#tellLate()
  }

  /**
   * Resolves when the device has room for more work. Handing over work waits while 64 submissions or 256 MiB of uploads are
   * queued, and the event loop with it; a loop that reads no results and awaits this between its steps never gets there.
   * `DataLoader` does so by itself.
   *
   * @example
   * ```ts
   * import { openDevice, ones } from 'tilegrad'
   * const device = await openDevice('auto')
   * const x = ones([64, 64], { device })
   * let y = x
   * for (let i = 0; i < 100; i++) {
   *   y = y.matmul(x).div(64)
   *   await device.ready()
   * }
   * console.log(await y.mean().item()) // 1
   * ```
   */
  ready(): Promise<void> {
    refuseTracing('ready()', 'call it outside')
    return this.#ready()
  }

  async #ready(): Promise<void> {
    this.#checkOpen()
    await this.backend.ready()
  }

  /**
   * Memory, queue and plan counters, without waiting for pending work: what has been recorded and not handed over yet is
   * not in them.
   *
   * @example
   * ```ts
   * import { openDevice, zeros } from 'tilegrad'
   * const device = await openDevice('js')
   * const x = zeros([1024, 1024], { device })
   * await device.sync()
   * console.log(device.stats().liveBytes) // 4194304
   * x.dispose()
   * await device.sync()
   * const { liveBytes, poolBytes } = device.stats()
   * console.log(liveBytes, poolBytes) // 0 4194304
   * ```
   */
  stats(): DeviceStats {
    this.#checkOpen()
    return this.backend.stats()
  }

  /**
   * Gives back memory that only makes later work faster, once everything recorded so far has been computed: freed memory
   * that is kept for reuse, the arena of intermediates, packed copies of weights, packing and staging buffers. Tensors stay
   * as they are, and the next step allocates again what it needs. For a process that trains now and then, or after a batch
   * that was larger than all others; a device that rests for a second gives most of it back by itself.
   *
   * @example
   * ```ts
   * import { openDevice, randn } from 'tilegrad'
   * const device = await openDevice('js')
   * const x = randn([100, 100], { device })
   * await x.matmul(x).sum().item()
   * await device.trim()
   * const { poolBytes, arenaBytes, packedBytes, scratchBytes } = device.stats()
   * console.log(poolBytes, arenaBytes, packedBytes, scratchBytes) // 0 0 0 0
   * ```
   */
  trim(): Promise<void> {
    refuseTracing('trim()', 'call it outside')
    return this.#trim()
  }

  async #trim(): Promise<void> {
    this.#checkOpen()
    this.forget()
    this.flush()
    await this.backend.trim()
  }

  /**
   * Finishes pending work and frees all memory. Tensors of the device can no longer be used (`ERR_DEVICE_LOST`).
   * Closing twice is fine.
   *
   * @param options how long to wait; the device goes on closing after that
   * @throws the first error of pending work that nobody has read; `ERR_TIMEOUT`, `ERR_ABORTED`
   */
  close(options?: WaitOptions): Promise<void> {
    refuseTracing('closing a device', 'close it outside')
    if (options === undefined) return (this.#closing ??= this.#close())
    return this.#closeWithin(options)
  }

  async #closeWithin(options: WaitOptions): Promise<void> {
    const deadline = Deadline.from('close', options)
    this.#closing ??= this.#close()
    await this.wait(this.#closing, deadline, {
      what: `the ${this.kind} device was not closed`,
      advice: 'it closes when it is done, and process.exit() need not wait for that',
    })
  }

  /** @internal Waits for work of the backend, if there is any left, no longer than until a deadline. */
  async wait(work: Promise<void> | undefined, deadline: Deadline | undefined, awaited: Awaited): Promise<void> {
    if (work === undefined) return
    // An error that is told to nobody is still one that nobody has read.
    const late = (error: unknown): void => {
      if (error instanceof TilegradError) this.#late ??= error
    }
    try {
      await (deadline === undefined ? work : deadline.wait(work, awaited, late))
    } catch (error) {
      this.forget()
      throw error
    }
  }

  /** @internal Lets go of what is kept to be quick: when memory is asked back, and when something failed that may be part of it. */
  forget(): void {
    for (const kept of this.positions.values()) kept.dispose()
    this.positions.clear()
  }

  #tellLate(): void {
    const error = this.#late
    this.#late = undefined
    if (error !== undefined) throw error
  }

  async #close(): Promise<void> {
    if (current === this) current = undefined
    try {
      this.flush()
    } finally {
      // Work that could not be handed over is no reason to keep the memory.
      this.recorder.close()
      await this.backend.close()
    }
    this.#tellLate()
  }

  #checkOpen(): void {
    if (this.closed) {
      throw new TilegradError('ERR_DEVICE_LOST', `the ${this.kind} device has been closed; open another one`)
    }
  }
}

let current: Device | undefined

/**
 * Opens a device. Several may be open at once; each has its own tensors.
 *
 * @param options `'auto'` (default), `'gpu'`, `'cpu'`, `'js'`, or an object with options
 * @throws `ERR_NO_DEVICE` with a list of what was tried and why it failed
 *
 * @example
 * ```ts
 * import { openDevice, ones } from 'tilegrad'
 * const device = await openDevice('js')
 * const x = ones([2, 2], { device })
 * console.log(await x.sum().item()) // 4
 * await device.close()
 * ```
 */
// eslint-disable-next-line require-await
export async function openDevice(options: DeviceOptions | 'auto' | DeviceKind = 'auto'): Promise<Device> {
  return openDeviceSync(options)
}

/**
 * Every device this machine has or could have, best first, with the reason why one cannot be used.
 *
 * @example
 * ```ts
 * import { devices } from 'tilegrad'
 * for (const { kind, name, available, reason } of await devices()) console.log(kind, available ? name : reason)
 * ```
 */
// eslint-disable-next-line require-await
export async function devices(): Promise<DeviceInfo[]> {
  return listDevices()
}

/**
 * The device that creation functions use when none is given. Opens `'auto'` on first use.
 *
 * @example
 * ```ts
 * import { defaultDevice, ones } from 'tilegrad'
 * console.log(ones([2]).device === defaultDevice()) // true
 * ```
 */
export function defaultDevice(): Device {
  current ??= openDeviceSync('auto')
  tracing()?.relyOn(current)
  return current
}

/**
 * Makes `device` the default.
 *
 * @throws `ERR_DEVICE_LOST` when it has been closed
 *
 * @example
 * ```ts
 * import { ones, openDevice, setDefaultDevice } from 'tilegrad'
 * setDefaultDevice(await openDevice('js'))
 * console.log(ones([2]).device.kind) // js
 * ```
 */
export function setDefaultDevice(device: Device): void {
  refuseTracing('setting the default device', 'set it outside')
  checkDevice('setDefaultDevice', device)
  if (device.closed) {
    throw new TilegradError(
      'ERR_DEVICE_LOST',
      `setDefaultDevice: this ${device.kind} device has been closed; open another one`,
    )
  }
  current = device
}

/** @internal Calls `fn` with another default device. */
export function withDefaultDevice<T>(device: Device, fn: () => T): T {
  const before = current
  current = device
  try {
    return fn()
  } finally {
    if (current === device) current = before?.closed === true ? undefined : before
  }
}

/** @internal Throws `ERR_ARGUMENT` unless `device` came from `openDevice()`: a kind is a word, not a place. */
export function checkDevice(op: string, device: unknown): asserts device is Device {
  if (!(device instanceof Device)) throw expected(`${op}: device`, 'a device from openDevice()', device)
}

function openDeviceSync(options: DeviceOptions | 'auto' | DeviceKind): Device {
  return new Device(openBackend(checked(options)))
}

function checked(options: DeviceOptions | 'auto' | DeviceKind): DeviceOptions & { kind: 'auto' | DeviceKind } {
  const given: DeviceOptions = typeof options === 'string' ? { kind: options } : options
  if (typeof given !== 'object' || given === null) throw expected('openDevice: options', 'a kind or an object', options)
  checkOptions('openDevice', given, OPTIONS)
  const { kind = 'auto', threads, memoryLimit, fuse, allowSoftware, adapter } = given
  if (!['auto', 'gpu', 'cpu', 'js'].includes(kind))
    throw expected('openDevice: kind', "'auto', 'gpu', 'cpu' or 'js'", kind)
  if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1 && threads <= 1024)) {
    throw expected('openDevice: threads', 'a whole number from 1 to 1024', threads)
  }
  if (memoryLimit !== undefined && !(Number.isSafeInteger(memoryLimit) && memoryLimit >= 0)) {
    throw expected('openDevice: memoryLimit', 'a whole number of bytes', memoryLimit)
  }
  if (fuse !== undefined && typeof fuse !== 'boolean') throw expected('openDevice: fuse', 'true or false', fuse)
  if (allowSoftware !== undefined && typeof allowSoftware !== 'boolean')
    throw expected('openDevice: allowSoftware', 'true or false', allowSoftware)
  if (adapter !== undefined && typeof adapter !== 'string')
    throw expected('openDevice: adapter', 'part of the name of an adapter', adapter)
  return { ...given, kind }
}
