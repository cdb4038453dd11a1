/**
 * Finding the addon, and not finding it: copies of the library without the addon, with a damaged one, with one of
 * another version. `auto` then takes `js`; `cpu` by name is an error that says what was tried and why it failed.
 */

import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'

import type { DeviceInfo } from '../../ts/index.ts'
import { DEVICES } from '../helpers/devices.ts'
import { endedWith, lastJson, run } from '../helpers/process.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const CHILD = new URL('children/loader.ts', import.meta.url)
const folders: string[] = []

interface Report {
  readonly devices: DeviceInfo[]
  readonly auto: string
  readonly sum: number
  readonly cpu: { readonly opened?: string; readonly code?: string; readonly message?: string; readonly hasCause?: boolean }
}

interface Manifest {
  name: string
  version: string
}

/** A copy of the sources, with its own manifest and without the addon. */
function copy(change: Partial<Manifest> = {}): string {
  const folder = mkdtempSync(join(tmpdir(), 'tilegrad-loader-'))
  folders.push(folder)
  cpSync(join(ROOT, 'ts'), join(folder, 'ts'), { recursive: true })
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Manifest
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ ...manifest, ...change }))
  return folder
}

async function look(t: ExecutionContext, folder: string, platform?: string): Promise<Report> {
  const child = await run(CHILD, { args: [folder, ...(platform === undefined ? [] : [platform])] })
  endedWith(t, child, { code: 0 })
  return lastJson(child) as Report
}

/** What holds whenever there is no addon. */
function fallsBack(t: ExecutionContext, { devices, auto, sum, cpu }: Report): string {
  t.deepEqual([auto, sum], ['js', 12])
  t.deepEqual(
    devices.map(({ kind, available }) => [kind, available]),
    [
      ['gpu', false],
      ['cpu', false],
      ['js', true],
    ],
  )
  const { reason } = devices[1]!
  t.is(cpu.code, 'ERR_NO_DEVICE')
  t.true(cpu.hasCause)
  for (const part of [reason!, devices[0]!.reason!, 'js (this thread): available']) t.true(cpu.message!.includes(part), cpu.message)
  return reason!
}

const native = DEVICES.some((d) => d.kind === 'cpu')
// Needs an addon to be copied; where none was built, the output shows the test as skipped.
const withAddon = native ? test : test.skip

function addon(): string {
  return readdirSync(join(ROOT, 'native')).find((name) => name.endsWith('.node'))!
}

test.after.always('copies are removed', () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

test('without an addon auto is js, and cpu says what is missing', async (t) => {
  const reason = fallsBack(t, await look(t, copy()))
  t.regex(reason, /native\/tilegrad\..*\.node: not there/)
  t.regex(reason, /@tilegrad\/binding-.*: not there/)
  t.regex(reason, /optional dependency/)
})

test('a platform nobody builds for falls back to js', async (t) => {
  const folder = copy()
  if (native) cpSync(join(ROOT, 'native'), join(folder, 'native'), { recursive: true, force: true })
  const reason = fallsBack(t, await look(t, folder, 'sunos'))
  t.regex(reason, /tilegrad\.sunos-/)
})

withAddon('a damaged addon is explained and not fatal', async (t) => {
  const folder = copy()
  mkdirSync(join(folder, 'native'))
  // A library of another processor: the same file with another machine in its header.
  const foreign = readFileSync(join(ROOT, 'native', addon()))
  foreign.writeUInt16LE(foreign.readUInt16LE(18) ^ 0xff, 18)
  const damages = [Buffer.from('this is no library'), Buffer.alloc(0), ...(process.platform === 'linux' ? [foreign] : [])]
  for (const damage of damages) {
    writeFileSync(join(folder, 'native', addon()), damage)
    const reason = fallsBack(t, await look(t, folder))
    t.regex(reason, /does not fit this system .* or is damaged/)
  }
})

withAddon('an addon of another version is refused', async (t) => {
  const folder = copy({ version: '99.0.0' })
  cpSync(join(ROOT, 'native'), join(folder, 'native'), { recursive: true })
  const reason = fallsBack(t, await look(t, folder))
  t.regex(reason, /it is version .*, the package is 99\.0\.0/)
})

withAddon('a copy that has lost its package.json says so', async (t) => {
  const folder = copy({ name: 'somebody-elses' })
  cpSync(join(ROOT, 'native'), join(folder, 'native'), { recursive: true })
  const reason = fallsBack(t, await look(t, folder))
  t.regex(reason, /bundled away from its package\.json/)
})

withAddon('a whole copy works, whatever the environment says', async (t) => {
  const folder = copy()
  cpSync(join(ROOT, 'native'), join(folder, 'native'), { recursive: true })
  const { auto, sum, cpu, devices } = await look(t, folder)
  // A GPU of this machine is taken before the cpu; a software adapter is not.
  const best = devices.find(({ available }) => available)!.kind
  t.deepEqual([auto, sum, cpu.opened], [best, 12, 'cpu'])
  t.regex(devices.find(({ kind }) => kind === 'cpu')!.name, /cpu \(.*cores\)/)
})
