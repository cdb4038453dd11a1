/**
 * Which backend an option means, what `auto` takes, and the list of devices with the reasons why one cannot be used.
 * Failure to load native code is data here: only a device that was asked for by name throws.
 */

import type { Dtype } from '../dtype.ts'
import { TilegradError } from '../errors.ts'
import type { Backend, BackendOptions, DeviceKind } from './backend.ts'
import type { AdapterInfo } from './binding.ts'
import { JsBackend } from './js/device.ts'
import { nativeAdapters, nativeInfo, openCpu, openGpu } from './native.ts'

export type { AdapterInfo, AdapterLimits } from './binding.ts'

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
  /** The adapter behind a `gpu` line, if there is one. */
  readonly adapter?: AdapterInfo
}

/** A backend with what the device says of itself. */
export interface OpenedBackend {
  readonly backend: Backend
  readonly name: string
  readonly dtypes: readonly Dtype[]
}

const NATIVE_DTYPES: readonly Dtype[] = ['f32', 'i32', 'bool']
const JS_DTYPES: readonly Dtype[] = ['f32', 'i32', 'bool', 'f64']

/** Every device, best first: a line for each adapter, or one that says why there is none. */
export function listDevices(): DeviceInfo[] {
  const native = nativeInfo()
  return [
    ...listGpus(),
    native.available
      ? { kind: 'cpu', name: `cpu (${native.isa}, ${native.cores} cores)`, available: true, dtypes: NATIVE_DTYPES }
      : { kind: 'cpu', name: 'cpu', available: false, reason: native.reason, dtypes: NATIVE_DTYPES },
    { kind: 'js', name: 'js (this thread)', available: true, dtypes: JS_DTYPES },
  ]
}

function listGpus(): DeviceInfo[] {
  const nothing = (reason: string): DeviceInfo[] => [
    { kind: 'gpu', name: 'gpu', available: false, reason, dtypes: NATIVE_DTYPES },
  ]
  const native = nativeInfo()
  if (!native.available) return nothing(native.reason)
  let adapters: AdapterInfo[]
  try {
    adapters = nativeAdapters()
  } catch (error) {
    return nothing(error instanceof Error ? error.message : String(error))
  }
  if (adapters.length === 0) {
    return nothing(
      'there is no Vulkan, Metal or DX12 adapter; install the driver of the GPU (see docs/gpu.md in the package)',
    )
  }
  return adapters.map((adapter) => {
    const reason = refusalOf(adapter)
    const line = { kind: 'gpu', name: gpuName(adapter), dtypes: NATIVE_DTYPES, adapter } as const
    return reason === undefined ? { ...line, available: true } : { ...line, available: false, reason }
  })
}

/** Why an adapter is not taken by itself. */
function refusalOf(adapter: AdapterInfo): string | undefined {
  if (adapter.refusal !== undefined) return adapter.refusal
  return adapter.type === 'software'
    ? "it computes on the processor, slower than cpu does; { kind: 'gpu', allowSoftware: true } takes it for tests"
    : undefined
}

function gpuName(adapter: AdapterInfo): string {
  return `gpu (${adapter.name}, ${adapter.backend}${adapter.type === 'software' ? ', software' : ''})`
}

/** Opens what was asked for; `auto` takes the best there is. */
export function openBackend(options: BackendOptions & { readonly kind: 'auto' | DeviceKind }): OpenedBackend {
  switch (options.kind) {
    case 'js':
      return openedJs(options)
    case 'cpu':
      return openedCpu(options)
    case 'gpu':
      return openedGpu(options)
    case 'auto':
      return openedAuto(options)
  }
}

function openedAuto(options: BackendOptions): OpenedBackend {
  if (!nativeInfo().available) return openedJs(options)
  if (listGpus().some((line) => line.available)) {
    try {
      return openedGpu(options)
    } catch (error) {
      // An adapter that cannot be opened after all: whoever wants to know why asks for it by name.
      if (!(error instanceof TilegradError)) throw error
    }
  }
  return openedCpu(options)
}

function openedGpu(options: BackendOptions): OpenedBackend {
  if (!nativeInfo().available) throw noDevice('gpu')
  try {
    const { backend, adapter } = openGpu(options)
    return { backend, name: gpuName(adapter), dtypes: NATIVE_DTYPES }
  } catch (error) {
    if (error instanceof TilegradError && error.code === 'ERR_NO_DEVICE') throw noDevice('gpu', error)
    throw error
  }
}

function openedJs(options: BackendOptions): OpenedBackend {
  return { backend: new JsBackend(options), name: 'js (this thread)', dtypes: JS_DTYPES }
}

function openedCpu(options: BackendOptions): OpenedBackend {
  const native = nativeInfo()
  if (!native.available) throw noDevice('cpu', native.cause)
  const { backend, threads } = openCpu(options)
  return { backend, name: `cpu (${native.isa}, ${threads} threads)`, dtypes: NATIVE_DTYPES }
}

function noDevice(kind: DeviceKind, cause?: unknown): TilegradError {
  const tried = listDevices().map((d) => `  ${d.name}: ${d.available ? 'available' : d.reason}`)
  return new TilegradError('ERR_NO_DEVICE', `the ${kind} device cannot be used here. Devices:\n${tried.join('\n')}`, {
    cause,
  })
}
