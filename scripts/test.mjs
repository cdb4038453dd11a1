/**
 * `npm test`: everything that can be known about the sources on this machine. Starts from a fresh clone. All steps run,
 * whatever failed before them; the last line is `N passed, N failed` over Rust tests, TypeScript tests, and one for
 * each step that is a single check.
 *
 *   npm test -- --only rust | ts | <ava pattern>     a part, for while working
 *   REQUIRE_DEVICES=cpu,js npm test                  a device that is missing is a failure
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { NODE_ARGUMENTS, ROOT, buildAddon, installPackages, missingToolchain, start } from './bootstrap.mjs'
import { FOLDERS, command, execute, finish, step, tool } from './steps.mjs'

const TINY = '__test__/tiny.spec.ts'

/** One profile for addon, lints and tests, so that dependencies are compiled once. */
const CARGO = ['--profile', 'checked', '--locked', '--workspace']

async function rust() {
  await step('cargo fmt', () => command('cargo', ['fmt', '--all', '--check']))
  await step('cargo clippy', () => command('cargo', ['clippy', ...CARGO, '--all-targets', '--', '-D', 'warnings']))
  await step('cargo test', cargoTest)
}

/** Sums the `test result:` lines of all test binaries and of the documentation tests. */
async function cargoTest() {
  const sum = { passed: 0, failed: 0, ignored: 0 }
  const code = await execute('cargo', ['test', ...CARGO, '--no-fail-fast'], {
    onLine(line) {
      const counts = /^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/.exec(line)
      if (counts !== null) {
        sum.passed += Number(counts[1])
        sum.failed += Number(counts[2])
        sum.ignored += Number(counts[3])
      }
      if (!/^test .* \.\.\. ok$/.test(line) && line !== '') process.stdout.write(`${line}\n`)
    },
  })
  // A test binary that does not build or dies says nothing of its tests.
  if (code !== 0 && sum.failed === 0) sum.failed = 1
  return { passed: sum.passed, failed: sum.failed, ...(sum.ignored > 0 && { note: `${sum.ignored} ignored` }) }
}

async function staticTypeScript() {
  await step('types: sources, tests, examples', () => tool('typescript/bin/tsc', ['-p', 'tsconfig.json']))
  await step('types: scripts', () => tool('typescript/bin/tsc', ['-p', 'scripts/tsconfig.json']))
  if (existsSync(join(ROOT, 'benches/node_modules'))) {
    await step('types: peers', () => tool('typescript/bin/tsc', ['-p', 'benches/tsconfig.json']))
  }
  await step('types: as a consumer sees them', async () => {
    const emitted = await tool('typescript/bin/tsc', ['-p', 'tsconfig.build.json', '--outDir', '.cache/types'])
    if (emitted.failed > 0) return emitted
    const checks = [
      await tool('typescript/bin/tsc', ['-p', '__test__/types/tsconfig.json']),
      await tool('typescript/bin/tsc', ['-p', '__test__/types/tsconfig.bare.json']),
    ]
    return { passed: 0, failed: 0, ...(checks.some(({ failed }) => failed > 0) ? { failed: 1 } : { passed: 1 }) }
  })
  await step('oxlint', () =>
    tool('oxlint/bin/oxlint', ['--type-aware', '--deny-warnings', ...FOLDERS, 'ava.config.js']),
  )
  await step('prettier', () =>
    tool('prettier/bin/prettier.cjs', ['--check', '--log-level', 'warn', ...FOLDERS, '*.{js,json}', '.oxlintrc.json']),
  )
}

/**
 * Counts ava's TAP lines: its own summary counts todos as failed. Shows what is not ok, and a sign of life.
 *
 * @param {string[]} patterns
 */
async function ava(patterns) {
  const sum = { passed: 0, failed: 0, skipped: 0, todo: 0 }
  let showing = false
  const code = await execute(
    process.execPath,
    [join(ROOT, 'node_modules/ava/entrypoints/cli.mjs'), '--tap', ...patterns],
    {
      env: { FORCE_COLOR: '0' },
      onLine(line) {
        const result = /^(not )?ok \d+ - (.*?)(?: # (SKIP|TODO).*)?$/.exec(line)
        if (result === null) {
          if (showing && line.startsWith(' ')) process.stdout.write(`${line}\n`)
          return
        }
        showing = false
        if (result[3] === 'TODO') sum.todo += 1
        else if (result[3] === 'SKIP') sum.skipped += 1
        else if (result[1] === undefined) sum.passed += 1
        else {
          sum.failed += 1
          showing = true
        }
        if (showing || result[3] !== undefined) process.stdout.write(`${line}\n`)
        else if (sum.passed % 250 === 0) process.stdout.write(`… ${sum.passed} passed\n`)
      },
    },
  )
  if (code !== 0 && sum.failed === 0) sum.failed = 1
  const notes = [sum.skipped > 0 && `${sum.skipped} skipped`, sum.todo > 0 && `${sum.todo} to do`].filter(Boolean)
  return { passed: sum.passed, failed: sum.failed, ...(notes.length > 0 && { note: notes.join(', ') }) }
}

async function suites() {
  if (existsSync(join(ROOT, TINY))) {
    await step('the tiny test', () => ava([TINY]))
    await step('ava', () => ava(['__test__/**/*.spec.ts', `!${TINY}`]))
  } else await step('ava', () => ava([]))
}

/**
 * Asks the SDK which devices open here, in a process of its own.
 *
 * @param {string[]} remarks lines for the end of the run
 */
async function devices(remarks) {
  /** @type {string[]} */
  const present = []
  const code = await execute(process.execPath, [...NODE_ARGUMENTS, join(ROOT, 'scripts/devices.ts')], {
    onLine(line) {
      process.stdout.write(`${line}\n`)
      remarks.push(line)
      const kind = /^tested device: (\w+)/.exec(line)?.[1]
      if (kind !== undefined) present.push(kind)
    },
  })
  if (code !== 0) return { passed: 0, failed: 1 }
  const missing = (process.env['REQUIRE_DEVICES'] ?? '')
    .split(',')
    .filter((kind) => kind !== '' && !present.includes(kind))
  for (const kind of missing) process.stdout.write(`REQUIRE_DEVICES names ${kind}, which this machine does not have\n`)
  return { passed: missing.length === 0 ? 1 : 0, failed: missing.length }
}

/** @param {string[]} words */
async function main(words) {
  const only = words[0] === '--only' ? words[1] : undefined
  if (words.length > 0 && only === undefined) {
    process.stdout.write('usage: npm test [-- --only rust | ts | <ava pattern>]\n')
    return 1
  }
  installPackages()
  /** @type {string[]} */
  const remarks = []
  const toolchain = missingToolchain()
  await step('native addon', async () => {
    const built = buildAddon('checked')
    return { passed: built ? 1 : 0, failed: 0, ...(!built && { note: toolchain ?? 'not built' }) }
  })
  if (toolchain !== undefined) remarks.push(`NOT TESTED: everything in Rust, because ${toolchain}`)

  if (only !== undefined && only !== 'rust' && only !== 'ts') {
    await step('ava', () => ava([only]))
    return finish(remarks)
  }
  if (toolchain === undefined && only !== 'ts') await rust()
  if (only !== 'rust') {
    await staticTypeScript()
    await suites()
    await step('devices', () => devices(remarks))
  }
  return finish(remarks)
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await start(() => main(process.argv.slice(2)))
