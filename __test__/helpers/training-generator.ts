/**
 * Random training programs: a small model, a loss, an optimiser, batches of any sizes, accumulation, and changes between
 * the steps. A program is plain data that prints as JSON; {@link drawn} reads every list of arbitrary numbers as one, so
 * fast-check can shrink them. Running one is `training-run.ts`.
 */

import type { ActivationName } from '../../ts/index.ts'
import { Choices } from './program-generator.ts'

/** Elementwise work, views and selections after a layer. */
export const EXTRAS = [
  'none',
  'affine',
  'tanh',
  'square',
  'clip',
  'softmax',
  'ratio',
  'centred',
  'where',
  'maximum',
  'scalar',
  'dropout',
  'noise',
  'residual',
  'split',
  'reversed',
  'heads',
  'detached',
  'dropped',
  'normed',
  'attended',
] as const
export type Extra = (typeof EXTRAS)[number]

/** Activations that are a method too. */
type Activation = Exclude<ActivationName, 'geluTanh'>

const ACTIVATIONS: readonly (Activation | null)[] = [
  null,
  'relu',
  'tanh',
  'gelu',
  'sigmoid',
  'leakyRelu',
  'silu',
  'elu',
  'softplus',
]

/** One layer: y = extra(act(xW + b)). */
export interface Layer {
  readonly out: number
  readonly activation: Activation | null
  /** Whether the activation is part of the layer's instruction. */
  readonly fused: boolean
  readonly bias: boolean
  readonly extra: Extra
}

/** What is updated how. */
export interface Rule {
  readonly kind: 'SGD' | 'momentum' | 'nesterov' | 'AdamW' | 'Adam' | 'RMSprop'
  readonly lr: number
  /** Whether the rate is a function of the step. */
  readonly scheduled: boolean
  readonly weightDecay: number
}

/** What happens before a step. */
export const CHANGES = ['none', 'lr', 'scalar', 'mode', 'freeze', 'seed', 'state', 'null'] as const
export type Change = (typeof CHANGES)[number]

/** One step: its micro-batches by their rows. */
export interface Step {
  readonly rows: readonly number[]
  readonly change: Change
}

/** A training program. */
export interface Training {
  readonly seed: number
  readonly features: number
  readonly layers: readonly Layer[]
  readonly loss: (typeof LOSSES)[number]
  readonly rule: Rule
  /** Whether gradients go through an accumulator. */
  readonly accumulated: boolean
  /** What is compiled: the whole step, micro-batches and update apart, or only one of them. */
  readonly compiled: 'whole' | 'parts' | 'micro' | 'update'
  readonly steps: readonly Step[]
}

/** Arbitrary numbers, as fast-check draws and shrinks them. */
export interface Numbers {
  readonly seed: number
  readonly model: readonly number[]
  readonly layers: readonly (readonly number[])[]
  readonly steps: readonly (readonly number[])[]
}

const LOSSES = ['crossEntropy', 'mse', 'logistic', 'nll', 'huber', 'smoothed'] as const
const KINDS = ['SGD', 'momentum', 'AdamW', 'nesterov', 'Adam', 'RMSprop'] as const
const COMPILED = ['whole', 'parts', 'micro', 'update'] as const

/** The training program that these numbers mean. */
export function drawn(numbers: Numbers): Training {
  const choices = new Choices(numbers.model)
  return {
    seed: numbers.seed,
    compiled: choices.of(COMPILED),
    accumulated: choices.flag(),
    rule: {
      kind: choices.of(KINDS),
      lr: choices.of([0.05, 0.01, 0.2]),
      scheduled: choices.flag(),
      weightDecay: choices.of([0, 0.1]),
    },
    loss: choices.of(LOSSES),
    features: 1 + choices.below(9),
    layers: numbers.layers.map((layer) => layerOf(new Choices(layer))),
    steps: numbers.steps.map((step) => stepOf(new Choices(step))),
  }
}

function layerOf(choices: Choices): Layer {
  return {
    out: 2 + choices.below(9),
    extra: choices.of(EXTRAS),
    activation: choices.of(ACTIVATIONS),
    fused: choices.flag(),
    bias: !choices.flag(),
  }
}

function stepOf(choices: Choices): Step {
  const count = 1 + choices.below(3)
  const change = choices.of(CHANGES)
  // Few sizes, so that programs are replayed; 0 rows are a batch too.
  return { change, rows: Array.from({ length: count }, () => choices.of([3, 1, 4, 3, 0, 7])) }
}
