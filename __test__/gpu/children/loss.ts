/**
 * Fills a GPU, loses it, and prints how much larger this process was before and after that: on a software adapter its
 * memory is this process's. It is held by tensors that have been computed with, and by what uploads go through. Arrays that
 * JavaScript has dropped are collected before anything is measured: they are this process's, too, and not the GPU's.
 */

import { setTimeout as after } from 'node:timers/promises'

import { tensor } from '../../../ts/index.ts'
import { openLosable } from '../../helpers/lose.ts'

/** 16 MiB, of which uploads keep several for the next. */
const HOST = new Float32Array(4 << 20).fill(1)
const TENSORS = 16
/** Bytes that may stay: what V8 and the driver keep for themselves, but less than uploads keep (128 MiB). */
const NOISE = 96 * 2 ** 20
/** How long it may take until everything is given back. */
const PATIENCE_MS = 10_000

const { device, lose } = await openLosable()
// Threads and compilers are there from now on, and what this needed has gone.
{
  using x = tensor(HOST, { device })
  using y = x.add(1)
  using first = y.slice([0], [1])
  await first.data()
}
await after(2000)
globalThis.gc!()
const before = process.memoryUsage.rss()

const kept = Array.from({ length: TENSORS }, (_, i) => tensor(HOST, { device }).add(i))
await device.sync()
const filled = process.memoryUsage.rss() - before
lose()
await device.sync().catch(() => {})
let left = filled
const deadline = performance.now() + PATIENCE_MS
while (left > NOISE && performance.now() < deadline) {
  await after(50)
  globalThis.gc!()
  left = process.memoryUsage.rss() - before
}
// What is named here has not been collected meanwhile.
console.log(JSON.stringify({ filled, left, tensors: kept.length, words: HOST.length }))
