/**
 * A machine without a GPU, without a driver for it, or without the library that finds drivers, played by children: `auto`
 * takes the cpu, `gpu` by name is an error that says what was tried, and nothing is printed or dies.
 */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'

import type { DeviceInfo } from '../../ts/index.ts'
import { DEVICES } from '../helpers/devices.ts'
import { endedWith, lastJson, run } from '../helpers/process.ts'

interface Report {
  readonly list: readonly DeviceInfo[]
  readonly auto: string
  readonly sum: number
  readonly errors: readonly { readonly code: string; readonly message: string }[]
}

const folder = mkdtempSync(join(tmpdir(), 'tilegrad-absent-'))
test.after.always('the folder is removed', () => rmSync(folder, { recursive: true, force: true }))

const native = DEVICES.some((d) => d.kind === 'cpu')
// Needs the addon, and a system whose GPUs are found through files that the environment can name.
const onLinux = native && process.platform === 'linux' ? test : test.skip

async function finds(t: ExecutionContext, env: Record<string, string>): Promise<Report> {
  const child = await run(new URL('children/absent.ts', import.meta.url), { env })
  endedWith(t, child, { code: 0 })
  t.is(child.stderr, '')
  return lastJson(child) as Report
}

/** Environments in which no GPU can be found. */
const ABSENT: readonly (readonly [what: string, env: () => Record<string, string>])[] = [
  ['no driver', () => drivers('')],
  ['a list of drivers that is not there', () => drivers(join(folder, 'nowhere.json'))],
  ['a driver whose library is not there', () => drivers(manifest('missing.json', join(folder, 'libmissing.so')))],
  ['a list of drivers that is damaged', () => drivers(damaged())],
  ['no library that finds drivers', () => ({ LD_LIBRARY_PATH: broken() })],
]

/** How the library that finds drivers is told which to take, by its new and its old name. */
function drivers(files: string): Record<string, string> {
  return { VK_DRIVER_FILES: files, VK_ICD_FILENAMES: files }
}

function manifest(name: string, library: string): string {
  const file = join(folder, name)
  writeFileSync(file, JSON.stringify({ file_format_version: '1.0.0', ICD: { library_path: library, api_version: '1.3.0' } })) // prettier-ignore
  return file
}

function damaged(): string {
  const file = join(folder, 'damaged.json')
  writeFileSync(file, '{ "ICD": ')
  return file
}

/** A folder in which the library that finds drivers is a file that is no library. */
function broken(): string {
  for (const name of ['libvulkan.so.1', 'libvulkan.so']) writeFileSync(join(folder, name), 'this is no library')
  return folder
}

for (const [what, env] of ABSENT) {
  onLinux(`with ${what}, auto is cpu and gpu explains itself`, async (t) => {
    const { list, auto, sum, errors } = await finds(t, env())
    t.deepEqual([auto, sum], ['cpu', 12])
    const gpu = list.filter(({ kind }) => kind === 'gpu')
    t.deepEqual(gpu.map(({ available }) => available), [false]) // prettier-ignore
    t.regex(gpu[0]!.reason!, /no Vulkan, Metal or DX12 adapter; install/)
    for (const { code, message } of errors) {
      t.is(code, 'ERR_NO_DEVICE')
      t.true(message.includes(gpu[0]!.reason!), message)
      t.true(message.includes('available'), message)
    }
  })
}

const software = DEVICES.some((d) => d.kind === 'gpu' && d.name.includes('software'))

;(software ? test : test.skip)('a software adapter is listed with its reason, and taken only on request', async (t) => {
  const child = await run(new URL('children/absent.ts', import.meta.url))
  endedWith(t, child, { code: 0 })
  const { list, auto, errors } = lastJson(child) as Report
  t.is(auto, 'cpu')
  const line = list.find(({ kind }) => kind === 'gpu')!
  t.false(line.available)
  t.is(line.adapter!.type, 'software')
  t.is(line.adapter!.refusal, undefined)
  t.regex(line.reason!, /allowSoftware: true/)
  t.true(line.adapter!.limits.bindingBytes >= 128 * 2 ** 20 && line.adapter!.limits.bindings >= 8)
  const [plain, allowed, other] = errors
  t.is(plain!.code, 'ERR_NO_DEVICE')
  t.regex(plain!.message, /allowSoftware: true/)
  t.regex(allowed!.code, /^opened gpu \(.*software\)$/)
  t.is(other!.code, 'ERR_NO_DEVICE')
})
