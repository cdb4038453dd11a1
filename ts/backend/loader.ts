/**
 * Finds and checks the native addon. Nothing happens at import: the first question loads it, and the answer stays. It
 * looks in two places, a development build beside the sources and the platform's package by name, and never in a
 * directory that the environment, the working directory or a search names. Why it failed is data, not an exception:
 * without the addon there is still the `js` device.
 */

import { createRequire } from 'node:module'
import { TilegradError } from '../errors.ts'
import { opcodeHash } from '../program/table.ts'
import type { Binding } from './binding.ts'

/** The addon, or why there is none. */
export type Loaded =
  | { readonly available: true; readonly binding: Binding }
  | {
      readonly available: false
      /** What was tried, why it did not work, and what to do about it. */
      readonly reason: string
      readonly cause: unknown
    }

/** One place that was looked at in vain. */
interface Attempt {
  readonly place: string
  readonly error: unknown
}

let loaded: Loaded | undefined

/** The addon of this platform; asked once per thread. */
export function load(): Loaded {
  loaded ??= find()
  return loaded
}

function find(): Loaded {
  const attempts: Attempt[] = []
  try {
    const require = createRequire(import.meta.url)
    const home = findHome(require)
    const platform = platformName()
    for (const place of [`${home.path}native/tilegrad.${platform}.node`, `@tilegrad/binding-${platform}`]) {
      try {
        return { available: true, binding: checked(require(place) as Binding, home.version) }
      } catch (error) {
        attempts.push({ place: place.startsWith('@') ? place : `native/tilegrad.${platform}.node`, error })
      }
    }
  } catch (error) {
    attempts.push({ place: 'package.json', error })
  }
  const lines = attempts.map(({ place, error }) => `${place}: ${firstLine(error)}`)
  const cause = attempts.findLast(({ error }) => !isMissing(error))?.error ?? attempts.at(-1)?.error
  return { available: false, reason: `the native addon does not load (${lines.join('; ')}). ${advice(cause)}`, cause }
}

/** The package's own folder, relative to this module: sources and bundles lie at different depths. */
function findHome(require: NodeJS.Require): { readonly path: string; readonly version: string } {
  for (const path of ['../', '../../']) {
    try {
      const manifest = require(`${path}package.json`) as { name?: unknown; version?: unknown }
      if (manifest.name === 'tilegrad' && typeof manifest.version === 'string')
        return { path, version: manifest.version }
    } catch {
      // Not at this depth.
    }
  }
  throw new TilegradError('ERR_NO_DEVICE', 'tilegrad has been bundled away from its package.json; mark it as external')
}

/** `linux-x64-gnu`, `darwin-arm64`, `win32-x64-msvc`: how the builds of a platform are named. */
function platformName(): string {
  const base = `${process.platform}-${process.arch}`
  if (process.platform === 'win32') return `${base}-msvc`
  if (process.platform !== 'linux') return base
  const report = process.report as NodeJS.ProcessReport & { excludeNetwork?: boolean | undefined }
  const before = report.excludeNetwork
  // Else the report asks the name servers about every open connection.
  report.excludeNetwork = true
  const { header } = report.getReport() as unknown as { header: { glibcVersionRuntime?: string } }
  report.excludeNetwork = before
  return `${base}-${header.glibcVersionRuntime === undefined ? 'musl' : 'gnu'}`
}

/** Refuses an addon that is not of this very version, or does not know these very instructions. */
function checked(binding: Binding, version: string): Binding {
  const own = binding.version()
  if (own.version !== version) {
    throw new TilegradError('ERR_NO_DEVICE', `it is version ${own.version}, the package is ${version}`)
  }
  if (own.opcodeHash !== opcodeHash()) {
    throw new TilegradError('ERR_NO_DEVICE', 'it was built from other sources: its opcode table differs')
  }
  return binding
}

function isMissing(error: unknown): boolean {
  return codeOf(error) === 'MODULE_NOT_FOUND'
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined
}

function firstLine(error: unknown): string {
  if (isMissing(error)) return 'not there'
  return (error instanceof Error ? error.message : String(error)).split('\n', 1)[0] ?? ''
}

function advice(cause: unknown): string {
  if (isMissing(cause)) {
    return (
      'If this platform has a binary, it is an optional dependency: install without --omit=optional, and with a lock ' +
      'file that was not written for another platform only.'
    )
  }
  if (codeOf(cause) === 'ERR_DLOPEN_FAILED') {
    return 'The file does not fit this system (C library, architecture) or is damaged: reinstall on this machine.'
  }
  return 'Reinstall tilegrad, so that all its packages have one version.'
}
