/** Compiled functions beside the functions themselves: what one gives, the other has to give. */

import type { ExecutionContext } from 'ava'

import { type CompileStats, Tensor, compile } from '../../ts/index.ts'
import { values } from './values.ts'

/** Asserts that two tensors hold the same bits. */
export async function agree(t: ExecutionContext, actual: Tensor, expected: Tensor, what: string): Promise<void> {
  t.deepEqual(await values(actual), await values(expected), what)
}

/** Results as plain numbers: tensors are read, arrays and objects of them walked through. */
export async function read(result: unknown): Promise<unknown> {
  if (result instanceof Tensor) return values(result)
  if (Array.isArray(result)) return Promise.all(result.map(read))
  if (typeof result !== 'object' || result === null) return result
  const parts = await Promise.all(Object.entries(result).map(async ([key, part]) => [key, await read(part)]))
  return Object.fromEntries(parts) as unknown
}

/** A function that changes nothing, and its compiled form. */
export interface Pair<A extends readonly unknown[]> {
  /** Calls both and asserts that they give the same; gives what that is. */
  call(...args: A): Promise<unknown>
  /** How often the compiled one has been recorded. */
  recordings(): number
  stats(): CompileStats
}

/** Compiles a function that changes nothing outside itself. */
export function pair<A extends readonly unknown[]>(t: ExecutionContext, fn: (...args: A) => unknown): Pair<A> {
  const compiled = compile(fn)
  return {
    async call(...args) {
      const expected = await read(fn(...args))
      t.deepEqual(await read(compiled(...args)), expected)
      return expected
    },
    recordings: () => compiled.stats().recordings,
    stats: () => compiled.stats(),
  }
}
