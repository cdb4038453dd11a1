/** Programs that are compiled and run by number, below the SDK: every device does with them what it does with streams. */

import type { Device } from '../../ts/index.ts'
import { onDevices, open } from '../helpers/devices.ts'
import { StreamBuilder } from '../helpers/stream.ts'

const PROGRAM = 0xffff_fffe

const [X, WEIGHT, BIAS, SUM, Y] = [0, 1, 2, 3, 4] as const

/** The stream without its code. */
function bare(words: Uint32Array): Uint32Array {
  const copy = words.slice(0, words.length - words[5]!)
  copy[5] = 0
  return copy
}

/** A layer times a scalar of the run: into a slot of its own, and added to another. */
function layer(scale: number): StreamBuilder {
  const b = new StreamBuilder()
  const [x, weight, bias] = [b.input(X, 'f32', [3, 4]), b.input(WEIGHT, 'f32', [4, 5]), b.input(BIAS, 'f32', [5])]
  const sum = b.input(SUM, 'f32', [3, 5])
  const z = b.op('linear', [x, weight, bias], [['f32', [3, 5]]], [5, 0])
  const scaled = b.op('mul', [z, b.op('full', [], [['f32', []]], [scale])], [['f32', [3, 5]]])
  b.op('addInto', [sum, scaled])
  return b.output(scaled, Y)
}

async function read({ backend }: Device, slot: number): Promise<Float32Array> {
  const into = new Float32Array(15)
  await backend.read(slot, into)
  return into
}

/** Runs three layers of different scales, with what `run` does to their streams; all results, and their sum. */
async function threeLayers(device: Device, run: (words: Uint32Array) => void): Promise<Float32Array[]> {
  const { backend } = device
  for (const [slot, size] of [[X, 12], [WEIGHT, 20], [BIAS, 5], [SUM, 15]] as const) // prettier-ignore
    backend.write(slot, 'f32', Float32Array.from({ length: size }, (_, i) => Math.sin(3 * i + size)))
  const results: Float32Array[] = []
  for (const scale of [1, -2, 0.3]) {
    run(layer(scale).words())
    results.push(await read(device, Y))
    backend.submit(new StreamBuilder().free(Y).words())
  }
  results.push(await read(device, SUM))
  backend.submit(new StreamBuilder().free(X).free(WEIGHT).free(BIAS).free(SUM).words())
  return results
}

onDevices('a compiled program gives the bits of its stream', async (t, { kind }) => {
  // Fused, it would have no intermediates.
  const device = await open({ kind, fuse: false })
  const { backend } = device
  const wanted = await threeLayers(device, (words) => backend.submit(words))
  const info = backend.compile(PROGRAM, Uint32Array.from(layer(1).code))
  t.true(info.steps >= 2 && info.planMilliseconds > 0)
  t.true(info.liveBytes >= 4 * 15 && info.arenaBytes >= info.liveBytes, `${info.arenaBytes} for ${info.liveBytes}`)
  t.deepEqual(await threeLayers(device, (words) => backend.run(PROGRAM, bare(words))), wanted)
  backend.release(PROGRAM)
  await backend.sync()
})

onDevices('words that are no program are not compiled', (t, device) => {
  const code = Uint32Array.from(layer(1).code)
  for (const words of [code.subarray(1), code.subarray(0, -1), Uint32Array.of(...code, 7), Uint32Array.of(0xffff)]) {
    t.throws(() => device.backend.compile(PROGRAM, words), { code: 'ERR_PROGRAM' })
  }
})

onDevices('runs that cannot be are errors of the run or of its outputs', async (t, { kind }) => {
  const device = await open({ kind })
  const { backend } = device
  const fails = async (words: Uint32Array): Promise<void> => {
    await t.throwsAsync(
      async () => {
        backend.run(PROGRAM, words)
        await read(device, Y)
      },
      { code: 'ERR_PROGRAM' },
    )
  }
  const words = bare(layer(1).words())
  await fails(words)
  backend.compile(PROGRAM, Uint32Array.from(layer(1).code))
  const fewer = words.slice()
  // The last input becomes an output.
  fewer[1] = 3
  fewer[2] = 2
  await fails(fewer)
  backend.release(PROGRAM)
  await fails(words)
})
