/** A small model that trains, the same from the same seed on every device. Children use this as well, so it imports no ava. */

import { type Device, type Tensor, manualSeed, nn, optim, scope, tensor } from '../../ts/index.ts'
import { random } from './values.ts'

/** A model, its data and its optimiser. */
export interface Trainee {
  /** Records one step; its loss, for whoever compiles it. */
  record(): Tensor
  /** One step, without waiting for it. */
  step(): void
  /** One step; its loss. */
  loss(): Promise<number>
  /** The parameters. */
  state(): Promise<Float32Array[]>
}

/** Makes one: two layers, AdamW, and always the same batch of random rows. */
export function trainee(device: Device, seed = 1, rows = 64, width = 128): Trainee {
  manualSeed(seed)
  const model = new nn.Sequential(
    new nn.Linear(width, width, { activation: 'gelu', device }),
    new nn.Linear(width, 10, { device }),
  )
  const optimizer = new optim.AdamW(model.parameters(), { lr: 1e-3 })
  const x = tensor(random([rows, width], { seed }), { shape: [rows, width], device })
  const y = tensor(Int32Array.from({ length: rows }, (_, i) => i % 10), { device }) // prettier-ignore
  const step = (): Tensor =>
    scope(() => {
      optimizer.zeroGrad()
      const loss = nn.crossEntropy(model.forward(x), y)
      loss.backward()
      optimizer.step()
      return loss
    })
  return {
    record: step,
    step: () => step().dispose(),
    loss: async () => {
      using loss = step()
      return await loss.item()
    },
    state: async () => (await Promise.all(model.parameters().map((p) => p.data()))) as Float32Array[],
  }
}
