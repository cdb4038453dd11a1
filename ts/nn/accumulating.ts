/**
 * Layers that have something to do when gradients of several micro-batches are accumulated. A layer tells here that it has
 * seen a micro-batch; the accumulator that takes its gradient asks. Layers are held weakly, and what a function does
 * while it is recorded is kept apart, so that a recording that is dropped leaves nothing.
 */

import { TilegradError } from '../errors.ts'
import { tracing } from '../program/tracing.ts'
import type { Tensor } from '../tensor.ts'

/** What an accumulator knows of a layer. */
export interface Accumulating {
  readonly training: boolean
  readonly accumulation: 'micro' | 'sync'
  readonly weight: Tensor | null
  /** The end of the window; nothing is to change where `ok` is false. */
  finishWindow(ok: Tensor): void
}

const EAGER = {}
const layers = new WeakMap<object, Set<WeakRef<Accumulating>>>()
const references = new WeakMap<Accumulating, WeakRef<Accumulating>>()

/** A layer has seen a micro-batch. */
export function touched(layer: Accumulating): void {
  let reference = references.get(layer)
  if (reference === undefined) references.set(layer, (reference = new WeakRef(layer)))
  const place = tracing() ?? EAGER
  const known = layers.get(place)
  if (known === undefined) layers.set(place, new Set([reference]))
  else known.add(reference)
}

/** The layers of one accumulator. */
export class SeenLayers {
  /** In a field of a plain object, which compiled functions can watch. */
  readonly #seen: { readonly layers: Accumulating[] } = { layers: [] }

  /**
   * The gradient of a micro-batch is being taken in: its layers are those that have seen one since.
   *
   * @param parameters what is learned
   * @throws `ERR_UNSUPPORTED` for a layer that has to see all micro-batches at once
   */
  see(op: string, parameters: readonly Tensor[]): void {
    for (const layer of takeTouched(parameters)) {
      if (layer.accumulation === 'sync' && layer.training) {
        throw new TilegradError(
          'ERR_UNSUPPORTED',
          `${op}: a BatchNorm with accumulation: 'sync' normalises all micro-batches of a window together, and this gets them one by one; use accumulator.window(microBatches, fn)`,
        )
      }
      if (!this.#seen.layers.includes(layer)) this.#seen.layers.push(layer)
    }
  }

  /** The end of a window, applied where `ok` is true. */
  finish(ok: Tensor): void {
    // A step that was compiled before a layer was seen does not know of it.
    tracing()?.watch(this.#seen)
    for (const layer of this.#seen.layers) layer.finishWindow(ok)
  }
}

/**
 * The layers that have seen a micro-batch since the last call, unless they are learned by somebody else: their weight
 * requires a gradient, and is none of `parameters`. Those stay.
 */
function takeTouched(parameters: readonly Tensor[]): Accumulating[] {
  const known = layers.get(tracing() ?? EAGER)
  if (known === undefined || known.size === 0) return []
  const own = new Set(parameters)
  return [...known].flatMap((reference) => {
    const layer = reference.deref()
    if (layer?.weight?.requiresGrad === true && !own.has(layer.weight)) return []
    known.delete(reference)
    return layer === undefined ? [] : [layer]
  })
}
