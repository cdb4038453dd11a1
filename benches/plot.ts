/**
 * Results as a picture: for each work one bar per contestant, as long as its time is beside the longest of that work,
 * with the time and the ratio to ours as text. Plain SVG, readable on light and dark pages.
 */

import type { Line } from './report.ts'

const BAR = 14
const GAP = 4
const LABEL = 150
const WIDTH = 860
const SCALE = 420
const OURS = '#2563eb'
const PEER = '#94a3b8'

/** Draws lines of a report. */
export function barPlot(title: string, subtitle: string, lines: readonly Line[]): string {
  const parts: string[] = []
  let y = 64
  for (const { work, result } of lines) {
    const entries = Object.entries(result)
    const longest = Math.max(...entries.map(([, seconds]) => seconds))
    const ours = result['tilegrad']
    parts.push(text(16, y, work, 'font-weight="600"'))
    y += 10
    for (const [name, seconds] of entries) {
      const ratio = ours === undefined || name === 'tilegrad' ? '' : `  ${(seconds / ours).toFixed(2)} ×`
      parts.push(
        text(LABEL, y + BAR - 3, name, 'text-anchor="end"'),
        `<rect x="${LABEL + 10}" y="${y}" width="${((seconds / longest) * SCALE).toFixed(1)}" height="${BAR}" rx="2" fill="${name.startsWith('tilegrad') ? OURS : PEER}"/>`,
        text(LABEL + 18 + (seconds / longest) * SCALE, y + BAR - 3, `${duration(seconds)}${ratio}`, ''),
      )
      y += BAR + GAP
    }
    y += 22
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y}" viewBox="0 0 ${WIDTH} ${y}" font-family="system-ui, sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#ffffff"/>
${text(16, 26, title, 'font-size="16" font-weight="600"')}
${text(16, 44, subtitle, 'fill="#475569"')}
${parts.join('\n')}
</svg>
`
}

/** Milliseconds or microseconds, with three digits. */
export function duration(seconds: number): string {
  return seconds < 1e-3 ? `${(seconds * 1e6).toPrecision(3)} µs` : `${(seconds * 1e3).toPrecision(3)} ms`
}

function text(x: number, y: number, content: string, attributes: string): string {
  const escaped = content.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
  const fill = attributes.includes('fill=') ? '' : ' fill="#0f172a"'
  return `<text x="${x.toFixed(0)}" y="${y.toFixed(0)}"${fill} ${attributes}>${escaped}</text>`
}
