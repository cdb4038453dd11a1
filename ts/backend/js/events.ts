/**
 * What the `js` device has done and when, noted while somebody wants to know. Steps are its instructions; names and
 * operands are written as the native devices write them (`crate/src/plan/label.rs`).
 */

import type { DeviceEvent, DeviceEvents } from '../backend.ts'
import type { Instruction, Program } from '../../program/decode.ts'
import { NONE } from '../../program/words.ts'
import { bytesOf } from './plan.ts'

/** Operands that are written out. */
const SHOWN = 6

/** A bounded list of events. */
export class Events {
  #room = 0
  #events: DeviceEvent[] = []
  #dropped = 0

  /** Begins to note at most so many events between two calls of {@link take}; 0 ends it. Forgets what is there. */
  set(room: number): void {
    this.#room = room
    this.take()
  }

  /** Whether anything is noted. */
  get on(): boolean {
    return this.#room > 0
  }

  /** An instruction has been run. */
  step(program: Program, instruction: Instruction, start: number): void {
    const { name } = instruction
    const bytes = operands(program, instruction.inputs, bytesOf).concat(operands(program, instruction.outputs, bytesOf))
    this.#note({
      kind: 'step',
      inline: true,
      start,
      duration: performance.now() - start,
      name,
      detail: detail(program, instruction),
      flops: 2 * multiplyAdds(program, instruction),
      bytes: bytes.reduce((sum, count) => sum + count, 0),
    })
  }

  /** A program has been run; compiled ones have a number. */
  run(program: number | undefined, start: number): void {
    const event = { kind: 'run', inline: true, start, duration: performance.now() - start } as const
    this.#note(program === undefined ? event : { ...event, program })
  }

  /** What has been noted since this was called last. */
  take(): DeviceEvents {
    const taken = { events: this.#events, dropped: this.#dropped }
    this.#events = []
    this.#dropped = 0
    return taken
  }

  #note(event: DeviceEvent): void {
    if (this.#events.length < this.#room) this.#events.push(event)
    else this.#dropped++
  }
}

function operands<T>(
  { registers }: Program,
  numbers: readonly number[],
  of: (register: Program['registers'][number]) => T,
): T[] {
  return numbers.filter((number) => number !== NONE).map((number) => of(registers[number]!))
}

function detail(program: Program, { inputs, outputs }: Instruction): string {
  const [from, to] = [list(program, inputs), list(program, outputs)]
  return to === '' ? from : `${from}${from === '' ? '' : ' '}→ ${to}`
}

function list(program: Program, numbers: readonly number[]): string {
  const shown = operands(program, numbers, ({ dtype, shape }) => `${dtype}[${shape.join(',')}]`)
  const rest = shown.length - SHOWN
  return [...shown.slice(0, SHOWN), ...(rest > 0 ? [`${rest} more`] : [])].join(', ')
}

/** Multiply-adds of matrix products. */
function multiplyAdds({ registers }: Program, { name, inputs, outputs, attributes }: Instruction): number {
  const size = (register: number | undefined): number => registers[register ?? NONE]?.size ?? 0
  /** An axis of an operand, counted from the last. */
  const axis = (register: number | undefined, back: number): number =>
    registers[register ?? NONE]?.shape.at(-1 - back) ?? 0
  switch (name) {
    case 'matmul':
      return size(outputs[0]) * axis(inputs[0], attributes[0]!)
    case 'linear':
      return size(outputs[0]) * axis(inputs[0], 0)
    case 'linearGrad': {
      // dx = dz·Wᵀ sums over the columns of dy, dW = xᵀ·dz over its rows.
      const wanted = attributes[1]!
      const columns = axis(inputs[0], 0)
      const dx = (wanted & 1) === 0 ? 0 : size(outputs[0]) * columns
      const weight = (wanted & 2) === 0 || columns === 0 ? 0 : size(outputs[wanted & 1])
      return dx + (weight === 0 ? 0 : (weight * size(inputs[0])) / columns)
    }
    default:
      return 0
  }
}
