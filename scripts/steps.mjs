/**
 * What `npm test` and `npm run check` are made of: steps that all run whatever happened to those before, each with a
 * header, a duration and a count of what passed and failed. Built-ins of Node only.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { ROOT, SetupError, seconds } from './bootstrap.mjs'

/**
 * @typedef {object} Outcome
 * @property {number} passed
 * @property {number} failed
 * @property {string} [note] what the table at the end says beside it
 */

/** Folders that hold TypeScript and scripts. Linters get them by name: given none they walk everything. */
export const FOLDERS = ['ts', '__test__', 'examples', 'benches', 'scripts'].filter((folder) =>
  existsSync(join(ROOT, folder)),
)

/** @type {{ title: string, outcome: Outcome, took: string }[]} */
const done = []

/**
 * Runs one step and remembers what came of it. A step that throws has failed.
 *
 * @param {string} title
 * @param {() => Promise<Outcome>} body
 */
export async function step(title, body) {
  process.stdout.write(`\n=== ${title} ${'='.repeat(Math.max(3, 100 - title.length))}\n`)
  const started = performance.now()
  /** @type {Outcome} */
  let outcome
  try {
    outcome = await body()
  } catch (error) {
    process.stdout.write(`${error instanceof Error && !(error instanceof SetupError) ? error.stack : String(error)}\n`)
    outcome = { passed: 0, failed: 1 }
  }
  const took = seconds(started)
  done.push({ title, outcome, took })
  process.stdout.write(`--- ${outcome.failed === 0 ? 'ok' : 'FAILED'}, ${took}\n`)
}

/**
 * Prints the table of steps; the last line is `N passed, N failed`.
 *
 * @param {string[]} remarks printed between the two
 * @returns {number} the exit code
 */
export function finish(remarks = []) {
  let passed = 0
  let failed = 0
  process.stdout.write(`\n=== summary ${'='.repeat(92)}\n`)
  for (const { title, outcome, took } of done) {
    passed += outcome.passed
    failed += outcome.failed
    const counts = `${outcome.passed} passed, ${outcome.failed} failed${outcome.note === undefined ? '' : `, ${outcome.note}`}`
    process.stdout.write(
      `${outcome.failed === 0 ? 'ok    ' : 'FAILED'} ${title.padEnd(44)} ${took.padStart(8)}  ${counts}\n`,
    )
  }
  for (const remark of remarks) process.stdout.write(`${remark}\n`)
  process.stdout.write(`${passed} passed, ${failed} failed\n`)
  return failed === 0 && passed > 0 ? 0 : 1
}

/**
 * Runs a program and hands over its standard output line by line, as it comes.
 *
 * @param {string} program
 * @param {readonly string[]} parameters
 * @param {{ onLine?: (line: string) => void, env?: Record<string, string> }} [options] without `onLine`, output is shown
 * @returns {Promise<number>} the exit code; 1 for a program that could not start or was killed
 */
export function execute(program, parameters, { onLine, env } = {}) {
  return new Promise((settle) => {
    const child = spawn(program, parameters, {
      cwd: ROOT,
      env: { ...process.env, ...env },
      stdio: ['ignore', onLine === undefined ? 'inherit' : 'pipe', 'inherit'],
    })
    child.on('error', (error) => {
      process.stdout.write(`${program} does not start: ${error.message}\n`)
      settle(1)
    })
    const lines = child.stdout === null ? undefined : createInterface({ input: child.stdout })
    if (onLine !== undefined) lines?.on('line', onLine)
    child.on('close', (code, signal) => {
      if (signal !== null) process.stdout.write(`${program} was ended by ${signal}\n`)
      settle(code ?? 1)
    })
  })
}

/**
 * A program whose exit code is all there is to know.
 *
 * @param {string} program
 * @param {readonly string[]} parameters
 * @returns {Promise<Outcome>}
 */
export async function command(program, parameters) {
  const code = await execute(program, parameters)
  return { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1 }
}

/**
 * The same for a tool among the development packages.
 *
 * @param {string} script path of its entry under node_modules
 * @param {readonly string[]} parameters
 */
export function tool(script, parameters) {
  return command(process.execPath, [join(ROOT, 'node_modules', script), ...parameters])
}
