/**
 * The opcode table as text, and the hash of that text: how the SDK and a native device find out that they speak of the
 * same instructions. docs/program.md describes the lines; `crate/src/program/table.rs` writes the same ones.
 */

import { OPCODES, type Opcode } from './opcodes.ts'

function range(count: number | readonly [number, number]): string {
  return typeof count === 'number' ? String(count) : count.join('-')
}

/** The table, one line per opcode by ascending number. */
export function opcodeTable(): string {
  const rows: [string, Opcode][] = Object.entries(OPCODES)
  rows.sort(([, a], [, b]) => a.code - b.code)
  return rows
    .map(([name, { code, family, inputs, outputs, attributes, dtypes, mutates = [] }]) => {
      const lists = [attributes.join(',') || '-', dtypes, mutates.join(',') || '-']
      return `${[code, name, family, range(inputs), range(outputs), ...lists].join(' ')}\n`
    })
    .join('')
}

/** FNV-1a, 32 bits, of the bytes of {@link opcodeTable}. */
export function opcodeHash(): number {
  let hash = 0x811c_9dc5
  for (const byte of new TextEncoder().encode(opcodeTable())) hash = Math.imul(hash ^ byte, 0x0100_0193)
  return hash >>> 0
}
