/**
 * WebGPU in Node, as the peers that were written for browsers look for it: `navigator.gpu`, given by Dawn. Which GPU
 * that is, is left to the Vulkan loader and its own variables (`VK_DRIVER_FILES`).
 */

import { create, globals } from 'webgpu'

/** How often a software GPU is asked whether it has finished, milliseconds. */
const POLL_MS = 1

/** Puts `navigator.gpu` and the `GPU…` globals in place and says which adapter they lead to. */
export async function installDawn(): Promise<{ adapter: GPUAdapter; name: string }> {
  Object.assign(globalThis, globals)
  const gpu = create([])
  // Node 20 has no navigator, later ones have one that cannot be assigned to.
  Object.defineProperty(globalThis, 'navigator', {
    configurable: true,
    value: { gpu, userAgent: `Node.js/${process.versions.node}` },
  })
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' })
  if (adapter === null) throw new Error('Dawn accepts no adapter (Mesa’s llvmpipe it accepts from version 25 on)')
  const name = adapter.info.description || adapter.info.device
  if (/llvmpipe|swiftshader/i.test(name)) pollPatiently()
  return { adapter, name }
}

/**
 * Dawn waits by calling `setImmediate` until the GPU has finished: a core in full use, which a GPU made of the same
 * cores would miss. A millisecond between two calls costs nothing beside what is measured there.
 */
function pollPatiently(): void {
  const patient = (callback: (...values: unknown[]) => void, ...values: unknown[]) =>
    setTimeout(callback, POLL_MS, ...values)
  Object.defineProperty(globalThis, 'setImmediate', { configurable: true, value: patient })
}
