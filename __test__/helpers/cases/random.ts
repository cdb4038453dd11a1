/** The rows of random numbers: against the generator as it stands, word by word, in `ts/random.ts`. */

import { dropout, manualSeed, rand } from '../../../ts/index.ts'
import type { OpcodeName } from '../../../ts/program/opcodes.ts'
import { Philox, SITES } from '../../../ts/random.ts'
import type { Shape } from '../../../ts/shape.ts'
import { Tensor } from '../../../ts/tensor.ts'
import type { Device, Dtype } from '../../../ts/index.ts'
import { type Data, SIZES, array, count, random } from '../data.ts'
import { type Case, EXACT, type Row } from './case.ts'

/** What an instruction draws from. */
export interface Drawn {
  readonly seed: readonly [number, number]
  readonly site: number
  readonly draw: number
  readonly rowBase: number
}

/** One `uniform` instruction with rows of `inner` elements. */
export function drawUniform(device: Device, dtype: Dtype, shape: Shape, inner: number, drawn: Drawn): Tensor {
  const { seed, site, draw, rowBase } = drawn
  const value = device.recorder.emit('uniform', [], { dtype, shape }, [inner, ...seed, site, draw, rowBase])
  return new Tensor(device, value)
}

/** The elements it has to give. */
function uniforms(dtype: Dtype, shape: Shape, inner: number, { seed, site, draw, rowBase }: Drawn): Case['want'] {
  return () => {
    const values: number[] = []
    for (let row = 0; row < count(shape) / inner; row++) {
      const random = new Philox({ row: (rowBase + row) >>> 0, site, draw }, seed)
      for (let i = 0; i < inner; i++) values.push(random.uniform())
    }
    return array(dtype, shape, values)
  }
}

const ALL = 0xffff_ffff

const ROWS: readonly (readonly [Shape, number, Drawn])[] = [
  [[], 1, { seed: [0, 0], site: 0, draw: 0, rowBase: 0 }],
  [[5, 1], 1, { seed: [7, 0], site: 1, draw: 2, rowBase: 3 }],
  [[7, 3], 3, { seed: [7, 0], site: 1, draw: 2, rowBase: 3 }],
  [[3, 2, 4], 8, { seed: [0, 9], site: 5, draw: 1, rowBase: 100 }],
  [[3, 2, 3], 6, { seed: [0, 9], site: 5, draw: 1, rowBase: 100 }],
  [[0, 3], 3, { seed: [1, 1], site: 5, draw: 1, rowBase: 1 }],
  [[3, 0], 0, { seed: [1, 1], site: 5, draw: 1, rowBase: 1 }],
  [[31, 33], 33, { seed: [ALL, ALL], site: ALL, draw: ALL, rowBase: ALL - 5 }],
  [[37, 64], 64, { seed: [ALL, 2 ** 21 - 1], site: SITES.user, draw: 2 ** 31, rowBase: 2 ** 31 - 3 }],
  [[523, 257], 257, { seed: [1, 2], site: 3, draw: 4, rowBase: 5 }],
]

const UNIFORM: Row = {
  api: ['rand'],
  tolerance: EXACT,
  gradient: 'none',
  cases: (dtype) => [
    ...[...SIZES.map((size) => [size]), [], [70_001], [3, 5, 7], [2, 0]].map((shape): Case => {
      const drawn = { seed: [42, 1], site: SITES.user, draw: 1, rowBase: 0 } as const
      return {
        title: `the second draw of [${shape.join(', ')}]`,
        inputs: [],
        run(_, device) {
          manualSeed(42 + 2 ** 32)
          rand([3], { device })
          return rand(shape, { dtype, device })
        },
        want: uniforms(dtype, shape, count(shape), drawn),
      }
    }),
    ...ROWS.map(([shape, inner, drawn]): Case => ({
      title: `rows of ${inner} in [${shape.join(', ')}]`,
      inputs: [],
      run: (_, device) => drawUniform(device, dtype, shape, inner, drawn),
      want: uniforms(dtype, shape, inner, drawn),
    })),
  ],
}

/** One `dropout` instruction with rows of `inner` elements. */
export function drop(x: Tensor, inner: number, p: number, drawn: Drawn): Tensor {
  const { seed, site, draw, rowBase } = drawn
  const scale = p === 1 ? 0 : 1 / (1 - p)
  const attributes = [inner, Math.ceil(p * 2 ** 24), scale, ...seed, site, draw, rowBase]
  return new Tensor(
    x.device,
    x.device.recorder.emit('dropout', [x.value], { dtype: x.dtype, shape: x.shape }, attributes),
  )
}

/** What is left of x. */
function left(x: Data, inner: number, p: number, drawn: Drawn): Data {
  const uniform = uniforms('f64', x.shape, inner, drawn)([]) as Data
  const scale = x.dtype === 'f32' ? Math.fround(1 / (1 - p)) : 1 / (1 - p)
  return array(
    x.dtype,
    x.shape,
    [...x.values].map((v, i) => (uniform.values[i]! >= p ? v * scale : 0)),
  )
}

const DROPOUT: Row = {
  api: ['dropout', 'nn.Dropout'],
  tolerance: EXACT,
  gradient: 'smooth',
  cases: (dtype) => [
    ...SIZES.map((size): Case => {
      const x = random(dtype, [size])
      return {
        title: `a tensor of ${size} elements through the function`,
        inputs: [x],
        run([x]) {
          manualSeed(9)
          return dropout(x!, { p: 0.3 })
        },
        want: ([x]) => left(x!, size, 0.3, { seed: [9, 0], site: 0xffff, draw: 0, rowBase: 0 }),
        grad: size > 0 && size < 20,
      }
    }),
    ...ROWS.flatMap(([shape, inner, drawn], i): Case[] => {
      const p = [0.5, 0.1, 2 ** -24, 1 - 2 ** -24, 0.9][i % 5]!
      return [
        {
          title: `rows of ${inner} in [${shape.join(', ')}], p ${p}`,
          inputs: [random(dtype, shape)],
          run: ([x]) => drop(x!, inner, p, drawn),
          want: ([x]) => left(x!, inner, p, drawn),
        },
      ]
    }),
    {
      title: 'nothing is left with p 1, of infinities and NaN either',
      inputs: [array(dtype, [2, 3], [1, NaN, Infinity, -Infinity, -0, 5])],
      run: ([x]) => dropout(x!, { p: 1 }),
      want: () => array(dtype, [2, 3], [0, 0, 0, 0, 0, 0]),
    },
    {
      title: 'everything is left with p 0, and outside training',
      inputs: [random(dtype, [3, 5])],
      run: ([x]) => [dropout(x!, { p: 0 }), dropout(x!, { p: 1, training: false })],
      want: ([x]) => [x!, x!],
    },
  ],
}

export const RANDOM = { uniform: UNIFORM, dropout: DROPOUT } as const satisfies Readonly<
  Partial<Record<OpcodeName, Row>>
>
