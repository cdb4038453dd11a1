/**
 * The `js` device: runs streams at once, on the thread that submits them, in plain TypeScript. It is what works where
 * no native code loads, and with f64 it is the reference the other devices are measured by. It knows slots, memory and
 * errors; programs run in run.ts, by the plans of plan.ts.
 */

import type { Backend, BackendOptions, BackendStats, DeviceEvents, ProgramInfo } from '../backend.ts'
import type { Dtype, TypedArray } from '../../dtype.ts'
import { TilegradError } from '../../errors.ts'
import { type Instruction, type Program, type Stream, readStream } from '../../program/decode.ts'
import { Events } from './events.ts'
import { freeScratch, scratchBytes } from './gemm.ts'
import { Memory } from './memory.ts'
import { type Plan, PlanCache, makePlan, printPlan } from './plan.ts'
import { type Held, arrayOver, run } from './run.ts'

/** Memory that several slots may look at. */
interface Shared {
  readonly buffer: ArrayBuffer
  owners: number
}

/** A slot that holds elements. */
interface Filled {
  readonly data: TypedArray
  readonly dtype: Dtype
  readonly shared: Shared
}

type Slot = Filled | TilegradError

/** Errors remembered for `sync` and `close`; whoever never asks shall not fill the memory with them. */
const MOST_UNREAD = 64

const INDEX_BITS = 22

/** `slot 5, generation 2` */
function showSlot(slot: number): string {
  return `slot ${slot & ((1 << INDEX_BITS) - 1)}, generation ${slot >>> INDEX_BITS}`
}

/** The device written in TypeScript. `threads` and `fuse` change nothing here. */
export class JsBackend implements Backend {
  readonly kind = 'js'
  readonly #memory: Memory
  readonly #plans = new PlanCache()
  readonly #programs = new Map<number, Plan>()
  readonly #slots = new Map<number, Slot>()
  /** Errors that poisoned slots and that no read has delivered. */
  readonly #unread = new Set<TilegradError>()
  /** Slots that the stream in hand makes and frees: kept between streams, because most are short and many. */
  readonly #made = new Set<number>()
  readonly #freed = new Set<number>()
  readonly #events = new Events()
  #closed = false

  constructor(options: BackendOptions = {}) {
    this.#memory = new Memory(options.memoryLimit)
  }

  submit(words: Uint32Array): void {
    this.#checkOpen()
    const stream = readStream(words)
    this.#timed(this.#plans.get(stream.code), stream, undefined)
  }

  compile(program: number, code: Uint32Array): ProgramInfo {
    this.#checkOpen()
    const before = performance.now()
    const plan = makePlan(code)
    this.#programs.set(program, plan)
    return {
      steps: plan.program.instructions.filter(({ name }) => name !== 'input' && name !== 'output').length,
      arenaBytes: plan.cellBytes,
      liveBytes: plan.liveBytes,
      planMilliseconds: performance.now() - before,
    }
  }

  run(program: number, words: Uint32Array): void {
    this.#checkOpen()
    const plan = this.#programs.get(program)
    if (plan === undefined) throw new TilegradError('ERR_PROGRAM', `program ${program} was not compiled on this device`)
    this.#timed(plan, readStream(words), program)
  }

  release(program: number): void {
    this.#programs.delete(program)
  }

  #timed(plan: Plan, stream: Stream, program: number | undefined): void {
    if (!this.#events.on) return this.#run(plan, stream)
    const start = performance.now()
    this.#run(plan, stream, (instruction, began) => this.#events.step(plan.program, instruction, began))
    this.#events.run(program, start)
  }

  #run(plan: Plan, stream: Stream, onStep?: (instruction: Instruction, start: number) => void): void {
    const inputs = this.#bind(plan.program, stream)
    const buffers = this.#takeAll(plan)
    if (buffers instanceof TilegradError) {
      this.#report(buffers)
      for (const slot of stream.outputs) this.#slots.set(slot, buffers)
    } else {
      const held = run(plan, inputs.map(heldBy), buffers, stream.scalars, (error) => this.#report(error), onStep)
      this.#publish(plan, inputs, buffers, held, stream.outputs)
    }
    for (const slot of stream.frees) this.#free(slot)
  }

  write(slot: number, dtype: Dtype, data: TypedArray): void {
    this.#checkOpen()
    if (this.#slots.has(slot)) throw new TilegradError('ERR_PROGRAM', `${showSlot(slot)} is written twice`)
    try {
      const buffer = this.#memory.take(data.byteLength)
      const array = arrayOver(dtype, buffer, data.length)
      array.set(data)
      this.#slots.set(slot, { data: array, dtype, shared: { buffer, owners: 1 } })
    } catch (error) {
      if (!(error instanceof TilegradError)) throw error
      this.#report(error)
      this.#slots.set(slot, error)
    }
  }

  read(slot: number, into: TypedArray): Promise<void> | undefined {
    try {
      this.readSync(slot, into)
    } catch (error) {
      return Promise.reject(error)
    }
    return undefined
  }

  readSync(slot: number, into: TypedArray): boolean {
    this.#checkOpen()
    const held = this.#find(slot)
    if (held instanceof TilegradError) {
      this.#unread.delete(held)
      throw held
    }
    if (held.data.length !== into.length) {
      throw new TilegradError(
        'ERR_INTERNAL',
        `${into.length} elements cannot take the ${held.data.length} of ${showSlot(slot)}`,
      )
    }
    into.set(held.data)
    return true
  }

  sync(): Promise<void> {
    const [error] = this.#unread
    if (error === undefined) return Promise.resolve()
    this.#unread.delete(error)
    return Promise.reject(error)
  }

  stats(): BackendStats {
    const { liveBytes, peakBytes, poolBytes } = this.#memory
    return {
      liveSlots: this.#slots.size,
      liveBytes,
      arenaBytes: 0,
      peakBytes,
      poolBytes,
      packedBytes: 0,
      scratchBytes: scratchBytes(),
      queuedJobs: 0,
      queuedBytes: 0,
      plans: this.#plans.size,
      planHits: this.#plans.hits,
      planMisses: this.#plans.misses,
    }
  }

  ready(): undefined {
    return undefined
  }

  trim(): Promise<void> {
    this.#memory.clear()
    freeScratch()
    return Promise.resolve()
  }

  profile(events: number): void {
    this.#events.set(events)
  }

  takeEvents(): DeviceEvents {
    return this.#events.take()
  }

  printPlan(code: Uint32Array): string {
    return printPlan(makePlan(code))
  }

  close(): Promise<void> {
    for (const slot of this.#slots.keys()) this.#free(slot)
    this.#memory.clear()
    this.#plans.clear()
    this.#programs.clear()
    this.#closed = true
    return this.sync()
  }

  #checkOpen(): void {
    if (this.#closed) throw new TilegradError('ERR_DEVICE_LOST', 'the js device has been closed; open another one')
  }

  #find(slot: number): Slot {
    const held = this.#slots.get(slot)
    if (held === undefined) throw new TilegradError('ERR_DISPOSED', `${showSlot(slot)} holds nothing or has been freed`)
    return held
  }

  /** Checks a stream against its program and the slots, before anything changes; gives what the inputs hold. */
  #bind(program: Program, stream: Stream): Slot[] {
    const wanted = [program.inputs.length, program.outputs.length]
    if (
      stream.inputs.length !== wanted[0] ||
      stream.outputs.length !== wanted[1] ||
      stream.scalars.length < program.scalarCount
    ) {
      throw new TilegradError('ERR_PROGRAM', 'slots or scalars of a stream are not as many as its code needs')
    }
    const made = this.#made
    const freed = this.#freed
    made.clear()
    freed.clear()
    for (const slot of stream.outputs) {
      if (made.has(slot) || this.#slots.has(slot))
        throw new TilegradError('ERR_PROGRAM', `${showSlot(slot)} is in use already`)
      made.add(slot)
    }
    for (const slot of stream.frees) {
      if (freed.has(slot)) throw new TilegradError('ERR_PROGRAM', `${showSlot(slot)} is freed twice`)
      freed.add(slot)
      if (!made.has(slot)) this.#find(slot)
    }
    return stream.inputs.map((slot, i) => {
      const held = this.#find(slot)
      const { dtype, size } = program.registers[program.inputs[i]!]!
      if (!(held instanceof TilegradError) && (held.dtype !== dtype || held.data.length !== size)) {
        throw new TilegradError('ERR_PROGRAM', `${showSlot(slot)} has not the dtype or size that input ${i} declares`)
      }
      return held
    })
  }

  /** All memory a program needs, or the error that says why it cannot be had. */
  #takeAll({ buffers, program }: Plan): ArrayBuffer[] | TilegradError {
    const taken: ArrayBuffer[] = []
    try {
      for (const bytes of buffers) taken.push(this.#memory.take(bytes))
      return taken
    } catch (cause) {
      for (const buffer of taken) this.#memory.release(buffer)
      if (!(cause instanceof TilegradError)) throw cause
      const total = buffers.reduce((sum, bytes) => sum + bytes, 0)
      const message = `a program of ${program.instructions.length} instructions needs ${total} bytes: ${cause.message}`
      return new TilegradError(cause.code, message, { cause })
    }
  }

  /** Hands results to their slots and takes back the memory nobody needs any more. */
  #publish(
    plan: Plan,
    inputs: readonly Slot[],
    buffers: readonly ArrayBuffer[],
    held: readonly Held[],
    slots: readonly number[],
  ): void {
    const { program, places } = plan
    const shared = new Map<number, Shared>()
    program.outputs.forEach((register, i) => {
      const data = held[register]!
      if (data instanceof TilegradError) {
        this.#slots.set(slots[i]!, data)
        return
      }
      const { buffer, root } = places[register]!
      let memory = shared.get(buffer)
      if (buffer < 0) memory = (inputs[program.inputs.indexOf(root)] as Filled).shared
      else if (memory === undefined) shared.set(buffer, (memory = { buffer: buffers[buffer]!, owners: 0 }))
      memory.owners++
      this.#slots.set(slots[i]!, { data, dtype: program.registers[register]!.dtype, shared: memory })
    })
    buffers.forEach((buffer, i) => {
      if (!shared.has(i)) this.#memory.release(buffer)
    })
  }

  #free(slot: number): void {
    const held = this.#find(slot)
    this.#slots.delete(slot)
    if (held instanceof TilegradError) return
    if (--held.shared.owners === 0) this.#memory.release(held.shared.buffer)
  }

  #report(error: TilegradError): void {
    if (this.#unread.size < MOST_UNREAD) this.#unread.add(error)
  }
}

function heldBy(slot: Slot): Held {
  return slot instanceof TilegradError ? slot : slot.data
}
