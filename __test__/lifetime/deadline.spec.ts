/** Deadlines of reads and waits: who stops waiting is told so, and nothing else changes. */

import { getEventListeners } from 'node:events'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import test, { type ExecutionContext } from 'ava'

import { type Device, TilegradError, nn, noGrad, ones, optim, Parameter, tensor } from '../../ts/index.ts'
import { isRight, workFor } from '../helpers/busy.ts'
import { DEVICES, onDevices } from '../helpers/devices.ts'
import { codeOf, rejectionOf } from '../helpers/errors.ts'
import { openDevice } from '../helpers/open.ts'
import { values } from '../helpers/values.ts'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

const WORK_MS = 400
const TIMEOUT = 30

/** Declares a test for each device that computes on other threads. One at a time, because they measure time. */
function onBusyDevices(title: string, body: (t: ExecutionContext, device: Device) => Promise<void>): void {
  for (const { kind } of DEVICES.filter((d) => d.kind !== 'js')) {
    test.serial(`${title} [${kind}]`, async (t) => {
      t.timeout(60_000)
      const device = await openDevice(kind)
      await body(t, device)
      await device.close()
    })
  }
}

async function took(body: () => Promise<unknown>): Promise<number> {
  const begun = performance.now()
  await body()
  return performance.now() - begun
}

onBusyDevices('a read that takes too long is ERR_TIMEOUT, and can be had later', async (t, device) => {
  const start = await workFor(device, WORK_MS)
  const y = start()
  const one = y.mul(0).sum().add(7)
  const all = await took(() => y.data())
  t.log(`the work takes ${all.toFixed(0)} ms`)

  const again = start()
  const sum = again.mul(0).sum().add(7)
  const waited = await took(async () => {
    const options = { timeout: TIMEOUT }
    const waits = [again.data(options), again.array(options), sum.item(options), device.sync(options)]
    t.deepEqual(await Promise.all(waits.map((wait) => rejectionOf(wait))), Array<string>(4).fill('ERR_TIMEOUT'))
  })
  t.true(waited >= TIMEOUT - 1 && waited < all, `${waited} ms`)
  // What nobody waits for is still written to.
  collect()
  t.true(isRight(await again.data({ timeout: 60_000 })))
  t.is(await sum.item({ timeout: 60_000 }), 7)
  t.is(await one.item(), 7)
  await device.sync({ timeout: 60_000 })
})

onBusyDevices('the error says what was waited for, how long, and what to do', async (t, device) => {
  const y = (await workFor(device, WORK_MS))()
  const error = await t.throwsAsync(y.data({ timeout: 5 }), { instanceOf: TilegradError })
  t.regex(error.message, /^data: the f32 tensor of shape \[\d+, \d+\] was not there after 5 ms\. .*read again later/)
  const other = await t.throwsAsync(device.sync({ timeout: 5 }), { instanceOf: TilegradError })
  t.regex(other.message, new RegExp(`^sync: the ${device.kind} device was not done after 5 ms`))
})

onBusyDevices('an aborted signal is ERR_ABORTED, and nobody listens to it afterwards', async (t, device) => {
  const y = (await workFor(device, WORK_MS))()
  const abort = new AbortController()
  const { signal } = abort
  const reads = Array.from({ length: 3 }, () => y.data({ signal, timeout: 60_000 }))
  const waits = [...reads, device.sync({ signal })]
  const ends = waits.map((wait) => rejectionOf(wait))
  await new Promise((resolve) => setTimeout(resolve, TIMEOUT))
  abort.abort('enough')
  t.deepEqual(await Promise.all(ends), Array<string>(4).fill('ERR_ABORTED'))
  t.is(getEventListeners(signal, 'abort').length, 0)
  const error = await t.throwsAsync(y.data({ signal }), { instanceOf: TilegradError })
  t.is(error.code, 'ERR_ABORTED')
  t.is(error.cause, 'enough')
  t.true(isRight(await y.data()))
})

onBusyDevices('dataSync stops waiting as well, and what it began is not taken for a later read', async (t, device) => {
  const start = await workFor(device, WORK_MS)
  const p = new Parameter([1, 2], { device })
  const optimizer = new optim.SGD([p], { lr: 1 })
  await device.sync()
  const y = start()
  const waited = await took(async () => t.is(codeOf(() => p.dataSync({ timeout: TIMEOUT })), 'ERR_TIMEOUT')) // prettier-ignore
  t.true(waited >= TIMEOUT && waited < WORK_MS, `${waited} ms`)
  p.sum().backward()
  optimizer.step()
  t.deepEqual([...p.dataSync()], [0, 1])
  t.true(isRight(y.dataSync({ timeout: 60_000 })))
})

onBusyDevices('an error that came after the deadline comes out of sync, once', async (t, device) => {
  const y = (await workFor(device, WORK_MS))()
  const logits = noGrad(() => y.slice([0, 0], [1, 2]))
  const loss = nn.crossEntropy(logits, tensor([5], { device, dtype: 'i32' }))
  t.is(await rejectionOf(loss.data({ timeout: TIMEOUT })), 'ERR_TIMEOUT')
  t.is(await rejectionOf(device.sync()), 'ERR_ARGUMENT')
  t.is(await rejectionOf(device.sync()), 'nothing')
})

onBusyDevices('closing goes on when nobody waits for it any more', async (t, device) => {
  ;(await workFor(device, WORK_MS))()
  t.is(await rejectionOf(device.close({ timeout: TIMEOUT })), 'ERR_TIMEOUT')
  t.true(device.closed)
  t.is(await rejectionOf(device.close({ timeout: 60_000 })), 'nothing')
})

onBusyDevices('what has come in while the event loop was busy is not late', async (t, device) => {
  const x = ones([10], { device })
  await x.add(1).data()
  const read = x.add(1).data({ timeout: TIMEOUT })
  const late = performance.now() + 2 * TIMEOUT
  while (performance.now() < late || device.stats().queuedJobs > 0);
  t.is((await read)[9], 2)
})

onDevices('a deadline that does not pass leaves nothing behind', async (t, device) => {
  const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
  const { signal } = new AbortController()
  const before = timers()
  const x = ones([300, 300], { device })
  for (let i = 0; i < 20; i++) t.is((await x.matmul(x).data({ timeout: 1e6, signal }))[0], 300)
  await device.sync({ timeout: 1e6, signal })
  t.is(await x.sum().item({ timeout: Infinity, signal }), 90_000)
  t.is(getEventListeners(signal, 'abort').length, 0)
  // The test runner has timers too, but not as many as there were reads.
  t.true(timers() < before + 10, `${timers()} timers after ${before}`)
})

onDevices('what is no deadline is ERR_ARGUMENT', async (t, device) => {
  const x = ones([1], { device })
  const wrong = [
    { timeout: -1 },
    { timeout: Number.NaN },
    { timeout: '5' },
    { timeout: null },
    { signal: {} },
    { signal: 5 },
    { signal: null },
    5,
    null,
  ] as never[]
  for (const options of wrong) {
    const name = JSON.stringify(options)
    for (const read of [x.data(options), x.array(options), x.item(options)])
      t.is(await rejectionOf(read), 'ERR_ARGUMENT', name)
    t.is(await rejectionOf(device.sync(options)), 'ERR_ARGUMENT', name)
    t.is(await rejectionOf(device.close(options)), 'ERR_ARGUMENT', name)
    t.is(codeOf(() => x.dataSync(options)), 'ERR_ARGUMENT', name) // prettier-ignore
  }
  t.false(device.closed)
  const aborted = AbortSignal.abort()
  t.is(await rejectionOf(x.data({ signal: aborted })), 'ERR_ABORTED')
  t.deepEqual(await values(x), [1])
})

test('nothing is ever late on the js device, which computes at once', async (t) => {
  const device = await openDevice('js')
  const x = ones([200, 200], { device })
  t.is((await x.matmul(x).data({ timeout: 0 }))[0], 200)
  t.is(x.matmul(x).dataSync({ timeout: 0 })[0], 200)
  t.is(await x.sum().item({ timeout: 0 }), 40_000)
  await device.sync({ timeout: 0 })
  await device.close({ timeout: 0 })
})
