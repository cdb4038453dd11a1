/**
 * How far the gradient of a random batch is from the gradient of all rows, measured over many draws and as theory has
 * it: with replacement V(B) = trΣ/B, without it less, by the part of the rows that is already in the batch, down to 0 for
 * all of them. Σ is the covariance of the gradients of single rows. Part of the example `batch-size`.
 */

import { type Tensor, compile, data, manualSeed, nn, noGrad, rand } from 'tilegrad'
import { type Rows, setOf } from './digits.ts'

/** A variance over many draws, and what it should be. */
export interface Variance {
  readonly measured: number
  readonly theory: number
}

/** What is found at one place. */
export interface Noise {
  /** Trace of the covariance of the gradients of single rows, over all of them. */
  readonly trace: number
  /** Of the gradient of all rows. */
  readonly squaredNorm: number
  /** trace / squaredNorm, in rows: from about there on larger batches no longer save steps. */
  readonly scale: number
  /** The same, estimated from the norms of small and large batches alone. */
  readonly estimate: number
  readonly points: readonly { readonly batch: number; readonly drawn: Variance; readonly subset: Variance }[]
}

/** Draws batches of several sizes from rows and compares their gradients with the gradient of all rows. */
export async function gradientNoise(
  model: nn.Module,
  rows: Rows,
  quick: boolean,
  progress: (text: string) => void,
): Promise<Noise> {
  const n = rows.x.shape[0]!
  const sizes = quick ? [1, 16, 256] : [1, 4, 16, 64, 256, 1024]
  const draws = quick ? 100 : 200
  const parameters = model.parameters()
  const backward = (x: Tensor, y: Tensor): void => {
    for (const parameter of parameters) parameter.grad = null
    nn.crossEntropy(model.forward(x), y).backward()
  }
  backward(rows.x, rows.y)
  const whole = parameters.map(({ grad }) => grad!.detach())
  const squared = (tensors: readonly Tensor[]): Tensor =>
    tensors.map((t) => t.square().sum()).reduce((a, b) => a.add(b))
  const squaredNorm = await squared(whole).item()
  const set = setOf(rows)

  /** Of the gradient of some rows: how far it is from that of all rows, and its own length, both squared. */
  const look = compile((x: Tensor, y: Tensor) => {
    backward(x, y)
    return noGrad(() => {
      const gradients = parameters.map(({ grad }) => grad!)
      return [squared(gradients.map((g, i) => g.sub(whole[i]!))), squared(gradients)] as [Tensor, Tensor]
    })
  })
  /** The means over some batches. */
  const over = async (batches: Iterable<Int32Array<ArrayBuffer>>): Promise<[variance: number, squaredNorm: number]> => {
    const pending: Promise<number>[][] = []
    for (const batch of batches) {
      const [x, y] = set.batch(batch)
      pending.push(look(x!, y!).map((t) => t.item()))
      if (pending.length % 64 === 0) await Promise.all(pending.at(-1)!)
    }
    const all = await Promise.all(pending.map((pair) => Promise.all(pair)))
    const mean = (k: number): number => all.reduce((sum, pair) => sum + pair[k]!, 0) / all.length
    return [mean(0), mean(1)]
  }

  progress('gradients of single rows')
  const [trace] = await over(Array.from({ length: n }, (_, i) => Int32Array.of(i)))
  const points: Noise['points'][number][] = []
  const norms = new Map<number, number>()
  for (const batch of sizes) {
    progress(`gradients of batches of ${batch}`)
    const orders = new data.DataLoader(set, { batchSize: n, shuffle: true, seed: batch })
    const subsets = Array.from({ length: draws }, (_, k) => orders.order(k).slice(0, batch))
    manualSeed(batch)
    const places = Int32Array.from(await rand([draws * batch]).data(), (u) => Math.floor(u * n))
    const drawn = Array.from({ length: draws }, (_, k) => places.slice(k * batch, (k + 1) * batch))
    const [measured, norm] = await over(drawn)
    norms.set(batch, norm)
    points.push({
      batch,
      drawn: { measured, theory: trace / batch },
      subset: { measured: (await over(subsets))[0], theory: ((trace / batch) * (n - batch)) / (n - 1) },
    })
  }
  const [small, large] = [sizes[0]!, sizes.at(-1)!]
  const g2 = (large * norms.get(large)! - small * norms.get(small)!) / (large - small)
  const s = (norms.get(small)! - norms.get(large)!) / (1 / small - 1 / large)
  return { trace, squaredNorm, scale: trace / squaredNorm, estimate: s / g2, points }
}
