/**
 * The loss of a GPU in the middle of training, from where a driver has told the addon of it: whoever waits hears of it at
 * once, whatever is asked of the device afterwards is refused, and the next device that is opened works. The file has no
 * other gpu device open, for a loss takes all that share the GPU.
 */

import { setTimeout as after } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'

import { type Device, data, devices, full, keep, nn, ones, optim, scope, tensor } from '../../ts/index.ts'
import { rejectionOf } from '../helpers/errors.ts'
import { type Losable, canLose, openLosable } from '../helpers/lose.ts'
import { isTestable } from '../helpers/open.ts'
import { endedWith, lastJson, run } from '../helpers/process.ts'

const LOSSES = 3
/** Nobody waits longer than this to hear of a loss. */
const DEADLINE_MS = 1000
/** How long the GPU is busy when it is lost, at least: many times what recording the work behind that takes. */
const BUSY_MS = 1000

const gpus = (await devices()).filter((line) => line.kind === 'gpu' && isTestable(line))
// Needs a gpu, and an addon with debug assertions; where one is missing the output shows the test as skipped.
const withLosses = gpus.length > 0 && canLose() ? test.serial : test.serial.skip
// Only a software adapter has its memory in this process, where it can be seen.
const onProcessor = gpus.every((line) => line.adapter?.type === 'software') ? withLosses : test.serial.skip

/** Trains for some steps without waiting for any; gives what is pending. */
function train(
  device: Device,
  steps: number,
): { pending: Promise<unknown>[]; model: nn.Module; optimizer: optim.AdamW } {
  const model = new nn.Sequential(
    new nn.Linear(64, 64, { activation: 'gelu', device }),
    new nn.Linear(64, 4, { device }),
  )
  const optimizer = new optim.AdamW(model.parameters())
  const x = tensor(Float32Array.from({ length: 32 * 64 }, (_, i) => Math.sin(i)), { shape: [32, 64], device }) // prettier-ignore
  const y = tensor(Int32Array.from({ length: 32 }, (_, i) => i % 4), { device }) // prettier-ignore
  const pending: Promise<unknown>[] = []
  for (let i = 0; i < steps; i++) {
    optimizer.zeroGrad()
    const loss = nn.crossEntropy(model.forward(x), y)
    loss.backward()
    optimizer.step()
    pending.push(loss.item(), loss.data())
    // Work goes over in several streams, so that some has run, some is in flight and some has not begun.
    if (i % 4 === 3) device.flush()
  }
  pending.push(device.sync(), optimizer.stateDict(), model.stateDict())
  return { pending, model, optimizer }
}

/** Products of square matrices, few enough that submitting them waits for nothing. */
function products(device: Device, size: number): Promise<unknown> {
  return scope(() => {
    const a = full([size, size], 1 / size, { device })
    let x = a
    for (let i = 0; i < 20; i++) x = x.matmul(a)
    return keep(x)
  }).data()
}

/** The size from which on {@link products} keep this GPU busy for long enough, now that their shaders are compiled. */
async function busySize(device: Device): Promise<number> {
  await products(device, 512)
  for (let size = 512; ; size *= 2) {
    const begun = performance.now()
    await products(device, size)
    if (performance.now() - begun >= BUSY_MS) return size
  }
}

async function losesEverything(t: ExecutionContext, { device, lose }: Losable): Promise<void> {
  const early = train(device, 20)
  t.deepEqual(new Set(await Promise.all(early.pending.map((promise) => rejectionOf(promise)))), new Set(['nothing']))
  const { model, optimizer } = early
  const size = await busySize(device)
  const pending = [products(device, size), ...train(device, 20).pending]
  await after(20)
  const lost = performance.now()
  lose()
  const outcomes = await Promise.all(pending.map((promise) => rejectionOf(promise)))
  const waited = performance.now() - lost
  t.log(`${outcomes.length} pending promises rejected within ${waited.toFixed(0)} ms`)
  t.true(waited <= DEADLINE_MS, `${waited} ms`)
  t.deepEqual(new Set(outcomes), new Set(['ERR_DEVICE_LOST']))

  const later: Record<string, () => Promise<unknown>> = {
    'an old tensor': () => model.parameters()[0]!.data(),
    'a new tensor': () => ones([2], { device }).data(),
    'a product': () =>
      ones([2, 2], { device })
        .matmul(ones([2, 2], { device }))
        .data(),
    'an upload': () => tensor([1, 2], { device }).add(1).data(),
    'the state of an optimiser': () => optimizer.stateDict(),
    sync: () => device.sync(),
    'a loader': async () => {
      const set = new data.TensorDataset(ones([4, 2], { device }))
      for await (const [rows] of new data.DataLoader(set, { batchSize: 2 })) await rows.data()
    },
  }
  for (const [what, use] of Object.entries(later)) {
    const begun = performance.now()
    t.is(await rejectionOf(use), 'ERR_DEVICE_LOST', what)
    t.true(performance.now() - begun <= DEADLINE_MS, what)
  }
  t.throws(() => ones([2], { device }).dataSync(), { code: 'ERR_DEVICE_LOST' })
  const error = await t.throwsAsync(device.sync(), { code: 'ERR_DEVICE_LOST' })
  t.regex(error.message, /open another/)
}

withLosses(
  'a device that is lost in mid-training says so, and the next one trains: three times in a row',
  async (t) => {
    t.timeout(60_000)
    for (let i = 0; i < LOSSES; i++) {
      const losable = await openLosable()
      await losesEverything(t, losable)
      // Closing what is lost does not hang, whatever it says.
      await Promise.race([
        losable.device.close().catch(() => {}),
        new Promise((_, fail) => setTimeout(fail, DEADLINE_MS)),
      ])
    }
    const { device } = await openLosable()
    const { pending } = train(device, 30)
    const losses = (await Promise.all(pending)).filter((value) => typeof value === 'number')
    t.true(losses.at(-1)! < losses[0]!, `the loss goes from ${losses[0]} to ${losses.at(-1)}`)
    await device.close()
  },
)

onProcessor('the memory of a GPU that is lost is given back', async (t) => {
  t.timeout(60_000)
  const child = await run(new URL('children/loss.ts', import.meta.url), {
    deadlineMs: 55_000,
    nodeArguments: ['--expose-gc'],
  })
  endedWith(t, child, { code: 0 })
  const { filled, left } = lastJson(child) as { filled: number; left: number }
  t.log(`${(filled / 2 ** 20).toFixed(0)} MiB before the loss, ${(left / 2 ** 20).toFixed(0)} MiB after it`)
  t.true(filled > 400 * 2 ** 20 && left < 96 * 2 ** 20)
})

withLosses('devices that share a GPU are lost together; one opened meanwhile is not', async (t) => {
  const [first, second] = [await openLosable(), await openLosable()]
  const [x, y] = [ones([4], { device: first.device }), ones([4], { device: second.device })]
  await Promise.all([x.data(), y.data()])
  first.lose()
  t.is(await rejectionOf(x.add(1).data()), 'ERR_DEVICE_LOST')
  t.is(await rejectionOf(y.add(1).data()), 'ERR_DEVICE_LOST')
  const third = await openLosable()
  t.deepEqual([...(await ones([4], { device: third.device }).add(1).data())], [2, 2, 2, 2])
  t.is(await rejectionOf(y.add(1).data()), 'ERR_DEVICE_LOST')
  for (const { device } of [first, second]) await device.close().catch(() => {})
  await third.device.close()
})
