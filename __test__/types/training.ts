/** What the type checker says about modules, losses, optimisers, data and accumulation. Nothing here runs. */

import { type Parameter, type Tensor, nn, optim, train } from 'tilegrad'
import * as data from 'tilegrad/data'
import * as nnEntry from 'tilegrad/nn'
import * as optimEntry from 'tilegrad/optim'
import * as trainEntry from 'tilegrad/train'
import { is, same } from './expect.js'

export function losses(x: Tensor, y: Tensor, anyReduction: nn.Reduction): void {
  is<Tensor>()(nn.crossEntropy(x, y))
  is<Tensor>()(nn.crossEntropy(x, y, {}))
  is<Tensor>()(nn.crossEntropy(x, y, { reduction: 'mean', ignoreIndex: 0 }))
  is<Tensor>()(nn.crossEntropy(x, y, { reduction: 'none' }))
  is<Tensor>()(nn.mse(x, y, { reduction: 'sum' }))
  is<nn.Parts>()(nn.crossEntropy(x, y, { reduction: 'parts' }))
  is<nn.Parts>()(nn.mse(x, y, { reduction: 'parts' }))
  is<Tensor | nn.Parts>()(nn.mse(x, y, { reduction: anyReduction }))
  is<Tensor>()(nn.crossEntropy(x, y, { reduction: 'parts' }).count)
  is<Tensor>()(nn.crossEntropy(x, [0, 1], { labelSmoothing: 0.1, weight: y, mask: y, emptyMask: 'throw' }))
  is<nn.Parts>()(nn.crossEntropy(x, new Int32Array(2), { labelSmoothing: 0.1, reduction: 'parts' }))
  is<Tensor>()(nn.nll(x, y, { weight: y, ignoreIndex: -1 }))
  is<nn.Parts>()(nn.nll(x, [[0]], { reduction: 'parts' }))
  is<Tensor>()(nn.mae(x, y, { mask: y }))
  is<nn.Parts>()(nn.mae(x, y, { mask: y, reduction: 'parts' }))
  is<Tensor>()(nn.huber(x, y, { delta: 2, reduction: 'none' }))
  is<nn.Parts>()(nn.huber(x, y, { reduction: 'parts' }))
  is<Tensor>()(nn.bceWithLogits(x, y, { emptyMask: 'nan' }))
  is<nn.Parts>()(nn.bceWithLogits(x, y, { reduction: 'parts', mask: y }))
  is<Tensor | nn.Parts>()(nn.huber(x, y, { reduction: anyReduction }))
  const options: nn.CrossEntropyOptions = { labelSmoothing: 0.1 }
  is<Tensor | nn.Parts>()(nn.crossEntropy(x, y, options))
  const policy: nn.EmptyMask = 'zero'
  is<Tensor>()(nn.mse(x, y, { emptyMask: policy }))
  // @ts-expect-error no such policy
  nn.mse(x, y, { emptyMask: 'skip' })
  // @ts-expect-error nothing is smoothed in nll
  nn.nll(x, y, { labelSmoothing: 0.1 })
  // @ts-expect-error weights are a tensor
  nn.crossEntropy(x, y, { weight: [1, 2] })
  // @ts-expect-error only huber has a delta
  nn.mae(x, y, { delta: 1 })
  // @ts-expect-error predictions are tensors
  nn.crossEntropy([[1, 2]], y)
  // @ts-expect-error parts are not one tensor
  nn.crossEntropy(x, y, { reduction: 'parts' }).backward()
  // @ts-expect-error no such reduction
  nn.crossEntropy(x, y, { reduction: 'average' })
  // @ts-expect-error mse ignores nothing
  nn.mse(x, y, { ignoreIndex: 1 })
}

export function modules(x: Tensor): void {
  class Residual extends nn.Module {
    readonly inner = new nn.Linear(8, 8, { activation: 'relu', bias: false, init: 'glorotUniform' })
    override forward(input: Tensor): Tensor {
      return this.inner.forward(input).add(input)
    }
  }
  const model = new nn.Sequential(new Residual(), new nn.ReLU(), new nn.Linear(8, 2))
  is<Tensor>()(model.forward(x))
  is<Parameter[]>()(model.parameters())
  is<Map<string, Parameter>>()(model.namedParameters())
  is<Residual>()(new Residual().eval())
  is<Parameter | null>()(new nn.Linear(1, 1).bias)
  // @ts-expect-error a module has a forward
  class Empty extends nn.Module {}
  void Empty
  // @ts-expect-error functions are no modules
  void new nn.Sequential((v: Tensor) => v)
  // @ts-expect-error a layer has two sizes
  void new nn.Linear(3)
  // @ts-expect-error no such activation
  void new nn.Linear(3, 3, { activation: 'RELU' })
  // @ts-expect-error parameters always require a gradient
  void new nn.Linear(3, 3, { requiresGrad: false })
}

export async function state(model: nn.Module, optimizer: optim.Optimizer): Promise<void> {
  const dict = await model.stateDict()
  is<nn.StateDict>()(dict)
  model.loadStateDict(dict, { strict: false })
  is<optim.OptimizerState>()(await optimizer.stateDict())
  // @ts-expect-error entries have a shape
  model.loadStateDict({ weight: { data: new Float32Array(1) } })
  // @ts-expect-error a state has to be waited for
  model.loadStateDict(model.stateDict())
}

export function optimisers(model: nn.Module): void {
  const sgd = new optim.SGD(model.parameters(), { lr: 0.1, momentum: 0.9 })
  sgd.lr = 0.01
  sgd.step()
  sgd.zeroGrad()
  void new optim.AdamW(model.parameters())
  void new optim.AdamW(new Set(model.parameters()), { betas: [0.9, 0.99] })
  // @ts-expect-error SGD has no default rate
  void new optim.SGD(model.parameters())
  // @ts-expect-error nor with other options
  void new optim.SGD(model.parameters(), { momentum: 0.9 })
  // @ts-expect-error betas are two
  void new optim.AdamW(model.parameters(), { betas: [0.9] })
  // @ts-expect-error parameters, not the model
  void new optim.SGD(model, { lr: 1 })
  // @ts-expect-error the base is not for direct use
  void new optim.Optimizer('x', model.parameters(), 1)
  const groups = new optim.AdamW([{ params: model.parameters(), lr: (step) => step, amsgrad: true }], { lr: 1e-3 })
  is<readonly optim.ParameterGroup[]>()(groups.groups)
  is<number>()(groups.groups[0]!.lr)
  groups.groups[0]!.lr = optim.warmupCosine(1e-3, 10, 100, 1e-5, 1)
  groups.addGroup({ params: [], weightDecay: 0 })
  const base: optim.Optimizer = groups
  base.lr = 0.1
  void new optim.Adam(optim.noDecayOnBiasAndNorm(model, { weightDecay: 0.1, noDecay: /embedding/ }))
  void new optim.RMSprop(model.parameters(), { alpha: 0.9, centered: true, momentum: 0.9 })
  // @ts-expect-error groups have parameters
  void new optim.Adam([{ lr: 1 }])
  // @ts-expect-error Adam has no momentum
  void new optim.Adam(model.parameters(), { momentum: 0.9 })
  // @ts-expect-error groups are not replaced
  groups.groups = []
  is<Tensor>()(optim.clipGradNorm(model.parameters(), 1, { normType: Infinity, errorIfNonFinite: true }))
  is<void>()(optim.clipGradValue(model.parameters(), 1))
  // @ts-expect-error a limit is a number
  optim.clipGradNorm(model.parameters())
  const ema = new optim.EMA(model, { decay: (update) => 1 - 1 / (update + 1) })
  ema.update({ ok: optim.clipGradNorm(model.parameters(), 1) })
  is<Promise<optim.EMAState>>()(ema.stateDict())
  is<optim.Schedule>()(
    optim.sequential([optim.linearWarmup(1, 5), optim.exponential(1, 0.9), optim.step(1, 2)], [5, 9]),
  )
  is<number>()(optim.scaleLearningRate(0.1, 32, 256, 'sqrt'))
  // @ts-expect-error no such rule
  optim.scaleLearningRate(0.1, 32, 256, 'cubic')
}

export async function loading(x: Tensor, y: Tensor): Promise<void> {
  const loader = new data.DataLoader(new data.TensorDataset(x, y), { batchSize: 2, shuffle: true, seed: 1 })
  for await (const batch of loader) is<[Tensor, Tensor]>()(batch)
  for await (const [a, b] of loader) is<Tensor>()(a.add(b))
  const many = new data.TensorDataset(...[x, y].map((t) => t.mul(2)))
  for await (const batch of new data.DataLoader(many)) is<Tensor[]>()(batch)
  const words: data.Dataset<{ text: string }> = { length: 3, batch: () => ({ text: 'x' }) }
  for await (const { text } of new data.DataLoader(words)) is<string>()(text)
  const late: data.Dataset<number> = { length: 1, batch: async () => 5 }
  for await (const n of new data.DataLoader(late)) is<number>()(n)
  // @ts-expect-error a misspelt option
  void new data.DataLoader(words, { batch_size: 2 })
  // @ts-expect-error an array is no data set
  void new data.DataLoader([1, 2, 3])
}

export function accumulating(optimizer: optim.Optimizer, x: Tensor, y: Tensor): void {
  const acc = new train.GradientAccumulator(optimizer)
  acc.add(nn.crossEntropy(x, y, { reduction: 'parts' }))
  is<train.StepResult>()(acc.step())
  is<train.StepResult | null>()(acc.flush())
  // @ts-expect-error a mean has lost its count
  acc.add(nn.crossEntropy(x, y))
}

export function entries(): void {
  same<typeof nn.Linear, typeof nnEntry.Linear>()
  same<typeof optim.SGD, typeof optimEntry.SGD>()
  same<typeof train.GradientAccumulator, typeof trainEntry.GradientAccumulator>()
}

export function windows(acc: train.GradientAccumulator, x: Tensor, y: Tensor, lists: Tensor[][]): void {
  const micro = (a: Tensor, b: Tensor): nn.Parts => nn.mse(a, b, { reduction: 'parts' })
  const pairs: readonly (readonly [Tensor, Tensor])[] = [[x, y]]
  is<train.StepResult>()(acc.window(pairs, micro))
  acc.window([[x, y]], micro)
  acc.window(pairs, (a, b) => nn.mse(a, b, { reduction: 'parts' }))
  // What a loader over any number of tensors gives.
  acc.window(lists, micro)
  acc.window([[x, { y }]], (a, { y }) => nn.mse(a, y, { reduction: 'parts' }))
  acc.window([[x, 3]], (a, n: number) => nn.mse(a.mul(n), y, { reduction: 'parts' }))
  // @ts-expect-error there is no third argument
  acc.window(pairs, (a, b, c: Tensor) => nn.mse(a, b, { mask: c, reduction: 'parts' }))
  // @ts-expect-error a mean has lost its count
  acc.window(pairs, (a, b) => nn.mse(a, b))
  // @ts-expect-error one list for each micro-batch
  acc.window([x, y], micro)
}

export function layers(x: Tensor, y: Tensor, model: nn.Module): void {
  const norm = new nn.BatchNorm(3, { momentum: null, accumulation: 'sync', runningUpdate: 'window', axis: -1 })
  is<Tensor>()(norm.forward(x, y))
  is<Tensor | null>()(norm.running_mean)
  norm.momentum = null
  // @ts-expect-error no such way
  norm.accumulation = 'synch'
  // @ts-expect-error parameters always require a gradient
  void new nn.LayerNorm(3, { requiresGrad: false })
  // @ts-expect-error a misspelt option
  void new nn.BatchNorm(3, { trackRunningStat: false })
  const attention = new nn.MultiHeadAttention(8, 2, { dropout: 0.1, kdim: 3 })
  is<Tensor>()(attention.attend(x, x, x, { causal: true, keyMask: x, mask: y, segmentIds: [x, y] }))
  // @ts-expect-error masks are for attend()
  attention.forward(x, x, x, { causal: true })
  is<Promise<void>>()(train.updateBatchNorm(model, [x, y]))
  is<Promise<void>>()(train.updateBatchNorm(model, [{ x }], { forward: (batch) => model.forward(batch.x) }))
  void new nn.Embedding(5, 3, { paddingIdx: 0 })
  is<Tensor>()(new nn.Perceptron(2, 1).learn(x, y, { lr: 0.5 }))
  // @ts-expect-error a probability is a number
  void new nn.Dropout({ p: 0.5 })
}
