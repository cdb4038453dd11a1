/**
 * Child processes for what only processes show: exit codes, signals, leaks, what a loader finds. A child has a deadline
 * and is killed when it passes; a test then sees `timedOut` and what had been printed. Children are TypeScript files
 * run unbuilt like the tests themselves.
 */

import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'

/** How a child ended. */
export interface Ended {
  /** Exit code; `null` when a signal ended it. */
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
  readonly timedOut: boolean
  readonly milliseconds: number
  /** Since the child printed {@link RunOptions.mark}; `Infinity` when it never did. */
  readonly millisecondsSinceMark: number
}

/** Options of {@link run}. */
export interface RunOptions {
  readonly args?: readonly string[]
  /** Default 20 s. */
  readonly deadlineMs?: number
  readonly nodeArguments?: readonly string[]
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>
  /** Text from which on {@link Ended.millisecondsSinceMark} counts. */
  readonly mark?: string
  /** Sends a signal when the child prints a line that contains `text`. */
  readonly signalAt?: { readonly text: string; readonly signal: NodeJS.Signals }
}

const LOADER = ['--import', import.meta.resolve('@oxc-node/core/register'), '--enable-source-maps']

/**
 * Runs a TypeScript file in a process of its own.
 *
 * @param file URL of the file, as `new URL('child.ts', import.meta.url)`
 */
export function run(file: URL, options: RunOptions = {}): Promise<Ended> {
  const { args = [], deadlineMs = 20_000, nodeArguments = [], env = {}, mark, signalAt } = options
  const started = performance.now()
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...LOADER, ...nodeArguments, fileURLToPath(file), ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      // What ava and coverage tools put there is not for children.
      env: { ...process.env, NODE_OPTIONS: '', NODE_ENV: '', ...env },
    })
    let stdout = ''
    let stderr = ''
    let signalled = false
    let timedOut = false
    let marked = Infinity
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
      if (marked === Infinity && mark !== undefined && stdout.includes(mark)) marked = performance.now()
      if (signalAt !== undefined && !signalled && stdout.includes(signalAt.text)) {
        signalled = true
        child.kill(signalAt.signal)
      }
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
    const timer = setTimeout(() => {
      timedOut = true
      child.kill('SIGKILL')
    }, deadlineMs)
    child.on('error', reject)
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      const now = performance.now()
      const millisecondsSinceMark = marked === Infinity ? Infinity : now - marked
      resolve({ code, signal, stdout, stderr, timedOut, milliseconds: now - started, millisecondsSinceMark })
    })
  })
}

/** Asserts how a child ended, with what it printed in the message. */
export function endedWith(
  t: ExecutionContext,
  child: Ended,
  expected: { code?: number; signal?: NodeJS.Signals },
  what = '',
): void {
  const wanted = {
    timedOut: false,
    code: expected.signal === undefined ? (expected.code ?? 0) : null,
    signal: expected.signal ?? null,
  }
  const { timedOut, code, signal } = child
  t.deepEqual({ timedOut, code, signal }, wanted, `${what}\n${child.stdout.slice(-4000)}\n${child.stderr.slice(-4000)}`)
}

/** The JSON on the last line that a child printed. */
export function lastJson(child: Ended): unknown {
  return JSON.parse(child.stdout.trim().split('\n').at(-1)!)
}
