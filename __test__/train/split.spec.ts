/**
 * A batch of tokens in one piece and split into micro-batches of unequal sizes gives the same gradients, for a net with
 * every kind of layer that has something to say about batches: layers that normalise rows, dropout, whose masks go on
 * from micro-batch to micro-batch, and BatchNorm that normalises the whole window. Tokens are masked, some micro-batches
 * wholly, and classes are weighted and smoothed.
 */

import test from 'ava'

import { type Device, type Dtype, type Tensor, manualSeed, nn, optim, tensor, train } from '../../ts/index.ts'
import { JS, onDevices } from '../helpers/devices.ts'
import { distance, largest, random, values } from '../helpers/values.ts'

const ROWS = 17
const TOKENS = 5
const CLASSES = 4
const SPLITS = [[17], [7, 9, 1], [1, 4, 2, 3, 1, 3, 1, 2]] as const
/** Masked tokens hold what must not reach anything. */
const ACTIVE = Array.from({ length: ROWS * TOKENS }, (_, i) => (i * 7) % 5 > 1 && i % TOKENS < 4 && i < 80)
const TARGETS = Int32Array.from(ACTIVE, (active, i) => (active ? (i * 3) % CLASSES : 99))

class Net extends nn.Module {
  readonly layers: nn.Module[]
  readonly together: nn.BatchNorm | null

  constructor(device: Device, dtype: Dtype, together: boolean) {
    super()
    manualSeed(11)
    this.layers = [
      new nn.Linear(6, 12, { activation: 'gelu', device, dtype }),
      new nn.LayerNorm(12, { device, dtype }),
      new nn.Dropout(0.3),
      // No bias before BatchNorm: the mean is taken off, so its gradient would be rounding, which Adam makes as large as any other.
      new nn.Linear(12, 8, { bias: !together, device, dtype }),
    ]
    this.together = together ? new nn.BatchNorm(8, { axis: -1, accumulation: 'sync', device, dtype }) : null
    this.layers.push(
      new nn.GroupNorm(2, 8, { device, dtype }),
      new nn.Dropout(0.2),
      new nn.Linear(8, CLASSES, { device, dtype }),
    )
  }

  override forward(x: Tensor, mask: Tensor): Tensor {
    const [first, norm, drop, second, group, last, head] = this.layers as [nn.Module, nn.Module, nn.Module, nn.Module, nn.Module, nn.Module, nn.Module] // prettier-ignore
    let h = second.forward(drop.forward(norm.forward(first.forward(x))))
    if (this.together !== null) h = this.together.forward(h, mask)
    // GroupNorm has its channels second: every token is an example of its own.
    h = group.forward(h.reshape([x.shape[0]! * TOKENS, 8])).reshape(h.shape)
    return head.forward(last.forward(h))
  }
}

interface TrainedOptions {
  readonly windows?: number
  readonly make?: (model: nn.Module) => optim.Optimizer
}

/** Plain gradient descent of rate 1: differences of weights are gradients. */
function sgd(model: nn.Module): optim.Optimizer {
  return new optim.SGD(model.parameters(), { lr: 1 })
}

interface Trained {
  readonly before: number[][]
  readonly after: number[][]
  /** What BatchNorm keeps. */
  readonly buffers: number[][]
}

/** Trains for some windows, each cut into micro-batches of these sizes. */
async function trained(
  device: Device,
  dtype: Dtype,
  sizes: readonly number[],
  together: boolean,
  { windows = 1, make = sgd }: TrainedOptions = {},
): Promise<Trained> {
  const model = new Net(device, dtype, together)
  const before = await Promise.all(model.parameters().map(values))
  const acc = new train.GradientAccumulator(make(model))
  const mask = tensor(ACTIVE, { shape: [ROWS, TOKENS], dtype: 'bool', device })
  const targets = tensor(TARGETS, { shape: [ROWS, TOKENS], device })
  const weight = tensor([1, 2, 0.5, 1.5], { dtype, device })
  const micro = (rows: Tensor, active: Tensor, y: Tensor): nn.Parts =>
    nn.crossEntropy(model.forward(rows, active), y, { mask: active, weight, labelSmoothing: 0.1, reduction: 'parts' })
  // Other tests of this file set the seed, too; from here on nothing waits until all windows have been recorded.
  manualSeed(12)
  for (let w = 0; w < windows; w++) {
    const x = tensor(random([ROWS, TOKENS, 6], { seed: 2 + w }), { shape: [ROWS, TOKENS, 6], dtype, device })
    let start = 0
    const batches = sizes.map((size): [Tensor, Tensor, Tensor] => {
      const at = start
      start += size
      const part = (t: Tensor): Tensor => t.slice([at, ...t.shape.slice(1).map(() => 0)], [size, ...t.shape.slice(1)])
      return [part(x), part(mask), part(targets)]
    })
    if (together) acc.window(batches, micro)
    else {
      for (const batch of batches) acc.add(micro(...batch))
      acc.step()
    }
  }
  const after = await Promise.all(model.parameters().map(values))
  return { before, after, buffers: await Promise.all([...model.buffers().values()].map(values)) }
}

/** Gradients of one window, and what BatchNorm keeps. */
async function slopes(device: Device, dtype: Dtype, sizes: readonly number[], together: boolean): Promise<number[][]> {
  const { before, after, buffers } = await trained(device, dtype, sizes, together)
  return [...after.map((p, i) => p.map((v, j) => before[i]![j]! - v)), ...buffers]
}

for (const together of [false, true]) {
  const how = together ? 'and BatchNorm over the window' : 'and dropout'
  onDevices(`masked micro-batches through LayerNorm, GroupNorm ${how} are the one batch`, async (t, device) => {
    const rules: [Dtype, number][] = device.kind === 'js' ? [['f64', 1e-12], ['f32', 1e-5]] : [['f32', 1e-5]] // prettier-ignore
    for (const [dtype, tolerance] of rules) {
      const whole = await slopes(device, dtype, SPLITS[0], together)
      t.true(whole.some((g) => largest(g) > 0.01))
      for (const sizes of SPLITS.slice(1)) {
        const split = await slopes(device, dtype, sizes, together)
        split.forEach((g, i) => {
          // Weights are near 1, and gradients are read from their change: a unit in their last place is what can be seen.
          const seen = dtype === 'f32' ? 2 ** -22 : 1e-15
          const bound = tolerance * largest(whole[i]!) + seen
          t.true(
            distance(g, whole[i]!) <= bound,
            `${dtype} [${sizes.join()}] ${i}: ${distance(g, whole[i]!)}, ${bound}`,
          )
        })
      }
    }
  })

  test(`fifty windows of AdamW, ${how}, end where those of one batch end, in f64`, async (t) => {
    const options = { windows: 50, make: (model: nn.Module) => new optim.AdamW(model.parameters(), { lr: 0.01 }) }
    const whole = await trained(JS, 'f64', SPLITS[0], together, options)
    t.true(whole.after.every((p, i) => distance(p, whole.before[i]!) > 0.02))
    for (const sizes of SPLITS.slice(1)) {
      const split = await trained(JS, 'f64', sizes, together, options)
      for (const name of ['after', 'buffers'] as const) {
        split[name].forEach((p, i) => {
          const off = distance(p, whole[name][i]!)
          t.true(off <= 1e-9 * Math.max(1, largest(whole[name][i]!)), `${name} ${i} of [${sizes.join()}]: ${off}`)
        })
      }
    }
  })
}
