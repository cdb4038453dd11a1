/** Element types and the typed arrays that hold them outside a device. */

import { TilegradError, show } from './errors.ts'

/**
 * Element type of a tensor. `f64` exists on the `js` device only. `bool` is a `Uint8Array` of 0 and 1 outside a device.
 */
export type Dtype = 'f32' | 'i32' | 'bool' | 'f64'

/** What `data()` gives, by dtype. */
export interface DataTypes {
  f32: Float32Array<ArrayBuffer>
  i32: Int32Array<ArrayBuffer>
  bool: Uint8Array<ArrayBuffer>
  f64: Float64Array<ArrayBuffer>
}

/** Any of the arrays that hold tensor data. */
export type TypedArray = DataTypes[Dtype]

/** Bytes of one element outside a device. */
export const BYTES_PER_ELEMENT: Readonly<Record<Dtype, number>> = { f32: 4, i32: 4, bool: 1, f64: 8 }

/** A zeroed array for `size` elements. */
export function allocate<D extends Dtype>(dtype: D, size: number): DataTypes[D] {
  return makeArray(dtype, size) as DataTypes[D]
}

function makeArray(dtype: Dtype, size: number): TypedArray {
  try {
    switch (dtype) {
      case 'f32':
        return new Float32Array(size)
      case 'i32':
        return new Int32Array(size)
      case 'bool':
        return new Uint8Array(size)
      case 'f64':
        return new Float64Array(size)
    }
  } catch (cause) {
    throw new TilegradError('ERR_OUT_OF_MEMORY', `cannot allocate ${size} elements of ${dtype}`, { cause })
  }
}

/** Whether the dtype holds real numbers. */
export function isFloat(dtype: Dtype): boolean {
  return dtype === 'f32' || dtype === 'f64'
}

/** Throws `ERR_DTYPE` unless `value` names a dtype. */
export function checkDtype(op: string, value: unknown): asserts value is Dtype {
  if (value !== 'f32' && value !== 'i32' && value !== 'bool' && value !== 'f64') {
    throw new TilegradError('ERR_DTYPE', `${op}: dtype must be 'f32', 'i32', 'bool' or 'f64', not ${show(value)}`)
  }
}
