/**
 * Scopes: tensors made inside a function are disposed when it returns, except those it returns or keeps. For loops that
 * never yield to the event loop, where no finaliser can run.
 */

import { TilegradError, expected } from './errors.ts'
import type { Tensor } from './tensor.ts'

const stack: Tensor[][] = []

/** @internal The list that new tensors join, if a scope is open. */
export function currentScope(): Tensor[] | undefined {
  return stack[stack.length - 1]
}

/**
 * Runs `fn` and disposes of every tensor made inside that is not part of its result. The result may be a tensor, or
 * arrays and plain objects of them. A parameter's gradient made inside is kept.
 *
 * @throws `ERR_ARGUMENT` when `fn` is asynchronous: its tensors would be freed while it waits
 *
 * @example
 * ```ts
 * import { scope, tensor } from 'tilegrad'
 * const y = scope(() => {
 *   const x = tensor([1, 2, 3])
 *   return x.mul(x).sum() // x and x·x are freed here
 * })
 * console.log(await y.item()) // 14
 * ```
 */
export function scope<T>(fn: () => T): T {
  if (typeof fn !== 'function') throw expected('scope: fn', 'a function', fn)
  const made: Tensor[] = []
  stack.push(made)
  let result: T
  try {
    result = fn()
  } catch (error) {
    stack.pop()
    for (const tensor of made) tensor.dispose()
    throw error
  }
  stack.pop()
  checkSynchronous('scope', result)
  const kept = new Set<unknown>()
  collect(result, kept, 0)
  for (const tensor of made) {
    if (kept.has(tensor)) currentScope()?.push(tensor)
    else tensor.dispose()
  }
  return result
}

/**
 * @internal Runs `fn` and gives its result and every tensor it made; the caller disposes of them. When `fn` throws, they
 * are left to the scope around.
 */
export function collecting<T>(fn: () => T): [T, Tensor[]] {
  const made: Tensor[] = []
  stack.push(made)
  try {
    const result = fn()
    stack.pop()
    return [result, made]
  } catch (error) {
    stack.pop()
    leave(made)
    throw error
  }
}

/** @internal Leaves tensors to the scope that is open now, if one is. */
export function leave(tensors: readonly Tensor[]): void {
  const around = currentScope()
  if (around !== undefined) for (const tensor of tensors) around.push(tensor)
}

/**
 * Keeps a tensor beyond every scope that is open now; it is yours to dispose of.
 *
 * @returns the same tensor
 *
 * @example
 * ```ts
 * import { keep, scope, tensor } from 'tilegrad'
 * let total = tensor(0)
 * for (const x of [2, 3, 4]) scope(() => (total = keep(total.add(x))))
 * console.log(await total.item()) // 9
 * ```
 */
export function keep(tensor: Tensor): Tensor {
  for (const made of stack) {
    const at = made.indexOf(tensor)
    if (at >= 0) made.splice(at, 1)
  }
  return tensor
}

/** Whether something can be waited for. */
export function isThenable(x: unknown): x is PromiseLike<unknown> {
  return typeof x === 'object' && x !== null && typeof (x as { then?: unknown }).then === 'function'
}

/** Throws `ERR_ARGUMENT` for a promise: recording functions are synchronous. */
export function checkSynchronous(op: string, result: unknown): void {
  if (isThenable(result)) {
    // Nobody is going to hear what becomes of it: rejected, it would end the process.
    Promise.resolve(result).catch(() => undefined)
    throw new TilegradError(
      'ERR_ARGUMENT',
      `${op}: the function must be synchronous, but it returned a promise; read data() outside it`,
    )
  }
}

function collect(value: unknown, into: Set<unknown>, depth: number): void {
  if (typeof value !== 'object' || value === null || depth > 8) return
  into.add(value)
  if (Array.isArray(value)) for (const v of value) collect(v, into, depth + 1)
  else if (isPlain(Object.getPrototypeOf(value))) {
    for (const v of Object.values(value)) collect(v, into, depth + 1)
  }
}

/** Objects without a prototype are plain too: maps by names that anyone may have chosen. */
function isPlain(prototype: unknown): boolean {
  return prototype === Object.prototype || prototype === null
}
