/**
 * Installs the packed package into an empty folder and uses it as a project would: import, `require`, a worker, a
 * TypeScript consumer; without a platform package (the `js` device must do) and with one. Needs no network.
 * `dist/` must be built; the platform package is made from the addon in `native/`.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ROOT, SetupError, addonPath, platformName } from './bootstrap.mjs'

const COMPUTE = `
const device = await openDevice(process.argv[2])
const y = linear(tensor([[1, 2]], { device }), tensor([[3], [4]], { device }))
if (await y.item() !== 11) throw new Error('1 * 3 + 2 * 4 is 11, not ' + await y.item())
await device.close()
`

/** What the consumer's project consists of. */
const FILES = {
  'package.json': '{ "name": "consumer", "private": true, "type": "module" }\n',
  'import.js': `import { linear, openDevice, tensor } from 'tilegrad'\n${COMPUTE}`,
  'require.cjs': `const { linear, openDevice, tensor } = require('tilegrad')\nconst run = async () => {${COMPUTE}}\nrun().catch((error) => { throw error })\n`,
  'worker.js': `import { Worker } from 'node:worker_threads'\nnew Worker(new URL('import.js', import.meta.url), { argv: [process.argv[2]] })\n`,
  // A subpath alone must give whole tensors: their methods come with them.
  'subpath.js': `import { Linear } from 'tilegrad/nn'\nif (new Linear(2, 3).weight.mul(2).size !== 6) throw new Error('no methods')\n`,
  'types.ts': `import { type Tensor, linear, tensor } from 'tilegrad'\nimport { Linear } from 'tilegrad/nn'\nexport const y: Tensor = linear(tensor([[1]]), tensor([[1]]))\nexport const layer: Linear = new Linear(1, 1)\n`,
  'tsconfig.json': `{ "compilerOptions": { "target": "es2023", "module": "nodenext", "lib": ["es2023", "esnext.disposable"], "types": [], "strict": true, "noEmit": true, "skipLibCheck": false }, "include": ["types.ts"] }\n`,
}

/**
 * @param {string} program
 * @param {readonly string[]} parameters
 * @param {string} cwd
 * @returns {string} standard output
 */
function run(program, parameters, cwd) {
  const done = spawnSync(program, parameters, {
    cwd,
    encoding: 'utf8',
    timeout: 120_000,
    shell: process.platform === 'win32',
  })
  if (done.status !== 0) {
    const how = done.signal ?? done.error?.message ?? `exit code ${done.status}`
    throw new SetupError(`${program} ${parameters.join(' ')}: ${how}\n${done.stdout}${done.stderr}`)
  }
  return done.stdout
}

/**
 * Node 20 and 22 may warn that \`require\` of a module is experimental; 20.19 and 22.12 are the first to have it.
 *
 * @param {string} home
 * @param {string} device
 */
function compute(home, device) {
  for (const script of ['import.js', 'require.cjs', 'worker.js']) run(process.execPath, [script, device], home)
}

/** @param {string} home */
function addPlatformPackage(home) {
  const name = `@tilegrad/binding-${platformName()}`
  const folder = join(home, 'node_modules', name)
  mkdirSync(folder, { recursive: true })
  const file = `tilegrad.${platformName()}.node`
  copyFileSync(addonPath(), join(folder, file))
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ name, version, main: file }))
}

/** Throws when the installed package does not do what it should. */
export async function smoke() {
  const home = mkdtempSync(join(tmpdir(), 'tilegrad-consumer-'))
  try {
    const packed = JSON.parse(run('npm', ['pack', '--json', '--pack-destination', home], ROOT))
    for (const [name, text] of Object.entries(FILES)) writeFileSync(join(home, name), text)
    run('npm', ['install', '--offline', '--no-audit', '--no-fund', '--ignore-scripts', `./${packed[0].filename}`], home)

    compute(home, 'js')
    run(process.execPath, ['subpath.js'], home)
    run(process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', '.'], home)
    if (existsSync(addonPath())) {
      addPlatformPackage(home)
      compute(home, 'cpu')
    }
    return { passed: 1, failed: 0 }
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
}
