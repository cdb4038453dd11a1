/** Gradients of functions: `grad`, `valueAndGrad`, `customGrad`. They leave every `grad` field alone. */

import { TilegradError, expected } from '../errors.ts'
import { checkSameDtype, checkTensor, sharedDevice } from '../ops/apply.ts'
import { checkSynchronous, collecting, leave } from '../scope.ts'
import { sameShape, showShape } from '../shape.ts'
import { Tensor } from '../tensor.ts'
import { zerosLike } from '../ops/creation.ts'
import { gradientsOf } from './backward.ts'
import { Node, nodeOf, recording, track, withRecording } from './tape.ts'

/** How many functions whose gradient is wanted are running, one inside the other. */
let depth = 0

/**
 * A function that computes the value of `fn` and its gradients with respect to each of its tensor arguments. Inside
 * another `grad` or `valueAndGrad` the gradients are differentiable themselves.
 *
 * @param fn synchronous; gives a tensor of one element
 * @returns `(...inputs) => { value, grads }`, `grads` in the order of the inputs
 * @throws `ERR_ARGUMENT` when `fn` is asynchronous or an input is no float tensor; `ERR_SHAPE` when the value has more than one element
 *
 * @example
 * ```ts
 * import { tensor, valueAndGrad } from 'tilegrad'
 * const { value, grads } = valueAndGrad((x) => x!.square().sum())(tensor([1, 2, 3]))
 * console.log(await value.item(), await grads[0]!.data()) // 14 Float32Array [2, 4, 6]
 * ```
 */
export function valueAndGrad(
  fn: (...inputs: Tensor[]) => Tensor,
): (...inputs: Tensor[]) => { value: Tensor; grads: Tensor[] } {
  if (typeof fn !== 'function') throw expected('valueAndGrad: fn', 'a function', fn)
  return (...inputs) => {
    // Inside another gradient, fn may use what that one varies without getting it as an input.
    const outer = recording() && (depth > 0 || inputs.some((x) => x instanceof Tensor && x.requiresGrad))
    return withRecording(
      true,
      () => {
        const variables = inputs.map((x) => variable(x, outer))
        const value = nested(() => fn(...variables))
        checkSynchronous('valueAndGrad', value)
        if (!(value instanceof Tensor))
          throw expected('valueAndGrad: the result of fn', 'a tensor of one element', value)
        const targets = variables.map((v) => nodeOf(v)!)
        const grads = value.requiresGrad ? gradientsOf(value, targets, outer) : variables.map(() => null)
        const result = {
          value: outer ? value : value.detach(),
          grads: grads.map((g, i) => g ?? zerosLike(variables[i]!)),
        }
        for (const v of variables) if (v !== value) v.dispose()
        return result
      },
      'valueAndGrad',
    )
  }
}

/**
 * The gradients alone; see {@link valueAndGrad}.
 *
 * @example
 * ```ts
 * import { type Tensor, grad, tensor } from 'tilegrad'
 * const cube = (x: Tensor) => x.pow(3).sum()
 * const [slope] = grad(cube)(tensor(2))
 * const [curvature] = grad((x) => grad(cube)(x!)[0]!.sum())(tensor(2))
 * console.log(await slope!.item(), await curvature!.item()) // 12 12
 * ```
 */
export function grad(fn: (...inputs: Tensor[]) => Tensor): (...inputs: Tensor[]) => Tensor[] {
  const both = valueAndGrad(fn)
  return (...inputs) => {
    const { value, grads } = both(...inputs)
    value.dispose()
    return grads
  }
}

/**
 * A function with a gradient of your own.
 *
 * @param forward computes the result from the inputs; what happens inside is not recorded
 * @param backward gives the gradient of each input (`null` for none) from `dy`, the inputs and the result
 * @throws `ERR_ARGUMENT` when either is asynchronous; `ERR_SHAPE` when a gradient does not have its input's shape
 *
 * @example
 * ```ts
 * import { customGrad, grad, tensor } from 'tilegrad'
 * // Rounds forward, passes the gradient straight through.
 * const round = customGrad(([x]) => x!.add(0.5).floor(), (dy) => [dy])
 * const [dx] = grad((x) => round(x!).sum())(tensor([0.2, 1.7]))
 * console.log(await dx!.data()) // Float32Array [1, 1]
 * ```
 */
export function customGrad(
  forward: (inputs: readonly Tensor[]) => Tensor,
  backward: (dy: Tensor, inputs: readonly Tensor[], output: Tensor) => readonly (Tensor | null)[],
): (...inputs: Tensor[]) => Tensor {
  if (typeof forward !== 'function') throw expected('customGrad: forward', 'a function', forward)
  if (typeof backward !== 'function') throw expected('customGrad: backward', 'a function', backward)
  return (...inputs) => {
    for (const x of inputs) checkTensor('customGrad', 'inputs', x)
    const [made, inside] = collecting(() => withRecording(false, () => forward(inputs), 'customGrad'))
    leave(inside)
    if (!(made instanceof Tensor)) throw expected('customGrad: the result of forward', 'a tensor', made)
    // What forward did not make itself (an input, a tensor it keeps) must not get a place on the tape from here.
    const out = inside.includes(made) && !made.requiresGrad ? made : made.detach()
    return track(out, 'customGrad', inputs, [...inputs, out], (dy, saved) => {
      const grads = backward(dy, saved.slice(0, inputs.length), saved[inputs.length]!)
      checkSynchronous('customGrad', grads)
      if (!Array.isArray(grads) || grads.length !== inputs.length) {
        throw expected('customGrad: the result of backward', `an array of ${inputs.length} gradients`, grads)
      }
      grads.forEach((g: unknown, i) => {
        if (g === null) return
        const input = inputs[i]!
        checkTensor('customGrad', `gradient ${i}`, g)
        checkSameDtype('customGrad', input, g)
        sharedDevice('customGrad', dy, g)
        if (!sameShape(g.shape, input.shape)) {
          throw new TilegradError(
            'ERR_SHAPE',
            `customGrad: gradient ${i} has shape ${showShape(g.shape)}, its input ${showShape(input.shape)}`,
          )
        }
      })
      return grads
    })
  }
}

function nested<T>(fn: () => T): T {
  depth++
  try {
    return fn()
  } finally {
    depth--
  }
}

/** An input under its own node, so that gradients stop there; linked to the outer graph when that is being recorded. */
function variable(x: unknown, outer: boolean): Tensor {
  if (!(x instanceof Tensor) || (x.dtype !== 'f32' && x.dtype !== 'f64')) {
    throw expected('grad: inputs', 'float tensors', x instanceof Tensor ? `a tensor of ${x.dtype}` : x)
  }
  const copy = new Tensor(x.device, x.value.retain(), false)
  copy.requiresGrad = true
  if (outer && x.requiresGrad) copy.node = new Node('identity', [nodeOf(x)], [], (dy) => [dy])
  return copy
}
