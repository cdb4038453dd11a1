/**
 * `npm run bench:peers`: ours beside others in one run, taking turns, results checked equal first. Ratios are the
 * peer's best time over our best time. `npm run bench:peers -- gpu` (or `cpu`; or `norms` and
 * `gpu-norms`, their normalisations and softmax) measures these only.
 */

const benches = {
  cpu: () => import('./peers-cpu.ts'),
  norms: () => import('./peers-norms.ts'),
  gpu: () => import('./peers-gpu.ts'),
  'gpu-norms': () => import('./peers-gpu-norms.ts'),
}
const wanted = process.argv.slice(2)
const unknown = wanted.filter((word) => !(word in benches))
if (unknown.length > 0)
  throw new Error(`bench:peers: unknown ${unknown.join(', ')}; there are ${Object.keys(benches).join(', ')}`)
for (const [name, run] of Object.entries(benches)) {
  if (wanted.length === 0 || wanted.includes(name)) await run()
}
