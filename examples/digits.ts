/**
 * The handwritten digits, split into training and test rows, as arrays and as tensors; and how many of them a model gets
 * right. See `data/README.md` for their origin.
 */

import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import { type Tensor, data, defaultDevice, nn, noGrad, tensor } from 'tilegrad'

const PIXELS = 64
const LARGEST_PIXEL = 16

/** Rows of pixels in [0, 1] with their classes. */
export interface Digits {
  readonly pixels: Float32Array
  readonly classes: Int32Array
  /** Number of rows. */
  readonly length: number
}

/** Reads the digits: row i is a test row when i % 6 == 5. */
export function loadDigits(): { train: Digits; test: Digits } {
  const text = gunzipSync(readFileSync(new URL('data/digits.csv.gz', import.meta.url))).toString('utf8')
  const rows = text
    .trim()
    .split('\n')
    .map((line) => line.split(',').map(Number))
  return {
    train: pack(rows.filter((_, i) => i % 6 !== 5)),
    test: pack(rows.filter((_, i) => i % 6 === 5)),
  }
}

function pack(rows: readonly (readonly number[])[]): Digits {
  const pixels = new Float32Array(rows.length * PIXELS)
  const classes = new Int32Array(rows.length)
  rows.forEach((row, i) => {
    if (row.length !== PIXELS + 1)
      throw new Error(`digits: row ${i} has ${row.length} numbers instead of ${PIXELS + 1}`)
    for (let j = 0; j < PIXELS; j++) pixels[i * PIXELS + j] = row[j]! / LARGEST_PIXEL
    classes[i] = row[PIXELS]!
  })
  return { pixels, classes, length: rows.length }
}

/** Rows as tensors. */
export interface Rows {
  readonly x: Tensor
  readonly y: Tensor
}

/** Uploads rows, to the default device if none is named. */
export function rowsOf({ pixels, classes, length }: Digits, device = defaultDevice()): Rows {
  return { x: tensor(pixels, { shape: [length, PIXELS], device }), y: tensor(classes, { device }) }
}

/** A data set of rows. */
export function setOf({ x, y }: Rows): data.TensorDataset {
  return new data.TensorDataset(x, y)
}

/** Share of rows whose largest output is the right class. */
export function accuracy(model: nn.Module, { x, y }: Rows): Promise<number> {
  return noGrad(() => model.forward(x).argmax(1).equal(y).cast('f32').mean()).item()
}

/** Mean cross-entropy over all rows. */
export function lossOn(model: nn.Module, { x, y }: Rows): Promise<number> {
  return noGrad(() => nn.crossEntropy(model.forward(x), y)).item()
}
