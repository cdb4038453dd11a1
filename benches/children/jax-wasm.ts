/**
 * jax-js on WebAssembly, its fastest backend without a GPU, in a process of its own. Its threads need the `Worker` of
 * browsers, which Node does not have, so it computes on one.
 */

import { defaultDevice, init } from '@jax-js/jax'
import { JAX_WORKS } from './jax-works.ts'
import { pinned, serve } from './serve.ts'

await serve(async () => {
  if (!(await init('wasm')).includes('wasm')) throw new Error('jax-js did not accept its wasm device')
  defaultDevice('wasm')
  return { description: `jax-js ${pinned('@jax-js/jax')}, WebAssembly`, works: JAX_WORKS }
})
