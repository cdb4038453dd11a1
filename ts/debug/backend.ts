/**
 * A backend that says on standard error what it hands on to the one behind it: programs, their plans, and how long their
 * steps took. For people; nothing parses it. docs/debugging.md shows what it looks like.
 */

import type { Backend, DeviceEvent, DeviceEvents, ProgramInfo } from '../backend/backend.ts'
import { Relay } from '../backend/relay.ts'
import type { TypedArray } from '../dtype.ts'
import { decode, readStream } from '../program/decode.ts'
import { printProgram } from '../program/print.ts'
import type { DebugLevel } from './level.ts'
import type { Places } from './places.ts'

/** Events kept at level 3 until they are said. */
const ROOM = 100_000

/** Programs that are remembered as said; beyond, all are forgotten, and said once more. */
const MOST_SAID = 4096

/** Says what it hands on. */
export class DebugBackend extends Relay {
  readonly #level: DebugLevel
  readonly #name: string
  readonly #places: Places
  /** Words of the streams that have been said. */
  readonly #said = new Set<string>()
  readonly #titles = new Map<number, string>()
  /** Events for whoever makes a profile meanwhile; `null` when nobody does. */
  #profile: { events: DeviceEvent[]; dropped: number; room: number } | null = null
  #steps: DeviceEvent[] = []

  /** @param name of the device, for people */
  constructor(inner: Backend, name: string, level: DebugLevel, places: Places) {
    super(inner)
    this.#name = name
    this.#level = level
    this.#places = places
    if (level < 3) return
    inner.profile(ROOM)
    process.once('exit', this.#sayRuns)
  }

  override submit(stream: Uint32Array): void {
    const { code, inputs, outputs } = readStream(stream)
    const key = Buffer.from(code.buffer, code.byteOffset, code.byteLength).toString('latin1')
    if (code.length > 0 && !this.#said.has(key)) {
      if (this.#said.size >= MOST_SAID) this.#said.clear()
      this.#said.add(key)
      this.#sayProgram('stream', code, `${inputs.length} inputs, ${outputs.length} outputs`)
    }
    super.submit(stream)
    this.#sayRuns()
  }

  override compile(program: number, code: Uint32Array, title?: string): ProgramInfo {
    const name = title ?? `program ${program}`
    this.#titles.set(program, name)
    const info = super.compile(program, code, title)
    const { steps, arenaBytes, liveBytes, planMilliseconds } = info
    this.#sayProgram(
      name,
      code,
      `${steps} steps, ${arenaBytes} bytes of intermediates (${liveBytes} alive at most), planned in ${planMilliseconds.toFixed(2)} ms`,
    )
    return info
  }

  override run(program: number, stream: Uint32Array): void {
    super.run(program, stream)
    this.#sayRuns()
  }

  override release(program: number): void {
    this.#sayRuns()
    this.#titles.delete(program)
    super.release(program)
  }

  override read(slot: number, into: TypedArray): Promise<void> | undefined {
    const reading = super.read(slot, into)
    if (reading === undefined) this.#sayRuns()
    return reading === undefined ? undefined : this.#awaited(reading)
  }

  override readSync(slot: number, into: TypedArray, until?: number): boolean {
    try {
      return super.readSync(slot, into, until)
    } catch (error) {
      throw this.#places.explain(error)
    } finally {
      this.#sayRuns()
    }
  }

  override sync(): Promise<void> {
    return this.#awaited(super.sync())
  }

  override profile(events: number): void {
    this.#sayRuns()
    this.#profile = events > 0 ? { events: [], dropped: 0, room: events } : null
    // The clocks are set anew for whoever wants to know exactly.
    if (this.#level === 3) super.profile(Math.max(events, ROOM))
    else super.profile(events)
  }

  override takeEvents(): DeviceEvents {
    if (this.#level < 3) return super.takeEvents()
    this.#sayRuns()
    const taken = { events: this.#profile?.events ?? [], dropped: this.#profile?.dropped ?? 0 }
    if (this.#profile !== null) this.#profile = { ...this.#profile, events: [], dropped: 0 }
    return taken
  }

  override async close(): Promise<void> {
    try {
      // What pending work still does is said too.
      if (this.#level === 3) await this.sync()
    } finally {
      process.removeListener('exit', this.#sayRuns)
      await this.#awaited(super.close(), false)
    }
  }

  /** Waits, explains what went wrong, and says what has been done meanwhile. */
  async #awaited(promise: Promise<void>, open = true): Promise<void> {
    try {
      await promise
    } catch (error) {
      throw this.#places.explain(error)
    } finally {
      if (open) this.#sayRuns()
    }
  }

  #sayProgram(title: string, code: Uint32Array, numbers: string): void {
    const program = decode(code)
    say(
      `tilegrad: ${title} on ${this.#name}: ${program.instructions.length} instructions, ${numbers}\n${indented(printProgram(program))}`,
    )
    if (this.#level >= 2) say(`tilegrad: plan of ${title}\n${indented(this.inner.printPlan(code))}`)
  }

  /** Says what has been done since the last time. */
  readonly #sayRuns = (): void => {
    if (this.#level < 3) return
    const { events, dropped } = this.inner.takeEvents()
    this.#keep(events, dropped)
    for (const event of events) {
      // Steps end before the run that they are part of.
      if (event.kind === 'step' || event.kind === 'recording') this.#steps.push(event)
      else this.#sayEvent(event)
    }
    if (dropped > 0) say(`tilegrad: ${dropped} events were too many to be kept\n`)
  }

  #sayEvent(event: DeviceEvent): void {
    if (event.kind === 'submission') {
      say(`tilegrad: the GPU took ${ms(event.duration)} ms for ${event.dispatches} kernels\n`)
      return
    }
    const title =
      event.program === undefined ? 'stream' : (this.#titles.get(event.program) ?? `program ${event.program}`)
    const steps = this.#steps
    this.#steps = []
    if (steps.length === 0) return
    const what = steps.some(({ kind }) => kind === 'recording') ? 'was recorded' : 'ran'
    const lines = steps.map(({ duration, name, detail, flops = 0 }) => {
      const rate = flops > 0 && duration > 0 ? `  ${(flops / duration / 1e6).toFixed(1)} GFLOP/s` : ''
      return `${ms(duration).padStart(10)} ms  ${name}  ${detail}${rate}`
    })
    say(`tilegrad: ${title} ${what} in ${ms(event.duration)} ms\n${lines.join('\n')}\n`)
  }

  #keep(events: readonly DeviceEvent[], dropped: number): void {
    const kept = this.#profile
    if (kept === null) return
    const room = Math.max(0, kept.room - kept.events.length)
    kept.events.push(...events.slice(0, room))
    kept.dropped += dropped + Math.max(0, events.length - room)
  }
}

function say(text: string): void {
  process.stderr.write(text)
}

function indented(text: string): string {
  return `${text
    .trimEnd()
    .split('\n')
    .map((line) => `  ${line}`)
    .join('\n')}\n`
}

function ms(milliseconds: number): string {
  return milliseconds.toFixed(3)
}
