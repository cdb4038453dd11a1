/** The instructions of optimisers, held against PyTorch's formulas; everything else about optimisers is tested there. */

import { Parameter, Tensor as TensorClass, optim } from '../../../ts/index.ts'
import type { Dtype, Shape, Tensor } from '../../../ts/index.ts'
import type { OpcodeName } from '../../../ts/program/opcodes.ts'
import type { Tolerance } from '../compare.ts'
import { type Data, random } from '../data.ts'
import { total } from '../reference.ts'
import { type Case, type Row, SUM, shapesOf } from './case.ts'

/** Three steps of some operations each, all relative to the size of the parameters. */
const UPDATE: Tolerance = { kind: 'scale', relative: 1.3e-6, absolute: 1e-6 }

const SHAPES: readonly Shape[] = [[], [0], [1], [7], [64], [65], [3, 33]]

const STEPS = 3

/** Runs some steps over one parameter with the same gradient. */
function train(make: (parameters: Tensor[]) => optim.Optimizer): Case['run'] {
  return ([p, g]) => {
    const parameter = new Parameter(p!.detach())
    const optimizer = make([parameter])
    for (let step = 0; step < STEPS; step++) {
      parameter.grad = g!.detach()
      optimizer.step()
    }
    return parameter
  }
}

/** The same on numbers: `update` gets the parameter, its gradient, its state and t = 1, 2, … */
function expected(inputs: readonly Data[], update: (p: number, g: number, state: number[], t: number) => number): Data {
  const [p, g] = inputs as [Data, Data]
  const values = p.values.map((start, i) => {
    const state = [0, 0]
    let value = start
    for (let t = 1; t <= STEPS; t++) value = update(value, g.values[i]!, state, t)
    return value
  })
  return { ...p, values }
}

function updates(
  title: string,
  make: (parameters: Tensor[]) => optim.Optimizer,
  update: Parameters<typeof expected>[1],
) {
  return (dtype: Dtype): Case[] =>
    SHAPES.map((shape) => {
      const inputs = [random(dtype, shape, { salt: 1 }), random(dtype, shape, { salt: 2 })]
      return {
        title: `${title} ${shapesOf(inputs)}`,
        inputs,
        run: train(make),
        want: (inputs) => expected(inputs, update),
      }
    })
}

const SGD_CASES = [
  updates(
    'plain',
    (p) => new optim.SGD(p, { lr: 0.1 }),
    (p, g) => p - 0.1 * g,
  ),
  updates(
    'momentum, dampening, decay',
    (p) => new optim.SGD(p, { lr: 0.1, momentum: 0.9, dampening: 0.25, weightDecay: 0.01 }),
    (p, g, state, t) => {
      const full = g + 0.01 * p
      state[0] = t === 1 ? full : 0.9 * state[0]! + 0.75 * full
      return p - 0.1 * state[0]
    },
  ),
  updates(
    'Nesterov',
    (p) => new optim.SGD(p, { lr: 0.1, momentum: 0.9, nesterov: true }),
    (p, g, state, t) => {
      state[0] = t === 1 ? g : 0.9 * state[0]! + g
      return p - 0.1 * (g + 0.9 * state[0])
    },
  ),
]

const ADAMW_CASES = [
  updates(
    'decoupled decay',
    (p) => new optim.AdamW(p, { lr: 0.1, betas: [0.8, 0.95], eps: 1e-6, weightDecay: 0.05 }),
    (p, g, state, t) => {
      state[0] = 0.8 * state[0]! + 0.2 * g
      state[1] = 0.95 * state[1]! + 0.05 * g * g
      const root = Math.sqrt(state[1]) / Math.sqrt(1 - 0.95 ** t) + 1e-6
      return p * (1 - 0.1 * 0.05) - ((0.1 / (1 - 0.8 ** t)) * state[0]) / root
    },
  ),
]

const SQUARED_NORM: Row = {
  api: ['train.GradientAccumulator'],
  tolerance: SUM,
  gradient: 'none',
  cases: (dtype) =>
    [[[5]], [[]], [[0]], [[7], [0], [3, 33]], Array.from({ length: 50 }, (_, i) => [i]), [[20011]]].map(
      (shapes): Case => {
        const inputs = shapes.map((shape, i) => random(dtype, shape, { salt: i }))
        return {
          title: `${shapes.length} tensors, ${shapesOf(inputs.slice(0, 3))}`,
          inputs,
          run: (list, device) =>
            new TensorClass(
              device,
              device.recorder.emit(
                'squaredNorm',
                list.map((x) => x.value),
                { dtype, shape: [] },
              ),
            ),
          want: (list) => {
            const squares = list.flatMap((x) => [...x.values].map((v) => v * v))
            const values = Float64Array.of(total(squares))
            return { dtype, shape: [], values, magnitude: values, terms: squares.length + 1 }
          },
        }
      },
    ),
}

export const OPTIM = {
  squaredNorm: SQUARED_NORM,
  sgd: {
    api: ['optim.SGD'],
    tolerance: UPDATE,
    gradient: 'none',
    cases: (dtype) => SGD_CASES.flatMap((make) => make(dtype)),
  },
  adamw: {
    api: ['optim.AdamW'],
    tolerance: UPDATE,
    gradient: 'none',
    cases: (dtype) => ADAMW_CASES.flatMap((make) => make(dtype)),
  },
} as const satisfies Readonly<Partial<Record<OpcodeName, Row>>>
