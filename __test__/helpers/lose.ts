/**
 * A gpu device that can be lost on demand. The addon offers that in builds with debug assertions and nobody else does: it
 * is reached by watching the addon while a device is opened, for the id that the SDK keeps to itself.
 */

import type { Device } from '../../ts/index.ts'
import { load } from '../../ts/backend/loader.ts'
import { openDevice } from './open.ts'

/** Whether this build of the addon can lose devices. */
export function canLose(): boolean {
  const loaded = load()
  return loaded.available && 'lose' in loaded.binding
}

/** A device, and what takes its GPU away from it and from everybody who shares it. */
export interface Losable {
  readonly device: Device
  readonly lose: () => void
}

/** Opens a gpu device that can be lost. */
export async function openLosable(): Promise<Losable> {
  const loaded = load()
  if (!loaded.available) throw new Error(loaded.reason)
  const { binding } = loaded
  const openGpu = binding.openGpu.bind(binding)
  let id = -1
  binding.openGpu = (...options) => {
    const opened = openGpu(...options)
    id = opened.id
    return opened
  }
  try {
    return { device: await openDevice('gpu'), lose: () => binding.lose(id) }
  } finally {
    binding.openGpu = openGpu
  }
}
