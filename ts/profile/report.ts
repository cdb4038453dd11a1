/** A profile as text: the steps by name, longest first, then what this thread did. */

import type { Profile, ProfileEvent } from './profile.ts'

/** Rows of a table that are shown. */
const ROWS = 20

/** Events of one name. */
interface Row {
  readonly name: string
  count: number
  milliseconds: number
  slowest: number
  flops: number
  bytes: number
}

/** The table of a profile. */
export function report({ device, milliseconds, events, dropped }: Profile): string {
  const of = (...kinds: ProfileEvent['kind'][]): ProfileEvent[] => events.filter(({ kind }) => kinds.includes(kind))
  const [runs, steps, submissions] = [of('run'), of('step'), of('submission')]
  const recorded = of('recording')
  let head = `${device.name}: ${ms(milliseconds)} ms, ${plural(runs.length, 'run')}`
  if (steps.length > 0) {
    const [busy, between] = [total(steps), total(runs) - total(steps)]
    head += `; steps ${ms(busy)} ms (${share(busy, milliseconds)}), around them in runs ${ms(between)} ms`
  }
  if (submissions.length > 0) {
    const busy = total(submissions)
    head += `; GPU ${ms(busy)} ms (${share(busy, milliseconds)}) in ${plural(submissions.length, 'submission')}`
  }
  const lines = [head]
  if (dropped > 0) lines.push(`${dropped} events of the device did not fit; events: … makes room for more`)
  if (steps.length > 0) lines.push('', ...table('step', byName(steps), total(steps), true))
  if (recorded.length > 0) lines.push('', ...table('recording of a step', byName(recorded), total(recorded)))
  const thread = byName(of('call', 'trace', 'host', 'wait'), labelled)
  if (thread.length > 0) lines.push('', ...table('this thread', thread, milliseconds))
  return `${lines.join('\n')}\n`
}

function labelled({ kind, name }: ProfileEvent): string {
  if (kind === 'call') return `call ${name}`
  if (kind === 'trace') return `record ${name}`
  return kind === 'wait' ? `wait for ${name}` : name
}

function byName(events: readonly ProfileEvent[], label = ({ name }: ProfileEvent): string => name): Row[] {
  const rows = new Map<string, Row>()
  for (const event of events) {
    const name = label(event)
    let row = rows.get(name)
    if (row === undefined) rows.set(name, (row = { name, count: 0, milliseconds: 0, slowest: 0, flops: 0, bytes: 0 }))
    row.count++
    row.milliseconds += event.duration
    row.slowest = Math.max(row.slowest, event.duration)
    row.flops += event.flops ?? 0
    row.bytes += event.bytes ?? 0
  }
  return [...rows.values()].toSorted((a, b) => b.milliseconds - a.milliseconds)
}

/** @param all the milliseconds that shares are of */
function table(title: string, rows: readonly Row[], all: number, rates = false): string[] {
  const head = [title, 'count', 'total ms', 'share', 'slowest ms', ...(rates ? ['GFLOP/s', 'GB/s'] : [])]
  const cells = rows.slice(0, ROWS).map(({ name, count, milliseconds, slowest, flops, bytes }) => {
    const rate = (n: number): string => (n > 0 && milliseconds > 0 ? (n / milliseconds / 1e6).toFixed(1) : '')
    const common = [name, `${count}`, ms(milliseconds), share(milliseconds, all), ms(slowest)]
    return rates ? [...common, rate(flops), rate(bytes)] : common
  })
  const rest = rows.slice(ROWS)
  if (rest.length > 0) {
    const sum = rest.reduce((sum, row) => sum + row.milliseconds, 0)
    const count = rest.reduce((sum, row) => sum + row.count, 0)
    cells.push([`${rest.length} others`, `${count}`, ms(sum), share(sum, all), ''])
  }
  const widths = head.map((text, i) => Math.max(text.length, ...cells.map((row) => row[i]?.length ?? 0)))
  return [head, ...cells].map((row) =>
    row
      .map((text, i) => (i === 0 ? text.padEnd(widths[i]!) : text.padStart(widths[i]! + 2)))
      .join('')
      .trimEnd(),
  )
}

function total(events: readonly ProfileEvent[]): number {
  return events.reduce((sum, { duration }) => sum + duration, 0)
}

function ms(milliseconds: number): string {
  return milliseconds.toFixed(3)
}

function share(part: number, whole: number): string {
  return whole > 0 ? `${((100 * part) / whole).toFixed(0)} %` : ''
}

function plural(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`
}
