/** Assertions on types: `same<A, B>()` compiles only when both are the same type. */

/** `true` when the two types are mutually identical, not only assignable. */
export type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false

/** Compiles only when `A` and `B` are the same type. */
export function same<A, B>(..._proof: Same<A, B> extends true ? [] : [never]): void {}

/** Compiles only when the value has exactly the type `T`. */
export function is<T>(): <V>(value: V, ..._proof: Same<V, T> extends true ? [] : [never]) => void {
  return () => {}
}
