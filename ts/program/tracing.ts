/**
 * Which function is being recorded, if any. Tensors, operations and modules ask here; what recording means is `trace.ts`.
 * Recording is synchronous, so there is one at most.
 */

import type { Trace } from './trace.ts'

let active: Trace | null = null

/** The recording that runs. */
export function tracing(): Trace | null {
  return active
}

/** Begins and ends recordings. */
export function setTracing(trace: Trace | null): void {
  active = trace
}

/**
 * Does something that a computation does on the host: now, or inside a compiled function in each of its runs, in order.
 */
export function hostEffect(effect: () => void): void {
  if (active === null) effect()
  else active.effect(effect)
}

/** A check that throws: inside a compiled function it is made before each run has any effect. */
export function checkEach(check: () => void): void {
  active?.checks.push(check)
}

/** Throws `ERR_TRACE` while a function is being recorded. */
export function refuseTracing(what: string, instead: string): void {
  if (active !== null) throw active.refusal(what, instead)
}
