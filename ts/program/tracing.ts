/**
 * Which function is being recorded, if any. Tensors, operations and modules ask here; what recording means is `trace.ts`.
 * Recording is synchronous, so there is one at most.
 */

import type { Trace } from './trace.ts'

let active: Trace | null = null

/** How to take back what the effects of a run have done so far; `null` where no run begins. */
let undos: (() => void)[] | null = null

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
 * It says how it is taken back ({@link takeBack}), because a run that throws has had no effect.
 */
export function hostEffect(effect: () => void): void {
  if (active === null) effect()
  else active.effect(effect)
}

/** Does what a run does on the host, all of it or nothing: when it throws, what has been done is taken back. */
export function allOrNothing<T>(effects: () => T): T {
  const outer = undos
  const own: (() => void)[] = []
  undos = own
  try {
    return effects()
  } catch (error) {
    for (const undo of own.toReversed()) undo()
    throw error
  } finally {
    undos = outer
  }
}

/** Says how to take back a change on the host that may be part of a run. */
export function takeBack(undo: () => void): void {
  undos?.push(undo)
}

/** A check that throws: inside a compiled function it is made before each run has any effect. */
export function checkEach(check: () => void): void {
  active?.checks.push(check)
}

/** Throws `ERR_TRACE` while a function is being recorded. */
export function refuseTracing(what: string, instead: string): void {
  if (active !== null) throw active.refusal(what, instead)
}
