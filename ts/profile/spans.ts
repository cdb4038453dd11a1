/**
 * What this thread does for compiled functions, told to whoever listens: calls and recordings. Nobody does unless a profile
 * is being made, and then asking costs one comparison.
 */

/** Something this thread has done. */
export interface Span {
  /** `call`: a call of a compiled function; `trace`: the recording of one. */
  readonly kind: 'call' | 'trace'
  /** The function. */
  readonly name: string
  /** The arguments that it was recorded for. */
  readonly detail: string
  /** Milliseconds of `performance.now()`. */
  readonly start: number
}

const listeners = new Set<(span: Span) => void>()

/** Now, for the start of a span; 0 when nobody listens. */
export function spanStart(): number {
  return listeners.size === 0 ? 0 : performance.now()
}

/** Tells what ends now. */
export function spanEnd(span: Span): void {
  for (const listener of listeners) listener(span)
}

/** Listens until the function that it gives is called. */
export function listen(listener: (span: Span) => void): () => void {
  listeners.add(listener)
  return () => listeners.delete(listener)
}
