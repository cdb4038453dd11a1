/**
 * Exact gradient accumulation: micro-batches add the gradients of their *sums* and their counts; at the end of a window
 * the total is divided once by the total count. So unequal micro-batches and partial windows weigh what they should, and
 * the result is the gradient of the one large batch. All of it happens on the device; nothing is read back.
 */

import { noGrad } from '../autograd/tape.ts'
import { TilegradError, expected } from '../errors.ts'
import { add, greater, isFinite, logicalAnd, mul, reciprocal, sqrt, where } from '../ops/elementwise.ts'
import { checkSameDtype, sharedDevice } from '../ops/apply.ts'
import { full } from '../ops/creation.ts'
import type { Parts } from '../ops/loss.ts'
import type { Optimizer } from '../optim/optimizer.ts'
import { Cell } from '../program/cell.ts'
import { hostEffect, refuseTracing, takeBack } from '../program/tracing.ts'
import { keep, scope } from '../scope.ts'
import { showShape } from '../shape.ts'
import { Tensor } from '../tensor.ts'

/** What one step did, as tensors of one element: reading them is up to the caller. */
export interface StepResult {
  /** Bool: whether parameters were changed. False when nothing was counted or a gradient was not finite. */
  readonly applied: Tensor
  /** 2-norm of the window's gradient, all parameters together, after division by the count. */
  readonly norm: Tensor
  /** Items in the window. */
  readonly count: Tensor
}

/**
 * Adds up the gradients of micro-batches and lets the optimiser step once per window.
 *
 * @example
 * ```ts
 * import { nn, optim, randn, tensor, train } from 'tilegrad'
 * const model = new nn.Linear(4, 3)
 * const acc = new train.GradientAccumulator(new optim.AdamW(model.parameters()))
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
  readonly #count = new Cell()
  #microBatches = 0

  constructor(optimizer: Optimizer) {
    if (typeof optimizer?.step !== 'function')
      throw expected('GradientAccumulator: optimizer', 'an optimiser', optimizer)
    this.optimizer = optimizer
  }

  /** Micro-batches in the window so far. */
  get microBatches(): number {
    refuseTracing('reading the number of micro-batches', 'read it between the calls')
    return this.#microBatches
  }

  /**
   * Runs backward on the sum and counts the items.
   *
   * @param parts sum of the losses and number of items, as losses give with `reduction: 'parts'`
   * @throws `ERR_SHAPE` unless both have one element; `ERR_DTYPE`, `ERR_DEVICE_MISMATCH` when they differ
   */
  add(parts: Parts): void {
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
    sum.backward()
    noGrad(() => {
      const before = this.#count.tensor
      this.#count.tensor = keep(before === null ? count.detach() : add(before, count))
      before?.dispose()
    })
    hostEffect(() => this.#counted(this.#microBatches + 1))
  }

  /**
   * Divides by the count, lets the optimiser step, and starts a new window. A window may have any number of
   * micro-batches. With a count of 0 or a gradient that is not finite nothing changes: not the parameters, not the
   * optimiser's state, not its step counters.
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
    const count = this.#count.tensor
    if (count === null) return null
    const gradients = this.#gradients(count)
    const result = noGrad(() =>
      scope(() => {
        const scale = reciprocal(where(greater(count, 0), count, 1))
        const total = squaredNorm(gradients, count)
        const applied = logicalAnd(greater(count, 0), isFinite(total))
        const norm = mul(sqrt(total), scale)
        this.optimizer.step({ scale, ok: applied })
        return { applied, norm, count: count.detach() }
      }),
    )
    // Only now: a step that throws leaves the window as it was.
    this.optimizer.zeroGrad()
    count.dispose()
    this.#count.tensor = null
    hostEffect(() => this.#counted(0))
    return result
  }

  #counted(microBatches: number): void {
    const before = this.#microBatches
    this.#microBatches = microBatches
    takeBack(() => (this.#microBatches = before))
  }

  /** What the window has added up. One norm and one count decide over all of it, so it lives in one place. */
  #gradients(count: Tensor): Tensor[] {
    return this.optimizer.parameters.flatMap(({ grad }) => {
      if (grad === null || grad.disposed) return []
      sharedDevice('GradientAccumulator', count, grad)
      checkSameDtype('GradientAccumulator', count, grad)
      return [grad]
    })
  }
}

function squaredNorm(gradients: readonly Tensor[], { device, dtype }: Tensor): Tensor {
  if (gradients.length === 0) return full([], 0, { device, dtype })
  const values = gradients.map((gradient) => gradient.value)
  return new Tensor(device, device.recorder.emit('squaredNorm', values, { dtype, shape: [] }))
}
