/**
 * Makes a fresh clone runnable: installs the development packages and builds the native addon, each only when
 * something changed. Built-ins of Node only, because it runs before anything is installed. It never needs the network
 * on a second run, and it never fails for want of a Rust toolchain: then it says loudly what will be missing.
 *
 *   node scripts/bootstrap.mjs [--profile checked|release] [--packages <folder>]... [run <script.ts> arguments...]
 *
 * `--packages` also installs the packages of another folder with its own package.json (the peers of `benches`);
 * `run` then executes a TypeScript file of this repository, unbuilt, with the arguments that follow.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

/** The repository. */
export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)))

/** Arguments that make Node run this repository's TypeScript unbuilt. */
export const NODE_ARGUMENTS = ['--import', '@oxc-node/core/register', '--enable-source-maps']

/** What one command is allowed to be wrong with: a message that says what to do next, shown without a stack. */
export class SetupError extends Error {}

/** @param {string} line */
function say(line) {
  process.stderr.write(`[bootstrap] ${line}\n`)
}

/** @param {string[]} lines */
export function banner(lines) {
  const rule = '!'.repeat(100)
  process.stderr.write(`\n${rule}\n${lines.map((line) => `!! ${line}`).join('\n')}\n${rule}\n\n`)
}

/** @param {number} since milliseconds of `performance.now()` */
export function seconds(since) {
  return `${((performance.now() - since) / 1000).toFixed(1)} s`
}

/**
 * Runs npm with the interpreter that runs this, so that no shell and no other version stands between.
 *
 * @param {string[]} parameters
 * @param {string} cwd
 * @returns {boolean} whether it succeeded
 */
function npm(parameters, cwd) {
  const cli = process.env['npm_execpath']
  const throughNode = cli?.endsWith('npm-cli.js') === true
  const done = spawnSync(throughNode ? process.execPath : 'npm', throughNode ? [cli, ...parameters] : parameters, {
    cwd,
    stdio: ['ignore', 'inherit', 'inherit'],
    // On Windows npm is a script, and scripts need a shell.
    shell: !throughNode && process.platform === 'win32',
  })
  return done.status === 0
}

/** @returns {boolean} whether the loader that runs TypeScript has its binary for this platform */
function loaderWorks() {
  return spawnSync(process.execPath, [...NODE_ARGUMENTS, '--eval', '0'], { cwd: ROOT, stdio: 'ignore' }).status === 0
}

/**
 * Installs the packages of a folder when its lock or manifest, the platform or Node's binary interface changed.
 * `npm install --no-save` and not `npm ci`: the latter refuses locks in which optional packages of other platforms
 * are absent, which a lock written behind some mirrors is.
 *
 * @param {string} folder relative to the repository
 */
export function installPackages(folder = '.') {
  const home = resolve(ROOT, folder)
  const modules = join(home, 'node_modules')
  const stamp = join(modules, '.tilegrad-installed')
  const hash = createHash('sha256').update(`${process.platform} ${process.arch} ${process.versions.modules}\n`)
  for (const name of ['package.json', 'package-lock.json']) {
    if (existsSync(join(home, name))) hash.update(readFileSync(join(home, name)))
  }
  const wanted = hash.digest('hex')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return

  const started = performance.now()
  say(`installing packages${folder === '.' ? '' : ` of ${folder}`} …`)
  const parameters = [
    'install',
    '--no-save',
    '--include=dev',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
  ]
  let done = npm(parameters, home)
  if (done && folder === '.' && !loaderWorks()) {
    say('the lock names no binaries for this platform: installing once more without it')
    rmSync(modules, { recursive: true, force: true })
    done = npm([...parameters, '--no-package-lock'], home)
  }
  if (!done) {
    throw new SetupError(
      `npm install failed in ${home}.\n` +
        'Its own message stands above. Usual causes: no network or a proxy that npm does not know (npm config set proxy …),\n' +
        'or a half-written folder: delete node_modules and run the command again.',
    )
  }
  writeFileSync(stamp, wanted)
  say(`packages installed in ${seconds(started)}`)
}

/** `linux-x64-gnu`, `darwin-arm64`, `win32-x64-msvc`: the name of this platform in the addon's file name. */
export function platformName() {
  const base = `${process.platform}-${process.arch}`
  if (process.platform === 'win32') return `${base}-msvc`
  if (process.platform !== 'linux') return base
  // Without this the report asks the name servers about every open connection.
  Object.assign(process.report, { excludeNetwork: true })
  const report = /** @type {{ header: { glibcVersionRuntime?: string } }} */ (process.report.getReport())
  return `${base}-${report.header.glibcVersionRuntime === undefined ? 'musl' : 'gnu'}`
}

/** Where the addon of this platform is built to, and where the loader looks for it. */
export function addonPath() {
  return join(ROOT, 'native', `tilegrad.${platformName()}.node`)
}

/** @returns {string | undefined} what is missing to build Rust here */
export function missingToolchain() {
  const cargo = spawnSync('cargo', ['--version'], { cwd: ROOT, encoding: 'utf8' })
  if (cargo.error !== undefined) return 'cargo was not found'
  if (cargo.status !== 0) return `cargo does not start: ${cargo.stderr.trim().split('\n')[0] ?? ''}`
  if (process.platform === 'win32') return undefined // link.exe is found by rustc itself, not through PATH
  const linker = process.env['CC'] ?? 'cc'
  if (spawnSync(linker, ['--version'], { stdio: 'ignore' }).status !== 0) return `no C linker ("${linker}") was found`
  return undefined
}

/**
 * Builds the addon with cargo (which knows by itself what changed) and puts it where the loader looks.
 *
 * @param {'checked' | 'release'} profile
 * @returns {boolean} whether an up-to-date addon is in place
 */
export function buildAddon(profile = 'checked') {
  if (!existsSync(join(ROOT, 'Cargo.toml'))) return false
  const missing = missingToolchain()
  if (missing !== undefined) {
    const stale = existsSync(addonPath())
    banner([
      `NO NATIVE BUILD: ${missing}.`,
      stale
        ? `The addon built earlier (${addonPath()}) is used as it is; it may be older than the sources.`
        : 'The native devices are not available and will not be tested. Only the `js` device runs.',
      'To build them: install Rust from https://rustup.rs and a C compiler (Debian: apt install build-essential),',
      'then run the same command again.',
    ])
    return false
  }
  const started = performance.now()
  const cargo = spawnSync(
    'cargo',
    [
      'build',
      '--profile',
      profile,
      '--locked',
      '-p',
      'tilegrad',
      '--lib',
      '--message-format',
      'json-render-diagnostics',
    ],
    { cwd: ROOT, stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8', maxBuffer: 1 << 28 },
  )
  if (cargo.status !== 0) {
    throw new SetupError(
      'cargo could not build the addon; its own message stands above.\n' +
        'If it says that the lock file needs to be updated: run "cargo check" once and commit Cargo.lock.',
    )
  }
  const library = builtLibrary(cargo.stdout)
  if (library === undefined)
    throw new SetupError('cargo built no cdylib named tilegrad: is crate-type still there in crate/Cargo.toml?')
  const fresh = replaceFile(library, addonPath())
  if (fresh) say(`addon (${profile}) built in ${seconds(started)}`)
  return true
}

/**
 * @param {string} messages cargo's JSON lines
 * @returns {string | undefined} path of the shared library
 */
function builtLibrary(messages) {
  for (const line of messages.split('\n')) {
    if (!line.startsWith('{"reason":"compiler-artifact"')) continue
    const artifact = JSON.parse(line)
    if (artifact.target.name !== 'tilegrad' || !artifact.target.kind.includes('cdylib')) continue
    return artifact.filenames.find((/** @type {string} */ name) => /\.(so|dylib|dll)$/.test(name))
  }
  return undefined
}

/**
 * Copies by way of a rename, so that a process that has the old file mapped keeps it whole.
 *
 * @param {string} from
 * @param {string} to
 * @returns {boolean} whether anything changed
 */
function replaceFile(from, to) {
  if (existsSync(to) && readFileSync(to).equals(readFileSync(from))) return false
  mkdirSync(dirname(to), { recursive: true })
  const temporary = `${to}.${process.pid}.tmp`
  copyFileSync(from, temporary)
  try {
    renameSync(temporary, to)
  } catch (cause) {
    rmSync(temporary, { force: true })
    throw new SetupError(`${to} could not be replaced (${String(cause)}). Is a program still using it?`)
  }
  return true
}

/** @param {string[]} words */
function main(words) {
  /** @type {'checked' | 'release'} */
  let profile = 'checked'
  const folders = ['.']
  for (;;) {
    const word = words.shift()
    if (word === '--profile') profile = words.shift() === 'release' ? 'release' : 'checked'
    else if (word === '--packages') folders.push(words.shift() ?? '.')
    else if (word === undefined || word === 'run') break
    else throw new SetupError(`bootstrap: unknown argument ${word}`)
  }
  for (const folder of folders) installPackages(folder)
  buildAddon(profile)
  const script = words.shift()
  if (script === undefined) return 0
  if (!existsSync(join(ROOT, script))) throw new SetupError(`bootstrap: there is no ${script}`)
  // A child and not an import: Node takes a loader only on its command line.
  const child = spawnSync(process.execPath, [...NODE_ARGUMENTS, join(ROOT, script), ...words], { stdio: 'inherit' })
  return child.status ?? 1
}

/** Runs a script's main function, shows a {@link SetupError} as its message alone, and sets the exit code. */
export async function start(/** @type {() => number | Promise<number>} */ body) {
  try {
    process.exitCode = await body()
  } catch (error) {
    if (!(error instanceof SetupError)) throw error
    process.stderr.write(`\n${error.message}\n`)
    process.exitCode = 1
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await start(() => main(process.argv.slice(2)))
