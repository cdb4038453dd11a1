/** Activations, and the instructions of their gradients, which take what the forward pass saved. */

import * as tilegrad from '../../../ts/index.ts'
import type { ActivationName, Tensor } from '../../../ts/index.ts'
import { Tensor as TensorClass } from '../../../ts/index.ts'
import type { OpcodeName } from '../../../ts/program/opcodes.ts'
import type { Tolerance, Want } from '../compare.ts'
import { type Data, SIZES, array, random } from '../data.ts'
import { ACTIVATION_FORMULAS, type Formula, sigmoid } from '../formulas.ts'
import { map } from '../reference.ts'
import { BUDGET, type Case, EXACT, type Gradient, type Row, shapesOf } from './case.ts'
import { special } from './special.ts'

/** Where 1 + tanh and the like cancel, the error is relative to z, not to the result. */
const ABSOLUTE: Tolerance = { kind: 'budget', relative: 5e-7, absolute: 5e-7 }

/** eˣ for x ≤ 0, as σ and softplus use it, may be 0 where it is below the normal range of f32. */
const DECAY: Tolerance = { kind: 'budget', relative: 5e-7, absolute: 2 ** -126 }

/** z times such a σ, for |z| ≤ 120. */
const PRODUCT: Tolerance = { kind: 'budget', relative: 5e-7, absolute: 120 * 2 ** -126 }

/** Derivatives are differences of numbers near 1; |dy| ≤ 1 in their cases. */
const DERIVATIVE: Tolerance = { kind: 'budget', relative: 1e-6, absolute: 1e-6 }

/** Parameters other than the default ones, with their function and its derivative in z. */
interface Variant {
  readonly parameters: readonly number[]
  readonly run: (z: Tensor) => Tensor
  readonly f: (z: number) => number
  readonly derivative: (z: number) => number
}

function activation(
  name: ActivationName,
  tolerance: Tolerance,
  gradient: Gradient,
  variants: readonly Variant[] = [],
): Row {
  const { f, corners }: Formula = ACTIVATION_FORMULAS[name]
  const run = (z: Tensor): Tensor =>
    name === 'geluTanh' ? tilegrad.gelu(z, { approximate: 'tanh' }) : tilegrad[name](z)
  const make = (title: string, z: Data, grad: boolean, call = run, formula = f): Case => ({
    title,
    inputs: [z],
    run: ([z]) => call(z!),
    want: ([z]) => map(z!.dtype, formula, z!),
    grad,
  })
  return {
    api: name === 'geluTanh' ? ['gelu'] : [name],
    tolerance,
    gradient,
    cases: (dtype) => [
      ...[...SIZES.map((n) => [n]), [], [2, 3, 5]].map((shape) => {
        const z = random(dtype, shape, { low: -8, high: 8, corners })
        return make(shapesOf([z]), z, shape.length === 3 || shape[0] === 0)
      }),
      make(
        'from −120 to 120',
        array(dtype, [961], (i) => i / 4 - 120),
        false,
      ),
      make('special values', special(dtype), false),
      ...variants.map((v) =>
        make(
          `parameters ${v.parameters.join(', ')}`,
          random(dtype, [4, 9], { low: -4, high: 4, corners: [0] }),
          true,
          v.run,
          v.f,
        ),
      ),
    ],
  }
}

/** dy · f′(z), given dy and y or z. */
function derivative(name: ActivationName, variants: readonly Variant[] = []): Row {
  const op = `${name}Grad` as OpcodeName
  const formula: Formula = ACTIVATION_FORMULAS[name]
  const defaults = { leakyRelu: [0.01], elu: [1], softplus: [1, 20] }[name as string] ?? []
  const all = [{ parameters: defaults, f: formula.f, derivative: formula.derivative }, ...variants]
  return {
    api: [],
    tolerance: DERIVATIVE,
    gradient: 'none',
    cases: (dtype) =>
      all.flatMap(({ parameters, f, derivative }) =>
        [[0], [1], [7], [33], [257], [2, 3, 5]].map((shape): Case => {
          const z = random(dtype, shape, { low: -6, high: 6, corners: formula.corners, salt: 1 })
          const saved = formula.saves === 'y' ? array(dtype, shape, map(dtype, f, z).values) : z
          return {
            title: `${shapesOf([z])} ${parameters.join(', ')}`,
            inputs: [random(dtype, shape, { low: -1, high: 1, salt: 2 }), saved],
            run: ([dy, saved], device) =>
              new TensorClass(
                device,
                device.recorder.emit(op, [dy!.value, saved!.value], { dtype, shape: dy!.shape }, parameters),
              ),
            want: ([dy]) => product(dy!, z, derivative),
          }
        }),
      ),
  }
}

function product(dy: Data, z: Data, derivative: (z: number) => number): Want {
  return map(dy.dtype, (g, z) => g * derivative(z), dy, z)
}

const LEAKY: readonly Variant[] = [
  {
    parameters: [0.2],
    run: (z) => tilegrad.leakyRelu(z, 0.2),
    f: (z) => (z > 0 ? z : 0.2 * z),
    derivative: (z) => (z > 0 ? 1 : 0.2),
  },
]

const ELU: readonly Variant[] = [
  {
    parameters: [0.5],
    run: (z) => tilegrad.elu(z, 0.5),
    f: (z) => (z > 0 ? z : 0.5 * Math.expm1(z)),
    derivative: (z) => (z > 0 ? 1 : 0.5 * Math.exp(z)),
  },
]

const SOFTPLUS: readonly Variant[] = [
  {
    parameters: [2, 6],
    run: (z) => tilegrad.softplus(z, { beta: 2, threshold: 6 }),
    f: (z) => (2 * z > 6 ? z : Math.log1p(Math.exp(2 * z)) / 2),
    derivative: (z) => (2 * z > 6 ? 1 : sigmoid(2 * z)),
  },
]

export const ACTIVATION = {
  relu: activation('relu', EXACT, 'corners'),
  leakyRelu: activation('leakyRelu', BUDGET, 'corners', LEAKY),
  elu: activation('elu', BUDGET, 'corners', ELU),
  sigmoid: activation('sigmoid', DECAY, 'smooth'),
  tanh: activation('tanh', BUDGET, 'smooth'),
  silu: activation('silu', PRODUCT, 'smooth'),
  softplus: activation('softplus', DECAY, 'corners', SOFTPLUS),
  heaviside: activation('heaviside', EXACT, 'zero'),
  gelu: activation('gelu', ABSOLUTE, 'smooth'),
  geluTanh: activation('geluTanh', ABSOLUTE, 'smooth'),
  reluGrad: derivative('relu'),
  leakyReluGrad: derivative('leakyRelu', LEAKY),
  eluGrad: derivative('elu', ELU),
  sigmoidGrad: derivative('sigmoid'),
  tanhGrad: derivative('tanh'),
  siluGrad: derivative('silu'),
  softplusGrad: derivative('softplus', SOFTPLUS),
  geluGrad: derivative('gelu'),
  geluTanhGrad: derivative('geluTanh'),
} as const satisfies Readonly<Partial<Record<OpcodeName, Row>>>
