/**
 * Every example in README.md, docs/ and the doc comments compiles, and runs to its end in a process of its own. The
 * examples import the package by its name, which tsconfig.json maps to the sources.
 */

import { execFile } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import ts from 'typescript'
import { type Example, allExamples, examplesIn, examplesInComments } from './extract.ts'

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))))
const FOLDER = join(ROOT, '.cache/examples')

const examples = allExamples(ROOT).map((example) => ({
  ...example,
  path: join(FOLDER, `${example.file.replaceAll(/[^a-z0-9]+/gi, '-')}-${example.line}.ts`),
}))

rmSync(FOLDER, { recursive: true, force: true })
mkdirSync(FOLDER, { recursive: true })
// The loader maps the package's name only for files that a tsconfig.json speaks of.
writeFileSync(
  join(FOLDER, 'tsconfig.json'),
  '{ "extends": "../../tsconfig.json", "include": ["*.ts"], "exclude": [] }\n',
)
// The closing export makes a module, with top-level await, of a block that imports nothing.
for (const { path, code } of examples) writeFileSync(path, `${code}\nexport {}\n`)

/** Type errors by file, all files checked at once. */
function typeErrors(paths: string[]): Map<string, string[]> {
  const config = ts.getParsedCommandLineOfConfigFile(
    join(ROOT, 'tsconfig.json'),
    {},
    { ...ts.sys, onUnRecoverableConfigFileDiagnostic: () => undefined },
  )
  const program = ts.createProgram(paths, config?.options ?? {})
  return new Map(
    paths.map((path) => {
      const source = program.getSourceFile(path)
      const diagnostics = [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)]
      const show = ({ messageText, start = 0 }: ts.Diagnostic): string => {
        const line = (source?.getLineAndCharacterOfPosition(start).line ?? 0) + 1
        return `line ${line} of the example: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`
      }
      return [path, diagnostics.map(show)]
    }),
  )
}

const errors = typeErrors(examples.map(({ path }) => path))

/** Lets as many bodies run at once as there are processors: each is a process. */
let free = availableParallelism()
const waiting: (() => void)[] = []
async function inTurn<T>(body: () => Promise<T>): Promise<T> {
  if (free > 0) free -= 1
  else await new Promise<void>((resolve) => waiting.push(resolve))
  try {
    return await body()
  } finally {
    const next = waiting.shift()
    if (next === undefined) free += 1
    else next()
  }
}

function run(path: string): Promise<{ failure: string | undefined }> {
  return new Promise((resolve) => {
    const parameters = ['--import', '@oxc-node/core/register', '--enable-source-maps', path]
    execFile(process.execPath, parameters, { cwd: ROOT, timeout: 60_000 }, (error, stdout, stderr) => {
      resolve({ failure: error === null ? undefined : `${error.message}\n${stdout}${stderr}` })
    })
  })
}

for (const { file, line, path, runs } of examples) {
  test(`${file}:${line} ${runs ? 'compiles and runs' : 'compiles'}`, async (t) => {
    t.deepEqual(errors.get(path), [])
    if (!runs) return
    const { failure } = await inTurn(() => run(path))
    t.is(failure, undefined)
  })
}

test('blocks are found with their lines, in prose and in comments', (t) => {
  const block = (mark: string): string => `\`\`\`ts${mark}\nlet a = 1\n\nlet b = 2\n\`\`\``
  const expected = (line: number, runs: boolean): Example => ({
    file: 'f',
    line,
    code: 'let a = 1\n\nlet b = 2\n',
    runs,
  })
  t.deepEqual(examplesIn('f', `# Title\n${block('')}\n\n${block(' no-run')}\n`), [
    expected(3, true),
    expected(9, false),
  ])
  t.deepEqual(examplesIn('f', '```sh\nnpm install\n```\n'), [])

  const comment = block('').replaceAll(/^/gm, '   * ').replaceAll(/ +$/gm, '')
  t.deepEqual(examplesInComments('f', `const c = 0\n\n  /**\n   * @example\n${comment}\n   */\nconst d = 1\n`), [
    expected(6, true),
  ])
})
