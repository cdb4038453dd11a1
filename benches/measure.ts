/**
 * Timing that survives a noisy machine: contestants take turns within one run, each turn long enough to matter, and the
 * best of all turns counts. A contestant times itself and gives seconds per call; synchronisation is inside its timing.
 */

import { cpus } from 'node:os'
import { execFileSync } from 'node:child_process'

/** Somebody who does the work `calls` times and says how long one call took. */
export interface Contestant {
  readonly name: string
  /** Seconds per call. */
  run(calls: number): Promise<number> | number
  /** A few numbers of the result, compared between contestants before anything is timed. */
  check?(): Promise<readonly number[]> | readonly number[]
}

/** The same contestant beside others whose results are not the same: a backward pass beside its forward pass. */
export function unchecked(contestant: Contestant): Contestant {
  return { name: contestant.name, run: (calls) => contestant.run(calls) }
}

/** Seconds per call of each contestant, best of all turns. */
export type Result = Readonly<Record<string, number>>

/** How long one turn should take, seconds. */
const TURN = 0.12

/**
 * Between turns, milliseconds: threads of BLAS and onnxruntime spin for a while after their work, and would take a core
 * from whoever comes next.
 */
const PAUSE_MS = 120

/**
 * Lets contestants take turns.
 *
 * @param rounds how many turns each has; default 7
 * @throws when two results differ by more than 1e-3 of their scale
 */
export async function compare(contestants: readonly Contestant[], rounds = 7): Promise<Result> {
  await checkEqual(contestants)
  const calls = new Map<Contestant, number>()
  for (const c of contestants) {
    await c.run(3)
    const once = await c.run(3)
    calls.set(c, Math.max(1, Math.min(20_000, Math.round(TURN / once))))
  }
  const best: Record<string, number> = {}
  for (let round = 0; round < rounds; round++) {
    for (const c of contestants) {
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
      const turn = calls.get(c)!
      // Caches and clocks warm up within a call that fills a turn.
      if (turn > 2) await c.run(2)
      const seconds = await c.run(turn)
      best[c.name] = Math.min(best[c.name] ?? Infinity, seconds)
    }
  }
  return best
}

async function checkEqual(contestants: readonly Contestant[]): Promise<void> {
  let first: { name: string; numbers: readonly number[] } | undefined
  for (const c of contestants) {
    const numbers = await c.check?.()
    if (numbers === undefined) continue
    if (first === undefined) {
      first = { name: c.name, numbers }
      continue
    }
    const scale = Math.max(...first.numbers.map(Math.abs), 1e-30)
    first.numbers.forEach((v, i) => {
      if (!(Math.abs(v - numbers[i]!) <= 1e-3 * scale)) {
        throw new Error(`results differ: ${first!.name} gives ${v}, ${c.name} ${numbers[i]} at position ${i}`)
      }
    })
  }
}

/** Times `calls` calls of an asynchronous body as a whole. */
export async function time(calls: number, body: () => Promise<void> | void): Promise<number> {
  const started = process.hrtime.bigint()
  await body()
  return Number(process.hrtime.bigint() - started) / 1e9 / calls
}

/** The same numbers in every language: multiples of 0.001 in [−0.5, 0.5), rounded to f32. */
export function numbers(length: number, step: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length }, (_, i) => ((i * step) % 1000) / 1000 - 0.5)
}

/** Sixteen numbers spread over a result, or all of a shorter one. */
export function sample(all: ArrayLike<number>): number[] {
  const stride = Math.max(1, Math.floor(all.length / 16))
  return Array.from({ length: Math.min(16, all.length) }, (_, i) => all[i * stride]!)
}

/** What every figure has to carry: machine and commit. */
export function host(): { cpu: string; cores: number; node: string; commit: string } {
  let commit = 'unknown'
  try {
    commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim()
  } catch {
    // Not a checkout: figures then say so.
  }
  return { cpu: cpus()[0]?.model ?? 'unknown', cores: cpus().length, node: process.version, commit }
}
