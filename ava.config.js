/**
 * How ava runs the suites: TypeScript sources as they are, through oxc; one process per file, because an addon's
 * threads and exit hooks are part of what is tested.
 */
export default {
  files: ['__test__/**/*.spec.ts'],
  extensions: { ts: 'module' },
  nodeArguments: ['--import', '@oxc-node/core/register', '--enable-source-maps'],
  workerThreads: false,
  timeout: '2m',
}
