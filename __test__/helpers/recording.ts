/** An optimiser that keeps the gradients it is given instead of stepping: what a window has come to. */

import { optim } from '../../ts/index.ts'
import { values } from './values.ts'

export class Recording extends optim.SGD {
  #gradients: Promise<number[][]> = Promise.resolve([])

  override step(gate: optim.StepGate = {}): void {
    const { scale } = gate
    this.#gradients = Promise.all(this.parameters.map((p) => values(scale === undefined ? p.grad : p.grad!.mul(scale))))
  }

  /** The gradients of the last step, by parameter. */
  gradients(): Promise<number[][]> {
    return this.#gradients
  }
}
