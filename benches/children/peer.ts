/** A peer in a child process that waits on a message, idle, while others take their turns. */

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Contestant } from '../measure.ts'
import type { Norm } from '../ours-norms.ts'
import type { Answer, Hello, Request } from './serve.ts'

/** The files beside this one that run a peer. */
export const CHILDREN = ['onnxruntime', 'tfjs', 'jax', 'naive', 'jax-wasm'] as const

/** A running peer, or the reason why there is none. */
export class ChildPeer {
  readonly #child: ChildProcess
  readonly #name: string
  /** What it runs on. */
  readonly description: string

  private constructor(name: string, child: ChildProcess, description: string) {
    this.#name = name
    this.#child = child
    this.description = description
  }

  /** Starts the peer of `children/<name>.ts`; the reason where it cannot run here. */
  static async start(name: (typeof CHILDREN)[number]): Promise<ChildPeer | { reason: string }> {
    // What its libraries print is theirs; what goes wrong comes as a message.
    const child = fork(fileURLToPath(new URL(`${name}.ts`, import.meta.url)), {
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    })
    const hello = await answerOf<Hello>(child)
    return 'reason' in hello ? hello : new ChildPeer(name, child, hello.description)
  }

  /** A contestant that does one of the peer's works. */
  contestant(work: 'gemm' | 'gemmHost' | 'mlp' | Norm, sizes: readonly number[]): Contestant {
    const ask = async (command: Request['command'], calls: number) => {
      this.#child.send({ command, work, sizes, calls } satisfies Request)
      const answer = await answerOf<Answer>(this.#child)
      if ('reason' in answer) throw new Error(`${this.#name}: ${answer.reason}`)
      return answer.value
    }
    return {
      name: this.#name,
      run: async (calls) => (await ask('run', calls)) as number,
      check: async () => (await ask('check', 1)) as readonly number[],
    }
  }

  /** Ends the child. */
  stop(): void {
    if (this.#child.connected) this.#child.disconnect()
  }
}

/** The next message, or why there will be none. */
async function answerOf<T>(child: ChildProcess): Promise<T | { reason: string }> {
  const done = new AbortController()
  const { signal } = done
  try {
    return await Promise.race([
      once(child, 'message', { signal }).then(([message]) => message as T),
      once(child, 'exit', { signal }).then(([code, killed]) => ({ reason: `ended with ${killed ?? `code ${code}`}` })),
    ])
  } finally {
    done.abort()
  }
}
