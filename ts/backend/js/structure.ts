/** Instructions that fill, copy, convert and stretch without computing: full, assign, addInto, expand, cast. */

import type { Dtype } from '../../dtype.ts'
import type { Call, Kernels } from './kernel.ts'
import { Walk, broadcastTrack } from './strides.ts'

const LARGEST_INT = 2 ** 31 - 1
const SMALLEST_INT = -(2 ** 31)

/** A float as i32: truncated, saturated, NaN as 0. */
export function toInt32(x: number): number {
  if (x >= LARGEST_INT) return LARGEST_INT
  return x <= SMALLEST_INT ? SMALLEST_INT : x | 0
}

/** A scalar as an element of a dtype; storing it into a float array rounds. */
export function toElement(dtype: Dtype, x: number): number {
  if (dtype === 'bool') return x === 0 ? 0 : 1
  return dtype === 'i32' ? toInt32(x) : x
}

function full({ outputs, attributes }: Call): void {
  const { data, dtype } = outputs[0]!
  data.fill(toElement(dtype, attributes[0]!))
}

function assign({ inputs }: Call): void {
  inputs[0]!.data.set(inputs[1]!.data)
}

function addInto({ inputs }: Call): void {
  const target = inputs[0]!.data
  const source = inputs[1]!.data
  // The store into an Int32Array wraps, into a Float32Array rounds.
  for (let i = 0; i < target.length; i++) target[i] = target[i]! + source[i]!
}

function expand({ inputs, outputs }: Call): void {
  const source = inputs[0]!
  const target = outputs[0]!
  const walk = new Walk(target.shape, [broadcastTrack(source.shape, target.shape)])
  const { length, steps, offsets } = walk
  if (length === 0) return
  let at = 0
  do {
    const from = offsets[0]!
    if (steps[0] === 0) target.data.fill(source.data[from]!, at, at + length)
    else target.data.set(source.data.subarray(from, from + length), at)
    at += length
  } while (walk.next())
}

function cast({ inputs, outputs }: Call): void {
  const { data: source, dtype: from } = inputs[0]!
  const { data: target, dtype: to } = outputs[0]!
  if (to === 'bool') for (let i = 0; i < source.length; i++) target[i] = source[i] === 0 ? 0 : 1
  else if (to === 'i32' && (from === 'f32' || from === 'f64')) {
    for (let i = 0; i < source.length; i++) target[i] = toInt32(source[i]!)
  } else target.set(source)
}

/** Kernels of this file. */
export const STRUCTURE: Pick<Kernels, 'full' | 'assign' | 'addInto' | 'expand' | 'cast'> = {
  full,
  assign,
  addInto,
  expand,
  cast,
}
