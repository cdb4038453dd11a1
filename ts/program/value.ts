/**
 * What a program computes with: values (one shape and dtype over some device memory) and the storage that views share.
 * A value is either a register of the stream being recorded, a slot on the device, or both. Owners are counted here and
 * nowhere else: tensor handles, tape entries and optimiser state each hold one. Values know nothing of gradients.
 */

import { BYTES_PER_ELEMENT, type Dtype } from '../dtype.ts'
import { type Shape, numel } from '../shape.ts'
import type { Recorder } from './record.ts'

/** Memory that several values may share. The version counts changes in place. */
export class Storage {
  version = 0
}

/** One register or slot. */
export class Value {
  readonly recorder: Recorder
  readonly storage: Storage
  readonly dtype: Dtype
  readonly shape: Shape
  readonly size: number
  /** How many handles, tape entries and states need this value. */
  owners = 1
  /** Device slot, 0 while there is none. */
  slot = 0
  /** Register in the code numbered `epoch`; 0 is none. */
  register = -1
  epoch = 0

  constructor(recorder: Recorder, dtype: Dtype, shape: Shape, storage?: Storage) {
    this.recorder = recorder
    this.dtype = dtype
    this.shape = shape
    this.size = numel(shape)
    this.storage = storage ?? new Storage()
  }

  /** Bytes of the elements on the host. */
  get byteLength(): number {
    return this.size * BYTES_PER_ELEMENT[this.dtype]
  }

  /** Adds an owner. */
  retain(): this {
    this.owners++
    return this
  }

  /** Takes an owner away; the last one frees the memory, in program order. */
  release(): void {
    if (--this.owners === 0) this.recorder.free(this)
  }
}
