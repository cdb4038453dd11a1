/** `npm run format`: puts every source into the shape that the tests ask for. */
import { pathToFileURL } from 'node:url'
import { installPackages, missingToolchain, start } from './bootstrap.mjs'
import { FOLDERS, command, tool } from './steps.mjs'

async function main() {
  installPackages()
  const outcomes = [
    await tool('oxlint/bin/oxlint', ['--type-aware', '--fix', '--quiet', ...FOLDERS, 'ava.config.js']),
    await tool('prettier/bin/prettier.cjs', [
      '--write',
      '--log-level',
      'warn',
      ...FOLDERS,
      '*.{js,json}',
      '.oxlintrc.json',
    ]),
  ]
  if (missingToolchain() === undefined) outcomes.push(await command('cargo', ['fmt', '--all']))
  return outcomes.some(({ failed }) => failed > 0) ? 1 : 0
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await start(main)
