/**
 * 200 steps of the digits recipe with AdamW: a compiled training step, and accumulation over windows of unequal sizes,
 * end where the same code ends uncompiled: in the same bits on `cpu` and `js`, on `gpu` along the same curve.
 */

import { type Device, type Tensor, compile, manualSeed, nn, optim, tensor, train } from '../../ts/index.ts'
import { loadDigits } from '../../examples/digits.ts'
import { read } from '../helpers/compiled.ts'
import { onDevices } from '../helpers/devices.ts'

const STEPS = 200
const BATCH = 32
/** Rows of the micro-batches of the windows in turn; none of them divides another. */
const WINDOWS = [[32], [16, 16, 5], [32, 1], [7, 32, 16], [5, 5]] // prettier-ignore

const digits = loadDigits().train

function recipe(device: Device) {
  manualSeed(0)
  const model = new nn.Sequential(
    new nn.Linear(64, 128, { activation: 'relu', device }),
    new nn.Linear(128, 10, { device }),
  )
  const optimizer = new optim.AdamW(model.parameters(), { lr: (step) => 3e-3 * Math.min(1, (step + 1) / 20) })
  return { model, optimizer, acc: new train.GradientAccumulator(optimizer) }
}

/** The next rows, around and around. */
function rows(device: Device, start: number, count: number): [Tensor, Tensor] {
  const order = Int32Array.from({ length: count }, (_, i) => (37 * (start + i)) % digits.length)
  const pixels = Float32Array.from({ length: 64 * count }, (_, i) => digits.pixels[64 * order[i >> 6]! + (i & 63)]!)
  return [tensor(pixels, { shape: [count, 64], device }), tensor(order.map((i) => digits.classes[i]!), { device })] // prettier-ignore
}

/** Everything that training leaves behind, and the losses on the way. */
async function run(device: Device, accumulated: boolean, wrap: <F>(fn: F) => F): Promise<[number[], unknown]> {
  const { model, optimizer, acc } = recipe(device)
  const losses: Tensor[] = []
  const step = wrap((x: Tensor, y: Tensor) => {
    optimizer.zeroGrad()
    const loss = nn.crossEntropy(model.forward(x), y)
    loss.backward()
    optimizer.step()
    return loss
  })
  const micro = wrap((x: Tensor, y: Tensor) => {
    const parts = nn.crossEntropy(model.forward(x), y, { reduction: 'parts' })
    acc.add(parts)
    return parts.sum
  })
  const update = wrap(() => acc.step())
  let start = 0
  for (let i = 0; i < STEPS; i++) {
    for (const count of accumulated ? WINDOWS[i % WINDOWS.length]! : [BATCH]) {
      const [x, y] = rows(device, start, count)
      losses.push(accumulated ? micro(x, y) : step(x, y))
      start += count
    }
    if (accumulated) losses.push(update().norm)
    // Let finalisers and other tests have their turn.
    if (i % 20 === 0) await device.sync()
  }
  const left = await Promise.all([read(model.parameters()), read(model.parameters().map(({ grad }) => grad)), optimizer.stateDict()]) // prettier-ignore
  return [((await read(losses)) as number[][]).flat(), left]
}

for (const accumulated of [false, true]) {
  const what = accumulated ? 'accumulation over unequal windows' : 'one call for each step'
  onDevices(`200 steps of the digits recipe: ${what}`, async (t, device) => {
    t.timeout(110_000)
    const functions: { stats(): { recordings: number; calls: number } }[] = []
    const [expected, end] = await run(device, accumulated, (fn) => fn)
    const [actual, compiledEnd] = await run(device, accumulated, (fn) => {
      const compiled = compile(fn as (...args: unknown[]) => unknown)
      functions.push(compiled)
      return compiled as typeof fn
    })
    t.is(actual.length, expected.length)
    t.true(expected.length >= STEPS)
    const last = accumulated ? expected.at(-2)! / 5 : expected.at(-1)!
    t.true(last < 0.6, `it learns: ${last}`)
    t.deepEqual(actual, expected)
    t.deepEqual(compiledEnd, end)
    // Gradients are there or not, and a few batch sizes.
    const recordings = functions.reduce((sum, f) => sum + f.stats().recordings, 0)
    t.true(recordings <= (accumulated ? 11 : 2), String(recordings))
  })
}
