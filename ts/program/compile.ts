/**
 * `compile`: a function of tensors that is recorded once for each signature and then run as one program: forward,
 * backward, accumulation and optimiser together, planned as a whole, with one native call for each run. What a recording
 * notes is `trace.ts`, what a run does `signature.ts`; here is which program a call means, and how many there may be.
 */

import { recording } from '../autograd/tape.ts'
import type { ProgramInfo } from '../backend/backend.ts'
import { type Names, checkOptions, expected } from '../errors.ts'
import { spanEnd, spanStart } from '../profile/spans.ts'
import { Scalar } from '../scalar.ts'
import { collecting, isThenable } from '../scope.ts'
import { Arguments, type Leaves } from './arguments.ts'
import { Signature } from './signature.ts'
import { Trace } from './trace.ts'
import { setTracing, tracing } from './tracing.ts'

/** Programs that a compiled function keeps; the one that has not been run for the longest goes first. */
const MOST_SIGNATURES = 64

/** Programs after which a warning says so: shapes may change from call to call. */
const MANY_SIGNATURES = 32

/** One program of a compiled function. */
export interface SignatureStats {
  /** The arguments that it was recorded with: `f32 [32, 784], i32 [32]`. */
  readonly signature: string
  /** How often it has been run. */
  readonly runs: number
  /** Instructions of the program. */
  readonly instructions: number
  /** Milliseconds that recording took, planning included. */
  readonly recordMilliseconds: number
  /** What the device says of its plan; `null` for a function that computes nothing. */
  readonly plan: ProgramInfo | null
}

/** What a compiled function has done so far. */
export interface CompileStats {
  /** Calls. */
  readonly calls: number
  /** Times that the function has been recorded. */
  readonly recordings: number
  /** Programs that have been dropped: there were too many, or a tensor that they used had gone. */
  readonly dropped: number
  /** The programs that there are, the last used first. */
  readonly signatures: readonly SignatureStats[]
}

/** Options of {@link compile}. */
export interface CompileOptions {
  /** For texts. Default: the function's. */
  readonly name?: string
}

/** A function that runs as one program. */
export interface Compiled<A extends readonly unknown[], R> {
  (...args: A): R
  /** What it has done so far. */
  stats(): CompileStats
  /** Forgets all programs and frees their memory; calls record anew. */
  clear(): void
}

/** One program with what it was recorded for. */
interface Entry {
  readonly args: Arguments
  readonly recording: boolean
  readonly proxies: readonly Scalar[]
  readonly signature: Signature
  readonly milliseconds: number
}

/**
 * Compiles a function. Its first call with a signature (shapes, dtypes, device and `requiresGrad` of the tensors among the
 * arguments, and everything else they contain) records what it does, without computing; this and every later call run
 * the program. A whole training step may be compiled: gradients, running counts and optimiser state live on.
 *
 * - The function must be synchronous, and runs only to be recorded: read nothing in it, and change nothing outside but
 *   parameters, gradients and optimisers. Plain numbers are constants; use {@link scalar} for those that change.
 * - It is recorded anew when something that it used has changed: fields of modules it went through (`training`, layers,
 *   parameters), `requiresGrad`, whether there is a gradient to add to.
 * - Results are fresh tensors. Gradients do not flow back through them: call `backward()` inside.
 * - At most 64 programs are kept; from 32 on there is a warning.
 *
 * @param fn takes and gives tensors, numbers, strings, booleans, and arrays and plain objects of them
 * @throws `ERR_TRACE` for what cannot be done while recording, such as waiting; `ERR_ARGUMENT` when `fn` takes or gives
 * something else; whatever `fn` throws
 *
 * @example
 * ```ts
 * import { compile, manualSeed, nn, optim, rand, type Tensor } from 'tilegrad'
 * manualSeed(1)
 * const model = new nn.Sequential(new nn.Linear(4, 16, { activation: 'tanh' }), new nn.Linear(16, 1))
 * const optimizer = new optim.AdamW(model.parameters(), { lr: 1e-2 })
 * const step = compile((x: Tensor, y: Tensor) => {
 *   optimizer.zeroGrad()
 *   const loss = model.forward(x).sub(y).square().mean()
 *   loss.backward()
 *   optimizer.step()
 *   return loss
 * })
 * const x = rand([32, 4])
 * const y = x.sum(1, { keepDims: true })
 * const first = await step(x, y).item()
 * for (let i = 0; i < 100; i++) step(x, y).dispose()
 * console.log((await step(x, y).item()) < first / 10) // true
 * ```
 */
export function compile<A extends readonly unknown[], R>(
  fn: (...args: A) => R,
  options: CompileOptions = {},
): Compiled<A, R> {
  if (typeof fn !== 'function') throw expected('compile: fn', 'a function', fn)
  checkOptions('compile', options, { name: true } satisfies Names<CompileOptions>)
  const { name = fn.name || 'anonymous' } = options
  if (typeof name !== 'string') throw expected('compile: name', 'a string', name)
  const programs = new Programs(fn as unknown as (...args: unknown[]) => unknown, name)
  const compiled = (...args: A): R => programs.call(args) as R
  Object.defineProperty(compiled, 'name', { value: name })
  return Object.assign(compiled, { stats: () => programs.stats(), clear: () => programs.clear() })
}

/** The programs of one function. */
class Programs {
  readonly #fn: (...args: unknown[]) => unknown
  readonly #name: string
  /** The last used first. */
  #entries: Entry[] = []
  #calls = 0
  #recordings = 0
  #dropped = 0

  constructor(fn: (...args: unknown[]) => unknown, name: string) {
    this.#fn = fn
    this.#name = name
  }

  call(args: readonly unknown[]): unknown {
    // Inside another recording it is part of that one.
    if (tracing() !== null) return this.#fn(...args)
    this.#calls++
    const start = spanStart()
    const leaves: Leaves = { tensors: [], scalars: [] }
    const entry = this.#find(args, leaves) ?? this.#record(args, leaves)
    entry.proxies.forEach((proxy, i) => (proxy.source = leaves.scalars[i]!))
    const result = entry.signature.run(leaves.tensors)
    if (start > 0) spanEnd({ kind: 'call', name: this.#name, detail: String(entry.args), start })
    return result
  }

  stats(): CompileStats {
    return {
      calls: this.#calls,
      recordings: this.#recordings,
      dropped: this.#dropped,
      signatures: this.#entries.map(({ args, signature, milliseconds }) => ({
        signature: String(args),
        runs: signature.runs,
        instructions: signature.instructions,
        recordMilliseconds: milliseconds,
        plan: signature.info,
      })),
    }
  }

  clear(): void {
    for (const { signature } of this.#entries) signature.drop()
    this.#dropped += this.#entries.length
    this.#entries = []
  }

  /** The program for these arguments, which are taken apart into `leaves`. */
  #find(args: readonly unknown[], leaves: Leaves): Entry | null {
    for (let i = 0; i < this.#entries.length; i++) {
      const entry = this.#entries[i]!
      leaves.tensors.length = 0
      leaves.scalars.length = 0
      if (entry.recording !== recording() || !entry.args.match(args, leaves)) continue
      const fit = entry.signature.fits(leaves.tensors)
      if (fit === 'no') continue
      if (fit === 'never') {
        this.#entries.splice(i--, 1)
        this.#drop(entry)
        continue
      }
      if (i > 0) {
        this.#entries.splice(i, 1)
        this.#entries.unshift(entry)
      }
      return entry
    }
    return null
  }

  #record(args: readonly unknown[], leaves: Leaves): Entry {
    const start = performance.now()
    leaves.tensors.length = 0
    leaves.scalars.length = 0
    const forms = new Arguments(args, leaves)
    const proxies = leaves.scalars.map((scalar) => {
      const proxy = new Scalar(0)
      proxy.source = scalar
      return proxy
    })
    const signature = this.#trace(forms, leaves, proxies)
    const entry = { args: forms, recording: recording(), proxies, signature, milliseconds: performance.now() - start }
    spanEnd({ kind: 'trace', name: this.#name, detail: String(forms), start })
    this.#recordings++
    this.#entries.unshift(entry)
    if (this.#entries.length > MOST_SIGNATURES) this.#drop(this.#entries.pop()!)
    if (this.#entries.length === MANY_SIGNATURES) this.#warn()
    return entry
  }

  #trace(forms: Arguments, leaves: Leaves, scalars: readonly Scalar[]): Signature {
    const trace = new Trace(this.#name, leaves.tensors)
    let signature: Signature | undefined
    setTracing(trace)
    try {
      const [result] = collecting(() => this.#fn(...forms.withLeaves({ tensors: trace.proxies, scalars })))
      if (isThenable(result)) {
        // What it waits for is refused too, and nobody is going to hear of it.
        Promise.resolve(result).catch(() => undefined)
        throw trace.refusal('waiting', 'compile a synchronous function, and read its results outside')
      }
      trace.check()
      trace.checkFields()
      signature = new Signature(trace, result, leaves.tensors, `${this.#name}(${forms.toString()})`)
      return signature
    } finally {
      setTracing(null)
      trace.end()
      if (signature === undefined) trace.drop()
    }
  }

  #drop({ signature }: Entry): void {
    signature.drop()
    this.#dropped++
  }

  #warn(): void {
    process.emitWarning(
      `compile(${this.#name}) has recorded ${MANY_SIGNATURES} different programs, the last for (${String(this.#entries[0]!.args)}). If shapes change from call to call, pad them to a few sizes; numbers that change should be scalar(). Beyond ${MOST_SIGNATURES}, programs are dropped and recorded anew.`,
      { type: 'TilegradWarning', code: 'TILEGRAD_COMPILE' },
    )
  }
}
