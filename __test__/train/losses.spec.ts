/**
 * Every loss over a window of micro-batches, equal, unequal and empty ones, is the loss of the one large batch: its sums
 * and counts add up to those of the batch, and the gradient of the window is that of the batch's mean. Whatever makes
 * items weigh different amounts is there: masks, weights of classes, smoothing, ignored targets.
 */

import { type Device, type Dtype, type Tensor, manualSeed, nn, tensor, train } from '../../ts/index.ts'
import { onDevices } from '../helpers/devices.ts'
import { Recording } from '../helpers/recording.ts'
import { distance, largest, near, random, values } from '../helpers/values.ts'

const ROWS = 24
const FEATURES = 5
const CLASSES = 4
const SPLITS = [
  [8, 8, 8],
  [3, 3, 3, 3, 3, 3, 3, 3],
  [1, 7, 2, 5, 1, 4, 3, 1],
  [10, 0, 14],
] as const

/** The rows from 8 to 15 do not count: with micro-batches of 8, one of them wholly. */
const ACTIVE = Array.from({ length: ROWS }, (_, i) => (i < 8 || i > 15) && i % 5 !== 3)
const WEIGHTS = ACTIVE.map((active, i) => (active ? 0.25 * (1 + (i % 4)) : 0))
const LABELS = Int32Array.from({ length: ROWS }, (_, i) => (7 * i + (i >> 2)) % CLASSES)

interface Loss {
  readonly title: string
  readonly targets: 'labels' | 'ignored' | 'numbers' | 'probabilities'
  readonly mask: 'none' | 'bool' | 'weights'
  /** Whether an item is a row, not an element. */
  readonly perRow?: true
  readonly call: (
    prediction: Tensor,
    target: Tensor,
    options: nn.LossOptions<'parts' | 'mean'>,
    weight: Tensor,
  ) => Tensor | nn.Parts
}

const LOSSES: readonly Loss[] = [
  { title: 'crossEntropy', targets: 'labels', mask: 'none', call: (p, t, o) => nn.crossEntropy(p, t, o) },
  { title: 'crossEntropy with ignored targets, weights and smoothing', targets: 'ignored', mask: 'none', call: (p, t, o, weight) => nn.crossEntropy(p, t, { ...o, weight, labelSmoothing: 0.1 }) }, // prettier-ignore
  { title: 'crossEntropy with a mask and weights', targets: 'labels', mask: 'weights', call: (p, t, o, weight) => nn.crossEntropy(p, t, { ...o, weight }) }, // prettier-ignore
  { title: 'crossEntropy of probabilities, smoothed', targets: 'probabilities', mask: 'bool', perRow: true, call: (p, t, o) => nn.crossEntropy(p, t, { ...o, labelSmoothing: 0.2 }) }, // prettier-ignore
  { title: 'nll with ignored targets and weights', targets: 'ignored', mask: 'none', call: (p, t, o, weight) => nn.nll(p.logSoftmax(), t, { ...o, weight }) }, // prettier-ignore
  { title: 'nll with a mask', targets: 'labels', mask: 'bool', call: (p, t, o) => nn.nll(p.logSoftmax(), t, o) },
  { title: 'mse', targets: 'numbers', mask: 'none', call: (p, t, o) => nn.mse(p, t, o) },
  { title: 'mse with a mask', targets: 'numbers', mask: 'bool', call: (p, t, o) => nn.mse(p, t, o) },
  { title: 'mae with a mask that weighs', targets: 'numbers', mask: 'weights', call: (p, t, o) => nn.mae(p, t, o) },
  { title: 'huber with a mask', targets: 'numbers', mask: 'bool', call: (p, t, o) => nn.huber(p, t, { ...o, delta: 0.75 }) }, // prettier-ignore
  { title: 'bceWithLogits with a mask', targets: 'probabilities', mask: 'bool', call: (p, t, o) => nn.bceWithLogits(p, t, o) }, // prettier-ignore
]

/** What is masked holds what must not reach anything. */
function targetsOf({ targets, mask }: Loss, dtype: Dtype, device: Device): Tensor {
  const hidden = (i: number): boolean => mask !== 'none' && !ACTIVE[i]!
  if (targets === 'labels') return tensor(LABELS.map((c, i) => (hidden(i) ? 99 : c)), { device }) // prettier-ignore
  if (targets === 'ignored') return tensor(LABELS.map((c, i) => (ACTIVE[i]! ? c : -100)), { device }) // prettier-ignore
  const list = random([ROWS, CLASSES], { seed: 3 }).map((v) => (targets === 'numbers' ? v : Math.abs(v) / 2))
  return tensor(list.map((v, i) => (hidden(Math.floor(i / CLASSES)) ? Number.NaN : v)), { shape: [ROWS, CLASSES], dtype, device }) // prettier-ignore
}

function maskOf({ targets, mask, perRow }: Loss, dtype: Dtype, device: Device): Tensor | null {
  if (mask === 'none') return null
  const list = mask === 'bool' ? tensor(ACTIVE, { device }) : tensor(WEIGHTS, { dtype, device })
  return perRow || targets === 'labels' || targets === 'ignored' ? list : list.reshape([ROWS, 1])
}

interface Window {
  readonly sum: number
  readonly count: number
  readonly gradients: readonly number[][]
}

/** A layer and its data, the same each time. */
function given(
  loss: Loss,
  dtype: Dtype,
  device: Device,
): Readonly<Record<'x' | 'weight' | 'targets', Tensor>> & { layer: nn.Linear; mask: Tensor | null } {
  manualSeed(5)
  const layer = new nn.Linear(FEATURES, CLASSES, { dtype, device })
  const x = tensor(random([ROWS, FEATURES], { seed: 2 }), { shape: [ROWS, FEATURES], dtype, device })
  const weight = tensor([1, 2, 0.5, 1.5], { dtype, device })
  return { layer, x, weight, targets: targetsOf(loss, dtype, device), mask: maskOf(loss, dtype, device) }
}

/** The mean over the batch, without any window, and its gradients. */
async function meanOf(loss: Loss, dtype: Dtype, device: Device): Promise<{ mean: number; gradients: number[][] }> {
  const { layer, x, weight, targets, mask } = given(loss, dtype, device)
  const mean = loss.call(layer.forward(x), targets, { reduction: 'mean', ...(mask !== null && { mask }) }, weight) as Tensor // prettier-ignore
  mean.backward()
  return { mean: await mean.item(), gradients: await Promise.all(layer.parameters().map((p) => values(p.grad))) }
}

/** One window in micro-batches of these sizes. */
async function windowOf(loss: Loss, sizes: readonly number[], dtype: Dtype, device: Device): Promise<Window> {
  const { layer, x, weight, targets, mask } = given(loss, dtype, device)
  const optimizer = new Recording(layer.parameters(), { lr: 1 })
  const acc = new train.GradientAccumulator(optimizer)
  const sums: Tensor[] = []
  let start = 0
  for (const size of sizes) {
    const part = (t: Tensor): Tensor => t.slice([start, ...t.shape.slice(1).map(() => 0)], [size, ...t.shape.slice(1)])
    const options = { reduction: 'parts' as const, ...(mask !== null && { mask: part(mask) }) }
    const parts = loss.call(layer.forward(part(x)), part(targets), options, weight) as nn.Parts
    sums.push(parts.sum.detach())
    acc.add(parts)
    start += size
  }
  const { count } = acc.step()
  const total = (await Promise.all(sums.map((sum) => sum.item()))).reduce((a, b) => a + b, 0)
  return { sum: total, count: await count.item(), gradients: await optimizer.gradients() }
}

for (const loss of LOSSES) {
  onDevices(`${loss.title}: a window is the one batch, however it is cut`, async (t, device) => {
    const rules: [Dtype, number][] = device.kind === 'js' ? [['f64', 1e-12], ['f32', 1e-5]] : [['f32', 1e-5]] // prettier-ignore
    for (const [dtype, tolerance] of rules) {
      const whole = await windowOf(loss, [ROWS], dtype, device)
      t.true(whole.count > 5 && whole.gradients.every((g) => largest(g) > 1e-2))
      const { mean, gradients: slopes } = await meanOf(loss, dtype, device)
      t.true(Math.abs(whole.sum / whole.count - mean) <= tolerance * mean, `${dtype}: the mean is ${mean}`)
      slopes.forEach((g, i) => near(t, whole.gradients[i]!, g, tolerance, `${dtype}: gradient ${i} of the mean`))
      for (const sizes of SPLITS) {
        const what = `${dtype} [${sizes.join()}]`
        const { sum, count, gradients } = await windowOf(loss, sizes, dtype, device)
        t.true(Math.abs(count - whole.count) <= tolerance * whole.count, `${what}: count ${count}`)
        t.true(Math.abs(sum - whole.sum) <= tolerance * whole.sum, `${what}: sum ${sum} and ${whole.sum}`)
        gradients.forEach((g, i) => {
          const off = distance(g, whole.gradients[i]!)
          t.true(off <= tolerance * largest(whole.gradients[i]!), `${what}: gradient ${i} is off by ${off}`)
        })
      }
    }
  })
}
