/**
 * `npm run build`: what the published package holds. The release addon in `native/`; in `dist/` one bundle for each
 * entry of package.json's `exports`, with what entries share in `dist/chunks/` (every entry sees the same classes),
 * source maps with the sources inside, and the declarations.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { ROOT, SetupError, buildAddon, installPackages, seconds, start } from './bootstrap.mjs'

/**
 * The entries of package.json and the sources they are made of: `./dist/nn.js` comes from `ts/nn/index.ts`.
 *
 * @returns {Record<string, string>}
 */
function entries() {
  const { exports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  const names = Object.keys(exports).filter((name) => name !== './package.json')
  return Object.fromEntries(
    names.map((name) => {
      const source = join(ROOT, 'ts', name, 'index.ts')
      if (!existsSync(source)) throw new SetupError(`package.json exports "${name}", but there is no ${source}`)
      return [name === '.' ? 'index' : name.slice(2), source]
    }),
  )
}

async function bundle() {
  const { build } = await import('esbuild')
  await build({
    absWorkingDir: ROOT,
    entryPoints: entries(),
    outdir: 'dist',
    bundle: true,
    splitting: true,
    chunkNames: 'chunks/[name]-[hash]',
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    packages: 'external',
    sourcemap: true,
    sourcesContent: true,
    legalComments: 'none',
    // `sideEffects` in package.json speaks of dist/. Taken for ts/, it would drop the modules that exist for their
    // effect: those that give Tensor its methods.
    ignoreAnnotations: true,
    // Readable stack traces are worth more here than the bytes.
    minify: false,
    logLevel: 'warning',
  })
}

function declarations() {
  const compiler = join(ROOT, 'node_modules/typescript/bin/tsc')
  const done = spawnSync(process.execPath, [compiler, '-p', 'tsconfig.build.json'], { cwd: ROOT, stdio: 'inherit' })
  if (done.status !== 0) throw new SetupError('the declarations could not be written; see above')
}

/** Builds `dist/`. Packages must be installed. */
export async function buildDist() {
  const started = performance.now()
  rmSync(join(ROOT, 'dist'), { recursive: true, force: true })
  await bundle()
  declarations()
  process.stderr.write(`[build] dist in ${seconds(started)}\n`)
}

async function main() {
  installPackages()
  buildAddon('release')
  await buildDist()
  return 0
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await start(main)
