/**
 * Writes `ts/backend/binding.ts`: the types of what the addon exports, from the definitions that napi-derive notes
 * down while the crate compiles. The file is committed, so that a change of the boundary shows in a review.
 *
 *   node scripts/binding-types.mjs [--check]     with --check it compares and writes nothing
 */
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { ROOT, SetupError, installPackages, missingToolchain, start } from './bootstrap.mjs'

const TARGET = join(ROOT, 'ts/backend/binding.ts')

const HEADER = `/**
 * What the native addon exports. Written by scripts/binding-types.mjs from the \`#[napi]\` items of \`crate/src/napi\`;
 * change those, then run it again.
 */

import type { TypedArray } from '../dtype.ts'
`

/**
 * @typedef {object} Definition
 * @property {string} kind
 * @property {string} name
 * @property {string} js_doc
 * @property {string} def
 */

/** Compiles the crate and collects what napi-derive writes: one JSON object a line. */
function definitions() {
  const folder = join(ROOT, '.cache/binding')
  rmSync(folder, { recursive: true, force: true })
  // napi-derive writes into it and does not make it.
  mkdirSync(folder, { recursive: true })
  // The notes are taken only when the crate is compiled, and cargo compiles only what looks newer than its output.
  const now = new Date()
  utimesSync(join(ROOT, 'crate/src/lib.rs'), now, now)
  const done = spawnSync('cargo', ['check', '--profile', 'checked', '--locked', '--package', 'tilegrad', '--lib'], {
    cwd: ROOT,
    stdio: 'inherit',
    env: { ...process.env, NAPI_TYPE_DEF_TMP_FOLDER: folder },
  })
  if (done.status !== 0) throw new SetupError('the crate does not compile; see above')
  /** @type {Definition[]} */
  const found = readdirSync(folder).flatMap((file) =>
    readFileSync(join(folder, file), 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line)),
  )
  return found.toSorted((a, b) => (a.name < b.name ? -1 : 1))
}

/** @param {string} text */
function indent(text) {
  return text.trimEnd().replaceAll(/^(?=.)/gm, '  ')
}

/** @param {readonly Definition[]} all */
function render(all) {
  const unknown = all.find(({ kind }) => kind !== 'fn' && kind !== 'interface')
  if (unknown !== undefined) {
    throw new SetupError(`${unknown.name} is a napi ${unknown.kind}; the boundary has functions and plain objects only`)
  }
  const objects = all
    .filter(({ kind }) => kind === 'interface')
    .map(({ name, js_doc, def }) => `${js_doc}export interface ${name} {\n${indent(def)}\n}\n`)
  const functions = all
    .filter(({ kind }) => kind === 'fn')
    .map(({ js_doc, def }) => indent(`${js_doc}${def.replace(/^function /, '')}`))
  const surface = `/** The addon itself. */\nexport interface Binding {\n${functions.join('\n\n')}\n}\n`
  return [HEADER, ...objects, surface].join('\n')
}

/** @param {string[]} words */
async function main(words) {
  installPackages()
  const missing = missingToolchain()
  if (missing !== undefined) throw new SetupError(`the addon's types come from compiling it, and ${missing}`)
  const { format, resolveConfig } = await import('prettier')
  const text = await format(render(definitions()), { ...(await resolveConfig(TARGET)), filepath: TARGET })
  const same = existsSync(TARGET) && readFileSync(TARGET, 'utf8') === text
  if (words[0] === '--check') {
    if (!same)
      throw new SetupError('ts/backend/binding.ts is not what the addon exports: run scripts/binding-types.mjs')
  } else if (!same) writeFileSync(TARGET, text)
  return 0
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await start(() => main(process.argv.slice(2)))
