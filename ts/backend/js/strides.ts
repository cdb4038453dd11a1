/**
 * Walking several tensors in step: which elements meet under broadcasting, in a transpose, in a slice. Dimensions that
 * all tensors cross evenly are merged, so that the innermost run, which a plain loop handles, is as long as it can be.
 */

import type { Shape } from '../../shape.ts'

/** How one tensor is walked: an element step for every dimension of the walk, and where it starts. */
export interface Track {
  readonly strides: readonly number[]
  readonly offset: number
}

/** Row-major strides. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length)
  let step = 1
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step
    step *= shape[i]!
  }
  return strides
}

/** The track of a tensor that stretches to `to` by NumPy's rules. */
export function broadcastTrack(shape: Shape, to: Shape): Track {
  const own = stridesOf(shape)
  const lead = to.length - shape.length
  return { strides: to.map((_, i) => (i < lead || shape[i - lead] === 1 ? 0 : own[i - lead]!)), offset: 0 }
}

/** A walk in row-major order over `shape`, by runs of the innermost merged dimension. */
export class Walk {
  /** Elements of each run; 0 when there is nothing to walk. */
  readonly length: number
  /** Step of each track inside a run. */
  readonly steps: readonly number[]
  /** Where the current run starts in each track. */
  readonly offsets: number[]
  readonly #dims: readonly number[]
  readonly #strides: readonly (readonly number[])[]
  readonly #index: number[]

  constructor(shape: Shape, tracks: readonly Track[]) {
    const dims: number[] = []
    const strides: number[][] = tracks.map(() => [])
    let empty = false
    for (let d = 0; d < shape.length; d++) {
      const size = shape[d]!
      if (size === 0) empty = true
      if (size === 1) continue
      const last = dims.length - 1
      const mergeable = last >= 0 && tracks.every((track, t) => strides[t]![last] === track.strides[d]! * size)
      if (mergeable) dims[last]! *= size
      else dims.push(size)
      const at = mergeable ? last : last + 1
      for (let t = 0; t < tracks.length; t++) strides[t]![at] = tracks[t]!.strides[d]!
    }
    this.length = empty ? 0 : (dims.pop() ?? 1)
    this.steps = strides.map((list) => list[dims.length] ?? 0)
    this.offsets = tracks.map((track) => track.offset)
    this.#dims = dims
    this.#strides = strides
    this.#index = dims.map(() => 0)
  }

  /** Goes to the next run; false when there is none. */
  next(): boolean {
    const dims = this.#dims
    const { offsets } = this
    for (let d = dims.length - 1; d >= 0; d--) {
      const i = ++this.#index[d]!
      if (i < dims[d]!) {
        for (let t = 0; t < offsets.length; t++) offsets[t]! += this.#strides[t]![d]!
        return true
      }
      this.#index[d] = 0
      for (let t = 0; t < offsets.length; t++) offsets[t]! -= this.#strides[t]![d]! * (dims[d]! - 1)
    }
    return false
  }
}
