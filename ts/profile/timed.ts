/**
 * A backend that tells how long each call of the one behind it takes on this thread, and how long its results are waited
 * for.
 */

import type { Backend, ProgramInfo } from '../backend/backend.ts'
import { Relay } from '../backend/relay.ts'
import { BYTES_PER_ELEMENT, type Dtype, type TypedArray } from '../dtype.ts'

/** A call: what, with what, and when it began; it ends when it is told. */
export type OnCall = (kind: 'host' | 'wait', name: string, detail: string, start: number) => void

/** Times calls. */
export class TimedBackend extends Relay {
  readonly #onCall: OnCall

  constructor(inner: Backend, onCall: OnCall) {
    super(inner)
    this.#onCall = onCall
  }

  override submit(stream: Uint32Array): void {
    const detail = `${stream.length} words`
    this.#host('submit', detail, () => super.submit(stream))
  }

  override compile(program: number, code: Uint32Array, title?: string): ProgramInfo {
    return this.#host('compile', title ?? '', () => super.compile(program, code, title))
  }

  override run(program: number, stream: Uint32Array): void {
    this.#host('run', `program ${program}`, () => super.run(program, stream))
  }

  override write(slot: number, dtype: Dtype, data: TypedArray): void {
    this.#host('upload', `${dtype}, ${data.length * BYTES_PER_ELEMENT[dtype]} bytes`, () =>
      super.write(slot, dtype, data),
    )
  }

  override read(slot: number, into: TypedArray): Promise<void> | undefined {
    const start = performance.now()
    const told = (): void => this.#onCall('wait', 'read', `${into.byteLength} bytes`, start)
    const reading = super.read(slot, into)
    if (reading === undefined) told()
    return reading?.finally(told)
  }

  override readSync(slot: number, into: TypedArray, until?: number): boolean {
    return this.#host('readSync', `${into.byteLength} bytes`, () => super.readSync(slot, into, until))
  }

  override async sync(): Promise<void> {
    const start = performance.now()
    try {
      await super.sync()
    } finally {
      this.#onCall('wait', 'sync', '', start)
    }
  }

  #host<T>(name: string, detail: string, call: () => T): T {
    const start = performance.now()
    try {
      return call()
    } finally {
      this.#onCall('host', name, detail, start)
    }
  }
}
