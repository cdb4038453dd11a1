/**
 * Runs training programs, as they are or compiled. Both ways do the same in the same order without waiting, so that what
 * they give can be compared; it is read afterwards.
 */

import { type Device, RandomSite, type Tensor, compile, concat, full, layerNorm, manualSeed, nn, optim, rand, randn, scalar, scaledDotProductAttention, tensor, train, where } from '../../ts/index.ts' // prettier-ignore
import { Philox } from '../../ts/random.ts'
import type { Output } from './program-run.ts'
import type { Change, Extra, Layer, Rule, Training } from './training-generator.ts'

type Batch = readonly [x: Tensor, y: Tensor]

/** A layer with what comes after it. In evaluation mode nothing random happens. */
class Block extends nn.Module {
  readonly linear: nn.Linear
  readonly layer: Layer
  readonly factor: nn.Parameter
  readonly outside: ReturnType<typeof scalar>
  readonly dropout = new nn.Dropout(0.25)
  readonly attention = new RandomSite()

  constructor(inFeatures: number, layer: Layer, device: Device, outside: ReturnType<typeof scalar>) {
    super()
    this.layer = layer
    this.outside = outside
    const { out, bias, activation, fused } = layer
    this.linear = new nn.Linear(inFeatures, out, { device, bias, ...(fused && activation !== null && { activation }) })
    this.factor = new nn.Parameter(full([out], 0.75, { device }))
  }

  forward(x: Tensor): Tensor {
    const { activation, fused, extra } = this.layer
    const y = this.linear.forward(x)
    return this.#extra(extra, fused || activation === null ? y : y[activation](), x)
  }

  #extra(extra: Extra, y: Tensor, x: Tensor): Tensor {
    const { device, shape } = y
    const [rows, columns] = shape as [number, number]
    switch (extra) {
      case 'none':
        return y
      case 'affine':
        return y.mul(this.factor).add(0.25)
      case 'tanh':
        return y.mul(this.factor).tanh()
      case 'square':
        return y.clip(-2, 2).square().sub(y)
      case 'clip':
        return y.clip(-0.5, 0.5).mul(this.factor)
      case 'softmax':
        return y.softmax(-1).mul(columns)
      case 'ratio':
        return y.div(y.abs().add(1))
      case 'centred':
        return y.sub(y.mean(1, { keepDims: true })).mul(this.factor)
      case 'where':
        return where(y.greater(0), y.mul(2), y.mul(this.factor))
      case 'maximum':
        return y.maximum(this.factor.neg())
      case 'scalar':
        return y.mul(this.outside).add(y)
      case 'dropout':
        return this.training ? y.mul(rand(shape, { device }).greater(0.25).cast('f32')).div(0.75) : y
      case 'dropped':
        return this.dropout.forward(this.dropout.forward(y))
      case 'noise':
        return this.training ? y.add(randn(shape, { device }).mul(0.1)) : y
      case 'residual':
        return x.shape[1] === columns ? y.add(x) : y.mul(this.factor)
      case 'split':
        return concat([y.slice([0, 0], [rows, 1]), y.slice([0, 1], [rows, columns - 1]).neg()], 1)
      case 'reversed':
        return y.gather(tensor(Array.from({ length: columns }, (_, i) => columns - 1 - i), { dtype: 'i32', device }), 1) // prettier-ignore
      case 'heads':
        return y.reshape([rows, 1, columns]).matmul(y.reshape([rows, columns, 1])).reshape([rows, 1]).tanh().add(y) // prettier-ignore
      case 'normed':
        return layerNorm(y, { normalizedShape: columns, weight: this.factor, eps: 0.25 })
      case 'attended': {
        // Each element is a token of one number, and attends to those before it.
        const tokens = y.reshape([rows, columns, 1])
        const dropout = this.training ? 0.25 : 0
        const site = this.attention
        return scaledDotProductAttention(tokens, tokens, tokens, { causal: true, dropout, site }).reshape(shape)
      }
      case 'detached':
        return y.mul(y.detach().sigmoid()).mul(this.factor)
    }
  }
}

class Model extends nn.Module {
  readonly blocks: Block[] = []

  constructor({ features, layers }: Training, device: Device, outside: ReturnType<typeof scalar>) {
    super()
    let width = features
    for (const layer of layers) {
      this.blocks.push(new Block(width, layer, device, outside))
      width = layer.out
    }
  }

  forward(x: Tensor): Tensor {
    return this.blocks.reduce((y, block) => block.forward(y), x)
  }
}

/** Losses whose targets are classes. */
const OF_CLASSES: ReadonlySet<Training['loss']> = new Set(['crossEntropy', 'smoothed', 'nll'])

/** The rows' features and targets: classes, or numbers for the losses that want some. */
function batch(program: Training, rows: number, index: number, device: Device): Batch {
  const random = new Philox({ site: 3, row: index }, [program.seed, 0])
  const numbers = (count: number): Float32Array<ArrayBuffer> =>
    Float32Array.from({ length: count }, () => 2 * random.uniform() - 1)
  const columns = program.layers.at(-1)!.out
  const x = tensor(numbers(rows * program.features), { shape: [rows, program.features], device })
  if (!OF_CLASSES.has(program.loss)) return [x, tensor(numbers(rows * columns), { shape: [rows, columns], device })]
  // Some rows do not count.
  const classes = Int32Array.from({ length: rows }, () => (random.below(6) === 0 ? -100 : random.below(columns)))
  return [x, tensor(classes, { device })]
}

function lossOf({ loss }: Training, y: Tensor, target: Tensor): nn.Parts {
  if (loss === 'crossEntropy') return nn.crossEntropy(y, target, { reduction: 'parts' })
  if (loss === 'smoothed') return nn.crossEntropy(y, target, { reduction: 'parts', labelSmoothing: 0.2 })
  if (loss === 'nll') return nn.nll(y.logSoftmax(), target, { reduction: 'parts' })
  if (loss === 'huber') return nn.huber(y, target, { reduction: 'parts' })
  if (loss === 'mse') return nn.mse(y, target, { reduction: 'parts' })
  // log(1 + e^−ty), from parts.
  const { device } = y
  return { sum: y.mul(target).neg().softplus().sum(), count: full([], y.size, { device }) }
}

function optimizerOf({ kind, lr, scheduled, weightDecay }: Rule, parameters: nn.Parameter[]): optim.Optimizer {
  const rate = scheduled ? (step: number) => lr / (1 + 0.25 * step) : lr
  if (kind === 'AdamW') return new optim.AdamW(parameters, { lr: rate, weightDecay, eps: 1e-3 })
  if (kind === 'Adam') return new optim.Adam(parameters, { lr: rate, weightDecay, eps: 1e-3, amsgrad: true })
  if (kind === 'RMSprop') return new optim.RMSprop(parameters, { lr: rate, weightDecay, eps: 1e-1, momentum: 0.5 })
  const momentum = kind === 'SGD' ? 0 : 0.75
  return new optim.SGD(parameters, { lr: rate, momentum, weightDecay, nesterov: kind === 'nesterov' })
}

/** What a run has given: numbers by name, and how often something was recorded and run. */
export interface Result {
  readonly outputs: readonly Output[]
  readonly calls: number
  readonly recordings: number
}

/** Runs a training program. */
export async function execute(program: Training, device: Device, compiled: boolean): Promise<Result> {
  const functions: ReturnType<typeof compile>[] = []
  const wrap = <A extends readonly unknown[], R>(fn: (...args: A) => R, when: boolean): ((...args: A) => R) => {
    if (!compiled || !when) return fn
    const made = compile(fn)
    functions.push(made as never)
    return made
  }
  const named: [string, Tensor][] = []
  const note = (name: string, x: Tensor | null): void => {
    if (x !== null) named.push([name, x.detach()])
  }

  manualSeed(program.seed)
  const outside = scalar(0.5)
  const model = new Model(program, device, outside)
  const parameters = model.parameters()
  const optimizer = optimizerOf(program.rule, parameters)
  const acc = new train.GradientAccumulator(optimizer)

  const micro = (x: Tensor, y: Tensor): Tensor => {
    const parts = lossOf(program, model.forward(x), y)
    if (program.accumulated) acc.add(parts)
    else parts.sum.div(parts.count.maximum(1)).backward()
    return parts.sum
  }
  const update = (): train.StepResult | null => {
    if (program.accumulated) return acc.step()
    optimizer.step()
    return null
  }
  const { compiled: how } = program
  const [microOf, updateOf] = [wrap(micro, how === 'parts' || how === 'micro'), wrap(update, how === 'parts' || how === 'update')] // prettier-ignore
  const stepOf = wrap((batches: readonly Batch[]) => {
    if (!program.accumulated) optimizer.zeroGrad()
    const losses = batches.map(([x, y]) => microOf(x, y))
    return { losses, result: updateOf() }
  }, how === 'whole')

  let batches = 0
  program.steps.forEach(({ rows, change }, i) => {
    apply(change, i, program, { model, optimizer, outside })
    const { losses, result } = stepOf(rows.map((count) => batch(program, count, batches++, device)))
    losses.forEach((loss, j) => note(`loss ${i}.${j}`, loss))
    if (result !== null) for (const [name, x] of Object.entries(result)) note(`${name} ${i}`, x as Tensor)
    parameters.forEach(({ grad }, j) => note(`gradient ${j} of step ${i}`, grad))
  })
  parameters.forEach((p, j) => note(`parameter ${j}`, p))
  const state = optimizer.stateDict()
  const outputs = await Promise.all(named.map(async ([name, x]) => ({ name, data: await x.data() })))
  const { step, groups } = await state
  for (const own of groups.flatMap((group) => group.parameters)) {
    for (const [name, data] of Object.entries(own.arrays)) outputs.push({ name, data })
    outputs.push({ name: 'step', data: Float64Array.of(own.step) })
  }
  outputs.push({ name: 'steps and micro-batches', data: Float64Array.of(step, acc.microBatches) })
  const stats = functions.map((f) => f.stats())
  return {
    outputs,
    calls: stats.reduce((sum, { calls }) => sum + calls, 0),
    recordings: stats.reduce((sum, { recordings }) => sum + recordings, 0),
  }
}

interface Changeable {
  readonly model: Model
  readonly optimizer: optim.Optimizer
  readonly outside: ReturnType<typeof scalar>
}

/** What happens between the steps. */
function apply(
  change: Change,
  step: number,
  { seed, rule, layers }: Training,
  { model, optimizer, outside }: Changeable,
): void {
  const [first] = model.blocks
  switch (change) {
    case 'none':
      return
    case 'lr':
      optimizer.lr = rule.lr / (2 + step)
      return
    case 'scalar':
      outside.value = 0.25 * (step + 1)
      return
    case 'mode':
      if (step % 2 === 0) model.train(!model.training)
      else first!.training = !first!.training
      return
    case 'freeze':
      // Something has to be left that is learned.
      if (layers.length === 1 && !layers[0]!.bias) return
      first!.linear.weight.requiresGrad = !first!.linear.weight.requiresGrad
      return
    case 'seed':
      manualSeed(seed + step)
      return
    case 'state':
      model.loadStateDict({ 'blocks.0.factor': { shape: [first!.layer.out], data: new Float32Array(first!.layer.out).fill(0.5) } }, { strict: false }) // prettier-ignore
      return
    case 'null':
      optimizer.zeroGrad()
  }
}
