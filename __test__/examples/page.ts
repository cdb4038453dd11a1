/** The pages of the examples as tests read them: what an example printed when its page was made, line by line. */

import { readFileSync } from 'node:fs'
import { OUTPUT, page } from '../../examples/start.ts'

/** The lines of output on a page. The first names the device. */
export function linesOf(name: string): string[] {
  const output = OUTPUT.exec(readFileSync(page(name), 'utf8'))?.[0]
  if (output === undefined) throw new Error(`docs/examples/${name}.md has no output`)
  return output.trimEnd().split('\n')
}

/** The numbers of the line that begins with a label, after the label; of the first such line behind the one that begins with `behind`. */
export function numbersOf(lines: readonly string[], label: string, behind = ''): number[] {
  const from = lines.findIndex((line) => line.startsWith(behind))
  const line = lines.slice(Math.max(from, 0)).find((text) => text.trimStart().startsWith(label))
  if (from < 0 || line === undefined) throw new Error(`no line begins with ${behind} … ${label}`)
  const rest = line.trimStart().slice(label.length).replaceAll(',', '')
  return (rest.match(/-?\d+(?:\.\d+)?(?:e[+-]\d+)?/g) ?? []).map(Number)
}
