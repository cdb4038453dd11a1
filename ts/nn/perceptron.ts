/**
 * The perceptron with its own learning rule, which needs no gradient: steps have none. `learn` changes the parameters
 * where they are, example by example. It does not know when to stop; the caller counts the mistakes.
 */

import { noGrad } from '../autograd/tape.ts'
import { type Names, TilegradError, checkOptions, expected } from '../errors.ts'
import { type Operand, checkSameDtype, checkTensor, sharedDevice } from '../ops/apply.ts'
import { type CreationOptions, zeros } from '../ops/creation.ts'
import { add, cast, mul, notEqual, sub } from '../ops/elementwise.ts'
import { linear } from '../ops/linear.ts'
import { sum } from '../ops/reduce.ts'
import { reshape, slice } from '../ops/shape.ts'
import { Scalar } from '../scalar.ts'
import { scope } from '../scope.ts'
import { sameShape, showShape } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { Module } from './module.ts'
import { Parameter } from './parameter.ts'

/** Options of {@link Perceptron.learn}. */
export interface LearnOptions {
  /** How far one mistake moves the parameters. Default 1. A scalar may change between runs of a compiled function. */
  readonly lr?: number | Scalar
}

/**
 * y = heaviside(xW + b): each output says on which side of a line its input lies. `weight` is `[in, out]`, `bias` is
 * `[out]`; both start at 0. What no line separates (XOR) it never learns.
 *
 * @example
 * ```ts
 * import { nn, tensor } from 'tilegrad'
 * const x = tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
 * const and = tensor([[0], [0], [0], [1]])
 * const perceptron = new nn.Perceptron(2, 1)
 * while ((await perceptron.learn(x, and).item()) > 0);
 * console.log(await perceptron.forward(x).array()) // [[0], [0], [0], [1]]
 * ```
 */
export class Perceptron extends Module {
  readonly weight: Parameter
  readonly bias: Parameter

  /**
   * @param inFeatures size of the last axis of the input
   * @param outFeatures size of the last axis of the output
   */
  constructor(inFeatures: number, outFeatures: number, options: Omit<CreationOptions, 'requiresGrad'> = {}) {
    super()
    checkOptions('Perceptron', options, { dtype: true, device: true } satisfies Names<typeof options>)
    for (const [name, size] of Object.entries({ inFeatures, outFeatures })) {
      if (!Number.isInteger(size) || size < 0) throw expected(`Perceptron: ${name}`, 'a whole number ≥ 0', size)
    }
    this.weight = new Parameter(zeros([inFeatures, outFeatures], options))
    this.bias = new Parameter(zeros([outFeatures], options))
  }

  /** `[…, in]` → `[…, out]`, zeros and ones. */
  forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias, { activation: 'heaviside' })
  }

  /**
   * One pass over a batch: for every example, in order, W += lr·xᵀ(t − y) and b += lr·(t − y), with the y of the
   * parameters as the examples before have left them.
   *
   * @param x `[N, in]`
   * @param t `[N, out]`, what the outputs should be: zeros and ones
   * @returns how many outputs were wrong when their example came, i32, rank 0; 0 means that the batch has been learned
   * @throws `ERR_SHAPE`, `ERR_DTYPE`, `ERR_DEVICE_MISMATCH` when x, t and the parameters do not fit
   */
  learn(x: Tensor, t: Tensor, options: LearnOptions = {}): Tensor {
    this.#check(x, t)
    checkOptions('Perceptron.learn', options, { lr: true } satisfies Names<LearnOptions>)
    const { lr = 1 } = options
    if (!(lr instanceof Scalar) && !(typeof lr === 'number' && Number.isFinite(lr)))
      throw expected('Perceptron.learn: lr', 'a finite number or a scalar', lr)
    return noGrad(() =>
      scope(() => {
        let wrong = zeros([], { dtype: 'i32', device: x.device })
        for (let i = 0; i < x.shape[0]!; i++) wrong = this.#example(slice(x, [i], [1]), slice(t, [i], [1]), lr, wrong)
        return wrong
      }),
    )
  }

  /** Learns from one row, and adds its mistakes to those before. */
  #example(x: Tensor, t: Tensor, lr: Operand, wrong: Tensor): Tensor {
    return scope(() => {
      const { recorder } = x.device
      const y = this.forward(x)
      const step = mul(sub(t, y), lr)
      const dw = mul(reshape(x, [-1, 1]), step)
      const db = reshape(step, this.bias.shape)
      recorder.emitMany('addInto', [this.weight.value, dw.value], [])
      recorder.emitMany('addInto', [this.bias.value, db.value], [])
      return add(wrong, sum(cast(notEqual(y, t), 'i32')))
    })
  }

  #check(x: Tensor, t: Tensor): void {
    const op = 'Perceptron.learn'
    checkTensor(op, 'x', x)
    checkTensor(op, 't', t)
    const [features, outputs] = this.weight.shape as [number, number]
    if (x.shape.length !== 2 || x.shape[1] !== features || !sameShape(t.shape, [x.shape[0]!, outputs])) {
      throw new TilegradError(
        'ERR_SHAPE',
        `${op}: x ${showShape(x.shape)} and t ${showShape(t.shape)} do not fit: they have to be [N, ${features}] and [N, ${outputs}]`,
      )
    }
    sharedDevice(op, this.weight, x, t)
    checkSameDtype(op, this.weight, x)
    checkSameDtype(op, this.weight, t)
  }
}
