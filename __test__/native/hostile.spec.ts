/**
 * Streams that no recorder writes, straight into the addon: mutants of real streams and plain noise. Each ends in a typed
 * error, thrown or carried by its results, or runs; none ends the process, hangs or harms the device. ERR_INTERNAL would
 * be a panic, and a failure here.
 */

import test from 'ava'
import * as fc from 'fast-check'

import { type Device, type ErrorCode, type Tensor, TilegradError, nn, optim, tensor, train } from '../../ts/index.ts'
import { type Dtype, allocate } from '../../ts/dtype.ts'
import { Philox } from '../../ts/random.ts'
import { decode, readStream } from '../../ts/program/decode.ts'
import { MAGIC } from '../../ts/program/words.ts'
import { printStream } from '../../ts/program/print.ts'
import { type Sent, capture } from '../helpers/capture.ts'
import { DEVICES, open } from '../helpers/devices.ts'
import { type Raw, build } from '../helpers/program-generator.ts'
import { execute } from '../helpers/program-run.ts'
import { StreamBuilder } from '../helpers/stream.ts'

const MUTANTS = 4000
const NOISE = 1000
/** Slots of one round start here times its number; enough for any program below. */
const SLOTS = 700
const INDEX = (1 << 22) - 1

/** What the SDK sends for random programs and for training steps, as a list of independent sessions. */
async function sessions(): Promise<Sent[][]> {
  const all: Sent[][] = []
  const record = async (work: (device: Device) => Promise<unknown>): Promise<void> => {
    const device = await open({ kind: 'js' })
    const { sent, stop } = capture(device)
    await work(device)
    await device.sync()
    stop()
    all.push(sent)
  }
  const numbers = (length: number) => fc.array(fc.nat(999), { minLength: 1, maxLength: length })
  const raw: fc.Arbitrary<Raw> = fc.record({
    seed: fc.nat(0xffff),
    backward: fc.boolean(),
    leaves: fc.array(numbers(3), { minLength: 2, maxLength: 5 }),
    steps: fc.array(numbers(8), { minLength: 2, maxLength: 14, size: 'max' }),
  })
  for (const program of fc.sample(raw, { numRuns: 120, seed: 7 }).map(build)) {
    await record((device) => execute(program, device, 'f32', program.backward))
  }
  for (const make of [
    (p: Tensor[]) => new optim.SGD(p, { lr: 0.1, momentum: 0.9 }),
    (p: Tensor[]) => new optim.AdamW(p, { lr: 0.1 }),
    (p: Tensor[]) => new optim.Adam([{ params: p.slice(0, 2) }, { params: p.slice(2), amsgrad: true }], { weightDecay: 1 }),
    (p: Tensor[]) => new optim.RMSprop(p, { centered: true, momentum: 0.9 }),
  ]) {
    await record(async (device) => {
      const model = new nn.Sequential(new nn.Linear(3, 5, { device, activation: 'gelu' }), new nn.Linear(5, 2, { device }))
      const acc = new train.GradientAccumulator(make(model.parameters()))
      const ema = new optim.EMA(model)
      for (let i = 0; i < 2; i++) {
        const x = tensor([[1, 2, 3], [4, 5, 6]], { device }) // prettier-ignore
        acc.add(nn.crossEntropy(model.forward(x), tensor([0, 1], { device, dtype: 'i32' }), { reduction: 'parts' }))
      }
      optim.clipGradNorm(model.parameters(), 1, { errorIfNonFinite: true })
      const { norm, applied } = acc.step()
      ema.update({ ok: applied })
      await norm.item()
    })
  }
  return all
}

const INTERESTING = [0, 1, 2, 3, 7, 8, 9, 0xff, 0x100, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff, MAGIC]

/** Damages a stream in one to four places; half the time the header is made to fit again, so that damage gets deeper. */
function mutate(words: Uint32Array, random: Philox): Uint32Array {
  let list = Array.from(words)
  const place = (): number => random.below(Math.max(1, list.length))
  const header = random.below(8) === 0 ? 0 : 6
  for (let times = 1 + random.below(4); times > 0; times--) {
    const at = Math.min(list.length - 1, header + random.below(Math.max(1, list.length - header)))
    switch (random.below(9)) {
      case 0:
        list[at] = INTERESTING[random.below(INTERESTING.length)]!
        break
      case 1:
        list[at] = random.next()
        break
      case 2:
        list[at] = (list[at]! + (random.below(2) === 0 ? 1 : -1)) >>> 0
        break
      case 3:
        list[at] = (list[at]! ^ (1 << random.below(32))) >>> 0
        break
      case 4:
        list[at] = list[place()]!
        break
      case 5:
        list.splice(at, 1 + random.below(3))
        break
      case 6:
        list.splice(at, 0, list[place()]!)
        break
      case 7:
        list = list.slice(0, at)
        break
      default: {
        const chunk = list.slice(at, at + 1 + random.below(20))
        list.splice(place(), 0, ...chunk)
      }
    }
    if (list.length === 0) list.push(0)
  }
  if (random.below(2) === 0 && list.length >= 6) {
    const rest = list.length - 6 - list[1]! - list[2]! - list[3]! - 2 * list[4]!
    if (rest >= 0) list[5] = rest
  }
  return Uint32Array.from(list)
}

/** The same stream over other slots. */
function moved(words: Uint32Array, by: number): Uint32Array {
  const copy = new Uint32Array(words)
  const end = 6 + copy[1]! + copy[2]! + copy[3]!
  for (let i = 6; i < end; i++) copy[i] = (copy[i]! + by) >>> 0
  return copy
}

const TYPED: ReadonlySet<ErrorCode> = new Set([
  'ERR_PROGRAM',
  'ERR_SHAPE',
  'ERR_DTYPE',
  'ERR_ARGUMENT',
  'ERR_DISPOSED',
  'ERR_OUT_OF_MEMORY',
  'ERR_UNSUPPORTED',
])

interface Outcomes {
  readonly codes: Map<string, number>
  ran: number
}

/** The outcome of something that may fail, but only in the ways it should. */
async function attempt(what: () => Promise<void> | void, outcomes: Outcomes): Promise<boolean> {
  try {
    await what()
    return true
  } catch (error) {
    if (!(error instanceof TilegradError) || !TYPED.has(error.code)) throw error
    outcomes.codes.set(error.code, (outcomes.codes.get(error.code) ?? 0) + 1)
    return false
  }
}

/** Dtype and size of each output, or `undefined` when the words are no program. */
function outputsOf(words: Uint32Array): { slot: number; dtype: Dtype; size: number }[] | undefined {
  try {
    const { code, inputs, outputs, scalars } = readStream(words)
    const { registers, outputs: sources, inputs: bound, scalarCount } = decode(code)
    if (sources.length !== outputs.length || bound.length !== inputs.length || scalarCount > scalars.length) return undefined
    return Array.from(outputs, (slot, i) => ({ slot, ...registers[sources[i]!]! }))
  } catch {
    return undefined
  }
}

/** Submits a stream and reads whatever it says it made; the device may refuse it at once or when its turn has come. */
async function send(device: Device, words: Uint32Array, outcomes: Outcomes): Promise<void> {
  const { backend } = device
  let fine = await attempt(() => backend.submit(words), outcomes)
  const outputs = outputsOf(words)
  for (const { slot, dtype, size } of outputs ?? []) {
    // What an instruction announces may be far more than it gets to hold.
    if (size > 1 << 24) fine = false
    else if (!(await attempt(async () => backend.read(slot, allocate(dtype, size)), outcomes))) fine = false
  }
  if (!(await drain(device, outcomes))) fine = false
  if (fine && outputs === undefined) throw new Error('words that are no program were taken for one')
  if (fine) outcomes.ran++
}

/** A product over slots of its own, far from all others. */
async function productIsRight(device: Device, round: number): Promise<boolean> {
  const [m, k, n] = [5, 7, 3]
  const [a, b, c] = [0, 1, 2].map((i) => INDEX - 3 * round - i) as [number, number, number]
  const { backend } = device
  const numbers = (count: number): Float32Array<ArrayBuffer> => Float32Array.from({ length: count }, (_, i) => ((i * 5 + round) % 9) - 4)
  const [x, y] = [numbers(m * k), numbers(k * n)]
  backend.write(a, 'f32', x)
  backend.write(b, 'f32', y)
  const builder = new StreamBuilder()
  const product = builder.op('matmul', [builder.input(a, 'f32', [m, k]), builder.input(b, 'f32', [k, n])], [['f32', [m, n]]], [0, 0])
  backend.submit(builder.output(product, c).free(a).free(b).words())
  const result = new Float32Array(m * n)
  await backend.read(c, result)
  const free = new StreamBuilder()
  backend.submit(free.free(c).words())
  return result.every((v, at) => {
    let sum = 0
    for (let i = 0; i < k; i++) sum += x[Math.floor(at / n) * k + i]! * y[i * n + (at % n)]!
    return v === sum
  })
}

/** Waits until all that has failed has been told, one after the other; whether nothing had. */
async function drain(device: Device, outcomes: Outcomes): Promise<boolean> {
  for (let i = 0; i < 200; i++) if (await attempt(() => device.backend.sync(), outcomes)) return i === 0
  throw new Error('sync rejects for ever')
}

function explain(words: Uint32Array): string {
  try {
    return printStream(words)
  } catch {
    return `words ${words.join(' ')}`
  }
}

for (const { kind } of DEVICES.filter((d) => d.kind !== 'js')) {
  test.serial(`mutants of real streams end in typed errors or run [${kind}]`, async (t) => {
    t.timeout(60_000)
    const bases = await sessions()
    const device = await open({ kind, memoryLimit: 64 << 20, threads: 2 })
    const outcomes: Outcomes = { codes: new Map(), ran: 0 }
    const random = new Philox({ site: 2 }, [99, 0])
    let mutants = 0
    for (let round = 1; mutants < MUTANTS; round++) {
      const base = bases[round % bases.length]!
      const by = round * SLOTS
      const streams = base.filter((s) => s.kind === 'submit').length
      const hit = random.below(streams)
      let stream = 0
      for (const sent of base) {
        if (sent.kind === 'write') {
          await attempt(() => device.backend.write(sent.slot + by, sent.dtype, sent.data), outcomes)
          continue
        }
        const words = moved(sent.words, by)
        // Before the damaged stream the session runs as it was; the damaged one comes several times, in different ways.
        if (stream++ < hit) {
          await attempt(() => device.backend.submit(words), outcomes)
          continue
        }
        for (let i = 0; i < 3; i++, mutants++) {
          const mutant = mutate(words, random)
          try {
            await send(device, mutant, outcomes)
          } catch (error) {
            t.fail(`mutant ${mutants}: ${String(error)}\n${explain(mutant)}`)
            return
          }
        }
        break
      }
      if (round % 40 === 0) t.true(await productIsRight(device, round), `after ${mutants} mutants`)
    }
    t.true(await productIsRight(device, 0))
    const codes = [...outcomes.codes].map(([code, count]) => `${count} ${code}`).join(', ')
    t.log(`${mutants} mutants: ${outcomes.ran} ran, ${codes}`)
    // Damage that is always caught at the door, or never, would test little.
    t.true(outcomes.ran > MUTANTS / 50, codes)
    t.true((outcomes.codes.get('ERR_PROGRAM') ?? 0) > MUTANTS / 4, codes)
  })

  test.serial(`noise ends in typed errors [${kind}]`, async (t) => {
    const device = await open({ kind, memoryLimit: 64 << 20 })
    const outcomes: Outcomes = { codes: new Map(), ran: 0 }
    const random = new Philox({ site: 3 }, [98, 0])
    for (let i = 0; i < NOISE; i++) {
      const words = Uint32Array.from({ length: random.below(80) }, () => (random.below(3) === 0 ? random.next() : random.below(12)))
      const form = random.below(4)
      if (words.length > 0 && form > 0) words[0] = MAGIC
      // A header that fits, so that the noise is read as code.
      if (words.length >= 6 && form > 1) words.set([0, 0, 0, 0, words.length - 6], 1)
      await send(device, words, outcomes)
    }
    t.true(await productIsRight(device, 1))
    t.true((outcomes.codes.get('ERR_PROGRAM') ?? 0) > NOISE / 2)
  })

  test.serial(`arguments that are no stream are refused [${kind}]`, async (t) => {
    const device = await open({ kind })
    const { backend } = device
    const refused: [string, () => void][] = [
      ['no words', () => backend.submit(new Uint32Array(0))],
      ['null', () => backend.submit(null as unknown as Uint32Array)],
      ['a list', () => backend.submit([1, 2] as unknown as Uint32Array)],
      ['floats', () => backend.submit(new Float32Array(8) as unknown as Uint32Array)],
      ['other data', () => backend.write(1, 'f32', new BigInt64Array(2) as unknown as Float32Array<ArrayBuffer>)],
      ['f64', () => backend.write(1, 'f64', new Float64Array(2))],
      ['a slot nobody wrote', () => backend.readSync(12_345, new Float32Array(1))],
    ]
    for (const [what, call] of refused) {
      // What the addon can only tell by reading, the device tells when its turn has come.
      const told = async (): Promise<void> => {
        call()
        await backend.sync()
      }
      await t.throwsAsync(told, { instanceOf: TilegradError }, what)
    }
    t.true(await productIsRight(device, 2))
  })

  test.serial(`a read into an array of another size or type is refused [${kind}]`, async (t) => {
    const device = await open({ kind })
    const { backend } = device
    backend.write(9, 'f32', new Float32Array([1, 2, 3]))
    for (const into of [new Float32Array(2), new Float32Array(4), new Float32Array(0), new Int32Array(3), new Uint8Array(12)]) {
      t.throws(() => backend.readSync(9, into), { instanceOf: TilegradError })
      await t.throwsAsync(async () => backend.read(9, into), { instanceOf: TilegradError })
      t.true(into.every((v) => v === 0))
    }
    const right = new Float32Array(3)
    backend.readSync(9, right)
    t.deepEqual([...right], [1, 2, 3])
  })
}
