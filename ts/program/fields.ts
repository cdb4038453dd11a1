/**
 * The fields of modules as they were when a function was recorded. A module decides by its fields what it computes:
 * training mode, probabilities, sub-modules, parameters. Private fields (`#x`) cannot be seen.
 */

import type { Watched } from './trace.ts'

/** One object and its own fields. */
interface Snapshot {
  readonly object: Watched
  readonly keys: readonly string[]
  readonly values: readonly unknown[]
}

/** What is looked into besides the objects that were watched: arrays, which hold layers in order, and plain objects. */
function isOpen(value: unknown): value is Watched {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return Array.isArray(value) || prototype === Object.prototype || prototype === null
}

/** Snapshots of objects and of the arrays and plain objects in their fields. */
export class Fields {
  readonly #snapshots: readonly Snapshot[]

  constructor(watched: Iterable<Watched>) {
    const objects = new Set<Watched>(watched)
    // A set that grows while it is walked: arrays in arrays are found too.
    for (const object of objects) for (const value of Object.values(object)) if (isOpen(value)) objects.add(value)
    this.#snapshots = [...objects].map((object) => ({
      object,
      keys: Object.keys(object),
      values: Object.values(object),
    }))
  }

  /** Fields that hold something else than they did, with what they held. */
  changes(): { readonly key: string; readonly before: unknown }[] {
    return this.#snapshots.flatMap(({ object, keys, values }) =>
      keys.flatMap((key, i) => (Object.is(object[key], values[i]) ? [] : [{ key, before: values[i] }])),
    )
  }

  /** Whether every field is still there and holds the same. */
  unchanged(): boolean {
    for (const { object, keys, values } of this.#snapshots) {
      let count = 0
      // The order of keys does not change when none comes or goes.
      for (const key in object) {
        if (!Object.hasOwn(object, key)) continue
        if (key !== keys[count] || !Object.is(object[key], values[count])) return false
        count++
      }
      if (count !== keys.length) return false
    }
    return true
  }
}
