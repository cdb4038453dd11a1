/** Runs one instruction on a fresh `js` device, for tests of its kernels. */

import { type Dtype, allocate } from '../../ts/dtype.ts'
import { JsBackend } from '../../ts/backend/js/device.ts'
import type { OpcodeName } from '../../ts/program/opcodes.ts'
import { numel } from '../../ts/shape.ts'
import { type Attribute, type Output, StreamBuilder } from './stream.ts'

/** Dtype, shape and elements of an operand. */
export type Given = readonly [Dtype, readonly number[], ArrayLike<number>]

/** Results of one instruction, as plain numbers. Operands that the instruction changes in place follow as `inputs`. */
export interface Evaluated {
  readonly outputs: number[][]
  readonly inputs: number[][]
}

/** Runs an instruction over host data and reads everything back; throws what poisons a result. */
export function evaluate(
  name: OpcodeName,
  inputs: readonly (Given | null)[],
  outputs: readonly Output[] = [],
  attributes: readonly Attribute[] = [],
): Evaluated {
  const device = new JsBackend()
  const builder = new StreamBuilder()
  const registers = inputs.map((given, i) => {
    if (given === null) return null
    const [dtype, shape, data] = given
    const array = allocate(dtype, numel(shape))
    array.set(data)
    device.write(i + 1, dtype, array)
    return builder.input(i + 1, dtype, shape)
  })
  const first = builder.op(name, registers, outputs, attributes)
  outputs.forEach((_, i) => builder.output(first + i, 100 + i))
  // Memory that is not new: a kernel that leaves a hole in its result shows.
  for (const [dtype, shape] of outputs) dirty(device, dtype, numel(shape))
  device.submit(builder.words())
  const read = (slot: number, [dtype, shape]: readonly [Dtype, readonly number[], ...unknown[]]): number[] => {
    const array = allocate(dtype, numel(shape))
    device.readSync(slot, array)
    return Array.from(array)
  }
  return {
    outputs: outputs.map((output, i) => read(100 + i, output)),
    inputs: inputs.map((given, i) => (given === null ? [] : read(i + 1, given))),
  }
}

/** The only result of an instruction. */
export function result(
  name: OpcodeName,
  inputs: readonly (Given | null)[],
  output: Output,
  attributes: readonly Attribute[] = [],
): number[] {
  return evaluate(name, inputs, [output], attributes).outputs[0]!
}

/** Leaves garbage in the device's pool. */
function dirty(device: JsBackend, dtype: Dtype, size: number): void {
  const slots = [1000, 1001, 1002]
  const garbage = allocate(dtype, size).fill(dtype === 'bool' ? 1 : 77)
  for (const slot of slots) device.write(slot, dtype, garbage)
  const builder = new StreamBuilder()
  for (const slot of slots) builder.free(slot)
  device.submit(builder.words())
}

/** Reproducible numbers in [−2, 2). */
export function numbers(count: number, seed = 1): number[] {
  let state = seed >>> 0
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 30 - 2
  })
}

/** Each number rounded to f32. */
export function rounded(values: readonly number[]): number[] {
  return values.map(Math.fround)
}
