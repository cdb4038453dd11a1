/**
 * `profile`: where the time of some work goes, on this thread and on a device. Devices note what they do only while they
 * are profiled (`Backend.profile`); this thread's calls to the device pass through `timed.ts` meanwhile. What a profile
 * looks like as text is `report.ts`, as a trace for Chrome `chrome.ts`.
 */

import { rename, rm, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { inspect } from 'node:util'
import type { DeviceEvent } from '../backend/backend.ts'
import { type Device, checkDevice, defaultDevice } from '../device.ts'
import { type Names, TilegradError, checkOptions, expected } from '../errors.ts'
import { refuseTracing } from '../program/tracing.ts'
import { type ChromeTrace, chromeTrace } from './chrome.ts'
import { report } from './report.ts'
import { listen } from './spans.ts'
import { TimedBackend } from './timed.ts'

/** Options of {@link profile}. */
export interface ProfileOptions {
  /** The device to look at. Default: the default device. */
  readonly device?: Device
  /** Events of the device that are kept at most; what is beyond is counted as `dropped`. Default 100,000. */
  readonly events?: number
}

/**
 * Something that took time.
 *
 * | kind | lane | what |
 * |---|---|---|
 * | `call` | `js` | a call of a compiled function, as long as it held up this thread |
 * | `trace` | `js` | the recording of one, planning included |
 * | `host` | `js` | a call to the device: `submit`, `run`, `compile`, `upload`, `readSync` |
 * | `wait` | `wait` | `read` and `sync`, from asking to having; this thread is free meanwhile |
 * | `run` | `device` or `js` | a program from binding its inputs to handing out its results, with its steps inside |
 * | `step` | `device` or `js` | a kernel, or a chain of fused instructions; on `js` an instruction |
 * | `recording` | `device` | `gpu`: what it takes the processor to put a step into a command list |
 * | `submission` | `gpu` | `gpu`: some steps together, from when the GPU could begin to when they were seen to be done |
 */
export interface ProfileEvent {
  readonly kind: 'call' | 'trace' | 'host' | 'wait' | 'run' | 'step' | 'recording' | 'submission'
  /** Who did it: this thread, nobody (something was waited for), the device's thread, the GPU. */
  readonly lane: 'js' | 'wait' | 'device' | 'gpu'
  /** The instructions of a step (`linear`, `mul+add`), the function of a call or run, the name of a call. */
  readonly name: string
  /** Operands, arguments, sizes: `f32[32,784], f32[784,10] → f32[32,10]`. */
  readonly detail: string
  /** Milliseconds since the profile began. */
  readonly start: number
  /** Milliseconds. */
  readonly duration: number
  /** Multiplications and additions of a step's matrix products. */
  readonly flops?: number
  /** Bytes of a step's operands and results. */
  readonly bytes?: number
}

/** Where the time of some work went; made by {@link profile}. `String(profile)` is a table. */
export class Profile<T = unknown> {
  /** What the function gave. */
  readonly result: T
  /** The device. */
  readonly device: Pick<Device, 'kind' | 'name'>
  /** From the call of the function until all of its work was done. */
  readonly milliseconds: number
  /** By the time when they began. */
  readonly events: readonly ProfileEvent[]
  /** Events of the device that there was no room for. */
  readonly dropped: number

  /** @internal Made by {@link profile}. */
  constructor(
    result: T,
    device: Pick<Device, 'kind' | 'name'>,
    milliseconds: number,
    events: readonly ProfileEvent[],
    dropped: number,
  ) {
    this.result = result
    this.device = device
    this.milliseconds = milliseconds
    this.events = events
    this.dropped = dropped
  }

  /** A table of the steps by name, and of what this thread did. */
  toString(): string {
    return report(this)
  }

  /** @internal The same as `String(profile)`, for `console.log`. */
  [inspect.custom](): string {
    return this.toString()
  }

  /** The events in Chrome's trace format, with a lane for each thread and the GPU. */
  toChrome(): ChromeTrace {
    return chromeTrace(this)
  }

  /**
   * Writes {@link toChrome} as JSON, to be opened in `chrome://tracing` or at ui.perfetto.dev. The file is there as a whole
   * or not at all.
   *
   * @param path a path, or a `file:` URL
   */
  async save(path: string | { readonly href: string }): Promise<void> {
    const target = typeof path === 'string' ? path : fileURLToPath(path.href)
    const partial = `${target}.${process.pid}.partial`
    try {
      await writeFile(partial, JSON.stringify(this.toChrome()))
      await rename(partial, target)
    } catch (error) {
      await rm(partial, { force: true })
      throw error
    }
  }
}

const profiled = new WeakSet<Device>()

/**
 * Says where the time of some work goes: which steps the device ran and for how long, what this thread had to do for them,
 * what lay between. The work is done once, as it would be without; noting costs a microsecond or so for each step.
 *
 * What is pending on the device is finished first, and the work is waited for at the end, so that the profile has all of it
 * and nothing else. Call the function a few times before, or in it, if you want to see warm caches and compiled shaders.
 *
 * @param fn may be asynchronous
 * @throws `ERR_ARGUMENT` when the device is being profiled already; whatever `fn` or its work throws
 *
 * @example
 * ```ts
 * import { compile, nn, noGrad, profile, randn, type Tensor } from 'tilegrad'
 * const model = new nn.Sequential(new nn.Linear(784, 512, { activation: 'relu' }), new nn.Linear(512, 10)).eval()
 * const predict = compile((x: Tensor) => noGrad(() => model.forward(x).softmax(-1)))
 * const x = randn([32, 784])
 * await predict(x).data()
 * const trace = await profile(async () => {
 *   for (let i = 0; i < 10; i++) await predict(x).data()
 * })
 * console.log(String(trace)) // a table: linear, softmax, …
 * console.log(trace.events.filter(({ kind }) => kind === 'call').length) // 10
 * ```
 */
export async function profile<T>(fn: () => T | Promise<T>, options: ProfileOptions = {}): Promise<Profile<T>> {
  refuseTracing('profiling', 'profile the calls of the compiled function')
  if (typeof fn !== 'function') throw expected('profile: fn', 'a function', fn)
  checkOptions('profile', options, { device: true, events: true } satisfies Names<ProfileOptions>)
  const { device = defaultDevice(), events = 100_000 } = options
  checkDevice('profile', device)
  if (!(Number.isSafeInteger(events) && events >= 1 && events <= 2 ** 31))
    throw expected('profile: events', 'a whole number from 1', events)
  if (profiled.has(device))
    throw new TilegradError('ERR_ARGUMENT', `profile: this ${device.kind} device is being profiled already`)
  profiled.add(device)
  try {
    return await profiledRun(fn, device, events)
  } finally {
    profiled.delete(device)
  }
}

async function profiledRun<T>(fn: () => T | Promise<T>, device: Device, room: number): Promise<Profile<T>> {
  await device.sync()
  const { recorder, backend } = device
  const own: ProfileEvent[] = []
  const note = (event: Omit<ProfileEvent, 'duration'>): void => {
    own.push({ ...event, start: event.start - start, duration: performance.now() - event.start })
  }
  recorder.backend = new TimedBackend(backend, (kind, name, detail, start) => {
    note({ kind, lane: kind === 'wait' ? 'wait' : 'js', name, detail, start })
  })
  const stop = listen((span) => note({ ...span, lane: 'js' }))
  backend.profile(room)
  const start = performance.now()
  try {
    const result = await fn()
    await device.sync()
    const milliseconds = performance.now() - start
    const { events, dropped } = backend.takeEvents()
    for (const event of events) own.push(told(device, event, start))
    own.sort((a, b) => a.start - b.start || b.duration - a.duration)
    return new Profile(result, { kind: device.kind, name: device.name }, milliseconds, own, dropped)
  } finally {
    stop()
    recorder.backend = backend
    if (!device.closed) backend.profile(0)
  }
}

function told(device: Device, event: DeviceEvent, origin: number): ProfileEvent {
  const { kind, start, duration, program, name, detail = '', flops, bytes, dispatches } = event
  const at = { start: start - origin, duration }
  const lane = event.inline ? 'js' : 'device'
  switch (kind) {
    case 'run':
      return {
        kind,
        lane,
        name: program === undefined ? 'stream' : device.recorder.titleOf(program),
        detail: program === undefined ? '' : `program ${program}`,
        ...at,
      }
    case 'submission':
      return { kind, lane: 'gpu', name: kind, detail: `${dispatches} kernels`, ...at }
    case 'step':
    case 'recording':
      return {
        kind,
        lane,
        name: name ?? '',
        detail,
        ...at,
        ...(flops !== undefined && flops > 0 && { flops }),
        ...(bytes !== undefined && { bytes }),
      }
  }
}
