/**
 * The fused layer y = act(xW + b): one instruction forward, one backward that gives dx = dz Wᵀ, dW = xᵀ dz and
 * db = Σ_rows dz with dz = dy ⊙ act′. Row i of the result has the bits of the row computed alone, on every device.
 */

import { recording, track } from '../autograd/tape.ts'
import { type Names, TilegradError, checkOptions } from '../errors.ts'
import { ACTIVATION_CODES } from '../program/words.ts'
import type { OutputSpec } from '../program/code.ts'
import { numel, showShape } from '../shape.ts'
import { Tensor } from '../tensor.ts'
import { ACTIVATIONS, type ActivationName, activationGrad, checkActivation } from './activation.ts'
import { checkDtypeClass, checkSameDtype, checkTensor, sharedDevice } from './apply.ts'
import { matmul } from './matmul.ts'
import { sum } from './reduce.ts'
import { reshape } from './shape.ts'

const WANT_X = 1
const WANT_WEIGHT = 2
const WANT_BIAS = 4

/** Options of {@link linear}. */
export interface LinearOptions {
  /** Activation applied to xW + b in the same pass. Default: none. */
  readonly activation?: ActivationName
}

const OPTIONS: Names<LinearOptions> = { activation: true }

/**
 * act(xW + b).
 *
 * @param x `[…, in]`; leading axes are rows
 * @param weight `[in, out]`
 * @param bias `[out]`, or nothing
 * @throws `ERR_SHAPE`, `ERR_DTYPE`, `ERR_DEVICE_MISMATCH` when operands do not fit
 *
 * @example
 * ```ts
 * import { linear, tensor } from 'tilegrad'
 * const y = linear(tensor([[1, 2]]), tensor([[1, -1], [1, -1]]), tensor([0.5, 0.5]), { activation: 'relu' })
 * console.log(await y.array()) // [[3.5, 0]]
 * ```
 */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor | null, options: LinearOptions = {}): Tensor {
  checkOperands(x, weight, bias ?? null)
  checkOptions('linear', options, OPTIONS)
  const { activation } = options
  if (activation !== undefined) checkActivation('linear', activation)
  const { device, dtype } = x
  const out = weight.shape[1]!
  const spec: OutputSpec = { dtype, shape: [...x.shape.slice(0, -1), out] }
  const tracked = recording() && (x.requiresGrad || weight.requiresGrad || bias?.requiresGrad === true)
  const saves = activation === undefined ? null : ACTIVATIONS[activation].saves
  const savesZ = tracked && saves === 'z'
  const [y, z] = device.recorder.emitMany(
    'linear',
    [x.value, weight.value, bias?.value ?? null],
    savesZ ? [spec, spec] : [spec],
    [ACTIVATION_CODES[activation ?? 'none'], +savesZ],
  )
  const result = new Tensor(device, y!)
  const preActivation = z === undefined ? null : new Tensor(device, z, false)
  const kept = preActivation ?? (saves === 'y' ? result : null)
  device.recorder.addWork(2 * result.size * x.shape.at(-1)!)
  const saved = [x, weight, kept, bias ?? null]
  track(
    result,
    'linear',
    [x, weight, bias ?? null],
    saved.filter((t) => t !== null),
    (dy, present, needs) => {
      let at = 0
      return gradients(
        dy,
        saved.map((t) => (t === null ? null : present[at++]!)),
        needs,
        activation,
      )
    },
  )
  preActivation?.dispose()
  return result
}

function gradients(
  dy: Tensor,
  [x, weight, kept, bias]: readonly (Tensor | null)[],
  needs: readonly boolean[],
  activation: ActivationName | undefined,
): (Tensor | null)[] {
  if (recording()) return decomposed(dy, x!, weight!, bias!, kept!, needs, activation)
  const { device, dtype } = dy
  const specs: OutputSpec[] = []
  if (needs[0]) specs.push({ dtype, shape: x!.shape })
  if (needs[1]) specs.push({ dtype, shape: weight!.shape })
  if (needs[2]) specs.push({ dtype, shape: [weight!.shape[1]!] })
  const wanted = (needs[0] ? WANT_X : 0) | (needs[1] ? WANT_WEIGHT : 0) | (needs[2] ? WANT_BIAS : 0)
  // A step function passes no gradient: its derivative needs nothing saved, but the instruction wants an operand.
  const saved = activation === undefined ? null : (kept?.value ?? dy.value)
  const values = device.recorder
    .emitMany('linearGrad', [dy.value, saved, needs[1] ? x!.value : null, needs[0] ? weight!.value : null], specs, [
      ACTIVATION_CODES[activation ?? 'none'],
      wanted,
    ])
    .map((value) => new Tensor(device, value))
  device.recorder.addWork(2 * dy.size * x!.shape.at(-1)! * (+needs[0]! + +needs[1]!))
  return needs.map((needed) => (needed ? values.shift()! : null))
}

/** The same from differentiable operations, for second derivatives. */
function decomposed(
  dy: Tensor,
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  kept: Tensor | null,
  needs: readonly boolean[],
  activation: ActivationName | undefined,
): (Tensor | null)[] {
  let dz = dy
  if (activation !== undefined) {
    // A saved z has no place in the graph: it is computed again from operands that have one.
    const saved = ACTIVATIONS[activation].saves === 'y' ? kept! : linear(x, weight, bias)
    dz = activationGrad(activation, dy, saved)
  }
  // Not by -1: where there are no columns, it has nothing to go by.
  const count = numel(x.shape.slice(0, -1))
  const rows = reshape(dz, [count, dy.shape.at(-1)!])
  return [
    needs[0] ? reshape(matmul(rows, weight, { transposeB: true }), x.shape) : null,
    needs[1] ? matmul(reshape(x, [count, x.shape.at(-1)!]), rows, { transposeA: true }) : null,
    needs[2] ? sum(rows, 0) : null,
  ]
}

function checkOperands(x: Tensor, weight: Tensor, bias: Tensor | null): void {
  checkTensor('linear', 'x', x)
  checkTensor('linear', 'weight', weight)
  if (bias !== null) checkTensor('linear', 'bias', bias)
  checkDtypeClass('linear', 'float', x.dtype)
  checkSameDtype('linear', x, weight)
  if (weight.shape.length !== 2 || x.shape.length === 0 || x.shape.at(-1) !== weight.shape[0]) {
    const why =
      weight.shape.length !== 2 ? 'weight has to be [in, out]' : `${x.shape.at(-1) ?? 'no axis'} ≠ ${weight.shape[0]}`
    throw new TilegradError(
      'ERR_SHAPE',
      `linear: x ${showShape(x.shape)} and weight ${showShape(weight.shape)} do not fit: ${why}`,
    )
  }
  if (bias !== null) {
    checkSameDtype('linear', x, bias)
    if (bias.shape.length !== 1 || bias.shape[0] !== weight.shape[1]) {
      throw new TilegradError(
        'ERR_SHAPE',
        `linear: bias ${showShape(bias.shape)} does not fit weight ${showShape(weight.shape)}: it has to be [${weight.shape[1]}]`,
      )
    }
  }
  sharedDevice('linear', x, weight, bias)
}
