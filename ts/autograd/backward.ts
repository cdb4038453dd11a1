/**
 * The walk: from a result back to the leaves, in reverse order of recording, adding up gradients where paths meet.
 * Gradients on the way are disposed of as soon as they have been used, in program order, so most of them never get
 * memory of their own.
 */

import { TilegradError } from '../errors.ts'
import { checkSameDtype, checkTensor, sharedDevice } from '../ops/apply.ts'
import { add } from '../ops/elementwise.ts'
import { full } from '../ops/creation.ts'
import { collecting, currentScope, keep } from '../scope.ts'
import { hostEffect, tracing } from '../program/tracing.ts'
import { endPass } from '../random-site.ts'
import { sameShape, showShape } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import type { Node } from './tape.ts'
import { nodeOf, recording, withRecording } from './tape.ts'

/** @internal See `Tensor.backward`. */
export function backward(root: Tensor, options: { retainGraph?: boolean; gradient?: Tensor }): void {
  const start = startNode('backward', root)
  const seed = seedOf('backward', root, options.gradient)
  const retain = options.retainGraph === true
  withRecording(false, () => walk(start, seed, null, retain), 'backward')
  // A graph that is kept is gone through again: the pass goes on.
  if (!retain) hostEffect(endPass)
}

/**
 * @internal Gradients of `root` with respect to `targets` only; no leaf's `grad` is touched. With `createGraph` the
 * gradients are tracked themselves.
 */
export function gradientsOf(root: Tensor, targets: readonly Node[], createGraph: boolean): (Tensor | null)[] {
  const start = startNode('grad', root)
  const seed = seedOf('grad', root, undefined)
  const found = new Map<Node, Tensor | null>(targets.map((t) => [t, null]))
  withRecording(createGraph && recording(), () => walk(start, seed, found, createGraph), 'grad')
  if (!createGraph) hostEffect(endPass)
  // The walk keeps what it hands out beyond every scope; here it belongs to whoever asked, like any result.
  for (const gradient of found.values()) if (gradient !== null) currentScope()?.push(gradient)
  return targets.map((t) => found.get(t) ?? null)
}

function startNode(op: string, root: Tensor): Node {
  // Nothing below needs the value itself, but a disposed tensor is not to be used.
  void root.value
  const start = nodeOf(root)
  if (start === null) {
    throw new TilegradError('ERR_ARGUMENT', `${op}: nothing that led to this tensor requires a gradient`)
  }
  return start
}

function seedOf(op: string, root: Tensor, gradient: Tensor | undefined): Tensor {
  if (gradient === undefined) {
    if (root.size !== 1) {
      throw new TilegradError(
        'ERR_SHAPE',
        `${op}: the tensor has shape ${showShape(root.shape)}; reduce it to one number first, or pass { gradient }`,
      )
    }
    return full(root.shape, 1, { dtype: root.dtype, device: root.device })
  }
  checkTensor(op, 'gradient', gradient)
  checkSameDtype(op, root, gradient)
  sharedDevice(op, root, gradient)
  if (!sameShape(gradient.shape, root.shape)) {
    throw new TilegradError(
      'ERR_SHAPE',
      `${op}: gradient ${showShape(gradient.shape)} and tensor ${showShape(root.shape)} differ`,
    )
  }
  return gradient.alias()
}

function walk(start: Node, seed: Tensor, targets: Map<Node, Tensor | null> | null, retain: boolean): void {
  const gradients = new Map<Node, Tensor>([[start, seed]])
  const [nodes, leads] = order(start, targets)
  const wanted = (input: Node | null): boolean => input !== null && leads.get(input) === true
  for (const node of nodes) {
    const dy = gradients.get(node)
    if (dy === undefined) {
      // A rule gave it nothing, but what it saved is as useless now as elsewhere.
      if (!retain) node.release()
      continue
    }
    gradients.delete(node)
    if (targets?.has(node)) {
      targets.set(node, keep(dy))
      continue
    }
    if (node.leaf !== null) {
      if (targets === null) accumulate(node.leaf, dy)
      continue
    }
    const [pulled, made] = collecting(() => node.pull(dy, node.inputs.map(wanted)))
    const used = new Set<Tensor>()
    for (let i = 0; i < node.inputs.length; i++) {
      const input = node.inputs[i]
      const given = pulled[i]
      if (input == null || given == null || !wanted(input)) continue
      // A rule may hand on dy, something saved or the user's, or one tensor for two inputs: only what it made for one
      // receiver is that receiver's to dispose of.
      const gradient = used.has(given) || !made.includes(given) ? given.alias() : given
      used.add(gradient)
      const before = gradients.get(input)
      if (before === undefined) gradients.set(input, gradient)
      else {
        gradients.set(input, add(before, gradient))
        before.dispose()
        gradient.dispose()
      }
    }
    // What a rule made on its way and did not hand on is freed here, so rules need not care.
    for (const tensor of made) if (!used.has(tensor)) tensor.dispose()
    dy.dispose()
    if (!retain) node.release()
  }
}

/** Every node that leads from `start` to a leaf (or to one of `targets`), latest first, and which ones those are. */
function order(start: Node, targets: Map<Node, Tensor | null> | null): [Node[], ReadonlyMap<Node, boolean>] {
  const leads = new Map<Node, boolean>()
  const stack: Node[] = [start]
  while (stack.length > 0) {
    const node = stack[stack.length - 1]!
    if (leads.has(node)) {
      stack.pop()
      continue
    }
    node.check()
    // A released node has led to a leaf: the walk has to come by, so that it can say what is missing.
    const isTarget = targets === null ? node.leaf !== null || node.released : targets.has(node)
    const pending = isTarget ? [] : node.inputs.filter((n): n is Node => n !== null && !leads.has(n))
    if (pending.length > 0) {
      stack.push(...pending)
      continue
    }
    stack.pop()
    leads.set(
      node,
      isTarget || (node === start && node.released) || node.inputs.some((n) => n !== null && leads.get(n) === true),
    )
  }
  return [[...leads.keys()].filter((n) => leads.get(n)).sort((a, b) => b.id - a.id), leads]
}

function accumulate(target: Tensor, gradient: Tensor): void {
  // A compiled function has its own handles on its arguments.
  const leaf = tracing()?.standIn(target) ?? target
  if (leaf.disposed) {
    gradient.dispose()
    return
  }
  if (leaf.grad === null || leaf.grad.disposed) {
    leaf.grad = keep(gradient.node === null ? gradient : gradient.detach())
    if (leaf.grad !== gradient) gradient.dispose()
    return
  }
  if (!sameShape(leaf.grad.shape, gradient.shape)) {
    // `grad` can be assigned: a sum of another shape would not be what its handle says it is.
    throw new TilegradError(
      'ERR_SHAPE',
      `backward: the grad of a tensor of shape ${showShape(leaf.shape)} has shape ${showShape(leaf.grad.shape)}`,
    )
  }
  // A new sum, not a change in place: if this gradient is poisoned, the sum has to be, or a step would miss it silently.
  const sum = add(leaf.grad, gradient)
  leaf.grad.replaceValue(sum.value.retain())
  sum.dispose()
  gradient.dispose()
}
