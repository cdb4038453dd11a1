/**
 * Deadlines: how long a caller waits for work that a device does anyway. Past a deadline only the waiting ends; the work
 * goes on, what it writes to stays alive, and the device is as good as before. A device that computes on the calling thread
 * (`js`) has its results at once, so that no deadline of it ever passes.
 */

import { type Names, TilegradError, checkOptions, expected } from './errors.ts'

/** What is needed of an `AbortSignal`: not everybody's types know that class. */
export interface AbortSignalLike {
  readonly aborted: boolean
  readonly reason?: unknown
  addEventListener(type: 'abort', listener: () => void): void
  removeEventListener(type: 'abort', listener: () => void): void
}

/** How long to wait, for what reads and waits for devices. */
export interface WaitOptions {
  /**
   * Milliseconds, from the call on, after which waiting ends with `ERR_TIMEOUT`. What is there already is never late.
   * Default: none.
   */
  readonly timeout?: number | undefined
  /** Waiting ends with `ERR_ABORTED` once this is aborted. Default: none. */
  readonly signal?: AbortSignalLike | undefined
}

/** The longest time that a timer can measure, almost 25 days: beyond it there is no deadline. */
const MOST = 2 ** 31 - 1

/** What was waited for: what it is called, what has not happened, and what to do about it. */
export interface Awaited {
  /** `'the f32 tensor of shape [2, 3] was not there'` */
  readonly what: string
  /** `'read it again later, or allow more time'` */
  readonly advice: string
}

/** The end of one caller's patience. */
export class Deadline {
  readonly #op: string
  readonly #timeout: number
  readonly #signal: AbortSignalLike | undefined
  readonly #begun = performance.now()

  /**
   * Checks options, and begins to count.
   *
   * @param op name for error texts
   * @returns `undefined` when the options set no bound
   * @throws `ERR_ARGUMENT` for options of the wrong kind, `ERR_ABORTED` for a signal that is aborted already
   */
  static from(op: string, options: WaitOptions): Deadline | undefined {
    checkOptions(op, options, { timeout: true, signal: true } satisfies Names<WaitOptions>)
    const { timeout = Infinity, signal } = options
    if (!(typeof timeout === 'number' && timeout >= 0))
      throw expected(`${op}: timeout`, 'a number of milliseconds ≥ 0', timeout)
    if (signal !== undefined && !isSignal(signal)) throw expected(`${op}: signal`, 'an AbortSignal', signal)
    if (signal?.aborted === true) throw aborted(op, 'before it began', signal)
    return timeout > MOST && signal === undefined ? undefined : new Deadline(op, timeout, signal)
  }

  private constructor(op: string, timeout: number, signal: AbortSignalLike | undefined) {
    this.#op = op
    this.#timeout = timeout
    this.#signal = signal
  }

  /** When it passes, as `performance.now()` counts. */
  get end(): number {
    return this.#begun + this.#timeout
  }

  /** The error of a deadline that has passed. */
  timeout({ what, advice }: Awaited): TilegradError {
    const text = `${this.#op}: ${what} after ${this.#timeout} ms. The work goes on; ${advice}`
    return new TilegradError('ERR_TIMEOUT', text)
  }

  /**
   * Waits for `work`, at most until here.
   *
   * @param late told what `work` rejects with when nobody waits for it any more
   */
  wait(work: Promise<void>, awaited: Awaited, late: (error: unknown) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      const signal = this.#signal
      let waiting = true
      let timer: NodeJS.Timeout | undefined
      let turn: NodeJS.Immediate | undefined
      const end = (): void => {
        waiting = false
        clearTimeout(timer)
        clearImmediate(turn)
        signal?.removeEventListener('abort', abort)
      }
      const abort = (): void => {
        end()
        reject(aborted(this.#op, `while ${awaited.what}. The work goes on`, signal))
      }
      const expire = (): void => {
        end()
        reject(this.timeout(awaited))
      }
      signal?.addEventListener('abort', abort)
      // What came in while the event loop was busy is not late: it is told before the turn ends.
      const pass = (): void => void (turn = setImmediate(expire))
      if (this.#timeout <= MOST) timer = setTimeout(pass, Math.max(0, this.end - performance.now()))
      const follow = async (): Promise<void> => {
        try {
          await work
        } catch (error) {
          if (!waiting) return late(error)
          end()
          return reject(error instanceof Error ? error : new Error(String(error)))
        }
        if (!waiting) return
        end()
        resolve()
      }
      void follow()
    })
  }
}

/** Not by class: a page or a test environment may bring a class of its own. */
function isSignal(signal: unknown): signal is AbortSignalLike {
  if (typeof signal !== 'object' || signal === null) return false
  const { aborted, addEventListener } = signal as Partial<AbortSignalLike>
  return typeof aborted === 'boolean' && typeof addEventListener === 'function'
}

function aborted(op: string, when: string, signal: AbortSignalLike | undefined): TilegradError {
  return new TilegradError('ERR_ABORTED', `${op}: aborted ${when}`, { cause: signal?.reason })
}
