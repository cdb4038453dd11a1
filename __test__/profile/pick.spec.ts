/** Picking a device: by a clock that the work itself moves, so that no load of the machine decides. */

import test from 'ava'

import {
  type Device,
  type DeviceKind,
  TilegradError,
  compile,
  defaultDevice,
  nn,
  ones,
  openDevice,
  optim,
  pickDevice,
  setDefaultDevice,
} from '../../ts/index.ts'
import { type PickOptions, pickDeviceBy } from '../../ts/profile/pick.ts'
import { DEVICES } from '../helpers/devices.ts'
import { rejectionOf } from '../helpers/errors.ts'

const KINDS = DEVICES.map((device) => device.kind)
const OPTIONS: PickOptions = { candidates: KINDS, allowSoftware: true, warmup: 1, runs: 3 }

for (const fastest of KINDS) {
  test(`the fastest device stays, the others are closed [${fastest}]`, async (t) => {
    let clock = 0
    const opened: Device[] = []
    const { device, run, times } = await pickDeviceBy(
      (device) => {
        opened.push(device)
        const x = ones([4], { device })
        const double = compile(() => x.mul(2).sum())
        return () => {
          clock += device.kind === fastest ? 2 : 5 + KINDS.indexOf(device.kind)
          return double()
        }
      },
      OPTIONS,
      () => clock,
    )
    t.is(device.kind, fastest)
    t.deepEqual(
      opened.map(({ kind, closed }) => [kind, closed]),
      KINDS.map((kind) => [kind, kind !== fastest]),
    )
    t.deepEqual([times.length, times[0]!.kind, times[0]!.milliseconds], [KINDS.length, fastest, 2])
    t.deepEqual(
      times.slice(1).map(({ milliseconds }) => milliseconds),
      KINDS.flatMap((kind, i) => (kind === fastest ? [] : [5 + i])),
    )
    t.is(await run().item(), 8)
    // What is given back opens it again.
    const again = await openDevice(times[0]!.options)
    t.is(again.name, device.name)
    await again.close()
    await device.close()
  })
}

test('code without device options works: the device is the default while it is built and run', async (t) => {
  const before = defaultDevice()
  const seen: DeviceKind[] = []
  const { device, run } = await pickDevice(
    async (device) => {
      const model = new nn.Linear(3, 1)
      const optimizer = new optim.SGD(model.parameters(), { lr: 0.1 })
      await Promise.resolve()
      return () => {
        seen.push(defaultDevice().kind)
        optimizer.zeroGrad()
        const loss = model
          .forward(ones([2, 3]))
          .square()
          .mean()
        loss.backward()
        optimizer.step()
        return Promise.resolve(loss.device === device)
      }
    },
    { ...OPTIONS, runs: 1 },
  )
  t.is(defaultDevice(), before)
  t.deepEqual([...new Set(seen)].toSorted(), KINDS.toSorted())
  setDefaultDevice(device)
  t.true(await run())
  setDefaultDevice(before)
  await device.close()
})

test('a call ends when the device has done its work, and what it made is freed', async (t) => {
  const live: number[] = []
  const { device } = await pickDevice(
    (device) => {
      const x = ones([1000], { device })
      return async () => {
        live.push(device.stats().liveSlots)
        const y = x.add(1)
        return { y: await y.data() }
      }
    },
    { ...OPTIONS, candidates: ['js'], warmup: 2, runs: 20 },
  )
  t.is(new Set(live.slice(1)).size, 1, live.join())
  await device.close()
})

test('inFlight calls go before each wait, and count as one each', async (t) => {
  let clock = 0
  let calls = 0
  const { device, times } = await pickDeviceBy(
    () => () => {
      calls++
      clock += 3
    },
    { candidates: ['js'], warmup: 1, runs: 2, inFlight: 5 },
    () => clock,
  )
  t.deepEqual([calls, times[0]!.milliseconds], [15, 3])
  await device.close()
})

test('a device on which something throws is out, with the reason', async (t) => {
  const { device, times } = await pickDevice(
    (device) => {
      if (device.kind !== 'js') throw new RangeError('no room')
      return () => ones([1], { dtype: 'f64', device })
    },
    { ...OPTIONS, candidates: [...KINDS, { kind: 'gpu', adapter: 'no such adapter' }] },
  )
  t.is(device.kind, 'js')
  const reasons = times.slice(1).map(({ milliseconds, error }) => [milliseconds, error?.code])
  t.deepEqual(reasons, [...KINDS.slice(1).map(() => [Infinity, 'ERR_UNSUPPORTED']), [Infinity, 'ERR_NO_DEVICE']])
  t.regex(times[1]!.error!.message, KINDS.length > 1 ? /no room/ : /no such adapter/)
  await device.close()
})

test('without candidates, every device of this machine is one, software adapters only if they may', async (t) => {
  const { device, times } = await pickDevice(() => () => ones([1]), { warmup: 1, runs: 1 })
  for (const { kind, name, error } of times) {
    if (name.includes('software')) t.regex(error!.message, /allowSoftware/)
    else t.true(error === undefined || error instanceof TilegradError, `${kind} ${name}`)
  }
  t.deepEqual(
    KINDS.filter((kind) => times.every((time) => time.kind !== kind)),
    [],
  )
  t.false(times[0]!.name.includes('software'))
  await device.close()
})

test('when no device is left, the error says why for each', async (t) => {
  const opened: Device[] = []
  const error = await t.throwsAsync<TilegradError>(
    pickDevice((device) => {
      opened.push(device)
      return () => {
        throw new TypeError('not today')
      }
    }, OPTIONS),
    { instanceOf: TilegradError, code: 'ERR_NO_DEVICE' },
  )
  t.is(error.message.split('not today').length - 1, KINDS.length)
  t.true(opened.every(({ closed }) => closed))
})

test('arguments that make no sense are refused, and nothing stays open', async (t) => {
  const opened: Device[] = []
  const fn = (device: Device) => {
    opened.push(device)
    return 3 as never
  }
  t.is(await rejectionOf(pickDevice(fn, OPTIONS)), 'ERR_ARGUMENT')
  t.true(opened.length === 1 && opened[0]!.closed)
  const bad: unknown[] = [{ runs: 0 }, { warmup: 0.5 }, { inFlight: '2' }, { candidates: [] }, { candidates: ['auto'] }]
  for (const options of [...bad, { candidates: 'gpu' }, { allowSoftware: 1 }, 3]) {
    t.is(await rejectionOf(pickDevice(() => () => 1, options as PickOptions)), 'ERR_ARGUMENT', JSON.stringify(options))
  }
  t.is(await rejectionOf(pickDevice(3 as never)), 'ERR_ARGUMENT')
})
