/** Results as text for people and as JSON for plots. */

import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Result, host } from './measure.ts'

/** One line of a report: the work, what each contestant took, and the bar our ratio is held to. */
export interface Line {
  readonly work: string
  readonly result: Result
  /** Peer that the ratio is against, and the ratio that is asked for (peer's time / ours). */
  readonly against?: string
  readonly goal?: number
}

/** Prints a line: ratio first. */
export function print({ work, result, against, goal }: Line): void {
  const ours = result['tilegrad']
  const ratio =
    against !== undefined && ours !== undefined && result[against] !== undefined ? result[against] / ours : undefined
  const verdict = ratio === undefined || goal === undefined ? '' : ratio >= goal ? 'ok   ' : 'BELOW'
  const times = Object.entries(result).map(([name, seconds]) => `${name} ${format(seconds)}`)
  console.log(
    `${verdict.padEnd(6)}${ratio === undefined ? ''.padEnd(24) : `${ratio.toFixed(2)} × ${against} (≥ ${goal ?? '–'})`.padEnd(28)} ${work.padEnd(36)} ${times.join('   ')}`,
  )
}

/** Writes all lines with machine and commit to `benches/results/<name>.json`. */
export function save(name: string, lines: readonly Line[], extra: object = {}): void {
  const folder = new URL('results/', import.meta.url)
  mkdirSync(folder, { recursive: true })
  const file = fileURLToPath(new URL(`${name}.json`, folder))
  writeFileSync(file, `${JSON.stringify({ ...host(), ...extra, lines }, null, 2)}\n`)
  console.log(`written: benches/results/${name}.json`)
}

function format(seconds: number): string {
  if (seconds < 1e-3) return `${(seconds * 1e6).toFixed(seconds < 1e-5 ? 2 : 0)} µs`
  return `${(seconds * 1e3).toFixed(2)} ms`
}
