/** The rows of random numbers: against the generator as it stands, word by word, in `ts/random.ts`. */

import { manualSeed, rand } from '../../../ts/index.ts'
import type { OpcodeName } from '../../../ts/program/opcodes.ts'
import { Philox, SITES } from '../../../ts/random.ts'
import type { Shape } from '../../../ts/shape.ts'
import { Tensor } from '../../../ts/tensor.ts'
import type { Device, Dtype } from '../../../ts/index.ts'
import { SIZES, array, count } from '../data.ts'
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

export const RANDOM = { uniform: UNIFORM } as const satisfies Readonly<Partial<Record<OpcodeName, Row>>>
