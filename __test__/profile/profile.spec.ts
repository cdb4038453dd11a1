/** Profiles: that they have everything that was done and nothing else, in its place and in time. */

import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { inspect } from 'node:util'
import test, { type ExecutionContext } from 'ava'

import {
  type Device,
  type Profile,
  type ProfileEvent,
  type Tensor,
  compile,
  gather,
  nn,
  ones,
  optim,
  profile,
  tensor,
} from '../../ts/index.ts'
import { DEVICES, JS, open } from '../helpers/devices.ts'
import { rejectionOf } from '../helpers/errors.ts'

/** One test after the other: a profile has all that a device does, whoever asked for it. */
function serially(title: string, body: (t: ExecutionContext, device: Device) => Promise<void> | void): void {
  for (const device of DEVICES) test.serial(`${title} [${device.kind}]`, (t) => body(t, device))
}

function of(trace: Profile, ...kinds: ProfileEvent['kind'][]): ProfileEvent[] {
  return trace.events.filter(({ kind }) => kinds.includes(kind))
}

/** The steps of a run: done, or handed to a GPU. */
function steps(trace: Profile): ProfileEvent[] {
  return of(trace, 'step', 'recording')
}

/** Clocks of two threads, and the rounding of milliseconds. */
const TOLERANCE = 0.5

function within(inner: ProfileEvent, outer: { readonly start: number; readonly duration: number }): boolean {
  return (
    inner.start >= outer.start - TOLERANCE && inner.start + inner.duration <= outer.start + outer.duration + TOLERANCE
  )
}

serially('a profile has the calls, runs and steps of compiled functions', async (t, device) => {
  const x = ones([32, 64], { device })
  const weight = ones([64, 16], { device })
  const forward = compile((x: Tensor) => x.matmul(weight).relu().sum(), { name: 'forward' })
  await forward(x).data()
  const trace = await profile(
    async () => {
      for (let i = 0; i < 3; i++) await forward(x).data()
      return 'done'
    },
    { device },
  )
  t.is(trace.result, 'done')
  t.is(trace.device.name, device.name)
  t.deepEqual(
    of(trace, 'call').map(({ name, detail }) => `${name}(${detail})`),
    Array<string>(3).fill('forward(f32 [32, 64])'),
  )
  t.is(of(trace, 'trace').length, 0)
  const runs = of(trace, 'run')
  t.deepEqual(
    runs.map(({ name }) => name),
    Array<string>(3).fill('forward(f32 [32, 64])'),
  )
  const products = steps(trace).filter(({ name }) => name.includes('matmul'))
  t.is(products.length, 3)
  for (const [i, product] of products.entries()) {
    t.is(product.flops, 2 * 32 * 64 * 16)
    t.true(product.bytes! >= 4 * (32 * 64 + 64 * 16), `${product.bytes}`)
    t.regex(product.detail, /^f32\[32,64\], f32\[64,16\].* → f32\[/)
    t.true(within(product, runs[i]!))
  }
  for (const event of trace.events) t.true(within(event, { start: 0, duration: trace.milliseconds }), inspect(event))
  t.is(of(trace, 'submission').length > 0, device.kind === 'gpu')
  t.is(of(trace, 'step').length > 0, device.kind !== 'gpu')
  if (device.kind !== 'gpu')
    t.true(
      runs.every(({ lane }) => lane === 'js'),
      'short work runs on this thread',
    )
  t.true(of(trace, 'wait').some(({ name }) => name === 'read'))
  t.is(trace.dropped, 0)
})

serially('a profile has recordings, uploads and streams', async (t, device) => {
  const layer = new nn.Linear(3, 2, { device })
  const optimizer = new optim.SGD(layer.parameters(), { lr: 0.1 })
  await device.sync()
  const trace = await profile(
    () => {
      const x = tensor([[1, 2, 3]], { device })
      layer.forward(x).sum().backward()
      optimizer.step()
      compile((x: Tensor) => x.mul(2), { name: 'double' })(x)
    },
    { device },
  )
  t.true(of(trace, 'host').some(({ name, detail }) => name === 'upload' && detail === 'f32, 12 bytes'))
  t.deepEqual(of(trace, 'trace').map(({ name, detail }) => [name, detail]), [['double', 'f32 [1, 3]']]) // prettier-ignore
  t.deepEqual([...new Set(of(trace, 'run').map(({ name }) => name))].toSorted(), ['double(f32 [1, 3])', 'stream'])
  t.true(['linear', 'linearGrad', 'sgd'].every((op) => steps(trace).some(({ name }) => name.includes(op))))
})

serially('a compiled training step is one call to the device', async (t, device) => {
  const layer = new nn.Linear(3, 2, { device })
  const optimizer = new optim.AdamW(layer.parameters(), { lr: 0.1 })
  const step = compile((x: Tensor) => {
    optimizer.zeroGrad()
    const loss = layer.forward(x).square().mean()
    loss.backward()
    optimizer.step()
    return loss
  })
  const x = ones([4, 3], { device })
  for (let i = 0; i < 2; i++) step(x).dispose()
  const trace = await profile(
    () => {
      for (let i = 0; i < 5; i++) step(x).dispose()
      return device.recorder.liveSlots
    },
    { device },
  )
  // What the last one leaves to be freed has no other run to go along with.
  t.deepEqual(
    of(trace, 'host').map(({ name }) => name),
    [...Array<string>(5).fill('run'), 'submit'],
  )
  t.is(device.recorder.liveSlots, trace.result)
})

serially('what was pending before is not in a profile, and nothing is noted after it', async (t, device) => {
  const x = ones([8], { device })
  x.sqrt().sum()
  const trace = await profile(() => x.exp(), { device })
  t.deepEqual(
    steps(trace).map(({ name }) => name),
    ['exp'],
  )
  x.exp()
  await device.sync()
  t.deepEqual(device.backend.takeEvents().events, [])
})

serially('a profile that fails leaves the device as it was', async (t, device) => {
  const { backend } = device
  await t.throwsAsync(
    profile(
      () => {
        throw new Error('mine')
      },
      { device },
    ),
    { message: 'mine' },
  )
  const bad = tensor(new Int32Array([7]), { device })
  const failing = profile(() => void gather(ones([2], { device }), bad), { device })
  t.is(await rejectionOf(failing), 'ERR_ARGUMENT')
  t.is(device.backend, backend)
  t.is((await profile(() => 3, { device })).result, 3)
})

serially('events beyond the room are counted', async (t, device) => {
  const x = ones([8], { device })
  const trace = await profile(
    async () => {
      for (let i = 0; i < 5; i++) await x.exp().data()
    },
    { device, events: 3 },
  )
  const own = of(trace, 'host', 'wait', 'call', 'trace').length
  t.is(trace.events.length - own, 3)
  t.true(trace.dropped >= 7, `${trace.dropped}`)
  t.regex(String(trace), /events of the device did not fit/)
})

for (const device of DEVICES.filter(({ kind }) => kind !== 'js')) {
  test.serial(
    `work off this thread has a lane of its own, in the order in which it was done [${device.kind}]`,
    async (t) => {
      const x = ones([512, 512], { device })
      const trace = await profile(() => void x.matmul(x).matmul(x), { device })
      const runs = of(trace, 'run').filter(({ lane }) => lane === 'device')
      t.is(runs.length, 1)
      t.true(steps(trace).every((step) => step.lane === 'device' && within(step, runs[0]!)))
      const gpu = trace.events.filter(({ lane }) => lane === 'gpu')
      for (const [i, event] of gpu.slice(1).entries()) {
        t.true(event.start + TOLERANCE >= gpu[i]!.start + gpu[i]!.duration, 'a GPU does one thing after the other')
      }
    },
  )
}

serially('a profile reads as a table', async (t, device) => {
  const x = ones([64, 64], { device })
  const trace = await profile(() => x.matmul(x).data(), { device })
  const text = String(trace)
  t.true(text.startsWith(`${device.name}: `), text)
  // What it takes to put a step into a list says nothing of what the GPU does with it.
  const rates = device.kind === 'gpu' ? '' : String.raw` +\d+\.\d +\d+\.\d`
  t.regex(text, new RegExp(String.raw`\nmatmul +1 +\d+\.\d{3} +100 % +\d+\.\d{3}${rates}\n`))
  t.regex(text, /\nwait for read +1 /)
  t.is(inspect(trace), text)
})

serially('the trace for Chrome nests by time, names its lanes, and is written as a whole', async (t, device) => {
  const x = ones([64, 64], { device })
  const step = compile((x: Tensor) => x.matmul(x).relu(), { name: 'step' })
  const trace = await profile(() => Promise.all([step(x).data(), step(x).data()]), { device })
  const folder = mkdtempSync(join(tmpdir(), 'tilegrad-'))
  try {
    const path = join(folder, 'trace.json')
    await trace.save(path)
    await trace.save(pathToFileURL(path))
    t.deepEqual(readdirSync(folder), ['trace.json'])
    const { traceEvents, otherData } = JSON.parse(readFileSync(path, 'utf8')) as ReturnType<typeof trace.toChrome>
    t.deepEqual(traceEvents, JSON.parse(JSON.stringify(trace.toChrome().traceEvents)))
    t.is(otherData['device'], device.name)
    const names = traceEvents
      .filter(({ ph, name }) => ph === 'M' && name === 'thread_name')
      .map(({ args }) => args!['name'])
    t.true(names.includes('JavaScript') && names.includes('waiting'), names.join())
    for (const { ph, ts, dur } of traceEvents) {
      if (ph === 'X') t.true(typeof ts === 'number' && typeof dur === 'number' && ts >= -1000 * TOLERANCE && dur >= 0)
    }
    const [begun, ended] = ['b', 'e'].map((wanted) => traceEvents.filter(({ ph }) => ph === wanted).map(({ id }) => id))
    t.deepEqual(begun, ended)
    t.is(new Set(begun).size, begun!.length)
    const product = traceEvents.find(({ name, cat }) => name.includes('matmul') && cat !== 'call')
    t.is(product!.args!['flops'], 2 * 64 ** 3)

    await t.throwsAsync(trace.save(join(folder, 'missing', 'trace.json')))
    t.false(existsSync(join(folder, 'missing')))
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test.serial('one device is profiled once at a time; others do not get into its profile', async (t) => {
  const other = await open({ kind: 'js' })
  const x = ones([4], { device: other })
  const trace = await profile(
    async () => {
      t.is(await rejectionOf(profile(() => 1, { device: JS })), 'ERR_ARGUMENT')
      return (await profile(() => x.exp(), { device: other })).events.length
    },
    { device: JS },
  )
  t.true(trace.result >= 3)
  t.deepEqual(steps(trace), [])
})

test.serial('arguments that make no sense are refused', async (t) => {
  const device = JS
  t.is(await rejectionOf(profile(3 as never, { device })), 'ERR_ARGUMENT')
  t.is(await rejectionOf(profile(() => 1, 'js' as never)), 'ERR_ARGUMENT')
  t.is(await rejectionOf(profile(() => 1, { device: 'js' as never })), 'ERR_ARGUMENT')
  for (const events of [0, 1.5, NaN, '9']) {
    t.is(await rejectionOf(profile(() => 1, { device, events: events as number })), 'ERR_ARGUMENT')
  }
  t.true(DEVICES.length > 0)
})

test.serial('closing the device inside is an error, not a hang', async (t) => {
  const device = await open({ kind: 'js' })
  t.is(await rejectionOf(profile(() => device.close(), { device })), 'ERR_DEVICE_LOST')
})
