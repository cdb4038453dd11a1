/**
 * The tape: a node for every tracked result, with edges to the nodes of its inputs and the rule that turns the gradient
 * of the result into gradients of the inputs (its VJP, vector–Jacobian product). Rules are defined beside each operation
 * in `ts/ops/`, in terms of operations, so every device gets every gradient. The walk itself is `backward.ts`.
 */

import { TilegradError } from '../errors.ts'
import { tracing } from '../program/tracing.ts'
import { checkSynchronous } from '../scope.ts'
import type { Tensor } from '../tensor.ts'

/**
 * Gradients of the inputs from the gradient of the output, in input order; `null` where `needs` is false. It may return
 * `dy` itself. When `recording()` is on (second derivatives), it has to be made of differentiable operations.
 */
export type Vjp = (dy: Tensor, saved: readonly Tensor[], needs: readonly boolean[]) => readonly (Tensor | null)[]

let counter = 0
let enabled = true

/** How many nodes there have been: those made from now on have this number or a higher one. */
export function nodeCount(): number {
  return counter
}

/** One tracked result, or a leaf that collects a gradient. */
export class Node {
  /** Nodes are numbered as they are made, so that descending order is a reverse topological one. */
  readonly id = counter++
  readonly op: string
  /** What the gradient flows to; empty once the node has been released, so that what led here can be collected. */
  inputs: readonly (Node | null)[]
  /** The leaf tensor whose `grad` this node feeds. */
  readonly leaf: Tensor | null
  #vjp: Vjp | null
  #saved: readonly Tensor[]
  #versions: readonly number[]

  constructor(
    op: string,
    inputs: readonly (Node | null)[],
    saved: readonly Tensor[],
    vjp: Vjp | null,
    leaf: Tensor | null = null,
  ) {
    this.op = op
    this.inputs = inputs
    this.leaf = leaf
    this.#vjp = vjp
    this.#saved = saved
    this.#versions = saved.map((t) => t.value.storage.version)
  }

  /** The node of what a compiled function gave: the way back is not known. */
  static compiled(): Node {
    return new Node('compile', [], [], () => {
      throw new TilegradError(
        'ERR_TRACE',
        'backward: the way to a result of a compiled function cannot be gone back; call backward() inside that function: compile the whole step',
      )
    })
  }

  /** Throws unless gradients may flow through this node. */
  check(): void {
    if (this.op === 'compile') this.pull(null as never, [])
    tracing()?.checkNode(this)
  }

  /** Applies the rule; `needs` says which inputs want a gradient. `ERR_STALE` when a saved tensor has changed since, `ERR_ARGUMENT` when the graph has been freed. */
  pull(dy: Tensor, needs: readonly boolean[]): readonly (Tensor | null)[] {
    const vjp = this.#vjp
    if (vjp === null) {
      throw new TilegradError(
        'ERR_ARGUMENT',
        `backward: what ${this.op} saved has been freed by an earlier backward(); pass { retainGraph: true } to run it twice`,
      )
    }
    for (let i = 0; i < this.#saved.length; i++) {
      if (this.#saved[i]!.value.storage.version !== this.#versions[i]) {
        throw new TilegradError(
          'ERR_STALE',
          `backward: a tensor that ${this.op} saved has been changed in place since the forward pass; run backward() before the optimiser's step`,
        )
      }
    }
    return vjp(dy, this.#saved, needs)
  }

  /** Frees what was saved. */
  release(): void {
    if (this.leaf !== null) return
    for (const tensor of this.#saved) tensor.dispose()
    this.#saved = []
    this.#versions = []
    this.#vjp = null
    this.inputs = []
  }

  /** Whether {@link release} has been called. */
  get released(): boolean {
    return this.#vjp === null && this.leaf === null
  }
}

/** Whether operations are being recorded for gradients. */
export function recording(): boolean {
  return enabled
}

/**
 * Runs `fn` without recording gradients: for evaluation.
 *
 * @example
 * ```ts
 * import { noGrad, randn, nn } from 'tilegrad'
 * const model = new nn.Linear(4, 2)
 * const y = noGrad(() => model.forward(randn([8, 4])))
 * console.log(y.requiresGrad) // false
 * ```
 */
export function noGrad<T>(fn: () => T): T {
  return withRecording(false, fn, 'noGrad')
}

/** @internal Switches recording for the time of a synchronous function. */
export function withRecording<T>(on: boolean, fn: () => T, op: string): T {
  const before = enabled
  enabled = on
  try {
    const result = fn()
    checkSynchronous(op, result)
    return result
  } finally {
    enabled = before
  }
}

/** @internal The node gradients of `tensor` flow to, or `null`. */
export function nodeOf(tensor: Tensor): Node | null {
  if (!tensor.requiresGrad) return null
  if (tensor.node !== null) return tensor.node
  return (tensor.leaf ??= new Node('leaf', [], [], null, tensor))
}

/**
 * @internal Puts a fresh result on the tape when an input requires a gradient. `saved` may name inputs, the result, or
 * tensors made for this purpose; each is aliased, so callers keep or dispose of their own handles as they like.
 */
export function track(
  out: Tensor,
  op: string,
  inputs: readonly (Tensor | null)[],
  saved: readonly Tensor[],
  vjp: Vjp,
): Tensor {
  if (!enabled) return out
  let needed = false
  for (let i = 0; i < inputs.length; i++) if (inputs[i]?.requiresGrad) needed = true
  if (!needed) return out
  const edges = inputs.map((t) => (t === null ? null : nodeOf(t)))
  // The alias of the result itself has to know its node, for second derivatives: it gets it below.
  const aliases = saved.map((t) => t.alias())
  out.node = new Node(op, edges, aliases, vjp)
  out.requiresGrad = true
  for (let i = 0; i < saved.length; i++) {
    if (saved[i] === out) {
      aliases[i]!.node = out.node
      aliases[i]!.requiresGrad = true
    }
  }
  return out
}
