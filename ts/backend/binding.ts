/**
 * What the native addon exports. Written by scripts/binding-types.mjs from the `#[napi]` items of `crate/src/napi`;
 * change those, then run it again.
 */

import type { TypedArray } from '../dtype.ts'

/** The processor as the kernels see it. */
export interface CpuInfo {
  /** The instruction set the kernels use. */
  isa: string
  /** Physical cores that this process may use: the default number of threads. */
  threads: number
  /** Logical processors that this process may use. */
  logical: number
}

/** Counters of a device; bytes unless said otherwise. */
export interface DeviceStats {
  /** Slots that hold memory or a failure. */
  liveSlots: number
  /** Held by live slots, shared memory once. */
  liveBytes: number
  /** Highest sum of live and arena bytes. */
  peakBytes: number
  /** Kept for reuse. */
  poolBytes: number
  /** Copies of weights in the order in which products read them. */
  packedBytes: number
  /** Plans in the cache. */
  plans: number
  /** Streams that found their plan. */
  planHits: number
  /** Streams that had to be planned. */
  planMisses: number
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
  /**
   * Finishes all work and frees everything; rejects with the first failure nobody has been told about. All later calls
   * fail with `ERR_DEVICE_LOST`.
   */
  close(id: number): Promise<void>

  /** Asks the processor. */
  cpuInfo(): CpuInfo

  /**
   * Opens a `cpu` device and returns its id. `threads` counts the device's own; 0 leaves the choice to the addon.
   * `memoryLimit` is in bytes; Infinity is none.
   */
  openCpu(threads: number, memoryLimit: number, fuse: boolean): number

  /**
   * Copies a slot into `into`, off this thread, when all work before is done. Until then `into` must not be used,
   * transferred or resized.
   */
  read(id: number, slot: number, into: TypedArray): Promise<void>

  /** Counters of a device; while a program runs, those that are not bytes may be older. */
  stats(id: number): DeviceStats

  /**
   * Runs a stream after everything submitted before it; the words are copied. `turn` changes with every turn of the event
   * loop: short work runs on the calling thread for a bounded time per turn. True asks to call `waitForRoom` before more.
   */
  submit(id: number, stream: Uint32Array, turn: number): boolean

  /** Resolves when all work submitted so far is done; rejects with the first failure nobody has been told about. */
  sync(id: number): Promise<void>

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
