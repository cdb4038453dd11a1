/**
 * A small transformer on a toy language, compiled, on every device: attention, LayerNorm, MLP, dropout, and cross-entropy with
 * padding. A sentence counts up or down through the letters from any of them; its first two letters say which, so that only a
 * model that attends to what was before can go on. All devices come to the same loss.
 */

import test from 'ava'
import { type Device, type Tensor, compile, manualSeed, nn, optim, tensor } from '../../ts/index.ts'
import { DEVICES } from '../helpers/devices.ts'
import { generator } from '../helpers/data.ts'

const LETTERS = 7
const LENGTH = 10
const WIDTH = 16
const STEPS = 60

class Block extends nn.Module {
  readonly before: nn.LayerNorm
  readonly attention: nn.MultiHeadAttention
  readonly between: nn.LayerNorm
  readonly mlp: nn.Sequential
  readonly dropout = new nn.Dropout(0.1)

  constructor(device: Device) {
    super()
    this.before = new nn.LayerNorm(WIDTH, { device })
    this.attention = new nn.MultiHeadAttention(WIDTH, 2, { dropout: 0.1, device })
    this.between = new nn.LayerNorm(WIDTH, { device })
    this.mlp = new nn.Sequential(
      new nn.Linear(WIDTH, 32, { activation: 'gelu', device }),
      new nn.Linear(32, WIDTH, { device }),
      new nn.Dropout(0.1),
    )
  }

  forward(x: Tensor, keyMask: Tensor): Tensor {
    const y = this.before.forward(x)
    const attended = x.add(this.dropout.forward(this.attention.attend(y, y, y, { causal: true, keyMask })))
    return attended.add(this.mlp.forward(this.between.forward(attended)))
  }
}

class Language extends nn.Module {
  readonly letters: nn.Embedding
  readonly places: nn.Embedding
  readonly block: Block
  readonly after: nn.LayerNorm
  readonly head: nn.Linear

  constructor(device: Device) {
    super()
    this.letters = new nn.Embedding(LETTERS + 1, WIDTH, { paddingIdx: 0, device })
    this.places = new nn.Embedding(LENGTH, WIDTH, { device })
    this.block = new Block(device)
    this.after = new nn.LayerNorm(WIDTH, { device })
    this.head = new nn.Linear(WIDTH, LETTERS + 1, { device })
  }

  forward(tokens: Tensor, places: Tensor): Tensor {
    const x = this.letters.forward(tokens).add(this.places.forward(places))
    return this.head.forward(this.after.forward(this.block.forward(x, tokens.greater(0))))
  }
}

interface Batch {
  readonly tokens: Int32Array
  readonly targets: Int32Array
}

/** Sentences of all lengths from 3 on; 0 is padding, which no target counts. */
function batch(rows: number, next: () => number): Batch {
  const tokens = new Int32Array(rows * LENGTH)
  const targets = new Int32Array(rows * LENGTH).fill(-100)
  for (let row = 0; row < rows; row++) {
    const length = 3 + Math.floor(next() * (LENGTH - 2))
    const first = Math.floor(next() * LETTERS)
    const by = next() < 0.5 ? 1 : LETTERS - 1
    const letter = (i: number): number => 1 + ((first + i * by) % LETTERS)
    for (let i = 0; i < length; i++) {
      tokens[row * LENGTH + i] = letter(i)
      // The second letter is anybody's guess.
      if (i > 0) targets[row * LENGTH + i] = letter(i + 1)
    }
  }
  return { tokens, targets }
}

/** Trains; gives the loss on other sentences before and after. */
async function train(device: Device): Promise<[before: number, after: number]> {
  manualSeed(21)
  const model = new Language(device)
  const optimizer = new optim.AdamW(model.parameters(), { lr: 1e-2 })
  const places = tensor(
    Int32Array.from({ length: LENGTH }, (_, i) => i),
    { device },
  )
  const loss = (tokens: Tensor, targets: Tensor): Tensor => nn.crossEntropy(model.forward(tokens, places), targets)
  const step = compile((tokens: Tensor, targets: Tensor) => {
    optimizer.zeroGrad()
    const l = loss(tokens, targets)
    l.backward()
    optimizer.step()
    return l
  })
  const upload = ({ tokens, targets }: Batch): [Tensor, Tensor] => {
    const options = { shape: [tokens.length / LENGTH, LENGTH], device }
    return [tensor(tokens, options), tensor(targets, options)]
  }
  const evaluate = (): number => {
    model.eval()
    const l = loss(...upload(batch(64, generator(1)))).dataSync()[0]!
    model.train()
    return l
  }
  const before = evaluate()
  const next = generator(2)
  // Nothing waits in between: the random numbers belong to all tests of the process.
  for (let i = 0; i < STEPS; i++) step(...upload(batch(16, next))).dispose()
  const after = evaluate()
  return [before, after]
}

test('a transformer learns a toy language, and every device comes to the same loss', async (t) => {
  const losses: [Device, number][] = []
  for (const device of DEVICES) {
    const [before, after] = await train(device)
    t.log(`${device.kind}: loss ${before.toFixed(4)} → ${after.toFixed(6)}`)
    t.true(before > 1.9 && after < 0.2, `${device.kind}: ${before} → ${after}`)
    losses.push([device, after])
  }
  for (const [device, loss] of losses) t.true(Math.abs(loss - losses[0]![1]) < 1e-3, `${device.kind}: ${loss}`)
})
