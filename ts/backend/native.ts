/**
 * The `gpu` and `cpu` devices: a thin layer over the addon, and its only user. It turns the addon's errors into
 * `TilegradError`, waits where the addon asks for it, and prefers answers without a promise, which cost a tenth. Kernels,
 * memory and threads are in `crate/src/gpu` and `crate/src/cpu`.
 */

import { totalmem } from 'node:os'
import { setTimeout as after } from 'node:timers/promises'
import type { Dtype, TypedArray } from '../dtype.ts'
import { type ErrorCode, TilegradError } from '../errors.ts'
import type { Backend, BackendOptions, BackendStats, DeviceEvents, DeviceKind, ProgramInfo } from './backend.ts'
import type { AdapterInfo, Binding } from './binding.ts'
import { load } from './loader.ts'

/** What the addon found on this machine, or why there is no addon. */
export type NativeInfo =
  | {
      readonly available: true
      /** The instruction set of the kernels. */
      readonly isa: string
      /** Physical cores: the default number of threads. */
      readonly cores: number
    }
  | { readonly available: false; readonly reason: string; readonly cause: unknown }

/** Asks the addon, loading it at the first question. */
export function nativeInfo(): NativeInfo {
  const loaded = load()
  if (!loaded.available) return loaded
  const { isa, threads } = loaded.binding.cpuInfo()
  return { available: true, isa, cores: threads }
}

/** Part of the machine's memory that a device takes at most when nobody says: the rest is for V8 and everybody else. */
const MEMORY_SHARE = 0.8

/** What the machine, or the container around this process, has. */
function memoryOfMachine(): number {
  const allowed = process.constrainedMemory()
  const total = totalmem()
  return allowed > 0 && allowed < total ? allowed : total
}

/** Half of what may be queued: what a step hands over then fits without waiting. */
const READY_JOBS = 32
const READY_BYTES = 128 * 2 ** 20

// The addon runs short work on this thread, for a bounded time per turn of the event loop: a turn has a number, and a
// new one begins when an immediate has run.
let turn = 0
let turnIsOpen = false

function currentTurn(): number {
  if (!turnIsOpen) {
    turnIsOpen = true
    turn = (turn + 1) >>> 0
    setImmediate(() => {
      turnIsOpen = false
    })
  }
  return turn
}

/** An error object of the addon. */
interface NativeError extends Error {
  code: ErrorCode
  op?: string
  instruction?: number
  line?: string
}

function isNativeError(error: unknown): error is NativeError {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && error.code.startsWith('ERR_')
}

/** The same error as users know it. */
function translated(error: unknown): TilegradError {
  if (!isNativeError(error)) {
    return new TilegradError('ERR_INTERNAL', `the native addon failed: ${String(error)}`, { cause: error })
  }
  const place = error.line === undefined ? '' : `\n  in instruction ${error.instruction}: ${error.line}`
  const op = error.op === undefined ? '' : `${error.op}: `
  const translation = new TilegradError(error.code, `${op}${error.message}${place}`, { cause: error })
  if (error.op !== undefined && error.instruction !== undefined)
    translation.place = { op: error.op, line: error.instruction }
  return translation
}

function attempt<T>(call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw translated(error)
  }
}

async function settled(promise: Promise<void>): Promise<void> {
  try {
    await promise
  } catch (error) {
    throw translated(error)
  }
}

/** Every adapter, in the order in which they are tried; none without an addon. */
export function nativeAdapters(): AdapterInfo[] {
  const loaded = load()
  return loaded.available ? attempt(() => loaded.binding.adapters()) : []
}

function binding(): Binding {
  const loaded = load()
  if (loaded.available) return loaded.binding
  throw new TilegradError('ERR_NO_DEVICE', loaded.reason, { cause: loaded.cause })
}

/** What a device takes of the machine's memory at most when nobody says. */
function machineLimit(): number {
  return Math.floor(memoryOfMachine() * MEMORY_SHARE)
}

/** Opens a `cpu` device, with the number of threads that compute, the one that leads included. */
export function openCpu(options: BackendOptions): { readonly backend: Backend; readonly threads: number } {
  const addon = binding()
  const threads = options.threads ?? addon.cpuInfo().threads
  const id = attempt(() => addon.openCpu(threads, options.memoryLimit ?? machineLimit(), options.fuse ?? true))
  return { backend: new NativeBackend('cpu', addon, id), threads }
}

/** Opens a `gpu` device. A GPU with memory of its own says itself when that is full; others take the machine's. */
export function openGpu(options: BackendOptions): { readonly backend: Backend; readonly adapter: AdapterInfo } {
  const addon = binding()
  const { allowSoftware = false, adapter: name = '', memoryLimit = Infinity, fuse = true } = options
  const { id, adapter } = attempt(() => addon.openGpu(allowSoftware, name, memoryLimit, machineLimit(), fuse))
  return { backend: new NativeBackend('gpu', addon, id), adapter }
}

/** A device of the addon. */
class NativeBackend implements Backend {
  readonly kind: DeviceKind
  readonly #binding: Binding
  readonly #id: number
  /** What this thread's clock shows when that of events shows 0. */
  #clock = 0

  constructor(kind: DeviceKind, binding: Binding, id: number) {
    this.kind = kind
    this.#binding = binding
    this.#id = id
  }

  submit(stream: Uint32Array): void {
    try {
      if (this.#binding.submit(this.#id, stream, currentTurn())) this.#waitForRoom()
    } catch (error) {
      throw translated(error)
    }
  }

  compile(program: number, code: Uint32Array): ProgramInfo {
    return attempt(() => this.#binding.compile(this.#id, program, code))
  }

  run(program: number, stream: Uint32Array): void {
    try {
      if (this.#binding.run(this.#id, program, stream, currentTurn())) this.#waitForRoom()
    } catch (error) {
      throw translated(error)
    }
  }

  release(program: number): void {
    attempt(() => this.#binding.releaseProgram(this.#id, program))
  }

  write(slot: number, dtype: Dtype, data: TypedArray): void {
    if (dtype === 'f64')
      throw new TilegradError('ERR_DTYPE', `the ${this.kind} device has no f64; cast to f32, or use the js device`)
    try {
      if (this.#binding.write(this.#id, slot, data)) this.#waitForRoom()
    } catch (error) {
      throw translated(error)
    }
  }

  read(slot: number, into: TypedArray): Promise<void> | undefined {
    try {
      if (this.#binding.tryRead(this.#id, slot, into, false)) return undefined
      return settled(this.#binding.read(this.#id, slot, into))
    } catch (error) {
      return Promise.reject(translated(error))
    }
  }

  readSync(slot: number, into: TypedArray, until = Infinity): boolean {
    return attempt(() => {
      while (!this.#binding.tryRead(this.#id, slot, into, true)) {
        if (performance.now() >= until) return false
        // In slices, between which a worker can be terminated.
        this.#binding.waitIdle(this.#id)
      }
      return true
    })
  }

  async sync(): Promise<void> {
    if (attempt(() => this.#binding.trySync(this.#id))) return
    await settled(attempt(() => this.#binding.sync(this.#id)))
  }

  stats(): BackendStats {
    return attempt(() => this.#binding.stats(this.#id))
  }

  ready(): Promise<void> | undefined {
    return this.#hasRoom() ? undefined : this.#untilRoom()
  }

  async #untilRoom(): Promise<void> {
    do await after(1)
    while (!this.#hasRoom())
  }

  #hasRoom(): boolean {
    const { queuedJobs, queuedBytes } = this.stats()
    return queuedJobs <= READY_JOBS && queuedBytes <= READY_BYTES
  }

  async trim(): Promise<void> {
    await settled(attempt(() => this.#binding.trim(this.#id)))
  }

  profile(events: number): void {
    const before = performance.now()
    const clock = attempt(() => this.#binding.profile(this.#id, events))
    this.#clock = (before + performance.now()) / 2 - clock
  }

  takeEvents(): DeviceEvents {
    const { events, dropped } = attempt(() => this.#binding.takeEvents(this.#id))
    for (const event of events) event.start += this.#clock
    return { events, dropped }
  }

  printPlan(code: Uint32Array): string {
    return attempt(() => this.#binding.printPlan(this.#id, code))
  }

  async close(): Promise<void> {
    await settled(attempt(() => this.#binding.close(this.#id)))
  }

  #waitForRoom(): void {
    while (this.#binding.waitForRoom(this.#id));
  }
}
