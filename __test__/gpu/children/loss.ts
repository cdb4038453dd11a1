/**
 * Fills a GPU, loses it, and prints how much larger this process was before and after that: on a software adapter its
 * memory is this process's. Tensors are as many that the GPU's own reserves do not matter, and have been computed with.
 */

import { setTimeout as after } from 'node:timers/promises'

import { ones, type Tensor } from '../../../ts/index.ts'
import { openLosable } from '../../helpers/lose.ts'

/** Words of 32 MiB. */
const BLOCK = 8 << 20
const BLOCKS = 10
/** How long it may take until everything is given back. */
const PATIENCE_MS = 10_000

const { device, lose } = await openLosable()
// Threads, compilers and caches are there from now on.
await ones([BLOCK], { device }).add(1).data()
await after(1500)
const before = process.memoryUsage.rss()

const kept: Tensor[] = []
for (let i = 0; i < BLOCKS; i++) {
  const x = ones([BLOCK], { device }).add(i)
  await x.slice([BLOCK - 1], [1]).data()
  kept.push(x)
}
const filled = process.memoryUsage.rss() - before
lose()
await device.sync().catch(() => {})
let left = filled
const deadline = performance.now() + PATIENCE_MS
while (left > filled / 4 && performance.now() < deadline) {
  await after(50)
  left = process.memoryUsage.rss() - before
}
console.log(JSON.stringify({ filled, left, kept: kept.length }))
