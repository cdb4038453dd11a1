/**
 * The arguments of a compiled function: tensors, scalars, constants, and arrays and plain objects of them. A *form* is
 * what they were when a program was recorded: it says whether others fit that program, and finds the tensors and scalars
 * in them, in order.
 */

import type { Device } from '../device.ts'
import type { Dtype } from '../dtype.ts'
import { expected } from '../errors.ts'
import { Scalar } from '../scalar.ts'
import { type Shape, sameShape } from '../shape.ts'
import { Tensor } from '../tensor.ts'

/** Nesting beyond which arguments are refused. */
const MAX_DEPTH = 8

/** The tensors and scalars among arguments, in order; one tensor given twice is there once. */
export interface Leaves {
  readonly tensors: Tensor[]
  readonly scalars: Scalar[]
}

/** What one argument has to be. */
type Form =
  | {
      readonly kind: 'tensor'
      readonly index: number
      readonly device: Device
      readonly dtype: Dtype
      readonly shape: Shape
      readonly requiresGrad: boolean
      readonly isLeaf: boolean
    }
  | { readonly kind: 'scalar'; readonly index: number }
  | { readonly kind: 'constant'; readonly value: unknown }
  | { readonly kind: 'list'; readonly parts: readonly Form[] }
  | { readonly kind: 'record'; readonly keys: readonly string[]; readonly parts: readonly Form[] }

/** Forms of all arguments of a call. */
export class Arguments {
  readonly #forms: readonly Form[]
  readonly #tensors: number
  readonly #scalars: number

  /** @param leaves where the tensors and scalars go */
  constructor(args: readonly unknown[], leaves: Leaves) {
    this.#forms = args.map((x, i) => formOf(`argument ${i}`, x, leaves, 0))
    this.#tensors = leaves.tensors.length
    this.#scalars = leaves.scalars.length
  }

  /** Whether other arguments have these forms; their tensors and scalars go to `leaves`, which has to be empty. */
  match(args: readonly unknown[], leaves: Leaves): boolean {
    if (args.length !== this.#forms.length) return false
    for (let i = 0; i < args.length; i++) if (!matches(this.#forms[i]!, args[i], leaves)) return false
    return leaves.tensors.length === this.#tensors && leaves.scalars.length === this.#scalars
  }

  /** The arguments with other tensors and scalars in their places. */
  withLeaves(leaves: { readonly tensors: readonly Tensor[]; readonly scalars: readonly Scalar[] }): unknown[] {
    return this.#forms.map((form) => filled(form, leaves))
  }

  /** `f32 [32, 784], i32 [32], 3`, for people. */
  toString(): string {
    return this.#forms.map(shown).join(', ')
  }
}

function formOf(name: string, x: unknown, leaves: Leaves, depth: number): Form {
  if (x instanceof Tensor) {
    const known = leaves.tensors.indexOf(x)
    const index = known < 0 ? leaves.tensors.push(x) - 1 : known
    // A disposed one is refused here, not later in the middle of something.
    void x.value
    // Not the tensor itself: its memory is not to live as long as the program.
    const { device, dtype, shape, requiresGrad, node } = x
    return { kind: 'tensor', index, device, dtype, shape, requiresGrad, isLeaf: node === null }
  }
  if (x instanceof Scalar) {
    const known = leaves.scalars.indexOf(x)
    return { kind: 'scalar', index: known < 0 ? leaves.scalars.push(x) - 1 : known }
  }
  if (typeof x === 'function' || typeof x === 'symbol' || depth > MAX_DEPTH) throw unfit(name, x)
  if (typeof x !== 'object' || x === null) return { kind: 'constant', value: x }
  if (Array.isArray(x)) {
    return {
      kind: 'list',
      parts: Array.from(x, (part: unknown, i) => formOf(`${name}[${i}]`, part, leaves, depth + 1)),
    }
  }
  if (!isPlain(x)) throw unfit(name, x)
  const entries = Object.entries(x)
  return {
    kind: 'record',
    keys: entries.map(([key]) => key),
    parts: entries.map(([key, part]) => formOf(`${name}.${key}`, part, leaves, depth + 1)),
  }
}

function matches(form: Form, x: unknown, leaves: Leaves): boolean {
  switch (form.kind) {
    case 'tensor': {
      const { index } = form
      // A disposed one is refused where a program is recorded.
      if (!(x instanceof Tensor) || x.disposed) return false
      const { tensors } = leaves
      if (tensors.length === index) {
        // Another tensor here means another one there too.
        if (tensors.includes(x)) return false
        tensors.push(x)
      } else if (tensors[index] !== x) return false
      return (
        x.dtype === form.dtype &&
        x.device === form.device &&
        x.requiresGrad === form.requiresGrad &&
        (x.node === null) === form.isLeaf &&
        sameShape(x.shape, form.shape)
      )
    }
    case 'scalar': {
      if (!(x instanceof Scalar)) return false
      if (leaves.scalars.length > form.index) return leaves.scalars[form.index] === x
      if (leaves.scalars.includes(x)) return false
      leaves.scalars.push(x)
      return true
    }
    case 'constant':
      return Object.is(form.value, x)
    case 'list':
      return (
        Array.isArray(x) && x.length === form.parts.length && form.parts.every((part, i) => matches(part, x[i], leaves))
      )
    case 'record': {
      if (typeof x !== 'object' || x === null || !isPlain(x)) return false
      const given = x as Readonly<Record<string, unknown>>
      const keys = Object.keys(given)
      if (keys.length !== form.keys.length) return false
      return form.parts.every((part, i) => keys[i] === form.keys[i] && matches(part, given[form.keys[i]!], leaves))
    }
  }
}

function filled(
  form: Form,
  leaves: { readonly tensors: readonly Tensor[]; readonly scalars: readonly Scalar[] },
): unknown {
  switch (form.kind) {
    case 'tensor':
      return leaves.tensors[form.index]
    case 'scalar':
      return leaves.scalars[form.index]
    case 'constant':
      return form.value
    case 'list':
      return form.parts.map((part) => filled(part, leaves))
    case 'record': {
      const record = Object.create(null) as Record<string, unknown>
      form.keys.forEach((key, i) => (record[key] = filled(form.parts[i]!, leaves)))
      return record
    }
  }
}

function shown(form: Form): string {
  switch (form.kind) {
    case 'tensor':
      return `${form.dtype} [${form.shape.join(', ')}]${form.requiresGrad ? ' requires grad' : ''}`
    case 'scalar':
      return 'scalar'
    case 'constant':
      return typeof form.value === 'string' ? `'${form.value}'` : String(form.value)
    case 'list':
      return `[${form.parts.map(shown).join(', ')}]`
    case 'record':
      return `{ ${form.keys.map((key, i) => `${key}: ${shown(form.parts[i]!)}`).join(', ')} }`
  }
}

function isPlain(x: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(x)
  return prototype === Object.prototype || prototype === null
}

function unfit(name: string, x: unknown): Error {
  return expected(
    `compile: ${name}`,
    'a tensor, a scalar(), a number, string or boolean, or an array or plain object of them; other things belong into the function',
    x,
  )
}
