/**
 * Random numbers: Philox 4x32-10 (Salmon et al., 2011), a function of a key and a counter, so that the same seed gives
 * the same numbers on every device, in any order and any split. Devices draw uniform numbers themselves (`uniform` of the
 * opcode table). Normal numbers are drawn here, on the host: Box–Muller takes a logarithm and a cosine, which devices round
 * differently. So are initial parameters, which are drawn once.
 * The counter is (⌊index / 4⌋, row, site, draw); sites from 0xFFFF0000 on are the library's own.
 */

import { expected } from './errors.ts'
import { refuseTracing, takeBack } from './program/tracing.ts'

/** Sites of the library's own generators. */
export const SITES = { init: 0xffff_0000, shuffle: 0xffff_0001, user: 0xffff_0002 } as const

const M0 = 0xd251_1f53
const M1 = 0xcd9e_8d57
const W0 = 0x9e37_79b9
const W1 = 0xbb67_ae85
const TWO_POW_MINUS_24 = 2 ** -24

let seedLow = 0
let seedHigh = 0
let seedings = 0
const draws = new Map<number, number>()

/**
 * Sets the seed of everything random in the library and starts all its sequences anew. Without a call the seed is 0.
 *
 * @param seed whole number from 0 to 2⁵³ − 1
 *
 * @example
 * ```ts
 * import { manualSeed, rand } from 'tilegrad'
 * manualSeed(42)
 * const a = await rand([3]).data()
 * manualSeed(42)
 * const b = await rand([3]).data()
 * console.log(a.every((v, i) => v === b[i])) // true
 * ```
 */
export function manualSeed(seed: number): void {
  refuseTracing('manualSeed()', 'set the seed outside')
  ;[seedLow, seedHigh] = splitSeed('manualSeed', seed)
  seedings++
  draws.clear()
}

/** @internal How often a seed has been set: who counts draws elsewhere starts anew when this changes. */
export function seedingCount(): number {
  return seedings
}

/** @internal The next draws of the sites that have drawn. */
export function siteDraws(): ReadonlyMap<number, number> {
  return draws
}

/** @internal Sets the next draw of a site. */
export function setSiteDraw(site: number, draw: number): void {
  draws.set(site, draw)
}

/** @internal The two key words of a seed. */
export function splitSeed(op: string, seed: number): [number, number] {
  if (!Number.isSafeInteger(seed) || seed < 0) throw expected(`${op}: seed`, 'a whole number from 0 to 2⁵³ − 1', seed)
  return [seed >>> 0, Math.floor(seed / 2 ** 32)]
}

/** @internal The two key words of the seed that is set. */
export function seedWords(): readonly [number, number] {
  return [seedLow, seedHigh]
}

/** @internal The next draw of a site, counting up from 0 since the seed was set. */
export function nextDraw(site: number): number {
  const draw = draws.get(site) ?? 0
  draws.set(site, draw + 1)
  takeBack(() => draws.set(site, draw))
  return draw
}

/** A stretch of Philox words: `next()` walks through the index, lane by lane. */
export class Philox {
  readonly #key: readonly [number, number]
  readonly #row: number
  readonly #site: number
  readonly #draw: number
  readonly #block = new Uint32Array(4)
  #index = 0

  /**
   * @param key low and high word of the seed; default: the seed of {@link manualSeed}
   * @param counter row (default 0), site and draw (default 0)
   */
  constructor(
    counter: { row?: number; site: number; draw?: number },
    key: readonly [number, number] = [seedLow, seedHigh],
  ) {
    this.#key = key
    this.#row = counter.row ?? 0
    this.#site = counter.site
    this.#draw = counter.draw ?? 0
  }

  /** The next 32 random bits. */
  next(): number {
    const lane = this.#index & 3
    if (lane === 0) philox(this.#index / 4, this.#row, this.#site, this.#draw, this.#key[0], this.#key[1], this.#block)
    this.#index++
    return this.#block[lane]!
  }

  /** Uniform in [0, 1), a multiple of 2⁻²⁴. */
  uniform(): number {
    return (this.next() >>> 8) * TWO_POW_MINUS_24
  }

  /** Uniform integer in [0, n), without bias: multiply and shift, with rejection (Lemire, 2019). */
  below(n: number): number {
    const threshold = 2 ** 32 % n
    for (;;) {
      const word = this.next()
      if (Math.imul(word, n) >>> 0 >= threshold) return highWord(word, n)
    }
  }

  /** Two independent normal numbers of mean 0 and variance 1 (Box–Muller). */
  normals(): [number, number] {
    const radius = Math.sqrt(-2 * Math.log(((this.next() >>> 8) + 1) * TWO_POW_MINUS_24))
    const angle = 2 * Math.PI * this.uniform()
    return [radius * Math.cos(angle), radius * Math.sin(angle)]
  }
}

/** One Philox 4x32-10 block: four words from a counter and a key. */
export function philox(
  c0: number,
  c1: number,
  c2: number,
  c3: number,
  k0: number,
  k1: number,
  out: Uint32Array = new Uint32Array(4),
): Uint32Array {
  for (let round = 0; round < 10; round++) {
    if (round > 0) {
      k0 = (k0 + W0) >>> 0
      k1 = (k1 + W1) >>> 0
    }
    const h0 = highWord(M0, c0)
    const h1 = highWord(M1, c2)
    const l1 = Math.imul(M1, c2) >>> 0
    c3 ^= k1
    c2 = (h0 ^ c3) >>> 0
    c3 = Math.imul(M0, c0) >>> 0
    c0 = (h1 ^ c1 ^ k0) >>> 0
    c1 = l1
  }
  out[0] = c0
  out[1] = c1
  out[2] = c2
  out[3] = c3
  return out
}

/** High word of a 32 × 32 bit product, by 16-bit halves; the low one is `Math.imul`'s. */
function highWord(a: number, b: number): number {
  const al = a & 0xffff
  const ah = a >>> 16
  const bl = b & 0xffff
  const bh = b >>> 16
  const low = al * bl
  const middle = ah * bl + (low >>> 16) // < 2³²
  const other = al * bh + (middle & 0xffff)
  return (ah * bh + (middle >>> 16) + (other >>> 16)) >>> 0
}
