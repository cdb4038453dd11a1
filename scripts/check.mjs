/**
 * `npm run check`: everything a release needs. The tests, then the package as it would be published: what it holds,
 * what its types look like to every kind of importer, whether it works once installed, whether its documentation
 * builds.
 *
 *   npm run check -- --update     accepts the files that are packed now
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { ROOT, SetupError, buildAddon, installPackages, missingToolchain, start } from './bootstrap.mjs'
import { buildDist } from './build.mjs'
import { smoke } from './smoke.mjs'
import { command, execute, finish, step, tool } from './steps.mjs'

const PACKED = '__test__/package/packed-files.txt'
const PASSED = { passed: 1, failed: 0 }

/** `npm test`, with its own counts. */
async function tests() {
  const outcome = { passed: 0, failed: 0 }
  const code = await execute(process.execPath, [join(ROOT, 'scripts/test.mjs')], {
    onLine(line) {
      process.stdout.write(`${line}\n`)
      const counts = /^(\d+) passed, (\d+) failed$/.exec(line)
      if (counts !== null) Object.assign(outcome, { passed: Number(counts[1]), failed: Number(counts[2]) })
    },
  })
  if (code !== 0 && outcome.failed === 0) outcome.failed = 1
  return outcome
}

/**
 * The kinds of files that would be published, one line for each: names of chunks and of single declarations change all
 * the time and say nothing; a folder or a kind of file that was not there before does.
 */
function packedFiles() {
  const done = spawnSync('npm', ['pack', '--dry-run', '--json'], {
    cwd: ROOT,
    encoding: 'utf8',
    shell: process.platform === 'win32',
  })
  if (done.status !== 0) throw new SetupError(`npm pack failed:\n${done.stderr}`)
  /** @type {{ path: string }[]} */
  const files = JSON.parse(done.stdout)[0].files
  const kinds = files.map(({ path }) =>
    path.replace(/^(dist\/(?:chunks|types\/.*|types)\/)[^/]*?((?:\.d)?\.\w+(?:\.map)?)$/, '$1*$2'),
  )
  return `${[...new Set(kinds)].toSorted().join('\n')}\n`
}

/** @param {boolean} update */
async function packedAsRecorded(update) {
  const now = packedFiles()
  const path = join(ROOT, PACKED)
  const recorded = existsSync(path) ? readFileSync(path, 'utf8') : ''
  if (now === recorded) return PASSED
  if (update) {
    writeFileSync(path, now)
    return PASSED
  }
  const [before, after] = [recorded, now].map((text) => new Set(text.split('\n')))
  for (const line of before ?? []) if (after?.has(line) === false) process.stdout.write(`- ${line}\n`)
  for (const line of after ?? []) if (before?.has(line) === false) process.stdout.write(`+ ${line}\n`)
  throw new SetupError(`the packed files are not those of ${PACKED}; npm run check -- --update accepts them`)
}

/** @param {string[]} words */
async function main(words) {
  installPackages()
  await step('npm test', tests)
  if (missingToolchain() === undefined) {
    await step('crate without Node', () =>
      command('cargo', [
        'check',
        '--profile',
        'checked',
        '--locked',
        '--package',
        'tilegrad',
        '--lib',
        '--no-default-features',
      ]),
    )
    await step('types of the addon', () => command(process.execPath, ['scripts/binding-types.mjs', '--check']))
  }
  await step('build', async () => {
    buildAddon('release')
    await buildDist()
    return PASSED
  })
  await step('publint', () => tool('publint/src/cli.js', ['--strict']))
  await step('attw', () =>
    tool('@arethetypeswrong/cli/dist/index.js', ['--pack', '.', '--profile', 'esm-only', '--format', 'table-flipped']),
  )
  await step('packed files', () => packedAsRecorded(words.includes('--update')))
  await step('installed package', smoke)
  await step('typedoc', () => tool('typedoc/bin/typedoc', []))
  return finish()
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await start(() => main(process.argv.slice(2)))
