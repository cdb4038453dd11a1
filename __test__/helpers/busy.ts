/** Keeping a device busy for a known time, on machines of any speed. Children use this as well, so it imports no ava. */

import { type Device, type Tensor, full, matmul, scope } from '../../ts/index.ts'

/** Products in one go: fewer than may be queued. */
const PRODUCTS = 40
const LARGEST = 4096

/** Products of a matrix with the elements 1/n; the result has them too. */
function work(x: Tensor): Tensor {
  return scope(() => {
    let y = x
    for (let i = 0; i < PRODUCTS; i++) y = matmul(y, x)
    return y
  })
}

/** Work that takes a device at least `milliseconds`, measured here and now; calling the result begins it. */
export async function workFor(device: Device, milliseconds: number): Promise<() => Tensor> {
  for (let n = 128; ; n *= 2) {
    const x = full([n, n], 1 / n, { device })
    // What comes once is no part of it.
    using once = matmul(x, x)
    await once.data()
    const begun = performance.now()
    using y = work(x)
    await y.data()
    // On a machine that is loaded now and may not be later.
    if (performance.now() - begun >= 1.5 * milliseconds || n === LARGEST) return () => work(x)
    x.dispose()
  }
}

/** Whether a result of {@link workFor} is what it has to be. */
export function isRight(data: ArrayLike<number>): boolean {
  const n = Math.sqrt(data.length)
  return [0, n, data.length - 1].every((i) => data[i] === 1 / n)
}
