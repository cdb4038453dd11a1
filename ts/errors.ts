/**
 * The one error class of the library and the closed list of its codes. It assumes nothing about where the error
 * happened: devices, files and arguments all end here.
 */

/**
 * Why something failed. Stable: code may switch on it.
 *
 * | code | meaning |
 * |---|---|
 * | `ERR_SHAPE` | shapes do not fit the operation |
 * | `ERR_DTYPE` | element types do not fit the operation or the device |
 * | `ERR_ARGUMENT` | an option or value is not allowed |
 * | `ERR_DISPOSED` | the tensor's memory has been freed |
 * | `ERR_STALE` | a tensor saved for backward has been changed since |
 * | `ERR_DEVICE_MISMATCH` | operands live on different devices |
 * | `ERR_OUT_OF_MEMORY` | the memory limit or the machine's memory is exhausted |
 * | `ERR_DEVICE_LOST` | the device was closed or lost |
 * | `ERR_TIMEOUT` | a deadline has passed |
 * | `ERR_NO_DEVICE` | no such device can be had here |
 * | `ERR_UNSUPPORTED` | not available in this combination |
 * | `ERR_PROGRAM` | a device refused a program: a bug of the library |
 * | `ERR_TRACE` | not allowed while a function is being recorded |
 * | `ERR_FORMAT` | a file or state does not have the expected form |
 * | `ERR_QUEUE_FULL` | too many requests are waiting |
 * | `ERR_ABORTED` | the caller cancelled |
 * | `ERR_INTERNAL` | a bug of the library |
 */
export type ErrorCode =
  | 'ERR_SHAPE'
  | 'ERR_DTYPE'
  | 'ERR_ARGUMENT'
  | 'ERR_DISPOSED'
  | 'ERR_STALE'
  | 'ERR_DEVICE_MISMATCH'
  | 'ERR_OUT_OF_MEMORY'
  | 'ERR_DEVICE_LOST'
  | 'ERR_TIMEOUT'
  | 'ERR_NO_DEVICE'
  | 'ERR_UNSUPPORTED'
  | 'ERR_PROGRAM'
  | 'ERR_TRACE'
  | 'ERR_FORMAT'
  | 'ERR_QUEUE_FULL'
  | 'ERR_ABORTED'
  | 'ERR_INTERNAL'

/**
 * Every error this library throws or rejects with.
 *
 * @example
 * ```ts
 * import { tensor, TilegradError } from 'tilegrad'
 * try {
 *   tensor([1, 2, 3]).reshape([2, 2])
 * } catch (error) {
 *   if (error instanceof TilegradError && error.code === 'ERR_SHAPE') console.log(error.message)
 * }
 * ```
 */
export class TilegradError extends Error {
  readonly code: ErrorCode
  /** @internal The instruction that failed: its operation, and its position in the program. */
  declare place?: { readonly op: string; readonly line: number }

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'TilegradError'
    this.code = code
  }
}

/** Renders a value for an error text: short, and never calling into user code. */
export function show(value: unknown): string {
  if (typeof value === 'string') return value.length > 40 ? `'${value.slice(0, 40)}…'` : `'${value}'`
  if (typeof value === 'function') return 'a function'
  if (typeof value === 'bigint') return `${value}n`
  if (Array.isArray(value)) {
    return `[${value
      .slice(0, 8)
      .map((v) => (typeof v === 'object' && v !== null ? '…' : show(v)))
      .join(', ')}${value.length > 8 ? ', …' : ''}]`
  }
  if (typeof value === 'object' && value !== null) return 'an object'
  return String(value)
}

/**
 * The error for an argument of the wrong kind: `optimizer: lr must be a finite number ≥ 0, not NaN`.
 *
 * @param what operation and argument, such as `'SGD: lr'`
 * @param wanted what would have been right, such as `'a finite number ≥ 0'`
 * @param actual what was given
 */
export function expected(what: string, wanted: string, actual: unknown): TilegradError {
  return new TilegradError('ERR_ARGUMENT', `${what} must be ${wanted}, not ${show(actual)}`)
}

/** The names that some options have, all of them: a list that the type checker keeps complete. */
export type Names<Options> = Readonly<Record<keyof Options, true>>

/**
 * Throws `ERR_ARGUMENT` unless options come as an object of these names. Other libraries take the same things by position
 * (`sum(x, 1, true)`, `zeros(shape, dtype)`) or call them otherwise (`keepdim`, `weight_decay`): what is read as nothing
 * would compute something else than what was meant.
 *
 * @param names all that there are; one that is `undefined` is as good as left out, whatever its name
 */
export function checkOptions(op: string, options: unknown, names: Readonly<Record<string, true>>): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw expected(`${op}: options`, 'an object', options)
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || Object.hasOwn(names, name)) continue
    throw new TilegradError(
      'ERR_ARGUMENT',
      `${op}: there is no option ${show(name)}; there are ${Object.keys(names).join(', ')}`,
    )
  }
}
