/** jax-js on WebGPU, in a process of its own. */

import { defaultDevice, init } from '@jax-js/jax'
import { installDawn } from './dawn.ts'
import { JAX_WORKS } from './jax-works.ts'
import { pinned, serve } from './serve.ts'

await serve(async () => {
  const { name } = await installDawn()
  if (!(await init('webgpu')).includes('webgpu')) throw new Error('jax-js did not accept its webgpu device')
  defaultDevice('webgpu')
  return { description: `jax-js ${pinned('@jax-js/jax')}, Dawn on ${name}`, works: JAX_WORKS }
})
