/**
 * Which backend an option means, what `auto` takes, and the list of devices with the reasons why one cannot be used.
 * Failure to load native code is data here: only a device that was asked for by name throws.
 */

import type { Dtype } from '../dtype.ts'
import { TilegradError } from '../errors.ts'
import type { Backend, BackendOptions, DeviceKind } from './backend.ts'
import { JsBackend } from './js/device.ts'
import { NativeBackend, nativeInfo } from './native.ts'

/** One line of `devices()`. */
export interface DeviceInfo {
  readonly kind: DeviceKind
  /** What it is, for people. */
  readonly name: string
  readonly available: boolean
  /** Why it cannot be used, and what to do about it. */
  readonly reason?: string
  /** Element types it computes with. */
  readonly dtypes: readonly Dtype[]
}

/** A backend with what the device says of itself. */
export interface OpenedBackend {
  readonly backend: Backend
  readonly name: string
  readonly dtypes: readonly Dtype[]
}

const NATIVE_DTYPES: readonly Dtype[] = ['f32', 'i32', 'bool']
const JS_DTYPES: readonly Dtype[] = ['f32', 'i32', 'bool', 'f64']
const GPU_REASON = 'this version has no gpu device yet; use cpu'

/** Every device, best first. */
export function listDevices(): DeviceInfo[] {
  const native = nativeInfo()
  return [
    { kind: 'gpu', name: 'gpu', available: false, reason: GPU_REASON, dtypes: NATIVE_DTYPES },
    native.available
      ? { kind: 'cpu', name: `cpu (${native.isa}, ${native.cores} cores)`, available: true, dtypes: NATIVE_DTYPES }
      : { kind: 'cpu', name: 'cpu', available: false, reason: native.reason, dtypes: NATIVE_DTYPES },
    { kind: 'js', name: 'js (this thread)', available: true, dtypes: JS_DTYPES },
  ]
}

/** Opens what was asked for; `auto` falls back to `js`. */
export function openBackend(options: BackendOptions & { readonly kind: 'auto' | DeviceKind }): OpenedBackend {
  switch (options.kind) {
    case 'js':
      return openJs(options)
    case 'cpu':
      return openCpu(options)
    case 'gpu':
      throw noDevice('gpu')
    case 'auto':
      return nativeInfo().available ? openCpu(options) : openJs(options)
  }
}

function openJs(options: BackendOptions): OpenedBackend {
  return { backend: new JsBackend(options), name: 'js (this thread)', dtypes: JS_DTYPES }
}

function openCpu(options: BackendOptions): OpenedBackend {
  const native = nativeInfo()
  if (!native.available) throw noDevice('cpu', native.cause)
  const backend = new NativeBackend(options)
  return { backend, name: `cpu (${native.isa}, ${backend.threads} threads)`, dtypes: NATIVE_DTYPES }
}

function noDevice(kind: DeviceKind, cause?: unknown): TilegradError {
  const tried = listDevices().map((d) => `  ${d.kind}: ${d.available ? `available, ${d.name}` : d.reason}`)
  return new TilegradError('ERR_NO_DEVICE', `the ${kind} device cannot be used here. Devices:\n${tried.join('\n')}`, {
    cause,
  })
}
