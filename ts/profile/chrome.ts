/**
 * A profile in Chrome's trace event format ("JSON Object Format"), for `chrome://tracing` and Perfetto: one process, a
 * thread for each lane, complete events for what took time, and asynchronous ones for what was waited for, since waits
 * overlap.
 */

import type { Profile, ProfileEvent } from './profile.ts'

/** One entry of a trace; times are in microseconds. */
export interface ChromeEvent {
  /** `X`: complete; `b` and `e`: begin and end of something asynchronous; `M`: a name. */
  readonly ph: 'X' | 'b' | 'e' | 'M'
  readonly name: string
  readonly cat?: string
  readonly pid: number
  readonly tid: number
  readonly ts?: number
  readonly dur?: number
  readonly id?: number
  readonly args?: Readonly<Record<string, string | number>>
}

/** A trace as a file holds it. */
export interface ChromeTrace {
  readonly displayTimeUnit: 'ms'
  readonly otherData: Readonly<Record<string, string | number>>
  readonly traceEvents: readonly ChromeEvent[]
}

const PID = 1
const THREADS = { js: 1, wait: 2, device: 3, gpu: 4 } as const

/** The trace of a profile. */
export function chromeTrace({ device, events, milliseconds, dropped }: Profile): ChromeTrace {
  const names = { js: 'JavaScript', wait: 'waiting', device: `${device.kind} device thread`, gpu: 'GPU' }
  const lanes = new Set(events.map(({ lane }) => lane))
  const named = (name: string, tid: number, value: string): ChromeEvent => ({
    ph: 'M',
    name,
    pid: PID,
    tid,
    args: { name: value },
  })
  const traceEvents = [
    named('process_name', 0, `tilegrad on ${device.name}`),
    ...[...lanes].map((lane) => named('thread_name', THREADS[lane], names[lane])),
    ...events.flatMap(entries),
  ]
  return { displayTimeUnit: 'ms', otherData: { device: device.name, milliseconds, dropped }, traceEvents }
}

function entries(event: ProfileEvent, id: number): ChromeEvent[] {
  const { kind, lane, name, detail, start, duration, flops, bytes } = event
  const args = {
    ...(detail !== '' && { detail }),
    ...(flops !== undefined && { flops, 'GFLOP/s': rate(flops, duration) }),
    ...(bytes !== undefined && { bytes, 'GB/s': rate(bytes, duration) }),
  }
  const common = { name: kind === 'trace' ? `record ${name}` : name, cat: kind, pid: PID, tid: THREADS[lane] }
  const [ts, dur] = [start * 1000, duration * 1000]
  if (lane !== 'wait') return [{ ph: 'X', ...common, ts, dur, args }]
  return [
    { ph: 'b', ...common, id, ts, args },
    { ph: 'e', ...common, id, ts: ts + dur },
  ]
}

/** Billions per second. */
function rate(count: number, milliseconds: number): number {
  return milliseconds > 0 ? Number((count / milliseconds / 1e6).toPrecision(4)) : 0
}
