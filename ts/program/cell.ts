/**
 * A place that holds a tensor from one operation to the next: the gradient of a leaf, a running count. A compiled
 * function may read and replace what such places hold; so they are objects that the recording of a function can see.
 */

import type { Tensor } from '../tensor.ts'
import { tracing } from './tracing.ts'

/** Holds a tensor or nothing. */
export class Cell {
  /** What is there, whatever is being recorded. */
  held: Tensor | null = null

  /** What is there as the running code sees it. */
  get tensor(): Tensor | null {
    const trace = tracing()
    return trace === null ? this.held : trace.read(this)
  }

  set tensor(tensor: Tensor | null) {
    const trace = tracing()
    if (trace === null) this.held = tensor
    else trace.write(this, tensor)
  }

  /** Frees what is there. */
  clear(): void {
    const trace = tracing()
    if (trace !== null) return trace.clear(this)
    this.held?.dispose()
    this.held = null
  }
}
