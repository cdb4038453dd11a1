/**
 * Slabs: all parameters of one device and dtype in one stretch of memory, so that an optimiser updates them with one
 * instruction. The parameters stay the tensors they were; only their memory moves. Gradients stay where backward put
 * them: the update reads each from its own place.
 */

import type { Device } from '../device.ts'
import { type Dtype, allocate } from '../dtype.ts'
import { expected } from '../errors.ts'
import type { Value } from '../program/value.ts'
import { checkSameDtype, sharedDevice } from '../ops/apply.ts'
import { MAX_ELEMENTS, sameShape, showShape } from '../shape.ts'
import { Tensor } from '../tensor.ts'
import { TilegradError } from '../errors.ts'

/** Parameters start at multiples of this many elements: 256 bytes, what the strictest GPUs ask of a binding. */
const ALIGNMENT = 64

/** Parameters with their places in the slab. */
export class Slab {
  readonly device: Device
  readonly dtype: Dtype
  readonly parameters: readonly Tensor[]
  readonly offsets: readonly number[]
  /** Elements, gaps included. */
  readonly size: number
  /** The memory itself. A tensor, like all state here, so that it is freed with the optimiser. */
  readonly memory: Tensor
  /** How many updates each parameter has received, i32, on the device. */
  readonly steps: Tensor

  private constructor(parameters: readonly Tensor[]) {
    const { device, dtype } = parameters[0]!
    this.device = device
    this.dtype = dtype
    this.parameters = parameters
    let end = 0
    this.offsets = parameters.map((p) => {
      const start = end
      end += Math.ceil(p.size / ALIGNMENT) * ALIGNMENT
      return start
    })
    if (end > MAX_ELEMENTS) {
      throw new TilegradError(
        'ERR_OUT_OF_MEMORY',
        `optimiser: ${end} parameters exceed the ${MAX_ELEMENTS} of one slab; use several optimisers`,
      )
    }
    this.size = end
    this.memory = this.zeros()
    this.steps = zeroed(device, 'i32', parameters.length)
    this.#moveIn()
  }

  /** One slab per device and dtype of these parameters. */
  static group(op: string, parameters: readonly Tensor[]): Slab[] {
    const groups = new Map<Device, Map<Dtype, Tensor[]>>()
    for (const p of new Set(parameters)) {
      if (p.node !== null) throw expected(`${op}: parameters`, 'leaves, not computed tensors', p.node.op)
      // What requires no gradient now gets no state; freezing is decided before the optimiser is made.
      if (!p.requiresGrad) continue
      const dtypes = groups.get(p.device) ?? new Map<Dtype, Tensor[]>()
      groups.set(p.device, dtypes)
      const list = dtypes.get(p.dtype) ?? []
      dtypes.set(p.dtype, list)
      list.push(p)
    }
    return [...groups.values()].flatMap((dtypes) => [...dtypes.values()].map((list) => new Slab(list)))
  }

  /** Zeroed memory of the slab's size, for the optimiser's state. */
  zeros(): Tensor {
    return zeroed(this.device, this.dtype, this.size)
  }

  /** Parameters that have a gradient: their gradients' values, and [index, offset] for each. */
  gradients(): { values: Value[]; segments: number[] } {
    const values: Value[] = []
    const segments: number[] = []
    this.parameters.forEach((p, i) => {
      const { grad } = p
      if (grad === null || grad.disposed) return
      this.#check(p, grad)
      values.push(grad.value)
      segments.push(i, this.offsets[i]!)
    })
    return { values, segments }
  }

  /** A gradient may have been assigned by hand, and another optimiser may have moved the parameter. */
  #check(parameter: Tensor, gradient: Tensor): void {
    if (parameter.value.storage !== this.memory.value.storage) {
      throw new TilegradError(
        'ERR_ARGUMENT',
        'optimiser: a parameter has been taken over by another optimiser made later; use that one, and drop this one',
      )
    }
    if (!sameShape(parameter.shape, gradient.shape)) {
      const [wanted, given] = [showShape(parameter.shape), showShape(gradient.shape)]
      throw new TilegradError('ERR_SHAPE', `optimiser: a parameter of shape ${wanted} has a gradient of shape ${given}`)
    }
    checkSameDtype('optimiser', parameter, gradient)
    sharedDevice('optimiser', parameter, gradient)
  }

  #moveIn(): void {
    const { recorder } = this.device
    const { dtype } = this
    const { value } = this.memory
    const views = this.parameters.map((p, i) =>
      recorder.emit('view', [value], { dtype, shape: p.shape, storage: value.storage }, [this.offsets[i]!]),
    )
    this.parameters.forEach((p, i) => {
      recorder.emitMany('assign', [views[i]!, p.value], [])
      p.replaceValue(views[i]!)
    })
  }
}

function zeroed(device: Device, dtype: Dtype, size: number): Tensor {
  return new Tensor(device, device.recorder.upload(dtype, [size], allocate(dtype, size)), false)
}
