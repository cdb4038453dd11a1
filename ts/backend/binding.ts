/**
 * What the native addon exports. Written by scripts/binding-types.mjs from the `#[napi]` items of `crate/src/napi`;
 * change those, then run it again.
 */

import type { TypedArray } from '../dtype.ts'

/** A GPU, or something that plays one, as its driver describes it. */
export interface AdapterInfo {
  /** Its name. */
  name: string
  /** `discrete`, `integrated`, `virtual`, `software` or `other`. */
  type: 'discrete' | 'integrated' | 'virtual' | 'software' | 'other'
  /** The interface it is reached by. */
  backend: 'vulkan' | 'metal' | 'dx12'
  /** The driver with its version. */
  driver: string
  /** Features that kernels can use. */
  features: Array<string>
  /** What fits. */
  limits: AdapterLimits
  /** Why no device can be opened on it, whatever the options; absent if one can. */
  refusal?: string
}

/** Limits of an adapter that decide what fits. */
export interface AdapterLimits {
  /** Bytes of one buffer: of one tensor, and of all intermediates of one flush together. */
  bufferBytes: number
  /** Bytes that one binding of a shader reaches; larger tensors take several. */
  bindingBytes: number
  /** Storage buffers of one shader. */
  bindings: number
  /** Bytes of memory that a workgroup shares. */
  workgroupBytes: number
  /** Invocations of one workgroup. */
  workgroupSize: number
  /** Invocations that run in step; 0 where that differs or shaders cannot use it. */
  subgroupSize: number
}

/** The processor as the kernels see it. */
export interface CpuInfo {
  /** The instruction set the kernels use. */
  isa: string
  /** Physical cores that this process may use: the default number of threads. */
  threads: number
  /** Logical processors that this process may use. */
  logical: number
}

/** Something that a device has done. */
export interface DeviceEvent {
  /** A whole run; a step, done; a step, handed to a GPU; what a GPU has done at once. */
  kind: 'run' | 'step' | 'recording' | 'submission'
  /** Whether the JavaScript thread did it. */
  inline: boolean
  /** Milliseconds by the clock of `profile`. */
  start: number
  /** Milliseconds. */
  duration: number
  /** The number of the compiled program, for its runs. */
  program?: number
  /** The name of a step. */
  name?: string
  /** The operands of a step. */
  detail?: string
  /** Multiplications and additions of a step's matrix products. */
  flops?: number
  /** Bytes of a step's operands. */
  bytes?: number
  /** Dispatches of a submission. */
  dispatches?: number
}

/** What has been noted. */
export interface DeviceEvents {
  /** The events in the order in which they ended. */
  events: Array<DeviceEvent>
  /** Events that there was no room for. */
  dropped: number
}

/** Counters of a device; bytes unless said otherwise. */
export interface DeviceStats {
  /** Slots that hold memory or a failure. */
  liveSlots: number
  /** Held by live slots, shared memory once. */
  liveBytes: number
  /** Held by the arena and the scratch memory of programs, which are kept for the next run. */
  arenaBytes: number
  /** Highest sum of live and arena bytes. */
  peakBytes: number
  /** Kept for reuse. */
  poolBytes: number
  /** Copies of weights in the order in which products read them. */
  packedBytes: number
  /** Outside of that: packing buffers of the threads of this process, or staging buffers of the GPU. */
  scratchBytes: number
  /** Jobs that wait or run. */
  queuedJobs: number
  /** Of uploads among them. */
  queuedBytes: number
  /** Plans in the cache. */
  plans: number
  /** Streams that found their plan. */
  planHits: number
  /** Streams that had to be planned. */
  planMisses: number
}

/** A device that has been opened on a GPU. */
export interface OpenedGpu {
  /** Its id. */
  id: number
  /** What it computes on. */
  adapter: AdapterInfo
}

/** What is known of a compiled program. */
export interface ProgramInfo {
  /** Steps of its plan: kernels and fused chains. */
  steps: number
  /** Bytes of all intermediates together, as the plan lays them out. */
  arenaBytes: number
  /** The most bytes of intermediates alive at one step: no layout needs less. */
  liveBytes: number
  /** Milliseconds that decoding and planning took. */
  planMilliseconds: number
}

/** What must match between the addon and the SDK. */
export interface Version {
  /** The package's version. */
  version: string
  /** Hash of the opcode table; docs/program.md says of what. */
  opcodeHash: number
}

/** The addon itself. */
export interface Binding {
  /** All adapters of this machine, in the order in which they are tried. */
  adapters(): Array<AdapterInfo>

  /**
   * Finishes all work and frees everything; rejects with the first failure nobody has been told about. All later calls
   * fail with `ERR_DEVICE_LOST`.
   */
  close(id: number): Promise<void>

  /** Decodes and plans code on this thread and keeps the plan under the number `program`, for any number of calls of `run`. */
  compile(id: number, program: number, code: Uint32Array): ProgramInfo

  /** Asks the processor. */
  cpuInfo(): CpuInfo

  /** Loses the GPU of a device, as a failing driver would: for tests of what happens then, in builds with debug assertions. */
  lose(id: number): void

  /**
   * Opens a `cpu` device and returns its id. `threads` counts the device's own; 0 leaves the choice to the addon.
   * `memoryLimit` is in bytes; Infinity is none.
   */
  openCpu(threads: number, memoryLimit: number, fuse: boolean): number

  /**
   * Opens a `gpu` device: on the first adapter whose name contains `adapter` (empty: any), software adapters only if they
   * are allowed. Devices of a process on the same adapter share it. `memoryLimit` is in bytes; if it is Infinity,
   * `machineLimit` holds on adapters whose memory is the machine's, and none on others.
   */
  openGpu(allowSoftware: boolean, adapter: string, memoryLimit: number, machineLimit: number, fuse: boolean): OpenedGpu

  /** The plan of code words as text. */
  printPlan(id: number, code: Uint32Array): string

  /**
   * Begins to note what the device does: at most so many events between two calls of `takeEvents`; 0 ends it. Forgets what
   * is there. Returns the milliseconds that the clock of the events shows.
   */
  profile(id: number, events: number): number

  /**
   * Copies a slot into `into`, off this thread, when all work before is done. Until then `into` must not be used,
   * transferred or resized.
   */
  read(id: number, slot: number, into: TypedArray): Promise<void>

  /** Forgets a compiled program, after what has been submitted. */
  releaseProgram(id: number, program: number): void

  /** Runs a compiled program after everything submitted before it: as `submit`, with a stream that has no code words. */
  run(id: number, program: number, stream: Uint32Array, turn: number): boolean

  /** Counters of a device; while a program runs, those that are not bytes may be older. */
  stats(id: number): DeviceStats

  /**
   * Runs a stream after everything submitted before it; the words are copied. `turn` changes with every turn of the event
   * loop: short work runs on the calling thread for a bounded time per turn. True asks to call `waitForRoom` before more.
   */
  submit(id: number, stream: Uint32Array, turn: number): boolean

  /** Resolves when all work submitted so far is done; rejects with the first failure nobody has been told about. */
  sync(id: number): Promise<void>

  /** What has been noted since this was called last. */
  takeEvents(id: number): DeviceEvents

  /** Gives back all memory that only makes later work faster; resolves when that is done, after all work submitted so far. */
  trim(id: number): Promise<void>

  /** Copies a slot into `into` if all work is done and the copy is short (or `anySize`); false means that nothing happened. */
  tryRead(id: number, slot: number, into: TypedArray, anySize: boolean): boolean

  /** Does what `sync` does at once, if all work is done; false means that nothing happened. */
  trySync(id: number): boolean

  /** The version of the addon and of the programs it understands. */
  version(): Version

  /** Waits until there is room for more work, at most 20 ms; true when there is still none. */
  waitForRoom(id: number): boolean

  /** Waits until all work is done, at most 20 ms; true when it is. */
  waitIdle(id: number): boolean

  /**
   * Creates a slot from a `Float32Array`, an `Int32Array` or a `Uint8Array` (bool), which is copied. True asks to call
   * `waitForRoom` before more.
   */
  write(id: number, slot: number, data: TypedArray): boolean
}
