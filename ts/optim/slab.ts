/**
 * Slabs: all parameters of one device and dtype in one stretch of memory, so that an optimiser updates them with one
 * instruction. The parameters stay the tensors they were; only their memory moves. Gradients stay where backward put
 * them: the update reads each from its own place.
 */

import type { Device } from '../device.ts'
import { type Dtype, type TypedArray, allocate } from '../dtype.ts'
import { TilegradError, expected, show } from '../errors.ts'
import type { Value } from '../program/value.ts'
import { checkSameDtype, sharedDevice } from '../ops/apply.ts'
import { MAX_ELEMENTS, type Shape, sameShape, showShape } from '../shape.ts'
import { Tensor } from '../tensor.ts'

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
        `optimiser: ${end} parameters exceed the ${MAX_ELEMENTS} of one slab; use several groups`,
      )
    }
    this.size = end
    this.memory = this.zeros()
    this.steps = zeroed(device, 'i32', parameters.length)
  }

  /** One slab per device and dtype of these parameters. They stay where they are until {@link takeOver}. */
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

  /** Copies the parameters to their places; gives those. */
  copyIn(): Value[] {
    const { recorder } = this.device
    const { dtype } = this
    const { value } = this.memory
    return this.parameters.map((p, i) => {
      const place = recorder.emit('view', [value], { dtype, shape: p.shape, storage: value.storage }, [
        this.offsets[i]!,
      ])
      recorder.emitMany('assign', [place, p.value], [])
      return place
    })
  }

  /** Moves the parameters in: from now on they are views of this memory. */
  takeOver(): void {
    const places = this.copyIn()
    this.parameters.forEach((p, i) => p.replaceValue(places[i]!))
  }

  /** The state of all parameters on the host. Every read starts before the first is awaited. */
  async read(arrays: readonly (readonly [string, Tensor | null])[]): Promise<ParameterState[]> {
    const present = arrays.filter((entry): entry is [string, Tensor] => entry[1] !== null)
    const [steps, ...read] = await Promise.all(
      [this.steps, ...present.map(([, tensor]) => tensor)].map((x) => x.data()),
    )
    return this.parameters.map(({ shape, size }, i) => {
      const start = this.offsets[i]!
      const own = present.map(([name], j) => [name, read[j]!.slice(start, start + size)])
      return { shape, step: steps![i]!, arrays: Object.fromEntries(own) as Record<string, TypedArray> }
    })
  }

  /** Checks the states of all parameters, throwing what `mismatch` makes; what comes back writes them. */
  restore(
    states: readonly (ParameterState | null | undefined)[],
    arrays: readonly (readonly [string, Tensor | null])[],
    mismatch: (why: string) => TilegradError,
  ): () => void {
    const names = arrays.filter(([, tensor]) => tensor !== null).map(([name]) => name)
    const steps = new Int32Array(states.length)
    this.parameters.forEach((p, i) => {
      const state = states[i]
      if (!Array.isArray(state?.shape) || !sameShape(state.shape, p.shape)) {
        const given = Array.isArray(state?.shape) ? showShape(state.shape) : 'none'
        throw mismatch(`the shape of a parameter is ${showShape(p.shape)}, that of its state ${given}`)
      }
      if (!Number.isSafeInteger(state.step) || state.step < 0 || state.step >= 2 ** 31)
        throw mismatch(`the step of a parameter should be a whole number, not ${show(state.step)}`)
      steps[i] = state.step
      const given = Object.keys(state.arrays ?? {})
      const unknown = given.find((name) => !names.includes(name))
      if (unknown !== undefined) throw mismatch(`there is no place for ${unknown}`)
      for (const name of names) {
        const length = given.includes(name) ? state.arrays[name]?.length : 'none'
        if (length !== p.size) throw mismatch(`${name} should have ${p.size} elements, not ${show(length)}`)
      }
    })
    const writes = arrays.flatMap(([name, tensor]): [Tensor, TypedArray][] => {
      if (tensor === null) return []
      const all = allocate(this.dtype, this.size)
      states.forEach((state, i) => all.set(state!.arrays[name]!, this.offsets[i]))
      return [[tensor, all]]
    })
    return () => {
      for (const [{ value }, data] of [...writes, [this.steps, steps] as const])
        this.device.recorder.overwrite(value, data)
    }
  }
}

/** What is saved of one parameter: how many updates it has received, and arrays of its elements by name. */
export interface ParameterState {
  readonly shape: Shape
  readonly step: number
  readonly arrays: Readonly<Record<string, TypedArray>>
}

function zeroed(device: Device, dtype: Dtype, size: number): Tensor {
  return new Tensor(device, device.recorder.upload(dtype, [size], allocate(dtype, size)), false)
}
