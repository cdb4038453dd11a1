/** Modules one after the other. */

import { expected } from '../errors.ts'
import { collecting, leave } from '../scope.ts'
import type { Tensor } from '../tensor.ts'
import { Module } from './module.ts'

/**
 * Runs modules in order; parameters are named by position (`0.weight`). Results between them are freed as soon as
 * nothing needs them.
 *
 * @example
 * ```ts
 * import { nn, randn } from 'tilegrad'
 * const model = new nn.Sequential(new nn.Linear(64, 128), new nn.ReLU(), new nn.Linear(128, 10))
 * console.log(model.forward(randn([32, 64])).shape, model.length) // [32, 10] 3
 * ```
 */
export class Sequential extends Module {
  /** How many modules there are. */
  readonly length: number;
  [index: number]: Module

  constructor(...modules: Module[]) {
    super()
    modules.forEach((module, i) => {
      if (!(module instanceof Module)) throw expected(`Sequential: module ${i}`, 'a Module', module)
      this[i] = module
    })
    this.length = modules.length
  }

  /** The output of the last module. */
  forward(x: Tensor): Tensor {
    let current = x
    // Whether `current` was made here: what a module owns, a parameter or a buffer, is not ours to free.
    let ours = false
    for (let i = 0; i < this.length; i++) {
      const [next, made] = collecting(() => this[i]!.forward(current))
      leave(made)
      if (ours && current !== next) current.dispose()
      ours = made.includes(next) || (ours && current === next)
      current = next
    }
    return current
  }
}
