/**
 * The loader: a data set in batches, in order or shuffled. The order of an epoch is a function of seed and epoch alone,
 * so it can be repeated. Before each batch a macrotask passes, and as many more as the device needs to catch up: finalisers
 * and timers get their turn, and no loop runs far ahead of its device.
 */

import type { Device } from '../device.ts'
import { type Names, checkOptions, expected } from '../errors.ts'
import { Philox, SITES, splitSeed } from '../random.ts'
import { Tensor } from '../tensor.ts'
import type { Dataset } from './dataset.ts'

/** Options of {@link DataLoader}. */
export interface DataLoaderOptions {
  /** Examples per batch. Default 1. */
  readonly batchSize?: number
  /** A new order every epoch. Default false. */
  readonly shuffle?: boolean
  /** Seed of the order. Default 0. */
  readonly seed?: number
  /** Leave out a last batch that is not full. Default false. */
  readonly dropLast?: boolean
}

const OPTIONS: Names<DataLoaderOptions> = { batchSize: true, shuffle: true, seed: true, dropLast: true }

/**
 * Iterates over a data set in batches: `for await (const [x, y] of loader)`. Each loop is the next epoch.
 *
 * @example
 * ```ts
 * import { data, randn } from 'tilegrad'
 * const set = new data.TensorDataset(randn([100, 8]), randn([100, 1]))
 * const loader = new data.DataLoader(set, { batchSize: 32, shuffle: true, seed: 1 })
 * for await (const [x, y] of loader) console.log(x.shape[0], y.shape[0]) // 32 32, three times, then 4 4
 * ```
 */
export class DataLoader<Batch> implements AsyncIterable<Batch> {
  readonly dataset: Dataset<Batch>
  readonly batchSize: number
  readonly shuffle: boolean
  readonly dropLast: boolean
  /** Number of the epoch that the next loop runs, from 0. */
  epoch = 0
  readonly #key: readonly [number, number]

  constructor(dataset: Dataset<Batch>, options: DataLoaderOptions = {}) {
    if (typeof dataset?.batch !== 'function' || !Number.isInteger(dataset.length)) {
      throw expected('DataLoader: dataset', 'a Dataset with length and batch()', dataset)
    }
    checkOptions('DataLoader', options, OPTIONS)
    const { batchSize = 1, shuffle = false, seed = 0, dropLast = false } = options
    if (!Number.isInteger(batchSize) || batchSize < 1)
      throw expected('DataLoader: batchSize', 'a whole number ≥ 1', batchSize)
    this.dataset = dataset
    this.batchSize = batchSize
    this.shuffle = shuffle
    this.dropLast = dropLast
    this.#key = splitSeed('DataLoader', seed)
  }

  /** Batches per epoch. */
  get length(): number {
    const batches = this.dataset.length / this.batchSize
    return this.dropLast ? Math.floor(batches) : Math.ceil(batches)
  }

  /** The order in which an epoch visits the examples. */
  order(epoch: number): Int32Array<ArrayBuffer> {
    const order = Int32Array.from({ length: this.dataset.length }, (_, i) => i)
    if (!this.shuffle) return order
    const random = new Philox({ site: SITES.shuffle, draw: epoch }, this.#key)
    for (let i = order.length - 1; i > 0; i--) {
      const j = random.below(i + 1)
      const held = order[i]!
      order[i] = order[j]!
      order[j] = held
    }
    return order
  }

  /** The batches of the next epoch. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Batch, void, undefined> {
    const order = this.order(this.epoch++)
    let device: Device | undefined
    for (let i = 0; i < this.length; i++) {
      await new Promise((resolve) => setImmediate(resolve))
      // Who trains without reading losses is to be held back here, and not where work is handed over.
      if (device !== undefined && !device.closed) await device.ready()
      const batch = await this.dataset.batch(order.slice(i * this.batchSize, (i + 1) * this.batchSize))
      device ??= deviceOf(batch)
      yield batch
    }
  }
}

/** The device that a batch, or the first tensor of a tuple of them, lives on. */
function deviceOf(batch: unknown): Device | undefined {
  const first: unknown = Array.isArray(batch) ? batch[0] : batch
  return first instanceof Tensor ? first.device : undefined
}
