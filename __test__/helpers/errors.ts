/** The code of the error that something throws or rejects with, for assertions of one line. */

import { TilegradError } from '../../ts/errors.ts'

/** The code of a typed error, or what else was caught, in words. */
export function describe(error: unknown): string {
  if (error instanceof TilegradError) return error.code
  return error instanceof Error ? `${error.name}: ${error.message}` : `not an error: ${String(error)}`
}

/** What `fn` throws; `'nothing'` when it returns. */
export function codeOf(fn: () => unknown): string {
  try {
    fn()
  } catch (error) {
    return describe(error)
  }
  return 'nothing'
}

/** What a promise rejects with; `'nothing'` when it is fulfilled. A function that throws synchronously counts as well. */
export async function rejectionOf(promise: Promise<unknown> | (() => Promise<unknown>)): Promise<string> {
  try {
    await (typeof promise === 'function' ? promise() : promise)
  } catch (error) {
    return describe(error)
  }
  return 'nothing'
}
