/**
 * Values that a compiled function uses before it has recorded what they stand for: the program is put into an order in
 * which everything is defined before it is used, and changes in place keep theirs.
 */

import test from 'ava'
import { Tensor, compile, ones, tensor } from '../../ts/index.ts'
import { arranged } from '../../ts/program/late.ts'
import { decode } from '../../ts/program/decode.ts'
import { tracing } from '../../ts/program/tracing.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { StreamBuilder } from '../helpers/stream.ts'

/** A tensor that is defined later, and what defines it. */
function late(like: Tensor): [Tensor, (value: Tensor) => void] {
  const trace = tracing()!
  const value = trace.late(like.value)
  return [new Tensor(like.device, value), (meant) => trace.define(value, meant.value)]
}

onDevices('parts that need the sum of all parts are computed after it', async (t, device) => {
  const shares = compile((parts: Tensor[]) => {
    const [total, define] = late(parts[0]!.sum())
    const results = parts.map((part) => part.div(total).add(1))
    define(parts.map((part) => part.sum()).reduce((a, b) => a.add(b)))
    return { results, total }
  })
  for (const scale of [1, 2]) {
    const { results, total } = shares([1, 2, 5].map((v) => tensor([v * scale, v * scale], { device })))
    t.is(await total.item(), 16 * scale)
    t.deepEqual(await Promise.all(results.map((r) => r.array())), [[1.0625, 1.0625], [1.125, 1.125], [1.3125, 1.3125]]) // prettier-ignore
  }
  t.is(shares.stats().recordings, 1)
})

onDevices('late values may stand for others, and for arguments', async (t, device) => {
  const f = compile((x: Tensor) => {
    const [a, defineA] = late(x)
    const [b, defineB] = late(x)
    const sum = a.add(b)
    defineA(b)
    defineB(x)
    return sum
  })
  t.deepEqual(await f(tensor([1, 2], { device })).array(), [2, 4])
})

onDevices('changes in place keep their order among each other and among reads', async (t, device) => {
  const state = ones([2], { device })
  const f = compile((x: Tensor) => {
    const { recorder } = device
    const before = state.mul(10)
    const [last, define] = late(x)
    // Cannot be done before all of x has been summed; what reads the state behind it has to wait.
    recorder.emitMany('assign', [state.value, last.value], [])
    const between = state.mul(10)
    recorder.emitMany('addInto', [state.value, x.value], [])
    const after = state.mul(10)
    define(x.add(5))
    return [before, between, after]
  })
  const results = f(tensor([1, 2], { device }))
  t.deepEqual(await Promise.all(results.map((r) => r.array())), [[10, 10], [60, 70], [70, 90]]) // prettier-ignore
  t.deepEqual(await state.array(), [7, 9])
})

test('a late value that is never defined, or needed for its own definition, is our mistake', (t) => {
  const x = tensor([1])
  const undefinedLate = compile((y: Tensor) => late(y)[0].add(1))
  t.is(codeOf(() => undefinedLate(x)), 'ERR_INTERNAL') // prettier-ignore
  const circular = compile((y: Tensor) => {
    const [value, define] = late(y)
    const next = value.add(1)
    define(next)
    return next
  })
  t.is(codeOf(() => circular(x)), 'ERR_INTERNAL') // prettier-ignore
})

test('two inputs that show the same memory are kept in order as one', (t) => {
  const b = new StreamBuilder()
  const shape = [4]
  const [slab, parameter, other] = [1, 2, 3].map((slot) => b.input(slot, 'f32', shape)) as [number, number, number]
  const placeholder = b.op('full', [], [['f32', shape]], [0])
  b.op('mul', [placeholder, parameter], [['f32', shape]])
  b.op('assign', [slab, parameter])
  const meant = b.op('neg', [other], [['f32', shape]])
  const order = (shared: ReadonlyMap<number, number>): string[] => {
    const { words, registers, instructions } = arranged(
      Uint32Array.from(b.code),
      new Map([[placeholder, meant]]),
      shared,
    )
    const program = decode(words)
    t.is(registers[placeholder], registers[meant])
    t.is(program.instructions.length, instructions)
    return program.instructions.map(({ name }) => name).filter((name) => name !== 'input')
  }
  t.deepEqual(order(new Map([[parameter, slab]])), ['neg', 'mul', 'assign'])
  t.deepEqual(order(new Map()), ['assign', 'neg', 'mul'])
})
