/**
 * Writes docs/ops.md: every operation with its devices, element types and gradients. All of it is read from what the
 * code and the tests go by: the opcode table, the case table that the suites of operations run through, and the list of
 * known gaps. A test holds the page against it.
 *
 *   node scripts/bootstrap.mjs run scripts/ops-matrix.ts
 */

import { writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { format, resolveConfig } from 'prettier'
import { GAPS, gapOf } from '../__test__/gaps.ts'
import { CASES, type Gradient, type TestedOpcode, dtypesOf } from '../__test__/helpers/cases.ts'
import * as tilegrad from '../ts/index.ts'
import type { DeviceKind } from '../ts/index.ts'
import { OPCODES, type OpcodeFamily } from '../ts/program/opcodes.ts'

/** The page, relative to the repository. */
export const PAGE = 'docs/ops.md'

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)))

const DEVICES: readonly DeviceKind[] = ['gpu', 'cpu', 'js']

const TITLES: Readonly<Record<OpcodeFamily, string>> = {
  structure: 'Structure',
  element: 'Elementwise',
  reduce: 'Reductions',
  softmax: 'Softmax',
  matmul: 'Matrix products and layers',
  loss: 'Losses',
  shape: 'Shape',
  gather: 'Gathering',
  optim: 'Optimisers',
  random: 'Random numbers',
  norm: 'Normalisation',
  batchNorm: 'Batch normalisation',
}

const GRADIENTS: Readonly<Record<Gradient, string>> = {
  none: '',
  zero: 'zero',
  corners: 'first',
  smooth: 'first, second',
}

const OPS = Object.keys(CASES) as TestedOpcode[]

/** What a device computes with: every element type of the instruction that lives there, or a mark for a gap. */
function support(op: TestedOpcode, device: DeviceKind): string {
  const gap = gapOf(op, device)
  if (gap !== undefined) return `gap ${GAPS.indexOf(gap) + 1}`
  return dtypesOf(op)
    .filter((dtype) => device === 'js' || dtype !== 'f64')
    .join(' ')
}

function row(op: TestedOpcode): string {
  const { api, gradient } = CASES[op]
  const functions = api.map((name) => `\`${name}\``).join(', ')
  return [`\`${op}\``, functions, ...DEVICES.map((device) => support(op, device)), GRADIENTS[gradient]].join(' | ')
}

function section(family: OpcodeFamily): string[] {
  const ops = OPS.filter((op) => OPCODES[op].family === family)
  if (ops.length === 0) return []
  const heads = ['instruction', 'recorded by', ...DEVICES.map((device) => `\`${device}\``), 'gradient']
  return [
    `## ${TITLES[family]}`,
    '',
    `| ${heads.join(' | ')} |`,
    `|${heads.map(() => '---').join('|')}|`,
    ...ops.map((op) => `| ${row(op)} |`),
    '',
  ]
}

/** Functions on tensors, and losses, that are made of others and record no instruction of their own. */
function compositions(): string[] {
  const recorded = new Set(OPS.flatMap((op) => CASES[op].api))
  const methods = Object.keys(tilegrad).filter(
    // What takes a list of tensors, or several alike, is no method of one.
    (name) =>
      (name in tilegrad.Tensor.prototype || ['embedding', 'scaledDotProductAttention', 'stack'].includes(name)) &&
      typeof Reflect.get(tilegrad, name) === 'function',
  )
  const losses = Object.keys(tilegrad.nn)
    .filter((name) => /^[a-z]/.test(name))
    .map((name) => `nn.${name}`)
  return [...methods, ...losses].filter((name) => !recorded.has(name)).toSorted()
}

/** The text of the page. */
export async function opsPage(): Promise<string> {
  const lines = [
    '# Operations',
    '',
    'Written by `scripts/ops-matrix.ts`; a test fails while it is out of date.',
    '',
    'An instruction is what a device runs. Under a device stand the element types it computes with; every pair of instruction and device is',
    'tested against a reference, with the cases of `__test__/helpers/cases.ts`. A first gradient is tested against central differences; a second',
    'gradient is that of the gradient. Instructions without a function are recorded by gradients.',
    '',
    ...(Object.keys(TITLES) as OpcodeFamily[]).flatMap(section),
    '## Made of others',
    '',
    `These functions record instructions of the tables above: ${compositions()
      .map((name) => `\`${name}\``)
      .join(', ')}.`,
    '',
    '## Known gaps',
    '',
    ...(GAPS.length === 0
      ? ['None.']
      : GAPS.map(({ op, device, reason }, i) => `${i + 1}. \`${op}\` on \`${device}\`: ${reason}`)),
    '',
  ]
  const path = join(ROOT, PAGE)
  return format(lines.join('\n'), { ...(await resolveConfig(path)), filepath: path })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(join(ROOT, PAGE), await opsPage())
