/**
 * Running statistics of batch normalisation, estimated anew: after training with small batches, with averaged weights, or
 * on other data. Nothing else of the model changes.
 */

import { noGrad } from '../autograd/tape.ts'
import { type Names, checkOptions, expected } from '../errors.ts'
import { BatchNorm } from '../nn/batch-norm.ts'
import { Module } from '../nn/module.ts'
import { refuseTracing } from '../program/tracing.ts'
import { checkSynchronous, scope } from '../scope.ts'
import { Tensor } from '../tensor.ts'

/** Options of {@link updateBatchNorm}. */
export interface UpdateBatchNormOptions<Batch> {
  /** Runs the model on a batch. Default: `model.forward` of the batch, or of its first tensor if it is a list. */
  readonly forward?: (batch: Batch) => unknown
}

/**
 * Estimates the running statistics of every `BatchNorm` of a model anew: sets them back, runs the model in training mode
 * over the data without gradients, and takes the mean over all batches. Modes and momenta are then what they were.
 *
 * @param loader batches: tensors, or lists that begin with one
 * @throws `ERR_ARGUMENT` for batches of another kind without `forward`; what the model throws
 *
 * @example
 * ```ts
 * import { data, nn, randn, train } from 'tilegrad'
 * const model = new nn.Sequential(new nn.Linear(4, 8), new nn.BatchNorm(8))
 * const loader = new data.DataLoader(new data.TensorDataset(randn([64, 4])), { batchSize: 16 })
 * await train.updateBatchNorm(model, loader)
 * console.log(await model.buffers().get('1.num_batches_tracked')!.item()) // 4
 * ```
 */
export async function updateBatchNorm<Batch>(
  model: Module,
  loader: AsyncIterable<Batch> | Iterable<Batch>,
  options: UpdateBatchNormOptions<Batch> = {},
): Promise<void> {
  refuseTracing('updateBatchNorm()', 'call it between the calls')
  if (!(model instanceof Module)) throw expected('updateBatchNorm: model', 'a module', model)
  const given: unknown = loader
  if (typeof given !== 'object' || given === null || !(Symbol.asyncIterator in given || Symbol.iterator in given))
    throw expected('updateBatchNorm: loader', 'a loader or a list of batches', given)
  checkOptions('updateBatchNorm', options, { forward: true } satisfies Names<UpdateBatchNormOptions<Batch>>)
  const { forward = (batch: Batch): unknown => model.forward(firstOf(batch)) } = options
  const modules = [...descendants(model)]
  const layers = modules.filter((module) => module instanceof BatchNorm && module.running_mean !== null) as BatchNorm[]
  const before = layers.map(({ momentum, runningUpdate }) => ({ momentum, runningUpdate }))
  const modes = modules.map(({ training }) => training)
  try {
    model.train()
    for (const layer of layers) {
      layer.resetRunningStats()
      Object.assign(layer, { momentum: null, runningUpdate: 'each' })
    }
    for await (const batch of loader) {
      scope(() => {
        checkSynchronous(
          'updateBatchNorm',
          noGrad(() => forward(batch)),
        )
      })
    }
  } finally {
    layers.forEach((layer, i) => Object.assign(layer, before[i]))
    modules.forEach((module, i) => (module.training = modes[i]!))
  }
}

function* descendants(module: Module): Generator<Module, void, undefined> {
  yield module
  for (const child of module.children().values()) yield* descendants(child)
}

function firstOf(batch: unknown): Tensor {
  const first: unknown = Array.isArray(batch) ? batch[0] : batch
  if (!(first instanceof Tensor))
    throw expected('updateBatchNorm: a batch', 'a tensor, or a list that begins with one', batch)
  return first
}
