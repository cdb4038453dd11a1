/**
 * Where instructions were recorded: the user's stack for each, so that an error of execution, which comes long after, can
 * name the line of code. Kept by operation and position in its program, which is what errors know; a program that has the
 * same operation at the same position as another one shares its entry, so a few places may be named.
 */

import { fileURLToPath } from 'node:url'
import { TilegradError } from '../errors.ts'

/** Places that are kept of one operation and position: the last ones. */
const MOST_PLACES = 3

/** Frames that are shown of one. */
const FRAMES = 4

/** Entries beyond which all are forgotten. */
const MOST_ENTRIES = 100_000

/** Frames of the library are of no interest: all its files lie below this folder. */
const OWN = [new URL('..', import.meta.url).href, fileURLToPath(new URL('..', import.meta.url))]

/** The places of one device. */
export class Places {
  readonly #places = new Map<string, string[]>()

  /** An instruction has just been recorded. */
  note(op: string, line: number): void {
    const place = userFrames()
    const key = `${op} ${line}`
    const known = this.#places.get(key) ?? []
    const others = known.filter((other) => other !== place)
    if (this.#places.size >= MOST_ENTRIES) this.#places.clear()
    this.#places.set(key, [place, ...others].slice(0, MOST_PLACES))
  }

  /** The error, with the places where its instruction may have been recorded if they are known. */
  explain(error: unknown): unknown {
    if (!(error instanceof TilegradError) || error.place === undefined) return error
    const places = this.#places.get(`${error.place.op} ${error.place.line}`)
    if (places === undefined) return error
    const text = places.join('\n  or recorded\n')
    return new TilegradError(error.code, `${error.message}\n  recorded\n${text}`, { cause: error })
  }
}

/** The stack of whoever called the library. */
function userFrames(): string {
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = 50
  const lines = (new Error('here').stack ?? '').split('\n').slice(1)
  Error.stackTraceLimit = limit
  const user = lines.filter((line) => !OWN.some((own) => line.includes(own)) && !line.includes('node:internal'))
  return user.slice(0, FRAMES).join('\n')
}
