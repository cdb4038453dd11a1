/**
 * The child's side of a peer: a process of its own, because waiting for a GPU spins in Dawn, and because a peer
 * that aborts must not take the others along. Works are made on first use and kept, so that operands stay resident.
 */

import { readFileSync } from 'node:fs'
import { time } from '../measure.ts'

/** What a peer can be asked to do again and again. */
export interface Work {
  /** How many calls it can only do at once; `calls` is then a multiple of it. Default 1. */
  readonly unit?: number
  /** Does the work `calls` times and waits until the device has finished. */
  run(calls: number): Promise<void>
  /** A few numbers of the result. */
  check(): Promise<readonly number[]>
}

/** Makers of works by name; the sizes are theirs to know. */
export type Works = Readonly<Record<string, (...sizes: readonly number[]) => Work | Promise<Work>>>

/** What a child is asked. */
export interface Request {
  readonly command: 'run' | 'check'
  readonly work: string
  readonly sizes: readonly number[]
  readonly calls: number
}

/** What a child says first: what it runs on, or why it cannot. */
export type Hello = { readonly description: string } | { readonly reason: string }

/** What a child answers: seconds per call, or the numbers to check, or what went wrong. */
export type Answer = { readonly value: number | readonly number[] } | { readonly reason: string }

/** Starts the peer and answers requests until the parent lets go. */
export async function serve(start: () => Promise<{ description: string; works: Works }>): Promise<void> {
  const say = (message: Hello | Answer) => process.send!(message)
  let works: Works
  try {
    const peer = await start()
    works = peer.works
    say({ description: peer.description })
  } catch (error) {
    process.send!({ reason: reasonOf(error) } satisfies Hello, () => process.exit(1))
    return
  }
  const made = new Map<string, Work>()
  const answer = async ({ command, work, sizes, calls }: Request): Promise<Answer> => {
    const key = `${work} ${sizes.join(' ')}`
    const job = made.get(key) ?? (await works[work]!(...sizes))
    made.set(key, job)
    if (command === 'check') return { value: await job.check() }
    const unit = job.unit ?? 1
    const whole = Math.ceil(calls / unit) * unit
    return { value: await time(whole, () => job.run(whole)) }
  }
  process.on('message', (request: Request) => {
    answer(request).then(say, (error) => say({ reason: reasonOf(error) }))
  })
  // No tidying up: destructors of GPU libraries are where processes hang.
  process.on('disconnect', () => process.exit(0))
}

function reasonOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0]!
}

/** The version of a peer that the manifest of the benches asks for. */
export function pinned(name: string): string {
  const manifest = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return (JSON.parse(manifest) as { dependencies: Record<string, string> }).dependencies[name] ?? 'unknown'
}
