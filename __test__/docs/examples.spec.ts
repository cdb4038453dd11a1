/**
 * Every example in README.md, docs/ and the doc comments compiles, runs to its end, and prints what it says that it
 * prints. The examples import the package by its name, which tsconfig.json maps to the sources.
 */

import { execFile } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import ts from 'typescript'
import { agree, marked, unfounded } from './claims.ts'
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
for (const { path, code } of examples) writeFileSync(path, `${marked(code)}\nexport {}\n`)

const RUNNER = join(FOLDER, 'run.mjs')
writeFileSync(
  RUNNER,
  `import { pathToFileURL } from 'node:url'
for (const path of process.argv.slice(2)) {
  console.log('<example>')
  await import(pathToFileURL(path))
}
`,
)

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

/** What an example printed, and why it did not come to its end. */
interface Outcome {
  readonly output: string
  readonly failure: string | undefined
}

/** Runs examples one after the other, each a module, in one process. */
function run(paths: readonly string[]): Promise<ReadonlyMap<string, Outcome>> {
  const parameters = ['--import', '@oxc-node/core/register', '--enable-source-maps', RUNNER, ...paths]
  return new Promise((resolve) => {
    execFile(process.execPath, parameters, { cwd: ROOT, timeout: 120_000 }, (error, stdout, stderr) => {
      const outputs = stdout.split(/^<example>\n/m).slice(1)
      const reason = error === null ? undefined : `${error.message}\n${stdout}${stderr}`
      const outcome = (i: number): Outcome => ({
        output: outputs[i] ?? '',
        // One that was left is done; the last one that was begun has ended the process.
        failure: i < outputs.length - 1 ? undefined : reason,
      })
      resolve(new Map(paths.map((path, i) => [path, outcome(i)])))
    })
  })
}

/** The examples in the comments of one file share a process, since most of their time is its start. */
const runs = new Map<string, Promise<ReadonlyMap<string, Outcome>>>()
function outcomeOf({ file, path }: { file: string; path: string }): Promise<ReadonlyMap<string, Outcome>> {
  if (file.endsWith('.md')) return inTurn(() => run([path]))
  const paths = examples.filter((one) => one.file === file && one.runs).map((one) => one.path)
  const running = runs.get(file) ?? inTurn(() => run(paths))
  runs.set(file, running)
  return running
}

for (const example of examples) {
  const { file, line, code, path } = example
  test(`${file}:${line} ${example.runs ? 'compiles, runs and says what it prints' : 'compiles'}`, async (t) => {
    t.deepEqual(errors.get(path), [])
    if (!example.runs) return
    const { failure, output } = (await outcomeOf(example)).get(path)!
    t.is(failure, undefined)
    t.deepEqual(unfounded(code, output), [])
  })
}

test('a claim is compared by its numbers and words, not by how Node writes them', (t) => {
  t.true(
    agree("[[0.5, 0]] ['0.weight'] Float32Array [1e-5]", "[ [ 0.5, 0 ] ] [\n '0.weight' ] Float32Array(1) [ 0.00001 ]"),
  )
  t.true(agree('0.693147 0.2 2.061e-9', '0.6931471824645996 0.20000000298023224 2.06115369216775e-9'))
  for (const [claim, text] of [
    ['0.693147', '0.69314'],
    ['0.2', '0.21'],
    ['1', '2'],
    ['0', '1e-9'],
    ['[1, 2]', '[ 1 ]'],
    ['true', 'false'],
  ] as const)
    t.false(agree(claim, text), claim)
  const code =
    'const x = 2\nconsole.log(x) // 2\nconsole.log(x) // 3\nconsole.log(x) // what was said before, and so on …'
  t.is(marked(code).split('\n').length, 4)
  const output = '<claim 1>\n2\n</claim>\n<claim 2>\n2\n</claim>\n2\n'
  t.deepEqual(unfounded(code, output), ['says 3, prints 2'])
  t.deepEqual(unfounded(code, ''), ['says 2, prints ', 'says 3, prints '])
})

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
