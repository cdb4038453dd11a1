/**
 * What a device is to the SDK: something that runs streams over numbered slots. Three classes implement it and nothing
 * above knows which one it talks to. A backend does not know tensors, shapes of slots or gradients; those stay in
 * TypeScript. Slot numbers are given out by the SDK and carry a generation, so that a stale one is an error, not a
 * look-up. docs/program.md describes the stream.
 */

import type { Dtype, TypedArray } from '../dtype.ts'

/** The devices there are. */
export type DeviceKind = 'gpu' | 'cpu' | 'js'

/**
 * Counters of a device. Bytes are those of device memory, host copies not included. What a device holds is the sum of
 * `liveBytes`, `arenaBytes`, `poolBytes` and `packedBytes`; a memory limit bounds it.
 */
export interface BackendStats {
  /** Slots that hold memory or an error. */
  readonly liveSlots: number
  /** Bytes held by live slots; memory shared by views counts once. */
  readonly liveBytes: number
  /** Bytes of intermediates: those of the largest program that ran lately, kept for the next run. 0 on `js`, which uses the pool. */
  readonly arenaBytes: number
  /** Highest sum of live and arena bytes so far. */
  readonly peakBytes: number
  /** Bytes that have been freed and are kept for reuse. */
  readonly poolBytes: number
  /** Bytes of weights in the order in which products read them: copies that `cpu` makes of what is used again unchanged. */
  readonly packedBytes: number
  /**
   * Bytes besides, that make kernels and transfers faster and belong to no device alone: packing buffers of the threads of
   * this process (`cpu`, `js`), staging buffers of the GPU (`gpu`). Devices that share them count the same bytes.
   */
  readonly scratchBytes: number
  /** Submissions, uploads and reads that wait or run. 0 on `js`. */
  readonly queuedJobs: number
  /** Bytes of the uploads among them. On `cpu` they are counted as live too, unless memory was short. */
  readonly queuedBytes: number
  /** Plans in the cache. */
  readonly plans: number
  /** Streams that found their plan in the cache. */
  readonly planHits: number
  /** Streams that had to be planned. */
  readonly planMisses: number
}

/** What is known of a compiled program. */
export interface ProgramInfo {
  /** Steps of its plan: kernels and fused chains. */
  readonly steps: number
  /** Bytes of all intermediates together, as the plan lays them out. */
  readonly arenaBytes: number
  /** The least that any layout needs: the most bytes of intermediates alive at one moment. */
  readonly liveBytes: number
  /** Milliseconds that planning took. */
  readonly planMilliseconds: number
}

/**
 * Something that a device has done: a whole `run` from binding to results; a `step` of it (a kernel or a fused chain), done;
 * the `recording` of a step for a GPU; a `submission`, which is what a GPU does at once.
 */
export interface DeviceEvent {
  readonly kind: 'run' | 'step' | 'recording' | 'submission'
  /** Whether this thread did it. */
  readonly inline: boolean
  /** Milliseconds of `performance.now()`. */
  readonly start: number
  /** Milliseconds. */
  readonly duration: number
  /** The number of the compiled program, for its runs. */
  readonly program?: number
  /** The instructions of a step: `linear`, `mul+add`. */
  readonly name?: string
  /** The operands of a step: `f32[32,784], f32[784,10] → f32[32,10]`. */
  readonly detail?: string
  /** Multiplications and additions of a step's matrix products. */
  readonly flops?: number
  /** Bytes of a step's operands and results. */
  readonly bytes?: number
  /** Kernels of a submission. */
  readonly dispatches?: number
}

/** What a device has noted. */
export interface DeviceEvents {
  /** In the order in which they ended. */
  readonly events: readonly DeviceEvent[]
  /** Events that there was no room for. */
  readonly dropped: number
}

/** One device, as the SDK sees it. Methods throw `TilegradError`; none is called after `close`. */
export interface Backend {
  readonly kind: DeviceKind
  /** Runs a stream after everything submitted before it. The words are copied before this returns. Never throws for what the data is: such errors poison slots. */
  submit(stream: Uint32Array): void
  /**
   * Decodes and plans code once, for any number of runs, under a number that the SDK gives out and that is not in use. The
   * words are copied. Throws for words that are no program, and for want of memory.
   *
   * @param title what people call it, for texts
   */
  compile(program: number, code: Uint32Array, title?: string): ProgramInfo
  /** Runs a compiled program after everything submitted before it: `stream` has no code words. Fails as `submit` does. */
  run(program: number, stream: Uint32Array): void
  /** Forgets a compiled program, after what has been submitted. */
  release(program: number): void
  /** Creates a slot from host data, copied before this returns. */
  write(slot: number, dtype: Dtype, data: TypedArray): void
  /** Copies a slot to the host once all work before it is done; `undefined` when it already has. Rejects for a poisoned slot. */
  read(slot: number, into: TypedArray): Promise<void> | undefined
  /** The same, waiting until `until` (as `performance.now()` counts); false when that has passed. */
  readSync(slot: number, into: TypedArray, until?: number): boolean
  /** Resolves when all work submitted so far is done; rejects with the first error nobody has read. */
  sync(): Promise<void>
  stats(): BackendStats
  /** Resolves when there is room for much more work, so that handing over some will not wait; `undefined` when there is now. */
  ready(): Promise<void> | undefined
  /** Gives back all memory that only makes later work faster; resolves when that is done, after all work submitted so far. */
  trim(): Promise<void>
  /** Begins to note what is done, at most so many events between two calls of `takeEvents`; 0 ends it. Forgets what is there. */
  profile(events: number): void
  /** What has been noted since this was called last. */
  takeEvents(): DeviceEvents
  /** The plan of code as text, for people. Throws for words that are no program. */
  printPlan(code: Uint32Array): string
  /** Finishes pending work, frees everything; rejects with the first error nobody has read. */
  close(): Promise<void>
}

/** Options of a device that its backend sees. */
export interface BackendOptions {
  /** Threads of the `cpu` device, the one that leads included. Default: physical cores. */
  readonly threads?: number | undefined
  /** Upper bound in bytes of all device memory. Default: the backend's choice; `js` has none. */
  readonly memoryLimit?: number | undefined
  /** Whether `gpu` may be an adapter that computes on the processor. Default: false. */
  readonly allowSoftware?: boolean | undefined
  /** Part of the name of the adapter that `gpu` is to be. Default: the first that can be used. */
  readonly adapter?: string | undefined
  /** `false` runs every instruction by itself, for tests. Default: true. */
  readonly fuse?: boolean | undefined
}
