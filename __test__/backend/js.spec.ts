/** The interpreter as a device: slots, streams, plans, shared memory and poison. Its kernels have files of their own. */

import test from 'ava'

import { JsBackend } from '../../ts/backend/js/device.ts'
import { PlanCache, makePlan } from '../../ts/backend/js/plan.ts'
import { TilegradError } from '../../ts/errors.ts'
import { StreamBuilder } from '../helpers/stream.ts'

const f32 = (...values: number[]): Float32Array<ArrayBuffer> => Float32Array.from(values)
const i32 = (...values: number[]): Int32Array<ArrayBuffer> => Int32Array.from(values)

function read(device: JsBackend, slot: number, size: number): number[] {
  const into = new Float32Array(size)
  device.readSync(slot, into)
  return [...into]
}

/** x + x of slot 1 into slot 2. */
function double(size: number, from = 1, to = 2): StreamBuilder {
  const b = new StreamBuilder()
  const x = b.input(from, 'f32', [size])
  return b.output(b.op('add', [x, x], [['f32', [size]]]), to)
}

/** Slot 2 ← slot 1 gathered by slot 9, which is out of range. */
function poison(device: JsBackend): StreamBuilder {
  device.write(1, 'f32', f32(1, 2, 3))
  device.write(9, 'i32', i32(0, 5))
  const b = new StreamBuilder()
  const x = b.input(1, 'f32', [3])
  const taken = b.op('gather', [x, b.input(9, 'i32', [2])], [['f32', [2]]], [0, 1])
  return b.output(taken, 2)
}

test('host data goes to a slot and comes back, copied both ways', async (t) => {
  const device = new JsBackend()
  const data = f32(1, 2, 3)
  device.write(1, 'f32', data)
  data[0] = 99
  const into = new Float32Array(3)
  t.is(device.read(1, into), undefined)
  t.deepEqual([...into], [1, 2, 3])
  into[0] = 77
  t.deepEqual(read(device, 1, 3), [1, 2, 3])
  device.write(2, 'bool', Uint8Array.of(1, 0))
  device.write(3, 'f64', Float64Array.of(0.1))
  device.write(4, 'i32', i32())
  t.is(device.stats().liveBytes, 12 + 2 + 8)
  t.is(device.stats().liveSlots, 4)
  t.throws(() => device.readSync(1, new Float32Array(2)), { code: 'ERR_INTERNAL' })
  await device.sync()
})

test('a stream runs at submit and may be overwritten afterwards', (t) => {
  const device = new JsBackend()
  device.write(1, 'f32', f32(1, 2, 3))
  const words = double(3).words()
  device.submit(words)
  words.fill(0)
  t.deepEqual(read(device, 2, 3), [2, 4, 6])
  device.submit(double(3, 2, 3).words())
  t.deepEqual(read(device, 3, 3), [4, 8, 12])
})

test('equal code runs by one plan, whatever slots and scalars it is given', (t) => {
  const device = new JsBackend()
  const fill = (value: number, slot: number): Uint32Array => {
    const b = new StreamBuilder()
    return b.output(b.op('full', [], [['f32', [2]]], [value]), slot).words()
  }
  for (let i = 1; i <= 5; i++) device.submit(fill(i, i))
  const { plans, planHits, planMisses } = device.stats()
  t.deepEqual({ plans, planHits, planMisses }, { plans: 1, planHits: 4, planMisses: 1 })
  t.deepEqual(read(device, 4, 2), [4, 4])
})

test('the plan cache keeps the programs used last', (t) => {
  const cache = new PlanCache()
  const code = (size: number): Uint32Array => Uint32Array.from(double(size).code)
  const first = cache.get(code(1))
  for (let size = 2; size <= 256; size++) cache.get(code(size))
  t.is(cache.get(code(1)), first)
  cache.get(code(257))
  t.is(cache.size, 256)
  t.is(cache.get(code(1)), first)
  const { misses } = cache
  cache.get(code(2))
  t.is(cache.misses, misses + 1)
})

test('temporaries share memory as soon as they are not read any more; outputs do not', (t) => {
  const b = new StreamBuilder()
  let x = b.input(1, 'f32', [100])
  for (let i = 0; i < 10; i++) x = b.op('neg', [x], [['f32', [100]]])
  b.output(x, 2)
  t.deepEqual(makePlan(Uint32Array.from(b.code)).buffers, [400, 400, 400])
  const device = new JsBackend()
  device.write(1, 'f32', new Float32Array(100).fill(7))
  device.submit(b.words())
  t.deepEqual(read(device, 2, 100), Array<number>(100).fill(7))
  t.is(device.stats().liveBytes, 800)
  t.is(device.stats().poolBytes, 800)
  t.is(device.stats().peakBytes, 1600)
})

test('a temporary that a view still shows is not overwritten', (t) => {
  const b = new StreamBuilder()
  const x = b.input(1, 'f32', [4])
  const doubled = b.op('add', [x, x], [['f32', [4]]])
  const tail = b.op('view', [doubled], [['f32', [2]]], [2])
  const other = b.op('neg', [b.op('neg', [x], [['f32', [4]]])], [['f32', [4]]])
  b.output(b.op('square', [tail], [['f32', [2]]]), 2).output(other, 3)
  const device = new JsBackend()
  device.write(1, 'f32', f32(1, 2, 3, 4))
  device.submit(b.words())
  t.deepEqual(read(device, 2, 2), [36, 64])
})

test('views share memory with what they look at: inputs, temporaries and other outputs', (t) => {
  const device = new JsBackend()
  device.write(1, 'f32', f32(1, 2, 3, 4))
  const b = new StreamBuilder()
  const x = b.input(1, 'f32', [4])
  const tail = b.op('view', [x], [['f32', [2]]], [2])
  const made = b.op('neg', [x], [['f32', [4]]])
  const rows = b.op('view', [made], [['f32', [2, 2]]], [0])
  const last = b.op('view', [rows], [['f32', [1]]], [3])
  b.output(tail, 2).output(rows, 3).output(last, 4).output(x, 5)
  device.submit(b.words())
  t.is(device.stats().liveBytes, 16 + 16)
  const add = new StreamBuilder()
  const target = add.input(2, 'f32', [2])
  add.op('addInto', [target, target])
  device.submit(add.words())
  t.deepEqual(read(device, 1, 4), [1, 2, 6, 8])
  t.deepEqual(read(device, 5, 4), [1, 2, 6, 8])
  const change = new StreamBuilder()
  change.op('assign', [
    change.input(4, 'f32', [1]),
    change.op('view', [change.input(1, 'f32', [4])], [['f32', [1]]], [0]),
  ])
  device.submit(change.words())
  t.deepEqual(read(device, 3, 4), [-1, -2, -3, 1])
})

test('shared memory lives until its last slot is freed', (t) => {
  const device = new JsBackend()
  device.write(1, 'f32', f32(1, 2, 3, 4))
  const b = new StreamBuilder()
  b.output(b.op('view', [b.input(1, 'f32', [4])], [['f32', [2]]], [1]), 2).free(1)
  device.submit(b.words())
  t.is(device.stats().liveBytes, 16)
  t.deepEqual(read(device, 2, 2), [2, 3])
  device.submit(new StreamBuilder().free(2).words())
  t.is(device.stats().liveBytes, 0)
  t.is(device.stats().liveSlots, 0)
})

test('a loop of equal steps takes no new memory', (t) => {
  const device = new JsBackend()
  device.write(1, 'f32', new Float32Array(1000))
  let bytes = 0
  for (let i = 0; i < 100; i++) {
    device.submit(
      double(1000, i + 1, i + 2)
        .free(i + 1)
        .words(),
    )
    const { liveBytes, poolBytes } = device.stats()
    if (i > 2) t.is(liveBytes + poolBytes, bytes)
    bytes = liveBytes + poolBytes
  }
})

test('a slot that was never made, is stale or has been freed is ERR_DISPOSED, and nothing runs', (t) => {
  const device = new JsBackend()
  device.write(1, 'f32', f32(1))
  const stale = (1 | (3 << 22)) >>> 0
  t.throws(() => device.readSync(stale, new Float32Array(1)), { code: 'ERR_DISPOSED', message: /slot 1, generation 3/ })
  t.throws(() => device.submit(double(1, stale).words()), { code: 'ERR_DISPOSED' })
  t.throws(() => device.submit(double(1).free(7).words()), { code: 'ERR_DISPOSED' })
  t.is(device.stats().liveSlots, 1)
  device.submit(new StreamBuilder().free(1).words())
  t.throws(() => device.readSync(1, new Float32Array(1)), { code: 'ERR_DISPOSED' })
})

test('streams that do not fit their slots are ERR_PROGRAM, and nothing runs', (t) => {
  const device = new JsBackend()
  device.write(1, 'f32', f32(1, 2))
  device.write(2, 'f32', f32(5))
  const program = { instanceOf: TilegradError, code: 'ERR_PROGRAM' } as const
  t.throws(() => device.submit(double(3, 1, 4).words()), program)
  t.throws(() => device.submit(double(2, 1, 2).words()), program)
  t.throws(() => device.submit(double(2, 1, 4).free(1).free(1).words()), program)
  t.throws(() => device.write(2, 'f32', f32(1)), program)
  const missing = double(2, 1, 4)
  missing.outputs.pop()
  t.throws(() => device.submit(missing.words()), program)
  const noScalar = new StreamBuilder()
  noScalar.output(noScalar.op('full', [], [['f32', [1]]], [1]), 4).scalars.pop()
  t.throws(() => device.submit(noScalar.words()), program)
  t.throws(() => device.submit(Uint32Array.of(1, 2, 3)), program)
  t.is(device.stats().liveSlots, 2)
})

test('an error of the data poisons what depends on it, and nothing else', async (t) => {
  const device = new JsBackend()
  const b = poison(device)
  const dependent = b.op('neg', [2], [['f32', [2]]])
  const view = b.op('view', [dependent], [['f32', [1]]], [0])
  const independent = b.op('neg', [0], [['f32', [3]]])
  b.output(view, 3).output(independent, 4)
  device.submit(b.words())
  t.deepEqual(read(device, 4, 3), [-1, -2, -3])
  const message =
    /gather: embedding: index 5 at position 1 is outside \[0, 3\) \(program line 2: %2: f32\[2\] = gather %0, %1 \{axis: 0, of: 1\}\)/
  t.throws(() => device.readSync(3, new Float32Array(1)), { instanceOf: TilegradError, code: 'ERR_ARGUMENT', message })
  await t.throwsAsync(async () => device.read(2, new Float32Array(2)), { code: 'ERR_ARGUMENT', message })
  await t.notThrowsAsync(device.sync())
})

test('poison passes from stream to stream', (t) => {
  const device = new JsBackend()
  device.submit(poison(device).words())
  device.submit(double(2, 2, 3).words())
  t.throws(() => device.readSync(3, new Float32Array(2)), { code: 'ERR_ARGUMENT', message: /gather/ })
  t.is(device.stats().liveBytes, 12 + 8)
})

test('a change in place with a poisoned operand is not applied', (t) => {
  const device = new JsBackend()
  const b = poison(device)
  device.write(3, 'f32', f32(5, 6))
  device.write(4, 'i32', i32(0))
  const target = b.input(3, 'f32', [2])
  const steps = b.input(4, 'i32', [1])
  b.op('addInto', [target, 2])
  b.op('sgd', [target, null, steps, null, null, 2], [], [1, 0, 0, 0, 0, [0, 0]])
  device.submit(b.words())
  t.deepEqual(read(device, 3, 2), [5, 6])
  t.deepEqual(read(device, 4, 1), [0])
})

test('an error that nobody has read surfaces once, in sync or in close', async (t) => {
  const device = new JsBackend()
  device.submit(poison(device).free(2).words())
  await t.throwsAsync(device.sync(), { code: 'ERR_ARGUMENT' })
  await t.notThrowsAsync(device.sync())
  const other = new JsBackend()
  other.submit(poison(other).words())
  await t.throwsAsync(other.close(), { code: 'ERR_ARGUMENT' })
})

test('beyond the memory limit every output is poisoned, nothing has run, and the device goes on', async (t) => {
  const device = new JsBackend({ memoryLimit: 1000 })
  device.write(1, 'f32', new Float32Array(100).fill(1))
  const b = new StreamBuilder()
  const x = b.input(1, 'f32', [100])
  const y = b.op('add', [x, x], [['f32', [100]]])
  b.op('addInto', [x, x])
  b.output(y, 2).output(b.op('neg', [y], [['f32', [100]]]), 3)
  device.submit(b.words())
  for (const slot of [2, 3]) {
    const error = t.throws(() => device.readSync(slot, new Float32Array(100)), { code: 'ERR_OUT_OF_MEMORY' })
    t.regex(error.message, /needs 800 bytes: .* limit of 1000/)
  }
  t.is(device.stats().liveBytes, 400)
  t.deepEqual(read(device, 1, 100), Array<number>(100).fill(1))
  device.write(4, 'f32', new Float32Array(200))
  t.throws(() => device.readSync(4, new Float32Array(200)), { code: 'ERR_OUT_OF_MEMORY' })
  device.submit(double(100, 1, 5).words())
  t.deepEqual(read(device, 5, 100), Array<number>(100).fill(2))
  await t.notThrowsAsync(device.sync())
})

test('memory kept for reuse counts towards the limit and gives way to what is needed', (t) => {
  const device = new JsBackend({ memoryLimit: 1000 })
  device.write(1, 'f32', new Float32Array(200))
  device.submit(new StreamBuilder().free(1).words())
  t.is(device.stats().poolBytes, 800)
  device.write(2, 'f32', new Float32Array(100))
  const { liveBytes, poolBytes } = device.stats()
  t.deepEqual({ liveBytes, poolBytes }, { liveBytes: 400, poolBytes: 0 })
})

test('a closed device holds nothing and refuses work', async (t) => {
  const device = new JsBackend()
  device.write(1, 'f32', f32(1))
  await device.close()
  const { liveBytes, liveSlots, poolBytes } = device.stats()
  t.deepEqual({ liveBytes, liveSlots, poolBytes }, { liveBytes: 0, liveSlots: 0, poolBytes: 0 })
  t.throws(() => device.write(2, 'f32', f32(1)), { code: 'ERR_DEVICE_LOST' })
  t.throws(() => device.submit(double(1).words()), { code: 'ERR_DEVICE_LOST' })
})
