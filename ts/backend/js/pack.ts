/** Packing for the matrix product: lanes (rows of A, columns of B) of any strides into f64 panels of four. */

import type { TypedArray } from '../../dtype.ts'

/** Lanes of a panel. */
export const TILE = 4

/** Lanes that are packed in one go: those of a cache line of f32, so that each line is fetched once. */
export const GROUP = 16

/** To whole panels. */
export function roundUp(lanes: number): number {
  return Math.ceil(lanes / TILE) * TILE
}

/**
 * Packs up to GROUP lanes (rows of A, columns of B) into panels of four: element k of each beside those of the other
 * three, missing lanes as zeros. Lanes start `across` apart, their elements lie `along` apart.
 */
export function pack(
  to: Float64Array,
  at: number,
  data: TypedArray,
  start: number,
  across: number,
  along: number,
  lanes: number,
  depth: number,
): void {
  let lane = 0
  if (across === 1) {
    const panels = Math.floor(lanes / TILE)
    packBeside(to, at, data, start, along, panels, depth)
    lane = panels * TILE
  }
  for (; lane < roundUp(lanes); lane++) {
    const first = at + (lane - (lane % TILE)) * depth + (lane % TILE)
    if (lane < lanes) packLane(to, first, data, start + lane * across, along, depth)
    else packLane(to, first, ZERO, 0, 0, depth)
  }
}

const ZERO = new Float32Array(1)

/** Whole panels of lanes that lie side by side. */
function packBeside(
  to: Float64Array,
  at: number,
  data: TypedArray,
  start: number,
  along: number,
  panels: number,
  depth: number,
): void {
  for (let p = 0; p < depth; p++, start += along, at += TILE) {
    for (let q = 0, from = start, into = at; q < panels; q++, from += TILE, into += TILE * depth) {
      to[into] = data[from]!
      to[into + 1] = data[from + 1]!
      to[into + 2] = data[from + 2]!
      to[into + 3] = data[from + 3]!
    }
  }
}

function packLane(to: Float64Array, at: number, data: TypedArray, start: number, step: number, depth: number): void {
  for (let p = 0; p < depth; p++, at += TILE, start += step) to[at] = data[start]!
}
