/** Instructions that rearrange without computing: transpose, concat, slice, pad. All are strided copies. */

import type { TypedArray } from '../../dtype.ts'
import type { Shape } from '../../shape.ts'
import type { Call, Kernels } from './kernel.ts'
import { type Track, Walk, stridesOf } from './strides.ts'
import { toElement } from './structure.ts'

/** Copies the elements of a walk over `shape`, run by run. */
function copy(source: TypedArray, from: Track, target: TypedArray, to: Track, shape: Shape): void {
  const walk = new Walk(shape, [from, to])
  const { length: n, steps, offsets } = walk
  if (n === 0) return
  const [sourceStep, targetStep] = steps as [number, number]
  do {
    let [s, t] = offsets as [number, number]
    // A `subarray` costs about as much as copying a few dozen elements one by one.
    if (sourceStep === 1 && targetStep === 1 && n >= 32) target.set(source.subarray(s, s + n), t)
    else for (let i = 0; i < n; i++, s += sourceStep, t += targetStep) target[t] = source[s]!
  } while (walk.next())
}

/** Where the element at an index per axis lies. */
function offsetOf(index: readonly number[], strides: readonly number[]): number {
  return index.reduce((sum, i, axis) => sum + i * strides[axis]!, 0)
}

function transpose({ inputs, outputs, list: axes }: Call): void {
  const x = inputs[0]!
  const out = outputs[0]!
  const strides = stridesOf(x.shape)
  const from = { strides: axes.map((axis) => strides[axis]!), offset: 0 }
  copy(x.data, from, out.data, { strides: stridesOf(out.shape), offset: 0 }, out.shape)
}

function concat({ inputs, outputs, attributes }: Call): void {
  const out = outputs[0]!
  const strides = stridesOf(out.shape)
  const axis = attributes[0]!
  let offset = 0
  for (const x of inputs) {
    copy(x!.data, { strides: stridesOf(x!.shape), offset: 0 }, out.data, { strides, offset }, x!.shape)
    offset += x!.shape[axis]! * strides[axis]!
  }
}

function slice({ inputs, outputs, list: starts }: Call): void {
  const x = inputs[0]!
  const out = outputs[0]!
  const strides = stridesOf(x.shape)
  const from = { strides, offset: offsetOf(starts, strides) }
  copy(x.data, from, out.data, { strides: stridesOf(out.shape), offset: 0 }, out.shape)
}

function pad({ inputs, outputs, attributes, list: before }: Call): void {
  const x = inputs[0]!
  const out = outputs[0]!
  const strides = stridesOf(out.shape)
  out.data.fill(toElement(out.dtype, attributes[0]!))
  copy(
    x.data,
    { strides: stridesOf(x.shape), offset: 0 },
    out.data,
    { strides, offset: offsetOf(before, strides) },
    x.shape,
  )
}

/** Kernels of this file. */
export const SHAPE: Pick<Kernels, 'transpose' | 'concat' | 'slice' | 'pad'> = { transpose, concat, slice, pad }
