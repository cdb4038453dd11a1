/** The decoder of the `js` device: streams and instructions as they are written, and words that nobody should have written. */

import test from 'ava'

import { TilegradError } from '../../ts/errors.ts'
import { decode, readStream } from '../../ts/program/decode.ts'
import { OPCODES } from '../../ts/program/opcodes.ts'
import { NONE } from '../../ts/program/words.ts'
import { StreamBuilder } from '../helpers/stream.ts'

function mlp(): StreamBuilder {
  const b = new StreamBuilder()
  const x = b.input(1, 'f32', [2, 3])
  const w = b.input(2, 'f32', [3, 4])
  const y = b.op(
    'linear',
    [x, w, null],
    [
      ['f32', [2, 4]],
      ['f32', [2, 4]],
    ],
    [1, 1],
  )
  const c = b.op('clip', [y], [['f32', [2, 4]]], [-0.5, 0.1])
  const t = b.op('transpose', [c], [['f32', [4, 2]]], [[1, 0]])
  const v = b.op('variance', [t], [['f32', [4]]], [4, 2, 1, 1.5])
  return b.output(v, 7).free(1)
}

function refuses(code: ArrayLike<number>): string {
  try {
    decode(Uint32Array.from(code))
  } catch (error) {
    if (error instanceof TilegradError && error.code === 'ERR_PROGRAM') return error.message
    throw error
  }
  return 'accepted'
}

test('a stream is cut into its parts', (t) => {
  const stream = readStream(mlp().words())
  t.deepEqual([...stream.inputs], [1, 2])
  t.deepEqual([...stream.outputs], [7])
  t.deepEqual([...stream.frees], [1])
  t.deepEqual([...stream.scalars], [-0.5, 0.1])
  t.deepEqual([...stream.code], mlp().code)
})

test('a stream whose counts or first word are wrong is refused', (t) => {
  const words = mlp().words()
  const other = words.slice()
  other[0] = 1
  const beyond = words.slice()
  beyond[3]!++
  for (const bad of [new Uint32Array(0), words.subarray(0, 5), words.subarray(1), other, beyond]) {
    t.throws(() => readStream(bad), { instanceOf: TilegradError, code: 'ERR_PROGRAM' })
  }
})

test('instructions come out with registers, attributes and lists', (t) => {
  const program = decode(readStream(mlp().words()).code)
  t.deepEqual(program.inputs, [0, 1])
  t.deepEqual(program.outputs, [6])
  t.is(program.scalarCount, 2)
  t.deepEqual(program.registers[3], { dtype: 'f32', shape: [2, 4], size: 8 })
  t.deepEqual(program.instructions.slice(2), [
    { name: 'linear', line: 2, inputs: [0, 1, NONE], outputs: [2, 3], attributes: [1, 1], list: [] },
    { name: 'clip', line: 3, inputs: [2], outputs: [4], attributes: [0, 1], list: [] },
    { name: 'transpose', line: 4, inputs: [4], outputs: [5], attributes: [], list: [1, 0] },
    { name: 'variance', line: 5, inputs: [5], outputs: [6], attributes: [4, 2, 1, 1.5], list: [] },
    { name: 'output', line: 6, inputs: [6], outputs: [], attributes: [], list: [] },
  ])
})

test('code cut anywhere inside an instruction is refused', (t) => {
  const { code } = mlp()
  const boundaries = new Set<number>()
  for (let at = 0; at < code.length; at += code[at]! >>> 16) boundaries.add(at)
  for (let length = 0; length <= code.length; length++) {
    const refused = refuses(code.slice(0, length)) !== 'accepted'
    t.is(refused, length !== code.length && !boundaries.has(length), `${length} words`)
  }
})

test('no change of a single word makes the decoder fail with anything but ERR_PROGRAM', (t) => {
  const { code } = mlp()
  for (let at = 0; at < code.length; at++) {
    for (const word of [0, 1, 2, 0xff, 0x1_0000, 0x7fff_ffff, 0xffff_fffe, NONE]) {
      const changed = code.slice()
      changed[at] = word
      t.notThrows(() => refuses(changed), `word ${at} as ${word}`)
    }
  }
})

test('words outside the table are refused by name', (t) => {
  const bad = (build: (b: StreamBuilder, x: number) => void, dtype: 'f32' | 'i32' | 'bool' = 'f32'): string => {
    const b = new StreamBuilder()
    build(b, b.input(1, dtype, [2, 3]))
    return refuses(b.code)
  }
  const out = [['f32', [2, 3]]] as const
  t.regex(refuses([999 | (2 << 16), 0]), /unknown opcode 999/)
  t.regex(refuses([0]), /words/)
  t.regex(
    bad((b) => b.op('relu', [5], out)),
    /%5 is used before/,
  )
  t.regex(
    bad((b) => b.op('relu', [1], out)),
    /%1 is used before/,
  )
  t.regex(
    bad((b) => b.op('relu', [null], out)),
    /must not be absent/,
  )
  t.regex(
    bad((b, x) => b.op('relu', [x, x], out)),
    /2 inputs/,
  )
  t.regex(
    bad((b, x) => b.op('relu', [x], [])),
    /0 outputs/,
  )
  t.regex(
    bad((b, x) => b.op('relu', [x], [['f32', Array<number>(9).fill(1)]])),
    /rank 9/,
  )
  t.regex(
    bad((b, x) => b.op('relu', [x], [['f32', [1 << 30, 0, 2]]])),
    /too large/,
  )
  t.regex(
    bad((b, x) => b.op('relu', [x], out), 'i32'),
    /relu: does not compute on i32/,
  )
  t.regex(
    bad((b, x) => b.op('add', [x, x], out), 'bool'),
    /does not compute on bool/,
  )
  t.regex(
    bad((b, x) => b.op('where', [x, x, x], out)),
    /does not compute on f32/,
  )
})

test('only inputs of the program and views of them may be changed in place', (t) => {
  const change = (of: 'input' | 'view' | 'temporary'): string => {
    const b = new StreamBuilder()
    const x = b.input(1, 'f32', [4])
    const target =
      of === 'input' ? x : of === 'view' ? b.op('view', [x], [['f32', [2, 2]]], [0]) : b.op('neg', [x], [['f32', [4]]])
    b.op('addInto', [target, x])
    return refuses(b.code)
  }
  t.is(change('input'), 'accepted')
  t.is(change('view'), 'accepted')
  t.regex(change('temporary'), /changes %1, which is no input/)
})

test('a view must lie inside its source and keep its dtype; an assignment keeps dtype and size', (t) => {
  const view = (dtype: 'f32' | 'i32', size: number, offset: number): string => {
    const b = new StreamBuilder()
    b.op('view', [b.input(1, 'f32', [4])], [[dtype, [size]]], [offset])
    return refuses(b.code)
  }
  t.is(view('f32', 2, 2), 'accepted')
  t.is(view('f32', 0, 4), 'accepted')
  t.regex(view('f32', 2, 3), /does not lie inside %0/)
  t.regex(view('f32', 0, 5), /does not lie inside %0/)
  t.regex(view('i32', 4, 0), /does not lie inside %0/)
  const b = new StreamBuilder()
  b.op('assign', [b.input(1, 'f32', [4]), b.input(2, 'f32', [3])])
  t.regex(refuses(b.code), /differ in dtype or size/)
})

test('every opcode of the table can be decoded with its least operands', (t) => {
  for (const name of Object.keys(OPCODES) as (keyof typeof OPCODES)[]) {
    const row = OPCODES[name]
    const inputs = typeof row.inputs === 'number' ? row.inputs : row.inputs[0]
    const outputs = typeof row.outputs === 'number' ? row.outputs : row.outputs[0]
    const dtype = row.dtypes === 'bool' || name === 'where' ? 'bool' : 'f32'
    const b = new StreamBuilder()
    const x = b.input(1, dtype, [1])
    b.op(
      name,
      Array<number>(inputs).fill(x),
      Array.from({ length: outputs }, () => [dtype, [1]] as const),
      row.attributes.map((kind) => (kind === 'u32s' ? [0] : 0)),
    )
    t.is(refuses(b.code), 'accepted', name)
  }
})
