/** Results as text for people and as JSON for plots. */

import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Contestant, type Result, compare, host } from './measure.ts'
import { barPlot, duration } from './plot.ts'

/** One line of a report: the work, what each contestant took, and the bars our ratios are held to. */
export interface Line {
  readonly work: string
  readonly result: Result
  /** By peer, the ratio that is asked for (peer's time / ours). */
  readonly goals?: Readonly<Record<string, number>>
}

/** Measures a line of a report with the contestants that are there, adds it to the lines, and prints it. */
export async function measure(
  lines: Line[],
  line: Omit<Line, 'result'>,
  contestants: readonly (Contestant | undefined)[],
  rounds?: number,
): Promise<void> {
  const there = contestants.filter((c) => c !== undefined)
  const full = { ...line, result: await compare(there, rounds) }
  lines.push(full)
  print(full)
}

/** Prints a line: ratios first. */
function print({ work, result, goals = {} }: Line): void {
  const ours = result['tilegrad']
  const ratios = Object.entries(goals).flatMap(([name, goal]) => {
    const peer = result[name]
    return ours === undefined || peer === undefined ? [] : [{ name, goal, ratio: peer / ours }]
  })
  const verdict = ratios.length === 0 ? '' : ratios.every(({ ratio, goal }) => ratio >= goal) ? 'ok' : 'BELOW'
  const judged = ratios.map(({ name, goal, ratio }) => `${ratio.toFixed(2)} × ${name} (≥ ${goal})`).join('  ')
  const times = Object.entries(result).map(([name, seconds]) => `${name} ${duration(seconds)}`)
  console.log(`${verdict.padEnd(6)}${judged.padEnd(28)} ${work.padEnd(36)} ${times.join('   ')}`)
}

/** Writes all lines with machine and commit to `benches/results/<name>.json`, and as a picture beside it. */
export function save(name: string, lines: readonly Line[], extra: object = {}): void {
  const folder = new URL('results/', import.meta.url)
  mkdirSync(folder, { recursive: true })
  const file = fileURLToPath(new URL(`${name}.json`, folder))
  const machine = host()
  writeFileSync(file, `${JSON.stringify({ ...machine, ...extra, lines }, null, 2)}\n`)
  const subtitle = `${machine.cpu}, ${machine.cores} cores, Node ${machine.node}, commit ${machine.commit}; shorter is faster`
  // A line of one contestant has nothing to be seen beside.
  const pictured = lines.filter(({ result }) => Object.keys(result).length > 1)
  if (pictured.length > 0) writeFileSync(file.replace(/json$/, 'svg'), barPlot(`tilegrad: ${name}`, subtitle, pictured))
  console.log(`written: benches/results/${name}.json`)
}
