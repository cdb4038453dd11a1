/**
 * Exact gradient accumulation: micro-batches add the gradients of their *sums* and their counts; at the end of a window
 * the total is divided once by the total count. So unequal micro-batches and partial windows weigh what they should, and
 * the result is the gradient of the one large batch. All of it happens on the device; nothing is read back.
 */

import { noGrad } from '../autograd/tape.ts'
import { type Names, TilegradError, checkOptions, expected } from '../errors.ts'
import { add, clip, greater, isFinite, logicalAnd, mul, reciprocal, where } from '../ops/elementwise.ts'
import { checkSameDtype, sharedDevice } from '../ops/apply.ts'
import { inWindow } from '../nn/together.ts'
import type { Parts } from '../ops/loss/reduction.ts'
import { require } from '../ops/require.ts'
import { SeenLayers } from '../nn/accumulating.ts'
import { clipFactor, gradientNorm } from '../optim/clip.ts'
import type { Optimizer } from '../optim/optimizer.ts'
import { Cell } from '../program/cell.ts'
import { type Compiled, compile } from '../program/compile.ts'
import { checkEach, hostEffect, refuseTracing, takeBack, tracing } from '../program/tracing.ts'
import { checkSynchronous, keep, scope } from '../scope.ts'
import { sameShape, showShape } from '../shape.ts'
import { Tensor } from '../tensor.ts'

/**
 * How micro-batches weigh: `'exact'` adds sums and divides once by the total count; `'knownTotal'` divides each sum by the
 * window's total, given in advance; `'microMean'` takes the mean of their means, as recipes that divide the loss by a
 * number of steps do, where items of small micro-batches count for more.
 */
export type AccumulationMode = 'exact' | 'knownTotal' | 'microMean'

/** What a window has added up: the gradient of each parameter that has one, and the count. */
export interface Window {
  readonly gradients: readonly Tensor[]
  readonly count: Tensor
}

/** Options of {@link GradientAccumulator}. */
export interface AccumulatorOptions {
  /** The window's gradient is shortened to this 2-norm, all parameters together. Default: as it is. */
  readonly clipNorm?: number
  /** Every element of the window's gradient is held within ± this. Not together with `clipNorm`. Default: as it is. */
  readonly clipValue?: number
  /** Default `'exact'`. */
  readonly mode?: AccumulationMode
  /**
   * What to do when the window's gradient is infinite or NaN: `'skip'` (default) changes nothing and says so in `applied`;
   * `'throw'` changes nothing either, and what the step returns fails with `ERR_ARGUMENT` when it is read.
   */
  readonly onNonFinite?: 'skip' | 'throw'
  /**
   * Brings together the windows of several workers: called once per step with what this one has added up, before it is
   * divided, clipped and applied. It gives the sums over all of them, in the same shapes.
   */
  readonly reduce?: (window: Window) => Window
  /** A moving average of the weights that is brought up to date after each step that is applied. */
  readonly ema?: { update(gate: { readonly ok: Tensor }): void }
}

const OPTIONS: Names<AccumulatorOptions> = {
  clipNorm: true,
  clipValue: true,
  mode: true,
  onNonFinite: true,
  reduce: true,
  ema: true,
}

/** What one step did, as tensors of one element: reading them is up to the caller. */
export interface StepResult {
  /** Bool: whether parameters were changed. False when nothing was counted or a gradient was not finite. */
  readonly applied: Tensor
  /** 2-norm of the window's gradient, all parameters together, after division by the count and before clipping. */
  readonly norm: Tensor
  /** Items in the window. */
  readonly count: Tensor
}

/**
 * Adds up the gradients of micro-batches and lets the optimiser step once per window: clipping, the learning rate's
 * schedule and the moving average of the weights see windows, never micro-batches.
 *
 * @example
 * ```ts
 * import { nn, optim, randn, tensor, train } from 'tilegrad'
 * const model = new nn.Linear(4, 3)
 * const acc = new train.GradientAccumulator(new optim.AdamW(model.parameters()), { clipNorm: 1 })
 * for (const targets of [[0, 1, 2], [2, 1]]) {
 *   const logits = model.forward(randn([targets.length, 4]))
 *   acc.add(nn.crossEntropy(logits, tensor(targets, { dtype: 'i32' }), { reduction: 'parts' }))
 * }
 * const { count } = acc.step()
 * console.log(await count.item()) // 5
 * ```
 */
export class GradientAccumulator {
  readonly optimizer: Optimizer
  readonly mode: AccumulationMode
  readonly #options: AccumulatorOptions
  readonly #count = new Cell()
  readonly #layers = new SeenLayers()
  /** What {@link window} has compiled. */
  readonly #windows = new WeakMap<Function, Compiled<[readonly (readonly unknown[])[]], StepResult>>()
  #microBatches = 0
  #total: number | null = null

  /** @throws `ERR_ARGUMENT` for options that are none */
  constructor(optimizer: Optimizer, options: AccumulatorOptions = {}) {
    if (typeof optimizer?.step !== 'function')
      throw expected('GradientAccumulator: optimizer', 'an optimiser', optimizer)
    checkOptions('GradientAccumulator', options, OPTIONS)
    const { clipNorm, clipValue, mode = 'exact', onNonFinite = 'skip', reduce, ema } = options
    if (clipNorm !== undefined) positive('clipNorm', clipNorm)
    if (clipValue !== undefined) positive('clipValue', clipValue)
    if (clipNorm !== undefined && clipValue !== undefined)
      throw expected('GradientAccumulator: options', 'one of clipNorm and clipValue', 'both')
    oneOf('mode', mode, ['exact', 'knownTotal', 'microMean'])
    oneOf('onNonFinite', onNonFinite, ['skip', 'throw'])
    if (reduce !== undefined && typeof reduce !== 'function')
      throw expected('GradientAccumulator: reduce', 'a function', reduce)
    if (ema !== undefined && typeof ema?.update !== 'function')
      throw expected('GradientAccumulator: ema', 'a moving average of weights', ema)
    this.optimizer = optimizer
    this.mode = mode
    this.#options = options
  }

  /** Micro-batches in the window so far. */
  get microBatches(): number {
    refuseTracing('reading the number of micro-batches', 'read it between the calls')
    return this.#microBatches
  }

  /** How many items the window will count, for mode `'knownTotal'`. Set it before the first micro-batch of each window. */
  get total(): number | null {
    return this.#total
  }

  set total(total: number | null) {
    refuseTracing('setting the total of a window', 'set it between the calls')
    if (this.mode !== 'knownTotal')
      throw expected('GradientAccumulator.total', `left alone in mode '${this.mode}', which counts by itself`, total)
    if (total !== null) positive('total', total)
    if (this.#microBatches > 0)
      throw expected('GradientAccumulator.total', 'set before the first micro-batch of a window', total)
    this.#total = total
  }

  /**
   * Runs backward on the sum and counts the items.
   *
   * @param parts sum of the losses and number of items, as losses give with `reduction: 'parts'`
   * @throws `ERR_SHAPE` unless both have one element; `ERR_DTYPE`, `ERR_DEVICE_MISMATCH` when they differ;
   * `ERR_ARGUMENT` in mode `'knownTotal'` without a {@link total}; `ERR_UNSUPPORTED`
   * after a `BatchNorm` with `accumulation: 'sync'`, which has to see all micro-batches at once
   */
  add(parts: Parts): void {
    // A tensor has a method named `sum`.
    if (parts instanceof Tensor)
      throw new TilegradError(
        'ERR_ARGUMENT',
        "GradientAccumulator.add: takes the sum and the count of a loss, not one tensor; use reduction: 'parts'",
      )
    const { sum, count } = parts ?? {}
    for (const [name, t] of Object.entries({ sum, count })) {
      if (!(t instanceof Tensor)) {
        throw expected(`GradientAccumulator.add: ${name}`, "a tensor; use a loss with reduction: 'parts'", t)
      }
      if (t.size !== 1)
        throw new TilegradError(
          'ERR_SHAPE',
          `GradientAccumulator.add: ${name} has shape ${showShape(t.shape)}, not one element`,
        )
    }
    checkSameDtype('GradientAccumulator.add', sum, count)
    sharedDevice('GradientAccumulator.add', sum, count)
    this.#layers.see('GradientAccumulator.add', this.optimizer.parameters)
    this.#backward(sum, count)
    noGrad(() => {
      const before = this.#count.tensor
      this.#count.tensor = keep(before === null ? count.detach() : add(before, count))
      before?.dispose()
    })
    hostEffect(() => this.#counted(this.#microBatches + 1))
  }

  /**
   * A whole window in one native call: all micro-batches, and the step. In it every BatchNorm with `accumulation: 'sync'`
   * normalises all micro-batches together, so that the result is that of the one large batch, whatever their sizes;
   * its running statistics change once. `fn` is compiled: see {@link compile} for what it may do, and give the same
   * function each time, because it is recorded once for each function and shapes.
   *
   * @param microBatches arguments of `fn`, one list for each micro-batch
   * @param fn forward pass and loss of one micro-batch, with `reduction: 'parts'`
   * @throws `ERR_ARGUMENT` for no micro-batch, and when some have been added to this window before; otherwise as
   * {@link add} and {@link step}
   *
   * @example
   * ```ts
   * import { nn, optim, randn, type Tensor, train } from 'tilegrad'
   * const model = new nn.Sequential(new nn.Linear(4, 8), new nn.BatchNorm(8, { accumulation: 'sync' }), new nn.Linear(8, 1))
   * const acc = new train.GradientAccumulator(new optim.SGD(model.parameters(), { lr: 0.1 }))
   * const micro = (x: Tensor, y: Tensor) => nn.mse(model.forward(x), y, { reduction: 'parts' })
   * const window = [5, 2, 1].map((rows): [Tensor, Tensor] => [randn([rows, 4]), randn([rows, 1])])
   * const { count } = acc.window(window, micro)
   * console.log(await count.item()) // 8
   * ```
   */
  window<const MicroBatches extends readonly (readonly unknown[])[]>(
    microBatches: MicroBatches,
    // What it takes is inferred from the list alone: rows of a loader are no tuples, and may be given to a function of two.
    fn: (...microBatch: MicroBatches[number]) => Parts,
  ): StepResult {
    const given: unknown = microBatches
    if (!Array.isArray(given) || given.length === 0 || !given.every(Array.isArray))
      throw expected('GradientAccumulator.window: microBatches', 'a list of lists of arguments', given)
    if (typeof fn !== 'function') throw expected('GradientAccumulator.window: fn', 'a function', fn)
    const each = fn
    if (tracing() !== null) return this.#window(microBatches, each)
    let compiled = this.#windows.get(fn)
    if (compiled === undefined) {
      const all = (batches: readonly (readonly unknown[])[]): StepResult => this.#window(batches, each)
      this.#windows.set(fn, (compiled = compile(all, { name: `window of ${fn.name || 'anonymous'}` })))
    }
    return compiled(microBatches)
  }

  #window(microBatches: readonly (readonly unknown[])[], fn: (...microBatch: readonly unknown[]) => Parts): StepResult {
    if (this.#count.tensor !== null) {
      throw new TilegradError(
        'ERR_ARGUMENT',
        'GradientAccumulator.window: there are micro-batches in this window already; step() or flush() first',
      )
    }
    inWindow((window) => {
      for (const microBatch of microBatches) {
        window.next()
        const parts = fn(...microBatch)
        checkSynchronous('GradientAccumulator.window', parts)
        this.add(parts)
      }
    })
    return this.step()
  }

  #backward(sum: Tensor, count: Tensor): void {
    if (this.mode === 'exact') return sum.backward()
    scope(() => {
      const share =
        this.mode === 'microMean'
          ? noGrad(() => where(greater(count, 0), reciprocal(count), 0))
          : number(this.#inverseTotal, count)
      sum.backward({ gradient: share.reshape(sum.shape) })
    })
  }

  readonly #inverseTotal = (): number => {
    if (this.#total === null) {
      throw new TilegradError(
        'ERR_ARGUMENT',
        "GradientAccumulator.add: mode 'knownTotal' needs the number of items of the window; set total before its first micro-batch",
      )
    }
    return 1 / this.#total
  }

  /**
   * Divides by the count, clips, lets the optimiser step, and starts a new window. A window may have any number of
   * micro-batches. With a count of 0 or a gradient that is not finite nothing changes: not the parameters, not the
   * optimiser's state, not its step counters, not the moving average.
   *
   * @throws `ERR_ARGUMENT` when nothing has been added; see {@link flush}
   */
  step(): StepResult {
    const result = this.flush()
    if (result === null)
      throw new TilegradError('ERR_ARGUMENT', 'GradientAccumulator.step: nothing has been added since the last step')
    return result
  }

  /** {@link step} for what is left at the end of the data; `null` when there is nothing. */
  flush(): StepResult | null {
    const added = this.#count.tensor
    if (added === null) return null
    const parameters = this.#parameters(added)
    const before = parameters.map(({ grad }) => grad!)
    const result = noGrad(() =>
      scope(() => {
        const { gradients, count } = this.#reduced({ gradients: before, count: added })
        const total = gradientNorm('GradientAccumulator', count, gradients, 2)
        const finite = isFinite(total)
        const applied = logicalAnd(greater(count, 0), finite)
        const mean = this.#scale(count)
        const norm = mean === null ? total : mul(total, mean)
        const { values, scale } = this.#clipped(gradients, mean, norm)
        withGradients(before, values, () => this.optimizer.step({ ...(scale !== null && { scale }), ok: applied }))
        this.#layers.finish(applied)
        this.#options.ema?.update({ ok: applied })
        const results = { applied, norm, count: count.detach() }
        return this.#options.onNonFinite === 'throw' ? required(results, finite) : results
      }),
    )
    this.optimizer.zeroGrad()
    added.dispose()
    this.#count.tensor = null
    hostEffect(() => this.#counted(0, null))
    return result
  }

  /** How far the window is, and its total. */
  #counted(microBatches: number, total: number | null = this.#total): void {
    const before = [this.#microBatches, this.#total] as const
    this.#microBatches = microBatches
    this.#total = total
    takeBack(() => ([this.#microBatches, this.#total] = before))
  }

  /** The parameters that the window has gradients for. One norm and one count decide over all of it, so it lives in one place. */
  #parameters(count: Tensor): Tensor[] {
    return this.optimizer.parameters.filter(({ grad }) => {
      if (grad === null || grad.disposed) return false
      sharedDevice('GradientAccumulator', count, grad)
      checkSameDtype('GradientAccumulator', count, grad)
      return true
    })
  }

  /** The sums over all workers. */
  #reduced(window: Window): Window {
    const { reduce } = this.#options
    if (reduce === undefined) return window
    const all = reduce(window)
    checkSynchronous('GradientAccumulator: reduce', all)
    const { gradients, count } = all ?? {}
    const same = (a: unknown, b: Tensor): boolean =>
      a instanceof Tensor && a.dtype === b.dtype && a.device === b.device && sameShape(a.shape, b.shape)
    if (
      !Array.isArray(gradients) ||
      gradients.length !== window.gradients.length ||
      !window.gradients.every((g, i) => same(gradients[i], g)) ||
      !same(count, window.count)
    ) {
      throw new TilegradError(
        'ERR_SHAPE',
        'GradientAccumulator: reduce has to give { gradients, count } with the shapes, dtypes and device that it was given',
      )
    }
    return all
  }

  /** What the sums are multiplied by to make a mean; `null` for 1. */
  #scale(count: Tensor): Tensor | null {
    switch (this.mode) {
      case 'exact':
        return reciprocal(where(greater(count, 0), count, 1))
      case 'knownTotal':
        return null
      case 'microMean':
        return number(() => 1 / this.#microBatches, count)
    }
  }

  /** The gradients that the optimiser is to use, and what it still has to multiply them by; `null` for 1. */
  #clipped(
    gradients: readonly Tensor[],
    mean: Tensor | null,
    norm: Tensor,
  ): { readonly values: readonly Tensor[]; readonly scale: Tensor | null } {
    const { clipNorm, clipValue } = this.#options
    if (clipValue !== undefined) {
      const values = gradients.map((g) => clip(mean === null ? g : mul(g, mean), -clipValue, clipValue))
      return { values, scale: null }
    }
    if (clipNorm === undefined) return { values: gradients, scale: mean }
    const factor = clipFactor(norm, clipNorm)
    return { values: gradients, scale: mean === null ? factor : mul(mean, factor) }
  }
}

/** Lets gradients have other values for a step. When it throws, they have their own again: the window is as it was. */
function withGradients(gradients: readonly Tensor[], values: readonly Tensor[], step: () => void): void {
  const changed = gradients.flatMap((gradient, i) => (values[i] === gradient ? [] : [[gradient, values[i]!] as const]))
  const own = changed.map(([gradient]) => gradient.value.retain())
  for (const [gradient, { value }] of changed) gradient.replaceValue(value.retain())
  try {
    step()
  } catch (error) {
    changed.forEach(([gradient], i) => gradient.replaceValue(own[i]!.retain()))
    throw error
  } finally {
    for (const value of own) value.release()
  }
}

/** A number that is asked for now, or in each run of a compiled function, as a tensor of one element. */
function number(give: () => number, { device, dtype }: Tensor): Tensor {
  checkEach(give)
  return new Tensor(device, device.recorder.emit('full', [], { dtype, shape: [] }, [give]))
}

/** Results that fail when they are read, unless the gradient was finite. */
function required({ applied, norm, count }: StepResult, finite: Tensor): StepResult {
  const reason = 'GradientAccumulator: a gradient of the window is not finite'
  return {
    applied: require(applied, finite, reason),
    norm: require(norm, finite, reason),
    count: require(count, finite, reason),
  }
}

function positive(option: string, x: unknown): void {
  if (typeof x !== 'number' || !(x > 0 && Number.isFinite(x)))
    throw expected(`GradientAccumulator: ${option}`, 'a finite number above 0', x)
}

function oneOf(option: string, given: unknown, allowed: readonly string[]): void {
  if (!allowed.includes(given as string))
    throw expected(`GradientAccumulator: ${option}`, allowed.map((name) => `'${name}'`).join(' or '), given)
}
