/**
 * Memory of the `js` device: buffers with exact sizes, counted, kept for reuse when they are given back. A training
 * loop asks for the same sizes over and over, so a pool by size serves it without work for the garbage collector.
 * Buffers come with whatever they held before; kernels write all of every result.
 */

import { TilegradError } from '../../errors.ts'

/** Bytes kept for reuse. Beyond it the sizes that were asked for longest ago are let go. */
const MOST_POOLED = 32 * 2 ** 20

/** Buffers, and the bytes in use. */
export class Memory {
  /** Bytes of buffers given out and not given back. */
  liveBytes = 0
  peakBytes = 0
  poolBytes = 0
  readonly #limit: number
  /** Free buffers by size; the size used last stands last. */
  readonly #pool = new Map<number, ArrayBuffer[]>()

  constructor(limit: number = Infinity) {
    this.#limit = limit
  }

  /** A buffer that may hold anything. Throws `ERR_OUT_OF_MEMORY` beyond the limit. */
  take(bytes: number): ArrayBuffer {
    if (this.liveBytes + bytes > this.#limit) {
      throw new TilegradError(
        'ERR_OUT_OF_MEMORY',
        `${bytes} bytes more than the ${this.liveBytes} in use exceed the memory limit of ${this.#limit}`,
      )
    }
    const buffer = this.#reuse(bytes) ?? this.#allocate(bytes)
    this.liveBytes += bytes
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes)
    return buffer
  }

  /** Gives a buffer back. */
  release(buffer: ArrayBuffer): void {
    const bytes = buffer.byteLength
    this.liveBytes -= bytes
    if (bytes === 0) return
    const free = this.#pool.get(bytes)
    if (free === undefined) this.#pool.set(bytes, [buffer])
    else free.push(buffer)
    this.poolBytes += bytes
    this.#trim(Math.min(MOST_POOLED, this.#limit - this.liveBytes))
  }

  /** Lets go of everything that is kept for reuse. */
  clear(): void {
    this.#pool.clear()
    this.poolBytes = 0
  }

  #reuse(bytes: number): ArrayBuffer | undefined {
    const free = this.#pool.get(bytes)
    const buffer = free?.pop()
    if (free === undefined || buffer === undefined) return undefined
    this.#pool.delete(bytes)
    if (free.length > 0) this.#pool.set(bytes, free)
    this.poolBytes -= bytes
    return buffer
  }

  #allocate(bytes: number): ArrayBuffer {
    // The limit bounds what is kept as well as what is in use.
    this.#trim(this.#limit - this.liveBytes - bytes)
    try {
      return new ArrayBuffer(bytes)
    } catch {
      this.clear()
    }
    try {
      return new ArrayBuffer(bytes)
    } catch (cause) {
      throw new TilegradError('ERR_OUT_OF_MEMORY', `the machine has no ${bytes} bytes left`, { cause })
    }
  }

  #trim(most: number): void {
    for (const [bytes, free] of this.#pool) {
      while (this.poolBytes > most && free.pop() !== undefined) this.poolBytes -= bytes
      if (free.length > 0) return
      this.#pool.delete(bytes)
    }
  }
}
