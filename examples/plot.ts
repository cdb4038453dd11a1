/**
 * Pictures as SVG text, small enough to read: panels side by side, each with curves over two axes or with bars. Readable
 * on light and dark pages. It draws what it is given and computes nothing.
 */

/** One curve. Points that a logarithmic axis cannot show are left out. */
export interface Curve {
  /** In the legend; without one the curve is another of the kind before it. */
  readonly name?: string
  readonly points: readonly (readonly [x: number, y: number])[]
  /** Dashed: what theory says, or what is not to be done. */
  readonly dashed?: boolean
  /** Dots on the points: there are few, and they were measured. */
  readonly dots?: boolean
  /** Takes the colour of the curve of this index, for curves that belong together. Default: a colour of its own. */
  readonly colour?: number
}

/** An axis. Its ends are those of the points, or of the ticks if they are given. */
export interface Axis {
  readonly label: string
  readonly log?: boolean
  readonly ticks?: readonly number[]
}

/** Curves over two axes. */
export interface Curves {
  readonly title: string
  readonly x: Axis
  readonly y: Axis
  readonly curves: readonly Curve[]
}

/** Bars from zero to both sides, in groups. */
export interface Bars {
  readonly title: string
  readonly groups: readonly { readonly name: string; readonly bars: readonly { name: string; value: number }[] }[]
}

const WIDTH = 460
const PLOT = { left: 68, right: 18, height: 250, bottom: 46 }
const LINE = 17
const HEAD = 40
const COLOURS = ['#2563eb', '#dc2626', '#16a34a', '#9333ea', '#d97706', '#0891b2', '#be185d']
const FAINT = 'fill="#475569"'

/** An SVG document with panels in rows of `columns`. */
export function figure(title: string, panels: readonly (Curves | Bars)[], columns = 2): string {
  const drawn = panels.map((panel) => ('curves' in panel ? curves(panel) : bars(panel)))
  const across = Math.min(columns, panels.length)
  const parts: string[] = []
  let y = HEAD
  for (let i = 0; i < drawn.length; i += across) {
    const row = drawn.slice(i, i + across)
    row.forEach(({ body }, j) => parts.push(`<g transform="translate(${j * WIDTH} ${y})">`, body, '</g>'))
    y += Math.max(...row.map(({ height }) => height))
  }
  const width = across * WIDTH
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y}" viewBox="0 0 ${width} ${y}" font-family="system-ui, sans-serif" font-size="12" fill="#0f172a">
<rect width="100%" height="100%" fill="#ffffff"/>
${text(16, 26, title, 'font-size="16" font-weight="600"')}
${parts.join('\n')}
</svg>
`
}

interface Drawn {
  readonly body: string
  readonly height: number
}

function curves({ title, x, y, curves }: Curves): Drawn {
  const points = curves.map((curve) => curve.points.filter(([px, py]) => shows(x, px) && shows(y, py)))
  const legend = legendRows(curves)
  const top = 34 + LINE * legend.length + 8
  const bottom = top + PLOT.height
  const all = points.flat()
  const across = scale(
    x,
    all.map(([px]) => px),
    [PLOT.left, WIDTH - PLOT.right],
    false,
  )
  const up = scale(
    y,
    all.map(([, py]) => py),
    [bottom, top],
    true,
  )
  const parts = [text(PLOT.left, 20, title, 'font-weight="600"')]
  for (const [i, row] of legend.entries()) {
    for (const { n, at } of row) {
      const [middle, { name, dashed }] = [34 + LINE * i, curves[n]!]
      parts.push(
        `<line x1="${at}" x2="${at + 20}" y1="${middle}" y2="${middle}" stroke="${colour(curves, n)}" stroke-width="2"${dash(dashed)}/>`,
        text(at + 25, middle + 4, name!, ''),
      )
    }
  }
  for (const tick of up.ticks) {
    const at = up.at(tick).toFixed(1)
    parts.push(
      `<line x1="${PLOT.left}" x2="${WIDTH - PLOT.right}" y1="${at}" y2="${at}" stroke="#e2e8f0"/>`,
      text(PLOT.left - 7, up.at(tick) + 4, short(tick), `text-anchor="end" ${FAINT}`),
    )
  }
  for (const tick of across.ticks) {
    const at = across.at(tick).toFixed(1)
    parts.push(
      `<line x1="${at}" x2="${at}" y1="${bottom}" y2="${bottom + 4}" stroke="#94a3b8"/>`,
      text(across.at(tick), bottom + 18, short(tick), `text-anchor="middle" ${FAINT}`),
    )
  }
  for (const [n, curve] of curves.entries()) {
    const drawn = points[n]!.map(([px, py]) => [across.at(px).toFixed(1), up.at(py).toFixed(1)] as const)
    const stroke = colour(curves, n)
    parts.push(
      `<polyline points="${drawn.map((p) => p.join(',')).join(' ')}" fill="none" stroke="${stroke}" stroke-width="1.6"${dash(curve.dashed)}/>`,
    )
    if (curve.dots === true)
      parts.push(...drawn.map(([cx, cy]) => `<circle cx="${cx}" cy="${cy}" r="2.8" fill="${stroke}"/>`))
  }
  const middle = top + PLOT.height / 2
  parts.push(
    text((PLOT.left + WIDTH - PLOT.right) / 2, bottom + 36, x.label, 'text-anchor="middle"'),
    `<g transform="translate(16 ${middle}) rotate(-90)">${text(0, 0, y.label, 'text-anchor="middle"')}</g>`,
  )
  return { body: parts.join('\n'), height: bottom + PLOT.bottom }
}

function bars({ title, groups }: Bars): Drawn {
  const values = groups.flatMap(({ bars }) => bars.map(({ value }) => value))
  const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)]
  // The values stand outside their bars, on both sides.
  const [left, right] = [PLOT.left + 72, WIDTH - 72]
  const at = (v: number): number => left + ((v - low) / (high - low)) * (right - left)
  const parts = [text(16, 20, title, 'font-weight="600"')]
  let y = 34
  for (const { name, bars } of groups) {
    parts.push(text(16, y + 10, name, FAINT))
    y += 16
    for (const { name: of, value } of bars) {
      const [from, to] = value < 0 ? [at(value), at(0)] : [at(0), at(value)]
      parts.push(
        text(PLOT.left, y + 11, of, 'text-anchor="end"'),
        `<rect x="${from.toFixed(1)}" y="${y}" width="${(to - from).toFixed(1)}" height="14" rx="2" fill="${value > 0 ? COLOURS[0]! : '#cbd5e1'}"/>`,
        text(value < 0 ? from - 5 : to + 5, y + 11, value.toLocaleString('en'), value < 0 ? 'text-anchor="end"' : ''),
      )
      y += 18
    }
    y += 8
  }
  parts.push(`<line x1="${at(0).toFixed(1)}" x2="${at(0).toFixed(1)}" y1="34" y2="${y - 8}" stroke="#475569"/>`)
  return { body: parts.join('\n'), height: y + 8 }
}

/** Names in rows, as many as fit, by a guess of how wide text is. */
function legendRows(curves: readonly Curve[]): { n: number; at: number }[][] {
  const rows: { n: number; at: number }[][] = [[]]
  let at = PLOT.left
  for (const [n, { name }] of curves.entries()) {
    if (name === undefined) continue
    const width = 40 + name.length * 6.6
    if (at > PLOT.left && at + width > WIDTH) {
      rows.push([])
      at = PLOT.left
    }
    rows.at(-1)!.push({ n, at: Math.round(at) })
    at += width
  }
  return rows
}

interface Scale {
  at(value: number): number
  readonly ticks: readonly number[]
}

/** @param open whether it goes on to the next round numbers, or ends where the values do */
function scale(
  { log = false, ticks }: Axis,
  values: readonly number[],
  [from, to]: readonly [number, number],
  open: boolean,
): Scale {
  const round = log ? powers(values) : rounds(values)
  const [least, most] = [Math.min(...values), Math.max(...values)]
  const chosen = ticks ?? (open ? round : round.filter((v) => v >= least && v <= most))
  const inner = log ? Math.log10 : (v: number): number => v
  const ends = [...values, ...chosen].map(inner)
  const [low, high] = [Math.min(...ends), Math.max(...ends)]
  return { at: (v) => from + ((inner(v) - low) / (high - low || 1)) * (to - from), ticks: chosen }
}

/** The powers of ten around the values, not more than eight of them. */
function powers(values: readonly number[]): number[] {
  const low = Math.floor(Math.log10(Math.min(...values)))
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))))
  const step = Math.ceil((high - low) / 8)
  return Array.from({ length: Math.floor((high - low) / step) + 1 }, (_, i) => Number(`1e${low + i * step}`))
}

/** Round numbers around the values. */
function rounds(values: readonly number[]): number[] {
  const [low, high] = [Math.min(...values), Math.max(...values)]
  const rough = (high - low || 1) / 5
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = power * [1, 2, 5, 10].find((m) => m * power >= rough)!
  const first = Math.floor(low / step)
  const last = Math.ceil(high / step)
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)))
}

function shows({ log }: Axis, v: number): boolean {
  return Number.isFinite(v) && (log !== true || v > 0)
}

function short(v: number): string {
  if (v !== 0 && (Math.abs(v) < 1e-3 || Math.abs(v) >= 1e6)) return v.toExponential().replace('e+', 'e')
  return v.toLocaleString('en', { maximumFractionDigits: 4 })
}

function colour(curves: readonly Curve[], n: number): string {
  return COLOURS[(curves[n]!.colour ?? n) % COLOURS.length]!
}

function dash(dashed = false): string {
  return dashed ? ' stroke-dasharray="5 4"' : ''
}

function text(x: number, y: number, content: string, attributes: string): string {
  const escaped = content.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${attributes}>${escaped}</text>`
}
