/**
 * What a device is known not to do right, with the reason. A test of something listed here is expected to fail, and
 * fails when it passes, so that a closed gap leaves the list. Nothing else may skip a test.
 */

import type { DeviceKind } from '../ts/index.ts'
import type { OpcodeName } from '../ts/program/opcodes.ts'

/** One known gap. */
export interface Gap {
  readonly op: OpcodeName
  readonly device: DeviceKind
  readonly reason: string
}

/** The known gaps. */
export const GAPS: readonly Gap[] = []

/** The gap of an operation on a device, if there is one. */
export function gapOf(op: OpcodeName, device: DeviceKind): Gap | undefined {
  return GAPS.find((gap) => gap.op === op && gap.device === device)
}
