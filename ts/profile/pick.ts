/**
 * `pickDevice`: builds the same work on every device, times it, and keeps the device that is fastest. A GPU is not always:
 * a small model is done on the processor before a GPU has been told about it. How turns are taken is `race.ts`.
 */

import type { AdapterInfo, DeviceInfo } from '../backend/select.ts'
import type { DeviceKind } from '../backend/backend.ts'
import { type Device, type DeviceOptions, devices, openDevice, withDefaultDevice } from '../device.ts'
import { type Names, TilegradError, checkOptions, expected } from '../errors.ts'
import { refuseTracing } from '../program/tracing.ts'
import { collecting } from '../scope.ts'
import { type Outcome, race } from './race.ts'

/** Options of {@link pickDevice}. */
export interface PickOptions {
  /** What to try: kinds, or what `openDevice` takes. Default: every device of this machine. */
  readonly candidates?: readonly (DeviceKind | DeviceOptions)[]
  /** Whether adapters that compute on the processor are among the devices of this machine. Default `false`. */
  readonly allowSoftware?: boolean
  /** Calls that do not count, on each device: shaders are compiled and memory is allocated in them. Default 3. */
  readonly warmup?: number
  /** Times that each device is timed; the median counts. Default 11. */
  readonly runs?: number
  /**
   * Calls made before their results are waited for, each time. With 1, the default, it is the time until a result is there
   * that counts, as for requests; with 10 or so it is the pace of a training loop that reads its loss now and then.
   */
  readonly inFlight?: number
}

const OPTIONS: Names<PickOptions> = { candidates: true, allowSoftware: true, warmup: true, runs: true, inFlight: true }

/** How a device did. */
export interface DeviceTime {
  readonly kind: DeviceKind
  /** What it is, for people. */
  readonly name: string
  /** What to give to `openDevice` to have it again. */
  readonly options: DeviceOptions
  /** Milliseconds of one call; `Infinity` if it could not be used. */
  readonly milliseconds: number
  /** Why it could not be used. */
  readonly error?: TilegradError
}

/** The fastest device. */
export interface PickedDevice<R> {
  /** Open; the others have been closed. */
  readonly device: Device
  /** What `fn` has made on it. Its state has been through all the calls that were timed. */
  readonly run: R
  /** All that have been tried, the fastest first. */
  readonly times: readonly DeviceTime[]
}

/** A device that is being tried. */
interface Candidate<R> {
  readonly kind: DeviceKind
  readonly name: string
  readonly options: DeviceOptions
  readonly device?: Device
  readonly run?: R
  readonly error?: unknown
}

/**
 * Times the same work on every device and keeps the one that is fastest; the others are closed.
 *
 * `fn` builds the work on a device: model, optimiser, inputs, usually a compiled function; and returns a function that
 * does it once. While `fn` runs, up to its first `await`, the device is the default one, and so it is while what it returned
 * is called: code without `device` options works as it is. Tensors made in a call are freed after it.
 *
 * Devices warm up first, then take turns; a call ends when the device has done its work. One that is more than ten times
 * slower than the fastest, once warm, is not timed again. A device that cannot be opened, or on which something throws, is
 * out; `times` has the reason. Do it when little else runs: one busy core may decide.
 *
 * @param fn may be asynchronous
 * @throws `ERR_NO_DEVICE` when no device is left, with the reason for each; `ERR_ARGUMENT` when `fn` does not give a
 * function
 *
 * @example
 * ```ts
 * import { type Tensor, compile, nn, noGrad, pickDevice, randn, setDefaultDevice } from 'tilegrad'
 * const { device, run, times } = await pickDevice(() => {
 *   const model = new nn.Sequential(new nn.Linear(16, 32, { activation: 'relu' }), new nn.Linear(32, 4)).eval()
 *   const predict = compile((x: Tensor) => noGrad(() => model.forward(x)))
 *   return (x = randn([1, 16])) => predict(x)
 * })
 * for (const { name, milliseconds, error } of times) console.log(name, error?.message ?? `${milliseconds.toFixed(3)} ms`)
 * setDefaultDevice(device)
 * console.log((await run(randn([8, 16])).data()).length) // 32
 * ```
 */
export function pickDevice<R extends () => unknown>(
  fn: (device: Device) => R | Promise<R>,
  options: PickOptions = {},
): Promise<PickedDevice<R>> {
  return pickDeviceBy(fn, options, () => performance.now())
}

/** @internal The same, by a clock that gives milliseconds. */
export async function pickDeviceBy<R extends () => unknown>(
  fn: (device: Device) => R | Promise<R>,
  options: PickOptions,
  now: () => number,
): Promise<PickedDevice<R>> {
  refuseTracing('picking a device', 'pick it outside')
  if (typeof fn !== 'function') throw expected('pickDevice: fn', 'a function', fn)
  const { warmup, runs, inFlight, wanted } = checked(options)
  const candidates: Candidate<R>[] = []
  try {
    for (const one of wanted ?? (await listed(options.allowSoftware ?? false))) {
      candidates.push('error' in one ? one : await prepared(one, fn))
    }
    const racers = candidates.flatMap(({ device, run }) =>
      device === undefined || run === undefined ? [] : [{ turn: () => turn(device, run, inFlight, now) }],
    )
    const outcomes = (await race(racers, warmup, runs)).values()
    const results = candidates
      .map((candidate) => ({
        ...candidate,
        outcome: candidate.run === undefined ? { error: candidate.error } : outcomes.next().value!,
      }))
      .toSorted((a, b) => millisecondsOf(a.outcome) - millisecondsOf(b.outcome))
    const times = results.map(timeOf)
    const { device, run, outcome } = results[0]!
    if (device === undefined || run === undefined || 'error' in outcome) throw noneLeft(times)
    await closeAll(candidates.filter((candidate) => candidate.device !== device))
    return { device, run, times }
  } catch (error) {
    await closeAll(candidates)
    throw error
  }
}

/** One turn: calls, and the wait for all of them. */
async function turn(device: Device, run: () => unknown, inFlight: number, now: () => number): Promise<number> {
  // Others get their turn of the event loop, and finalisers theirs.
  await new Promise(setImmediate)
  const made: { dispose(): void }[] = []
  const start = now()
  for (let i = 0; i < inFlight; i++) {
    const [result, tensors] = withDefaultDevice(device, () => collecting(run))
    made.push(...tensors)
    if (result instanceof Promise) await result
  }
  await device.sync()
  const milliseconds = (now() - start) / inFlight
  for (const tensor of made) tensor.dispose()
  return milliseconds
}

/** Opens a device and builds the work on it. */
async function prepared<R>(
  options: DeviceOptions & { readonly kind: DeviceKind },
  fn: (device: Device) => R | Promise<R>,
): Promise<Candidate<R>> {
  const { kind } = options
  let device: Device | undefined
  let run: R
  try {
    const opened = (device = await openDevice(options))
    run = await withDefaultDevice(opened, () => fn(opened))
  } catch (error) {
    await closeAll([{ device }])
    return { kind, name: device?.name ?? kind, options, error }
  }
  if (typeof run === 'function') return { kind, name: device.name, options, device, run }
  await closeAll([{ device }])
  throw expected('pickDevice: what fn returns', 'a function', run)
}

/** Every device of this machine: what opens it, or why it is no candidate. */
async function listed(
  allowSoftware: boolean,
): Promise<((DeviceOptions & { readonly kind: DeviceKind }) | (Candidate<never> & { readonly error: unknown }))[]> {
  const adapters = new Set<string>()
  return (await devices()).flatMap((line) => {
    const { kind, name, adapter, reason } = line
    if (adapter !== undefined) {
      // Options tell adapters apart by their names: a second one of the same name would be the first again.
      if (adapters.has(adapter.name)) return []
      adapters.add(adapter.name)
    }
    const options = { kind, ...(adapter !== undefined && { adapter: adapter.name, allowSoftware }) }
    if (isCandidate(line, adapter, allowSoftware)) return [options]
    return [{ kind, name, options, error: new TilegradError('ERR_NO_DEVICE', reason ?? 'it does not say why') }]
  })
}

function isCandidate({ available }: DeviceInfo, adapter: AdapterInfo | undefined, allowSoftware: boolean): boolean {
  return available || (allowSoftware && adapter?.type === 'software' && adapter.refusal === undefined)
}

function millisecondsOf(outcome: Outcome): number {
  return 'error' in outcome ? Infinity : outcome.milliseconds
}

function timeOf({ kind, name, options, outcome }: Candidate<unknown> & { readonly outcome: Outcome }): DeviceTime {
  const time = { kind, name, options, milliseconds: millisecondsOf(outcome) }
  return 'error' in outcome ? { ...time, error: typed(outcome.error) } : time
}

function typed(error: unknown): TilegradError {
  if (error instanceof TilegradError) return error
  const text = error instanceof Error ? error.message : String(error)
  return new TilegradError('ERR_UNSUPPORTED', `the work cannot be done there: ${text}`, { cause: error })
}

function noneLeft(times: readonly DeviceTime[]): TilegradError {
  const lines = times.map(({ name, error }) => `  ${name}: ${error?.message}`)
  const cause = times.find(({ error }) => error?.code !== 'ERR_NO_DEVICE')?.error ?? times[0]?.error
  return new TilegradError('ERR_NO_DEVICE', `pickDevice: no device can do this. Devices:\n${lines.join('\n')}`, {
    cause,
  })
}

/** What they still have to say is about work that nobody needs. */
async function closeAll(candidates: readonly { readonly device?: Device | undefined }[]): Promise<void> {
  await Promise.allSettled(candidates.flatMap(({ device }) => (device === undefined ? [] : [device.close()])))
}

function checked(options: PickOptions): {
  readonly warmup: number
  readonly runs: number
  readonly inFlight: number
  readonly wanted: readonly (DeviceOptions & { readonly kind: DeviceKind })[] | undefined
} {
  checkOptions('pickDevice', options, OPTIONS)
  const { candidates, allowSoftware, warmup = 3, runs = 11, inFlight = 1 } = options
  for (const [name, count] of Object.entries({ warmup, runs, inFlight })) {
    if (!(Number.isSafeInteger(count) && count >= 1)) {
      throw expected(`pickDevice: ${name}`, 'a whole number from 1', count)
    }
  }
  if (allowSoftware !== undefined && typeof allowSoftware !== 'boolean')
    throw expected('pickDevice: allowSoftware', 'true or false', allowSoftware)
  if (candidates === undefined) return { warmup, runs, inFlight, wanted: undefined }
  if (!Array.isArray(candidates) || candidates.length === 0) {
    throw expected('pickDevice: candidates', 'an array of kinds or options of devices', candidates)
  }
  const wanted = candidates.map((one: DeviceKind | DeviceOptions) => {
    const given = typeof one === 'string' ? { kind: one } : one
    const { kind } = given
    if (kind !== 'gpu' && kind !== 'cpu' && kind !== 'js')
      throw expected("pickDevice: a candidate's kind", "'gpu', 'cpu' or 'js'", kind)
    return { ...(allowSoftware !== undefined && { allowSoftware }), ...given, kind }
  })
  return { warmup, runs, inFlight, wanted }
}
