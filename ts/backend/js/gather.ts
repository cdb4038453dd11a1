/**
 * Taking slices along one axis by index, and adding them back. Both see their tensors as [outer, axis, inner]; an index
 * outside the axis is an error of the data, never a read beyond the array. So is a condition that does not hold.
 */

import type { TypedArray } from '../../dtype.ts'
import { TilegradError } from '../../errors.ts'
import { INDEXED, REASONS } from '../../program/words.ts'
import { type Shape, numel } from '../../shape.ts'
import type { Call, Kernels } from './kernel.ts'

function checkIndices({ name, attributes }: Call, indices: TypedArray, size: number): void {
  for (let i = 0; i < indices.length; i++) {
    const index = indices[i]!
    if (index < 0 || index >= size) {
      const what = INDEXED[attributes[1]!]
      throw new TilegradError('ERR_ARGUMENT', `${name}: ${what} ${index} at position ${i} is outside [0, ${size})`)
    }
  }
}

/** The sizes before, along and after an axis. */
function around(shape: Shape, axis: number): [number, number, number] {
  return [numel(shape.slice(0, axis)), shape[axis]!, numel(shape.slice(axis + 1))]
}

function gather(call: Call): void {
  const { inputs, outputs, attributes } = call
  const x = inputs[0]!
  const indices = inputs[1]!.data
  const out = outputs[0]!.data
  const [outer, size, inner] = around(x.shape, attributes[0]!)
  checkIndices(call, indices, size)
  let at = 0
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < indices.length; i++) {
      const from = (o * size + indices[i]!) * inner
      for (let e = 0; e < inner; e++) out[at++] = x.data[from + e]!
    }
  }
}

/** Sums in f64 (i32 wraps) and in ascending order of position, so the result has one value on every run. */
function scatterAdd(call: Call): void {
  const { inputs, outputs, attributes } = call
  const dy = inputs[0]!
  const indices = inputs[1]!.data
  const out = outputs[0]!
  const [outer, size, inner] = around(out.shape, attributes[0]!)
  checkIndices(call, indices, size)
  // Integers and f64 need no wider accumulator than the result itself.
  const total = out.dtype === 'f32' ? new Float64Array(out.size) : out.data
  total.fill(0)
  let at = 0
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < indices.length; i++) {
      const to = (o * size + indices[i]!) * inner
      for (let e = 0; e < inner; e++) total[to + e] = total[to + e]! + dy.data[at++]!
    }
  }
  if (total !== out.data) out.data.set(total)
}

/** x where the condition holds. */
function require({ name, inputs, outputs, attributes }: Call): void {
  if (inputs[1]!.data[0] === 0) throw new TilegradError('ERR_ARGUMENT', `${name}: ${REASONS[attributes[0]!]}`)
  outputs[0]!.data.set(inputs[0]!.data)
}

/** Kernels of this file. */
export const GATHER: Pick<Kernels, 'gather' | 'scatterAdd' | 'require'> = { gather, scatterAdd, require }
