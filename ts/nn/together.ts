/**
 * Batch normalisation of all micro-batches of a window together, as if they were one batch: synchronised BatchNorm, with
 * micro-batches in the place of devices. Every layer takes part with the statistics of each micro-batch and gets those of
 * all in return; on the way back the same happens to the sums of the gradients. What it gets does not exist yet when the
 * first micro-batch is recorded: these are late values of the recording (`program/late.ts`), which are defined at the end
 * of the window. So there is a window only inside a compiled function.
 */

import { noGrad } from '../autograd/tape.ts'
import { TilegradError } from '../errors.ts'
import { type Statistics, type Sums, merged } from '../ops/batch-statistics.ts'
import { add } from '../ops/elementwise.ts'
import { tracing } from '../program/tracing.ts'
import { Tensor } from '../tensor.ts'

/** What a layer does with the statistics of the whole window. */
export type Settle = (window: Statistics) => void

/** One call of a layer in each of the micro-batches. */
class Meeting {
  readonly #settle: Settle
  readonly #parts: Statistics[] = []
  readonly #sums: Sums[] = []
  readonly #totals: Statistics
  #sumTotals: Sums | null = null

  constructor(like: Statistics, settle: Settle) {
    this.#settle = settle
    this.#totals = { count: late(like.count), mean: late(like.mean), m2: late(like.m2) }
  }

  /** Takes the statistics of one micro-batch; gives those of all. */
  join(part: Statistics): Statistics {
    this.#parts.push({ count: part.count.alias(), mean: part.mean.alias(), m2: part.m2.alias() })
    return this.#totals
  }

  /** Takes the sums of the gradient of one micro-batch; gives those of all. */
  exchange(sums: Sums): Sums {
    this.#sums.push([sums[0].alias(), sums[1].alias()])
    this.#sumTotals ??= [late(sums[0]), late(sums[1])]
    return this.#sumTotals
  }

  /** All have taken part. */
  end(): void {
    const all = this.#parts.reduce(merged)
    for (const name of ['count', 'mean', 'm2'] as const) define(this.#totals[name], all[name])
    this.#settle(all)
    if (this.#sumTotals === null) return
    const totals = noGrad(() => this.#sums.reduce((a, b) => [add(a[0], b[0]), add(a[1], b[1])]))
    define(this.#sumTotals[0], totals[0])
    define(this.#sumTotals[1], totals[1])
  }
}

/** The micro-batches of one window. */
export class Together {
  readonly #meetings = new Map<object, Meeting[]>()
  /** How often each layer has been called in the micro-batch at hand. */
  #calls = new Map<object, number>()

  /** Begins the next micro-batch. */
  next(): void {
    this.#calls = new Map()
  }

  /** The meeting of this call of a layer with the same call in other micro-batches. */
  meeting(layer: object, like: Statistics, settle: Settle): Meeting {
    const call = this.#calls.get(layer) ?? 0
    this.#calls.set(layer, call + 1)
    const meetings = this.#meetings.get(layer) ?? []
    this.#meetings.set(layer, meetings)
    return (meetings[call] ??= new Meeting(like, settle))
  }

  /** Everything of the window has been recorded, gradients included. */
  end(): void {
    for (const meetings of this.#meetings.values()) for (const meeting of meetings) meeting.end()
  }
}

let open: Together | null = null

/** The window that is being recorded, if any. */
export function together(): Together | null {
  return open
}

/** Records a window. `body` calls `next()` before each micro-batch. */
export function inWindow(body: (window: Together) => void): void {
  if (open !== null)
    throw new TilegradError('ERR_UNSUPPORTED', 'GradientAccumulator.window: a window cannot be part of another window')
  const window = new Together()
  open = window
  try {
    body(window)
    window.end()
  } finally {
    open = null
  }
}

function late(like: Tensor): Tensor {
  // Of no scope: other micro-batches need it, too.
  return new Tensor(like.device, tracing()!.late(like.value), false)
}

function define(placeholder: Tensor, meant: Tensor): void {
  tracing()!.define(placeholder.value, meant.value)
}
