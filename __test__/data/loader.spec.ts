/** Loaders: the order as a function of seed and epoch, batches, and leaving a loop early. */

import test from 'ava'
import * as fc from 'fast-check'

import { type Tensor, data, openDevice, tensor, zeros } from '../../ts/index.ts'
import { isRight, workFor } from '../helpers/busy.ts'
import { DEVICES, onDevices, open } from '../helpers/devices.ts'
import { codeOf, rejectionOf } from '../helpers/errors.ts'
import { values } from '../helpers/values.ts'

/** A data set whose batches are the indices themselves. */
function counting(length: number): data.Dataset<number[]> {
  return { length, batch: (indices) => [...indices] }
}

async function collect<T>(loader: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const batch of loader) all.push(batch)
  return all
}

test('without shuffling, batches come in order and the last may be short', async (t) => {
  t.deepEqual(await collect(new data.DataLoader(counting(7), { batchSize: 3 })), [[0, 1, 2], [3, 4, 5], [6]])
  t.deepEqual(await collect(new data.DataLoader(counting(3))), [[0], [1], [2]])
})

test('dropLast leaves out a batch that is not full', async (t) => {
  t.deepEqual(await collect(new data.DataLoader(counting(7), { batchSize: 3, dropLast: true })), [[0, 1, 2], [3, 4, 5]]) // prettier-ignore
  t.deepEqual(await collect(new data.DataLoader(counting(6), { batchSize: 3, dropLast: true })), [[0, 1, 2], [3, 4, 5]]) // prettier-ignore
})

test('a batch size above the number of examples gives one short batch, or none', async (t) => {
  t.deepEqual(await collect(new data.DataLoader(counting(2), { batchSize: 100 })), [[0, 1]])
  t.deepEqual(await collect(new data.DataLoader(counting(2), { batchSize: 100, dropLast: true })), [])
  t.deepEqual(await collect(new data.DataLoader(counting(0), { batchSize: 4 })), [])
})

test('every index comes exactly once per epoch, and length says how many batches', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.nat(60),
      fc.integer({ min: 1, max: 20 }),
      fc.boolean(),
      fc.nat(),
      async (length, batchSize, shuffle, seed) => {
        const loader = new data.DataLoader(counting(length), { batchSize, shuffle, seed })
        for (let epoch = 0; epoch < 2; epoch++) {
          const batches = await collect(loader)
          t.is(batches.length, loader.length)
          t.deepEqual(
            batches.flat().toSorted((a, b) => a - b),
            Array.from({ length }, (_, i) => i),
          )
          t.true(batches.slice(0, -1).every((b) => b.length === batchSize))
        }
      },
    ),
    { numRuns: 60, seed: 2 },
  )
})

test('the order is a function of seed and epoch, and can be had without running epochs', async (t) => {
  const options = { batchSize: 5, shuffle: true, seed: 9 }
  const [one, other] = [new data.DataLoader(counting(40), options), new data.DataLoader(counting(40), options)]
  const epochs = [await collect(one), await collect(one), await collect(one)]
  t.deepEqual(await collect(other), epochs[0])
  other.epoch = 2
  t.deepEqual(await collect(other), epochs[2])
  t.is(other.epoch, 3)
  for (const [i, batches] of epochs.entries()) t.deepEqual([...one.order(i)], batches.flat())
  t.notDeepEqual(epochs[0], epochs[1])
  t.notDeepEqual(epochs[1], epochs[2])
  t.notDeepEqual(await collect(new data.DataLoader(counting(40), { ...options, seed: 10 })), epochs[0])
})

test('the batch size does not change the order', (t) => {
  const order = (batchSize: number): number[] => [
    ...new data.DataLoader(counting(30), { batchSize, shuffle: true, seed: 4 }).order(3),
  ]
  t.deepEqual(order(1), order(7))
})

test('every place is equally likely for an example', (t) => {
  const length = 10
  const loader = new data.DataLoader(counting(length), { shuffle: true, seed: 1 })
  const counts = Array.from({ length }, () => new Float64Array(length))
  const epochs = 2000
  for (let epoch = 0; epoch < epochs; epoch++)
    loader.order(epoch).forEach((example, place) => counts[example]![place]!++)
  // Six standard deviations, for a hundred cells.
  const limit = 6 * Math.sqrt((epochs / length) * (1 - 1 / length))
  for (const row of counts) for (const count of row) t.true(Math.abs(count - epochs / length) < limit, `${count}`)
})

test('leaving a loop early ends the epoch and leaves the loader usable', async (t) => {
  const loader = new data.DataLoader(counting(6), { batchSize: 2 })
  for await (const batch of loader) {
    t.deepEqual(batch, [0, 1])
    break
  }
  t.is(loader.epoch, 1)
  t.deepEqual(await collect(loader), [[0, 1], [2, 3], [4, 5]]) // prettier-ignore
})

test('an error of the data set rejects that step and leaves the loader usable', async (t) => {
  let failing = true
  const loader = new data.DataLoader<number[]>(
    {
      length: 4,
      batch: async (indices) => {
        if (failing && indices[0] === 2) throw new RangeError('broken')
        return [...indices]
      },
    },
    { batchSize: 2 },
  )
  t.is(await rejectionOf(collect(loader)), 'RangeError: broken')
  failing = false
  t.deepEqual(await collect(loader), [[0, 1], [2, 3]]) // prettier-ignore
})

test('before each batch a macrotask passes', async (t) => {
  let turns = 0
  let running = true
  const turn = (): void => {
    turns++
    if (running) setImmediate(turn)
  }
  setImmediate(turn)
  let batches = 0
  for await (const _ of new data.DataLoader(counting(20))) {
    batches++
    t.true(turns >= batches, `${turns} turns before batch ${batches}`)
  }
  running = false
  t.is(batches, 20)
})

onDevices('a tensor data set gives the same rows of every tensor, on its device', async (t, device) => {
  const x = tensor([[1, 2], [3, 4], [5, 6]], { device }) // prettier-ignore
  const y = tensor([10, 20, 30], { device, dtype: 'i32' })
  const set = new data.TensorDataset(x, y)
  t.is(set.length, 3)
  const [a, b] = set.batch(new Int32Array([2, 0, 2]))
  t.deepEqual(await values(a), [5, 6, 1, 2, 5, 6])
  t.deepEqual(await values(b), [30, 10, 30])
  t.deepEqual([...a.shape, ...b.shape], [3, 2, 3])
  t.is(b.dtype, 'i32')
  t.is(a.device, device)
})

onDevices('a shuffled loader over tensors keeps rows together', async (t, device) => {
  const count = 50
  const x = tensor(
    Float32Array.from({ length: 2 * count }, (_, i) => i),
    { shape: [count, 2], device },
  )
  const y = tensor(
    Int32Array.from({ length: count }, (_, i) => i),
    { device },
  )
  const loader = new data.DataLoader(new data.TensorDataset(x, y), { batchSize: 8, shuffle: true, seed: 3 })
  const seen: number[] = []
  for await (const [bx, by] of loader) {
    const classes = await values(by)
    t.deepEqual(
      await values(bx),
      classes.flatMap((c) => [2 * c, 2 * c + 1]),
    )
    seen.push(...classes)
  }
  t.deepEqual(seen, [...loader.order(0)])
})

onDevices('gradients do not flow into a data set', async (t, device) => {
  const set = new data.TensorDataset(tensor([[1], [2]], { device }))
  const [rows] = set.batch(new Int32Array([1]))
  t.is(rows.requiresGrad, false)
})

onDevices('tensor data sets refuse what does not fit', (t, device) => {
  t.is(
    codeOf(() => new data.TensorDataset()),
    'ERR_ARGUMENT',
  )
  t.is(
    codeOf(() => new data.TensorDataset([1, 2] as unknown as Tensor)),
    'ERR_ARGUMENT',
  )
  t.is(
    codeOf(() => new data.TensorDataset(tensor(1, { device }))),
    'ERR_SHAPE',
  )
  t.is(
    codeOf(() => new data.TensorDataset(tensor([1, 2], { device }), tensor([1], { device }))),
    'ERR_SHAPE',
  )
})

test('loaders refuse options that make no sense', async (t) => {
  const make = (options: unknown, set: unknown = counting(3)): string =>
    codeOf(() => new data.DataLoader(set as data.Dataset<number[]>, options as data.DataLoaderOptions))
  for (const batchSize of [0, -1, 1.5, Number.NaN, Infinity, '2', null])
    t.is(make({ batchSize }), 'ERR_ARGUMENT', String(batchSize))
  for (const seed of [-1, 0.5, 2 ** 53, '1']) t.is(make({ shuffle: true, seed }), 'ERR_ARGUMENT', String(seed))
  t.is(make({}, null), 'ERR_ARGUMENT')
  t.is(make({}, []), 'ERR_ARGUMENT')
  t.is(make({}, { length: 2.5, batch: () => [] }), 'ERR_ARGUMENT')
  const device = await openDevice('js')
  t.is(make({}, tensor([1], { device })), 'ERR_ARGUMENT')
})

for (const { kind } of DEVICES.filter((d) => d.kind !== 'js')) {
  test(`a loop that reads nothing stays a little ahead of its device, and no more [${kind}]`, async (t) => {
    const device = await open({ kind })
    const start = await workFor(device, 10)
    const set = new data.TensorDataset(zeros([100, 4], { device }))
    let highest = 0
    const results: Tensor[] = []
    for await (const [x] of new data.DataLoader(set, { batchSize: 1 })) {
      x.dispose()
      results.push(start())
      highest = Math.max(highest, device.stats().queuedJobs)
    }
    t.is(results.length, 100)
    t.log(`at most ${highest} jobs`)
    // Half of what may be queued, and what a batch and a step add.
    t.true(highest <= 32 + 8, `${highest} jobs`)
    t.true(isRight(await results.at(-1)!.data()))
  })
}
