/** NumPy in a child process that waits on a pipe, idle, while others take their turns. */

import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Contestant } from './measure.ts'
import type { Norm } from './ours-norms.ts'

/** The works of `peer_numpy.py`. */
export type Work = 'gemm' | 'linear' | Norm | `${Norm}Backward` | 'mlp'

/** A running NumPy, or the reason why there is none. */
export class Numpy {
  readonly version: string
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>

  private constructor(child: ChildProcess, lines: AsyncIterator<string>, version: string) {
    this.#child = child
    this.#lines = lines
    this.version = version
  }

  /** Starts Python with `threads` BLAS threads; `undefined` where there is no python3 with NumPy. */
  static async start(threads: number): Promise<Numpy | undefined> {
    const child = spawn('python3', [fileURLToPath(new URL('peer_numpy.py', import.meta.url))], {
      stdio: ['pipe', 'pipe', 'ignore'],
      env: { ...process.env, OPENBLAS_NUM_THREADS: String(threads), OMP_NUM_THREADS: String(threads) },
    })
    const started = await new Promise<boolean>((resolve) => {
      child.once('error', () => resolve(false))
      child.once('spawn', () => resolve(true))
    })
    if (!started) return undefined
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    const hello = await lines.next()
    if (hello.done === true) return undefined
    return new Numpy(child, lines, (JSON.parse(hello.value) as { numpy: string }).numpy)
  }

  /** A contestant that does one of the works of `peer_numpy.py`. */
  contestant(work: Work, sizes: readonly number[]): Contestant {
    return {
      name: 'numpy',
      run: async (calls) => (await this.#ask({ command: 'run', work, sizes, calls })) as number,
      check: async () => (await this.#ask({ command: 'check', work, sizes })) as number[],
    }
  }

  async #ask(request: object): Promise<unknown> {
    this.#child.stdin!.write(`${JSON.stringify(request)}\n`)
    const line = await this.#lines.next()
    if (line.done === true) throw new Error('numpy ended; run benches/peer_numpy.py by hand to see why')
    return JSON.parse(line.value)
  }

  /** Ends the child. */
  stop(): void {
    this.#child.stdin!.end()
  }
}
