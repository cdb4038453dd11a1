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
    const state = [0, 0, 0]
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

/** Adam with these settings: `decay` 0.05 either way. */
function adam(decoupled: boolean, amsgrad: boolean): Parameters<typeof expected>[1] {
  return (p, gradient, state, t) => {
    const g = decoupled ? gradient : gradient + 0.05 * p
    state[0] = 0.8 * state[0]! + 0.2 * g
    state[1] = 0.95 * state[1]! + 0.05 * g * g
    state[2] = Math.max(state[2]!, state[1])
    const second = amsgrad ? state[2] : state[1]
    const root = Math.sqrt(second) / Math.sqrt(1 - 0.95 ** t) + 1e-6
    return p * (decoupled ? 1 - 0.1 * 0.05 : 1) - ((0.1 / (1 - 0.8 ** t)) * state[0]) / root
  }
}

const ADAM = { lr: 0.1, betas: [0.8, 0.95], eps: 1e-6, weightDecay: 0.05 } as const

const ADAM_CASES = [
  updates('decoupled decay', (p) => new optim.AdamW(p, ADAM), adam(true, false)),
  updates('coupled decay', (p) => new optim.Adam(p, ADAM), adam(false, false)),
  updates('decoupled decay, amsgrad', (p) => new optim.AdamW(p, { ...ADAM, amsgrad: true }), adam(true, true)),
  updates('coupled decay, amsgrad', (p) => new optim.Adam(p, { ...ADAM, amsgrad: true }), adam(false, true)),
]

const RMSPROP_CASES = [
  [0, false],
  [0.7, false],
  [0, true],
  [0.7, true],
].map(([momentum, centered]) =>
  updates(
    `momentum ${momentum}${centered ? ', centered' : ''}`,
    (p) =>
      new optim.RMSprop(p, {
        lr: 0.05,
        alpha: 0.9,
        eps: 1e-3,
        weightDecay: 0.02,
        momentum: momentum as number,
        centered: centered as boolean,
      }),
    (p, gradient, state) => {
      const g = gradient + 0.02 * p
      state[0] = 0.9 * state[0]! + 0.1 * g * g
      state[1] = 0.9 * state[1]! + 0.1 * g
      const d = g / (Math.sqrt(centered ? state[0] - state[1] ** 2 : state[0]) + 1e-3)
      state[2] = (momentum as number) * state[2]! + d
      return p - 0.05 * state[2]
    },
  ),
)

/** The average of weights that change; the first update takes them as they are. */
function averages(decay: number) {
  return (dtype: Dtype): Case[] =>
    SHAPES.map((shape) => {
      const inputs = [1, 2, 3].map((salt) => random(dtype, shape, { salt }))
      return {
        title: `decay ${decay} ${shapesOf(inputs.slice(0, 1))}`,
        inputs,
        run: (weights, device) => {
          // Memory of its own: the inputs are as they were afterwards.
          const p = new Parameter(weights[0]!.mul(1))
          const ema = new optim.EMA([p], { decay })
          for (const w of weights) {
            device.recorder.emitMany('assign', [p.value, w.value], [])
            ema.update()
          }
          ema.copyTo()
          return p
        },
        want: (weights) => {
          const [first, ...later] = weights as [Data, ...Data[]]
          const values = first.values.map((start, i) =>
            later.reduce((a, { values }) => decay * a + (1 - decay) * values[i]!, start),
          )
          return { ...first, values }
        },
      }
    })
}

const SQUARED_NORM: Row = {
  api: ['optim.clipGradNorm', 'train.GradientAccumulator'],
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
  adam: {
    api: ['optim.Adam', 'optim.AdamW'],
    tolerance: UPDATE,
    gradient: 'none',
    cases: (dtype) => ADAM_CASES.flatMap((make) => make(dtype)),
  },
  rmsprop: {
    api: ['optim.RMSprop'],
    tolerance: UPDATE,
    gradient: 'none',
    cases: (dtype) => RMSPROP_CASES.flatMap((make) => make(dtype)),
  },
  ema: {
    api: ['optim.EMA'],
    tolerance: UPDATE,
    gradient: 'none',
    cases: (dtype) => [0, 0.3, 0.9].flatMap((decay) => averages(decay)(dtype)),
  },
} as const satisfies Readonly<Partial<Record<OpcodeName, Row>>>
