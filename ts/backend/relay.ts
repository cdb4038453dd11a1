/**
 * A backend that hands everything on to another one: for those that look at what passes (`profile/timed.ts`,
 * `debug/backend.ts`), and override what they look at.
 */

import type { Dtype, TypedArray } from '../dtype.ts'
import type { Backend, BackendStats, DeviceEvents, DeviceKind, ProgramInfo } from './backend.ts'

/** Hands everything on. */
export class Relay implements Backend {
  readonly kind: DeviceKind
  protected readonly inner: Backend

  constructor(inner: Backend) {
    this.kind = inner.kind
    this.inner = inner
  }

  submit(stream: Uint32Array): void {
    this.inner.submit(stream)
  }

  compile(program: number, code: Uint32Array, title?: string): ProgramInfo {
    return this.inner.compile(program, code, title)
  }

  run(program: number, stream: Uint32Array): void {
    this.inner.run(program, stream)
  }

  release(program: number): void {
    this.inner.release(program)
  }

  write(slot: number, dtype: Dtype, data: TypedArray): void {
    this.inner.write(slot, dtype, data)
  }

  read(slot: number, into: TypedArray): Promise<void> | undefined {
    return this.inner.read(slot, into)
  }

  readSync(slot: number, into: TypedArray, until?: number): boolean {
    return this.inner.readSync(slot, into, until)
  }

  sync(): Promise<void> {
    return this.inner.sync()
  }

  stats(): BackendStats {
    return this.inner.stats()
  }

  ready(): Promise<void> | undefined {
    return this.inner.ready()
  }

  trim(): Promise<void> {
    return this.inner.trim()
  }

  profile(events: number): void {
    this.inner.profile(events)
  }

  takeEvents(): DeviceEvents {
    return this.inner.takeEvents()
  }

  printPlan(code: Uint32Array): string {
    return this.inner.printPlan(code)
  }

  close(): Promise<void> {
    return this.inner.close()
  }
}
