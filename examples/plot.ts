/** Line plots as SVG text, small enough to read: what the examples draw their curves with. */

/** One curve: y over x = 0, 1, 2, … */
export interface Curve {
  readonly name: string
  readonly values: readonly number[]
}

const WIDTH = 720
const HEIGHT = 400
const MARGIN = { top: 44, right: 24, bottom: 48, left: 64 }
const COLOURS = ['#2563eb', '#dc2626', '#16a34a', '#9333ea']

/** An SVG document with the curves over a logarithmic y axis. */
export function linePlot(title: string, xLabel: string, yLabel: string, curves: readonly Curve[]): string {
  const all = curves.flatMap((c) => c.values.filter((v) => v > 0 && Number.isFinite(v)))
  const low = Math.floor(Math.log10(Math.min(...all)))
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...all))))
  const longest = Math.max(2, ...curves.map((c) => c.values.length))
  const x = (i: number): number => MARGIN.left + (i / (longest - 1)) * (WIDTH - MARGIN.left - MARGIN.right)
  const y = (v: number): number =>
    MARGIN.top + ((high - Math.log10(Math.max(v, 10 ** low))) / (high - low)) * (HEIGHT - MARGIN.top - MARGIN.bottom)
  const grid: string[] = []
  for (let power = low; power <= high; power++) {
    const at = y(10 ** power).toFixed(1)
    grid.push(`<line x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${at}" y2="${at}" stroke="#e5e7eb"/>`)
    grid.push(`<text x="${MARGIN.left - 8}" y="${at}" dy="4" text-anchor="end">${Number(`1e${power}`)}</text>`)
  }
  for (let part = 0; part <= 4; part++) {
    const i = Math.round(((longest - 1) * part) / 4)
    grid.push(`<text x="${x(i).toFixed(1)}" y="${HEIGHT - MARGIN.bottom + 20}" text-anchor="middle">${i}</text>`)
  }
  const lines = curves.map((curve, n) => {
    const points = curve.values.map((v, i) => `${x(i).toFixed(1)},${y(v).toFixed(1)}`).join(' ')
    const colour = COLOURS[n % COLOURS.length]!
    const label = `<text x="${WIDTH - MARGIN.right}" y="${MARGIN.top + 16 * n + 12}" text-anchor="end" fill="${colour}">${curve.name}</text>`
    return `<polyline points="${points}" fill="none" stroke="${colour}" stroke-width="1.5"/>${label}`
  })
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="white"/>`,
    `<text x="${MARGIN.left}" y="24" font-size="15" font-weight="600">${title}</text>`,
    ...grid,
    ...lines,
    `<text x="${(WIDTH + MARGIN.left) / 2}" y="${HEIGHT - 10}" text-anchor="middle">${xLabel}</text>`,
    `<text transform="translate(16 ${HEIGHT / 2}) rotate(-90)" text-anchor="middle">${yLabel}</text>`,
    '</svg>',
    '',
  ].join('\n')
}
