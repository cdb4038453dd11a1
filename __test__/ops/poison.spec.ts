/**
 * Errors that only data can show: an index out of range. They belong to the results that depend on it; reading one
 * rejects, everything else goes on as if nothing had happened, and no parameter is changed.
 */

import type { ExecutionContext } from 'ava'
import {
  type Device,
  Parameter,
  type Tensor,
  TilegradError,
  embedding,
  gather,
  grad,
  nn,
  oneHot,
  optim,
  scatterAdd,
  tensor,
  zeros,
} from '../../ts/index.ts'
import { require } from '../../ts/ops/require.ts'
import { onDevices, open } from '../helpers/devices.ts'

function indices(values: number[], device: Device): Tensor {
  return tensor(values, { dtype: 'i32', device })
}

/** The error of a read, which has to be `ERR_ARGUMENT`. */
async function rejects(t: ExecutionContext, x: Tensor, says: RegExp): Promise<void> {
  const error = await t.throwsAsync(x.data(), { instanceOf: TilegradError })
  t.is(error?.code, 'ERR_ARGUMENT', error?.message)
  t.regex(error?.message ?? '', says)
}

/** Takes the errors that nobody has read; the device has to be sound afterwards. Gives how many there were. */
async function drain(t: ExecutionContext, device: Device): Promise<number> {
  for (let taken = 0; taken < 100; taken++) {
    try {
      await device.sync()
      return taken
    } catch (error) {
      t.is((error as TilegradError).code, 'ERR_ARGUMENT', String(error))
    }
  }
  t.fail('sync does not stop failing')
  return Infinity
}

onDevices('a bad index of gather fails the reads that depend on it and nothing else', async (t, { kind }) => {
  const device = await open({ kind })
  const x = tensor(
    [
      [1, 2],
      [3, 4],
      [5, 6],
    ],
    { device },
  )
  for (const bad of [3, -1, 2 ** 31 - 1, -(2 ** 31)]) {
    const before = x.add(1)
    const taken = gather(x, indices([0, bad], device))
    const after = taken.mul(2).sum()
    const unrelated = x.mul(10)
    await rejects(t, taken, new RegExp(`gather.*${bad}`))
    await rejects(t, after, /gather/)
    t.deepEqual(await before.array(), [
      [2, 3],
      [4, 5],
      [6, 7],
    ])
    t.deepEqual(await unrelated.array(), [
      [10, 20],
      [30, 40],
      [50, 60],
    ])
    t.deepEqual(await gather(x, indices([2, 0], device)).array(), [
      [5, 6],
      [1, 2],
    ])
  }
  t.notThrows(() => x.dataSync())
  await device.sync()
})

onDevices('the same for the other axis and for scatterAdd, blocking reads included', async (t, { kind }) => {
  const device = await open({ kind })
  const x = tensor(
    [
      [1, 2],
      [3, 4],
    ],
    { device },
  )
  await rejects(t, gather(x, indices([2], device), 1), /gather/)
  await rejects(t, scatterAdd(x, indices([0, 5], device), [3, 2]), /scatterAdd/)
  const bad = gather(x, indices([7], device))
  t.throws(() => bad.dataSync(), { instanceOf: TilegradError, code: 'ERR_ARGUMENT' })
  await device.sync()
})

onDevices(
  'what a condition is required for fails where it does not hold, and updates made of it are not applied',
  async (t, { kind }) => {
    const device = await open({ kind })
    const weight = new Parameter(tensor([1, 2], { device }))
    const optimizer = new optim.SGD([weight], { lr: 1 })
    for (const limit of [2, 20]) {
      optimizer.zeroGrad()
      const total = weight.square().sum()
      const loss = require(total, total.less(limit), 'clipGradNorm: a gradient is not finite')
      loss.backward()
      optimizer.step()
      if (limit === 2) await rejects(t, loss, /require: clipGradNorm: a gradient is not finite/)
      else t.is(await loss.item(), 5)
      t.deepEqual(await weight.array(), limit === 2 ? [1, 2] : [-1, -2])
    }
    await drain(t, device)
  },
)

onDevices('a target out of range fails loss and gradient, not its neighbours', async (t, { kind }) => {
  const device = await open({ kind })
  for (const bad of [2, -1, -99, 1000]) {
    const logits = tensor(
      [
        [1, 2],
        [3, 4],
      ],
      { device, requiresGrad: true },
    )
    const targets = indices([0, bad], device)
    const loss = nn.crossEntropy(logits, targets)
    loss.backward()
    const unrelated = logits.detach().sum()
    await rejects(t, loss, /crossEntropy/)
    await rejects(t, logits.grad!, /crossEntropy/)
    t.is(await unrelated.item(), 10)
    for (const reduction of ['none', 'sum'] as const) {
      await rejects(t, nn.crossEntropy(logits, targets, { reduction }), /crossEntropy/)
    }
    const parts = nn.crossEntropy(logits, targets, { reduction: 'parts' })
    await rejects(t, parts.sum, /crossEntropy/)
    await rejects(t, parts.count, /crossEntropy/)
    // The gradient a second derivative would be built from.
    const [slope] = grad((z) => nn.crossEntropy(z, targets, { reduction: 'sum' }))(logits)
    await rejects(t, slope!, /gather|crossEntropy/)
  }
  const logits = tensor([[1, 2]], { device })
  t.true((await nn.crossEntropy(logits, indices([1], device)).item()) < 0.4)
  await drain(t, device)
})

onDevices(
  'an index out of range is named by the operation that it was given to, in results and gradients',
  async (t, { kind }) => {
    const device = await open({ kind })
    const weight = tensor([[1, 2], [3, 4]], { device, requiresGrad: true }) // prettier-ignore
    const bad = indices([0, 7], device)
    const loss = (fn: (x: Tensor) => Tensor): Tensor => grad((x) => fn(x).sum())(weight)[0]!
    const second = (fn: (x: Tensor) => Tensor): Tensor => grad((x) => grad((x) => fn(x).square().sum())(x)[0]!.square().sum())(weight)[0]! // prettier-ignore
    const index = 'index 7 at position 1 is outside \\[0, 2\\)'
    const target = 'target 7 at position 1 is outside \\[0, 2\\)'
    const cases: readonly (readonly [Tensor, string])[] = [
      [gather(weight, bad), `^gather: ${index}`],
      [embedding(bad, weight), `^gather: embedding: ${index}`],
      [loss((x) => embedding(bad, x)), `embedding: ${index}`],
      [embedding(bad, weight, { paddingIdx: 0 }), `^gather: embedding: ${index}`],
      [loss((x) => embedding(bad, x, { paddingIdx: 0 })), `embedding: ${index}`],
      [second((x) => embedding(bad, x, { paddingIdx: 0 })), `embedding: ${index}`],
      [oneHot(bad, 2), `oneHot: ${index}`],
      [nn.nll(weight, bad), `nll: ${target}`],
      [nn.nll(weight, bad, { weight: tensor([1, 2], { device }) }), `nll: ${target}`],
      [loss((x) => nn.nll(x, bad)), `nll: ${target}`],
      [nn.crossEntropy(weight, bad), `^crossEntropy: ${target}`],
      [second((x) => nn.crossEntropy(x, bad)), `rossEntropy: ${target}`],
    ]
    for (const [x, says] of cases) await rejects(t, x, new RegExp(says))
    await drain(t, device)
  },
)

onDevices('an error nobody reads comes out of sync, once', async (t, { kind }) => {
  const device = await open({ kind })
  const bad = gather(zeros([2], { device }), indices([2], device))
  await t.throwsAsync(device.sync(), { instanceOf: TilegradError, code: 'ERR_ARGUMENT' })
  await device.sync()
  await rejects(t, bad, /gather/)
  await device.sync()
})

type Make = (parameters: Tensor[]) => optim.Optimizer

const OPTIMIZERS: readonly (readonly [string, Make])[] = [
  ['SGD with momentum', (p) => new optim.SGD(p, { lr: 0.1, momentum: 0.9, weightDecay: 0.1 })],
  ['AdamW', (p) => new optim.AdamW(p, { lr: 0.1 })],
]

/** One step on the sum of a part of the parameter. */
function step(w: Tensor, optimizer: optim.Optimizer, index: number): void {
  optimizer.zeroGrad()
  gather(w, indices([index], w.device))
    .square()
    .sum()
    .backward()
  optimizer.step()
}

for (const [name, make] of OPTIMIZERS) {
  onDevices(
    `a step of ${name} with a poisoned gradient changes nothing: values, state, updates counted`,
    async (t, { kind }) => {
      const device = await open({ kind })
      const start = [1, -2, 3]
      const run = async (steps: readonly number[]): Promise<unknown> => {
        const w = new Parameter(start, { device })
        const other = new Parameter([5], { device })
        const optimizer = make([w, other])
        for (const index of steps) step(w, optimizer, index)
        const values = [...(await w.data())]
        // The step itself is counted: a schedule goes on.
        const { groups } = await optimizer.stateDict()
        return { values, other: await other.item(), groups }
      }
      t.deepEqual(await run([3]), await run([]))
      t.deepEqual(await run([1, 9, 0, -5]), await run([1, 0]))
      t.true((await drain(t, device)) > 0)
    },
  )
}

onDevices('a poisoned micro-batch poisons the sum it is added to, so that no step is taken', async (t, { kind }) => {
  const device = await open({ kind })
  const w = new Parameter([1, 2], { device })
  const optimizer = new optim.SGD([w], { lr: 0.1 })
  for (const index of [0, 7, 1])
    gather(w, indices([index], device))
      .sum()
      .backward()
  optimizer.step()
  await rejects(t, w.grad!, /gather|scatterAdd/)
  t.deepEqual([...(await w.data())], [1, 2])
  await drain(t, device)
})
