/**
 * Learning rates as pure functions of the step: no object that counts, no call to forget. An optimiser asks with the
 * number of steps attempted so far, counted from 0; a step that was gated is counted too. Whoever wants another curve
 * writes a function of the step; these check their settings once, when they are made.
 */

import { expected } from '../errors.ts'

/** A learning rate as a function of the step, counted from 0 by calls of `optimizer.step()`. It must give a finite number ≥ 0. */
export type Schedule = (step: number) => number

/** @internal */
export function atLeastZero(what: string, x: unknown): number {
  if (typeof x !== 'number' || !(x >= 0 && Number.isFinite(x))) throw expected(what, 'a finite number ≥ 0', x)
  return x
}

function wholeSteps(what: string, x: unknown, least: number): number {
  if (!Number.isSafeInteger(x) || (x as number) < least) throw expected(what, `a whole number ≥ ${least}`, x)
  return x as number
}

/** 0: the first step has rate 0. 1: the last step of the warm-up has the full rate. Above, it would be exceeded. */
function startOf(what: string, offset: unknown): number {
  if (typeof offset !== 'number' || !(offset >= 0 && offset <= 1)) throw expected(what, 'a number from 0 to 1', offset)
  return offset
}

/**
 * The same rate at every step.
 *
 * @param base the learning rate
 *
 * @example
 * ```ts
 * import { optim } from 'tilegrad'
 * const lr = optim.sequential([optim.linearWarmup(0.1, 5, 1), optim.constant(0.01)], [5])
 * console.log(lr(4), lr(5)) // 0.1 0.01
 * ```
 */
export function constant(base: number): Schedule {
  atLeastZero('constant: base', base)
  return () => base
}

/**
 * Rises in a straight line for `warmup` steps, then stays: base · (step + offset) / warmup.
 *
 * @param base the learning rate after the warm-up
 * @param warmup steps of the warm-up; with 0 it starts at `base`
 * @param offset 0 to 1, default 0: the very first step has rate 0 and changes nothing. With 1 it has base / warmup
 *
 * @example
 * ```ts
 * import { nn, optim } from 'tilegrad'
 * const model = new nn.Linear(4, 1)
 * const optimizer = new optim.SGD(model.parameters(), { lr: optim.linearWarmup(0.1, 100, 1) })
 * console.log(optimizer.lr) // 0.001
 * ```
 */
export function linearWarmup(base: number, warmup: number, offset = 0): Schedule {
  atLeastZero('linearWarmup: base', base)
  wholeSteps('linearWarmup: warmup', warmup, 0)
  startOf('linearWarmup: offset', offset)
  return (step) => (step < warmup ? (base * (step + offset)) / warmup : base)
}

/**
 * {@link linearWarmup}, then half a period of a cosine from `base` down to `minLr`, which is reached at step `total` and
 * kept from there on.
 *
 * @param base the learning rate after the warm-up
 * @param warmup steps of the warm-up; 0 for none
 * @param total the step at which `minLr` is reached. Not above `warmup`: the warm-up is followed by `minLr`
 * @param minLr the rate in the end, default 0
 * @param offset as for {@link linearWarmup}
 *
 * @example
 * ```ts
 * import { nn, optim } from 'tilegrad'
 * const lr = optim.warmupCosine(1, 10, 100)
 * console.log([0, 5, 10, 55, 100, 190].map((step) => lr(step).toFixed(2)).join(' ')) // 0.00 0.50 1.00 0.50 0.00 0.00
 * const model = new nn.Linear(4, 1)
 * const optimizer = new optim.AdamW(model.parameters(), { lr: optim.warmupCosine(1e-3, 100, 10_000, 1e-5, 1) })
 * ```
 */
export function warmupCosine(base: number, warmup: number, total: number, minLr = 0, offset = 0): Schedule {
  atLeastZero('warmupCosine: base', base)
  wholeSteps('warmupCosine: warmup', warmup, 0)
  wholeSteps('warmupCosine: total', total, 0)
  atLeastZero('warmupCosine: minLr', minLr)
  startOf('warmupCosine: offset', offset)
  return (step) => {
    if (step < warmup) return (base * (step + offset)) / warmup
    // Without the bound the cosine would rise again; without the case, total = warmup would be 0/0.
    const q = total > warmup ? Math.min((step - warmup) / (total - warmup), 1) : 1
    return minLr + (base - minLr) * 0.5 * (1 + Math.cos(Math.PI * q))
  }
}

/**
 * Multiplied by `gamma` after every `size` steps: base · gamma^⌊step / size⌋.
 *
 * @param base the learning rate of the first `size` steps
 * @param size steps with the same rate, at least 1
 * @param gamma factor, default 0.1
 *
 * @example
 * ```ts
 * import { optim } from 'tilegrad'
 * const lr = optim.step(0.8, 30, 0.5)
 * console.log(lr(29), lr(30), lr(60)) // 0.8 0.4 0.2
 * ```
 */
export function step(base: number, size: number, gamma = 0.1): Schedule {
  atLeastZero('step: base', base)
  wholeSteps('step: size', size, 1)
  atLeastZero('step: gamma', gamma)
  return (step) => base * gamma ** Math.floor(step / size)
}

/**
 * Multiplied by `gamma` after every step: base · gamma^step.
 *
 * @param base the learning rate of the first step
 * @param gamma factor
 *
 * @example
 * ```ts
 * import { optim } from 'tilegrad'
 * const lr = optim.exponential(1, 0.5)
 * console.log(lr(0), lr(1), lr(3)) // 1 0.5 0.125
 * ```
 */
export function exponential(base: number, gamma: number): Schedule {
  atLeastZero('exponential: base', base)
  atLeastZero('exponential: gamma', gamma)
  return (step) => base * gamma ** step
}

/**
 * One schedule after the other. From each milestone on the next one is asked, with the steps since that milestone.
 *
 * @param schedules the parts
 * @param milestones the step at which each part but the first begins, ascending: one fewer than parts
 *
 * @example
 * ```ts
 * import { optim } from 'tilegrad'
 * const lr = optim.sequential([optim.linearWarmup(1, 10), optim.exponential(1, 0.5)], [10])
 * console.log(lr(5), lr(10), lr(12)) // 0.5 1 0.25
 * ```
 */
export function sequential(schedules: readonly Schedule[], milestones: readonly number[]): Schedule {
  if (!Array.isArray(schedules) || schedules.length === 0 || schedules.some((part) => typeof part !== 'function'))
    throw expected('sequential: schedules', 'a list of functions of the step', schedules)
  const starts = [0, ...(Array.isArray(milestones) ? (milestones as readonly number[]) : [])]
  const ascending = starts.every((start, i) => Number.isSafeInteger(start) && (i < 2 || start > starts[i - 1]!))
  if (starts.length !== schedules.length || !ascending || starts.some((start) => start < 0))
    throw expected('sequential: milestones', `${schedules.length - 1} ascending whole numbers ≥ 0`, milestones)
  const parts = [...schedules]
  return (step) => {
    const part = Math.max(starts.findLastIndex((start) => step >= start), 0) // prettier-ignore
    return parts[part]!(step - starts[part]!)
  }
}

/**
 * The learning rate for another batch size: in proportion to it (`'linear'`), which keeps the mean of many small steps,
 * or to its square root (`'sqrt'`), which keeps their spread.
 *
 * @param base the rate that is right for `baseBatch`
 * @param baseBatch rows of a batch, at least 1
 * @param batch rows of the other batch; with accumulation those of the whole window
 * @param rule default `'linear'`; `'sqrt'` is the usual choice for Adam and its kin
 *
 * @example
 * ```ts
 * import { optim } from 'tilegrad'
 * console.log(optim.scaleLearningRate(0.001, 32, 256)) // 0.008
 * ```
 */
export function scaleLearningRate(
  base: number,
  baseBatch: number,
  batch: number,
  rule: 'linear' | 'sqrt' = 'linear',
): number {
  atLeastZero('scaleLearningRate: base', base)
  wholeSteps('scaleLearningRate: baseBatch', baseBatch, 1)
  wholeSteps('scaleLearningRate: batch', batch, 1)
  if (rule !== 'linear' && rule !== 'sqrt') throw expected('scaleLearningRate: rule', "'linear' or 'sqrt'", rule)
  const ratio = batch / baseBatch
  return base * (rule === 'linear' ? ratio : Math.sqrt(ratio))
}
