/**
 * `npm run demo`: trains an MLP on handwritten digits with mini-batches, then shows what the library promises: the test
 * accuracy, the speed, that a row of a batch has the same bits as the row alone, and how close the other devices come.
 *
 *   npm run demo                        the best device
 *   npm run demo -- --device gpu|cpu|js that one; gpu may be a software adapter, which auto never takes
 *   npm run demo -- --epochs 5 --seed 7
 */

import { mkdirSync, writeFileSync } from 'node:fs'
import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import {
  type Device,
  type DeviceKind,
  type Tensor,
  TilegradError,
  compile,
  data,
  devices,
  manualSeed,
  nn,
  noGrad,
  optim,
  setDefaultDevice,
  tensor,
} from 'tilegrad'
import { type Digits, accuracy, loadDigits, rowsOf, setOf } from './digits.ts'
import { figure } from './plot.ts'
import { OptionError, deviceNamed, main, open, progress, remark } from './start.ts'

const BATCH = 32

function options(): { device: 'auto' | DeviceKind; epochs: number; seed: number } {
  const { values } = parseArgs({
    options: {
      device: { type: 'string', default: 'auto' },
      epochs: { type: 'string', default: '20' },
      seed: { type: 'string', default: '0' },
    },
  })
  const [epochs, seed] = [Number(values.epochs), Number(values.seed)]
  if (!Number.isInteger(epochs) || epochs < 1)
    throw new OptionError(`--epochs is a whole number from 1, not ${values.epochs}`)
  return { device: deviceNamed(values.device), epochs, seed }
}

function mlp(device: Device): nn.Sequential {
  return new nn.Sequential(new nn.Linear(64, 128, { activation: 'relu', device }), new nn.Linear(128, 10, { device }))
}

async function train(device: Device, digits: { train: Digits; test: Digits }, epochs: number, seed: number) {
  manualSeed(seed)
  const model = mlp(device)
  const optimizer = new optim.SGD(model.parameters(), { lr: 0.1, momentum: 0.9 })
  const test = rowsOf(digits.test, device)
  const loader = new data.DataLoader(setOf(rowsOf(digits.train, device)), { batchSize: BATCH, shuffle: true, seed })
  // The whole step as one program: recorded at the first batch of 32, and once more for the last batch, which is smaller.
  const trainStep = compile((x: Tensor, y: Tensor) => {
    optimizer.zeroGrad()
    const loss = nn.crossEntropy(model.forward(x), y)
    loss.backward()
    optimizer.step()
    return loss
  })
  const losses: number[] = []
  let milliseconds = 0
  for (let epoch = 1; epoch <= epochs; epoch++) {
    const started = performance.now()
    const pending: Promise<number>[] = []
    let step = 0
    for await (const [x, y] of loader) {
      pending.push(trainStep(x!, y!).item())
      progress(`epoch ${epoch}/${epochs}  step ${++step}/${loader.length}`)
    }
    const epochLosses = await Promise.all(pending)
    milliseconds += performance.now() - started
    losses.push(...epochLosses)
    const mean = epochLosses.reduce((a, b) => a + b, 0) / epochLosses.length
    const right = await accuracy(model, test)
    progress('')
    console.log(
      `epoch ${String(epoch).padStart(2)}  loss ${mean.toFixed(4)}  test accuracy ${(100 * right).toFixed(2)} %`,
    )
  }
  return { model, losses, rowsPerSecond: (epochs * digits.train.length) / (milliseconds / 1000) }
}

/** How many rows of the batch differ in any bit from the row computed alone. */
async function rowsThatDiffer(model: nn.Module, digits: Digits, device: Device): Promise<number> {
  const batch = noGrad(() => model.forward(tensor(digits.pixels, { shape: [digits.length, 64], device })))
  const whole = new Uint32Array((await batch.data()).buffer)
  let differing = 0
  for (let i = 0; i < digits.length; i++) {
    const row = tensor(digits.pixels.subarray(i * 64, (i + 1) * 64), { shape: [1, 64], device })
    const alone = new Uint32Array((await noGrad(() => model.forward(row)).data()).buffer)
    if (alone.some((bits, j) => bits !== whole[i * 10 + j])) differing++
  }
  return differing
}

/** Largest difference of the outputs when another device runs the same weights. */
async function largestDifference(model: nn.Module, other: Device, digits: Digits, device: Device): Promise<number> {
  const copy = mlp(other)
  copy.loadStateDict(await model.stateDict())
  const outputs = [
    [model, device],
    [copy, other],
  ] as const
  const [a, b] = await Promise.all(
    outputs.map(([m, d]) =>
      noGrad(() => m.forward(tensor(digits.pixels, { shape: [digits.length, 64], device: d }))).data(),
    ),
  )
  let largest = 0
  for (let i = 0; i < a!.length; i++) largest = Math.max(largest, Math.abs(a![i]! - b![i]!))
  return largest
}

/** Runs the same weights on a device of every other kind. */
async function compare(model: nn.Module, digits: Digits, device: Device): Promise<void> {
  const list = await devices()
  for (const kind of new Set(list.map((line) => line.kind))) {
    if (kind === device.kind) continue
    let other: Device
    try {
      other = await open(kind)
    } catch (error) {
      if (!(error instanceof TilegradError)) throw error
      const reasons = list.filter((line) => line.kind === kind).map(({ reason }) => reason ?? error.message)
      console.log(`${kind.padEnd(17)} not compared: ${reasons.join('; ')}`)
      continue
    }
    const difference = await largestDifference(model, other, digits, device)
    console.log(
      `${kind.padEnd(17)} largest difference of the outputs ${difference.toExponential(1)}, on ${other.name}${await remark(other)}`,
    )
    await other.close()
  }
}

await main(async () => {
  const { device: kind, epochs, seed } = options()
  const device = await open(kind)
  setDefaultDevice(device)
  const digits = loadDigits()
  console.log(
    `device ${device.name}${await remark(device)}; ${digits.train.length} training rows, ${digits.test.length} test rows; MLP 64-128-10, batch ${BATCH}`,
  )
  const { model, losses, rowsPerSecond } = await train(device, digits, epochs, seed)

  console.log(`\ntest accuracy     ${(100 * (await accuracy(model, rowsOf(digits.test, device)))).toFixed(2)} %`)
  console.log(`training speed    ${Math.round(rowsPerSecond).toLocaleString('en')} rows per second`)
  const differing = await rowsThatDiffer(model, digits.test, device)
  console.log(
    `batch against row ${differing === 0 ? `every one of ${digits.test.length} rows has the same bits alone and in the batch` : `${differing} rows DIFFER`}`,
  )
  await compare(model, digits.test, device)
  const folder = new URL('out/', import.meta.url)
  mkdirSync(folder, { recursive: true })
  const file = fileURLToPath(new URL(`digits-loss-${device.kind}.svg`, folder))
  writeFileSync(
    file,
    figure('Digits', [
      {
        title: device.name,
        x: { label: 'step' },
        y: { label: 'training loss', log: true },
        curves: [{ name: `batch ${BATCH}, SGD 0.1, momentum 0.9`, points: losses.map((loss, i) => [i, loss]) }],
      },
    ]),
  )
  console.log(`loss curve        ${relative(process.cwd(), file)}`)
  await device.close()
  if (differing > 0) process.exitCode = 1
})
