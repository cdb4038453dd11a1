/**
 * The matrix product that all of the matmul family uses: Z = AB in f64, handed row by row to a function that stores it.
 *
 * Every element of Z has one accumulator that adds k = 0, 1, 2, … in order, whatever the tile it is computed in and
 * however many rows there are: row i of a product has the bits of the row computed alone. Blocking may therefore cut K
 * only by carrying the accumulators on.
 *
 * Operands are packed into f64 panels of four rows or columns, which makes transposes free, converts f32 once and keeps
 * a 4 × 4 tile of accumulators in registers: 3.7 × the plain triple loop at 512³. Wider tiles spill. One or two rows
 * are not worth packing B for and take loops of their own.
 */

import type { TypedArray } from '../../dtype.ts'
import { GROUP, TILE, pack, roundUp } from './pack.ts'

/** A matrix inside an array; a transpose is a matter of strides. */
export interface Matrix {
  readonly data: TypedArray
  readonly offset: number
  readonly rowStride: number
  readonly columnStride: number
}

/** Takes `count` elements of row `row` from column `column` on; they stand in z from `start` on, and may be changed. */
export type Store = (z: Float64Array<ArrayBuffer>, start: number, row: number, column: number, count: number) => void

/** Most rows that are computed without packing B. */
const FEW_ROWS = 2

/** K is cut into blocks of this size. */
const DEPTH = 2048

/** Doubles of packed B: 1 MiB, about an L2 cache. With DEPTH it leaves at least 64 columns per block. */
const PACKED_B = 1 << 17

/** Most columns per block, and rows per block where K is cut: together they bound the sums that wait for their store. */
const MOST_COLUMNS = 1024
const BLOCK_ROWS = 64

let packedA = new Float64Array(0)
let packedB = new Float64Array(0)
let waiting = new Float64Array(0)

/** The buffers, some 1.4 MiB, are made at the first product and shared by all: kernels never overlap. */
function reserve(): void {
  if (packedB.length > 0) return
  packedA = new Float64Array(GROUP * DEPTH)
  packedB = new Float64Array(PACKED_B)
  waiting = new Float64Array(GROUP * MOST_COLUMNS)
}

/** Bytes of the buffers. */
export function scratchBytes(): number {
  return packedA.byteLength + packedB.byteLength + waiting.byteLength
}

/** Lets go of the buffers; the next product makes them anew. */
export function freeScratch(): void {
  packedA = packedB = waiting = new Float64Array(0)
}

/** Z = AB with A [m, k] and B [k, n]; `store` sees every element of Z exactly once. */
export function gemm(m: number, n: number, k: number, a: Matrix, b: Matrix, store: Store): void {
  reserve()
  if (m <= FEW_ROWS) {
    for (let row = 0; row < m; row++) multiplyRow(row, n, k, a, b, store)
    return
  }
  const whole = k <= DEPTH
  const fitting = Math.floor(PACKED_B / Math.max(1, k))
  const columns = whole ? Math.min(MOST_COLUMNS, fitting - (fitting % TILE)) : PACKED_B / DEPTH
  // Where K is not cut, B is packed once per block of columns and a group of rows is done after one pass.
  const rows = whole ? GROUP : BLOCK_ROWS
  for (let column = 0; column < n; column += columns) {
    const width = Math.min(columns, n - column)
    const pitch = roundUp(width)
    for (let row = 0; row < m; row += rows) {
      const height = Math.min(rows, m - row)
      waiting.fill(0, 0, roundUp(height) * pitch)
      for (let from = 0; from < k; from += DEPTH) {
        const depth = Math.min(DEPTH, k - from)
        if (!whole || row === 0) packB(b, from, depth, column, width)
        for (let i = 0; i < height; i += GROUP)
          multiplyGroup(a, row + i, Math.min(GROUP, height - i), from, depth, i * pitch, pitch)
      }
      for (let i = 0; i < height; i++) store(waiting, i * pitch, row + i, column, width)
    }
  }
}

/** Adds some rows of A times all of packed B to the waiting sums, which stand from `at` on, `pitch` per row. */
function multiplyGroup(
  a: Matrix,
  row: number,
  rows: number,
  from: number,
  depth: number,
  at: number,
  pitch: number,
): void {
  pack(
    packedA,
    0,
    a.data,
    a.offset + row * a.rowStride + from * a.columnStride,
    a.rowStride,
    a.columnStride,
    rows,
    depth,
  )
  for (let i = 0; i < rows; i += TILE) {
    for (let j = 0; j < pitch; j += TILE) {
      multiplyTile(packedA, i * depth, packedB, j * depth, depth, waiting, at + i * pitch + j, pitch)
    }
  }
}

function packB(b: Matrix, from: number, depth: number, column: number, width: number): void {
  const start = b.offset + column * b.columnStride + from * b.rowStride
  for (let j = 0; j < width; j += GROUP) {
    const count = Math.min(GROUP, width - j)
    pack(packedB, j * depth, b.data, start + j * b.columnStride, b.columnStride, b.rowStride, count, depth)
  }
}

/** Adds the product of a panel of A and one of B to a tile of Z whose rows lie `pitch` apart. */
function multiplyTile(
  a: Float64Array,
  ai: number,
  b: Float64Array,
  bi: number,
  depth: number,
  z: Float64Array,
  zi: number,
  pitch: number,
): void {
  const [z1, z2, z3] = [zi + pitch, zi + 2 * pitch, zi + 3 * pitch]
  let c00 = z[zi]!
  let c01 = z[zi + 1]!
  let c02 = z[zi + 2]!
  let c03 = z[zi + 3]!
  let c10 = z[z1]!
  let c11 = z[z1 + 1]!
  let c12 = z[z1 + 2]!
  let c13 = z[z1 + 3]!
  let c20 = z[z2]!
  let c21 = z[z2 + 1]!
  let c22 = z[z2 + 2]!
  let c23 = z[z2 + 3]!
  let c30 = z[z3]!
  let c31 = z[z3 + 1]!
  let c32 = z[z3 + 2]!
  let c33 = z[z3 + 3]!
  for (let p = 0; p < depth; p++, ai += 4, bi += 4) {
    const a0 = a[ai]!
    const a1 = a[ai + 1]!
    const a2 = a[ai + 2]!
    const a3 = a[ai + 3]!
    const b0 = b[bi]!
    const b1 = b[bi + 1]!
    const b2 = b[bi + 2]!
    const b3 = b[bi + 3]!
    c00 += a0 * b0
    c01 += a0 * b1
    c02 += a0 * b2
    c03 += a0 * b3
    c10 += a1 * b0
    c11 += a1 * b1
    c12 += a1 * b2
    c13 += a1 * b3
    c20 += a2 * b0
    c21 += a2 * b1
    c22 += a2 * b2
    c23 += a2 * b3
    c30 += a3 * b0
    c31 += a3 * b1
    c32 += a3 * b2
    c33 += a3 * b3
  }
  z[zi] = c00
  z[zi + 1] = c01
  z[zi + 2] = c02
  z[zi + 3] = c03
  z[z1] = c10
  z[z1 + 1] = c11
  z[z1 + 2] = c12
  z[z1 + 3] = c13
  z[z2] = c20
  z[z2 + 1] = c21
  z[z2 + 2] = c22
  z[z2 + 3] = c23
  z[z3] = c30
  z[z3 + 1] = c31
  z[z3 + 2] = c32
  z[z3 + 3] = c33
}

/** One row of Z. Both loops add in order of k; they differ in which way B is contiguous. */
function multiplyRow(row: number, n: number, k: number, a: Matrix, b: Matrix, store: Store): void {
  for (let column = 0; column < n; column += MOST_COLUMNS) {
    const width = Math.min(MOST_COLUMNS, n - column)
    const start = b.offset + column * b.columnStride
    waiting.fill(0, 0, width)
    const first = a.offset + row * a.rowStride
    if (b.columnStride === 1) addRows(k, a, first, b, start, width)
    else addColumns(k, a, first, b, start, width)
    store(waiting, 0, row, column, width)
  }
}

/** Adds rows of B, four at a time so that a sum is loaded and stored once for four terms. */
function addRows(k: number, a: Matrix, ai: number, b: Matrix, start: number, width: number): void {
  const x = a.data
  const y = b.data
  const { columnStride: along } = a
  const step = b.rowStride
  let p = 0
  for (; p + 4 <= k; p += 4, start += 4 * step, ai += 4 * along) {
    const x0 = x[ai]!
    const x1 = x[ai + along]!
    const x2 = x[ai + 2 * along]!
    const x3 = x[ai + 3 * along]!
    for (let j = 0, at = start; j < width; j++, at++) {
      const two = waiting[j]! + x0 * y[at]! + x1 * y[at + step]!
      waiting[j] = two + x2 * y[at + 2 * step]! + x3 * y[at + 3 * step]!
    }
  }
  for (; p < k; p++, start += step, ai += along) {
    const x0 = x[ai]!
    for (let j = 0; j < width; j++) waiting[j]! += x0 * y[start + j]!
  }
}

/** Adds along columns of B, four side by side so that no addition waits for the one before. */
function addColumns(k: number, a: Matrix, first: number, b: Matrix, start: number, width: number): void {
  const x = a.data
  const y = b.data
  const { columnStride: along } = a
  const { rowStride: step, columnStride: across } = b
  let j = 0
  for (; j + 4 <= width; j += 4, start += 4 * across) {
    let s0 = 0
    let s1 = 0
    let s2 = 0
    let s3 = 0
    for (let p = 0, ai = first, at = start; p < k; p++, ai += along, at += step) {
      const v = x[ai]!
      s0 += v * y[at]!
      s1 += v * y[at + across]!
      s2 += v * y[at + 2 * across]!
      s3 += v * y[at + 3 * across]!
    }
    waiting[j] = s0
    waiting[j + 1] = s1
    waiting[j + 2] = s2
    waiting[j + 3] = s3
  }
  for (; j < width; j++, start += across) {
    let sum = 0
    for (let p = 0, ai = first, at = start; p < k; p++, ai += along, at += step) sum += x[ai]! * y[at]!
    waiting[j] = sum
  }
}
