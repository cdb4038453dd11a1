/** The text of a program, which `TILEGRAD_DEBUG` and errors show. */

import test from 'ava'

import { decode, readStream } from '../../ts/program/decode.ts'
import { OPCODES } from '../../ts/program/opcodes.ts'
import { printProgram, printStream } from '../../ts/program/print.ts'
import { StreamBuilder } from '../helpers/stream.ts'

test('a program reads as one line per instruction', (t) => {
  const b = new StreamBuilder()
  const x = b.input(5, 'f32', [32, 64])
  const w = b.input(6, 'f32', [64, 512])
  const y = b.op('linear', [x, w, null], [['f32', [32, 512]]], [1, 0])
  const targets = b.input(7, 'i32', [32])
  const losses = b.op('crossEntropy', [y, targets], [['f32', [32]], ['f32', [32]], ['f32', []]], [-100]) // prettier-ignore
  b.op('linearGrad', [y, y, null, w], [['f32', [32, 64]], ['f32', [512]]], [1, 5]) // prettier-ignore
  b.op('clip', [y], [['f32', [32, 512]]], [-0.5, 6])
  b.op('pad', [losses], [['f32', [36]]], [[4], 1])
  b.output(losses, 9).free(5).free(6)
  t.is(
    printProgram(decode(readStream(b.words()).code)),
    `%0: f32[32,64] = input
%1: f32[64,512] = input
%2: f32[32,512] = linear %0, %1, none {activation: relu, saveZ: 0}
%3: i32[32] = input
%4: f32[32], %5: f32[32], %6: f32[] = crossEntropy %2, %3 {ignoreIndex: -100}
%7: f32[32,64], %8: f32[512] = linearGrad %2, %2, none, %1 {activation: relu, wanted: dx+dbias}
%9: f32[32,512] = clip %2 {lowest: $0, highest: $1}
%10: f32[36] = pad %4 {before: [4], value: $2}
output %4`,
  )
  const text = printStream(b.words()).split('\n')
  t.is(text[0], '%0: f32[32,64] = input #5')
  t.is(text[6], '%9: f32[32,512] = clip %2 {lowest: -0.5, highest: 6}')
  t.is(text[8], 'output %4 → #9')
  t.is(text[9], 'free #5, #6')
})

test('every attribute of the table has a name', (t) => {
  for (const name of Object.keys(OPCODES) as (keyof typeof OPCODES)[]) {
    const row = OPCODES[name]
    const inputs = typeof row.inputs === 'number' ? row.inputs : row.inputs[0]
    const outputs = typeof row.outputs === 'number' ? row.outputs : row.outputs[0]
    const dtype = row.dtypes === 'bool' || name === 'where' ? 'bool' : 'f32'
    const b = new StreamBuilder()
    const x = b.input(1, dtype, [1])
    const output = [dtype, [1]] as const
    const attributes = row.attributes.map((kind) => (kind === 'u32s' ? [0] : 0))
    b.op(
      name,
      Array<number>(inputs).fill(x),
      Array.from({ length: outputs }, () => output),
      attributes,
    )
    const line = printStream(b.words()).split('\n')[1]!
    t.false(line.includes('attribute'), line)
    t.is(line.split(': ').length - 1 - outputs, row.attributes.length, line)
  }
})
