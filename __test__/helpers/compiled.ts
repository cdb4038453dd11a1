/** Compiled functions beside the functions themselves: what one gives, the other has to give. */

import type { ExecutionContext } from 'ava'

import { type CompileStats, type Device, Tensor, compile } from '../../ts/index.ts'
import { near, values } from './values.ts'

/** What the driver of a GPU may change of chains that are put together another way, relative to the largest number. */
const CONTRACTION = 1e-5

/** Asserts that two tensors hold the same bits, on `gpu` the same numbers but for what its driver may contract. */
export async function agree(
  t: ExecutionContext,
  device: Device,
  actual: Tensor,
  expected: Tensor,
  what: string,
): Promise<void> {
  const [a, b] = [await values(actual), await values(expected)]
  if (device.kind === 'gpu') near(t, a, b, CONTRACTION, what)
  else t.deepEqual(a, b, what)
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
