/**
 * Errors that only data can show, in a compiled function: they belong to what depends on them, nothing is updated with
 * them, and the next run is right. The device may run out of memory, too, or be closed.
 */

import { type Device, Parameter, type Tensor, compile, gather, nn, optim, tensor, train, zeros } from '../../ts/index.ts' // prettier-ignore
import { onDevices, open } from '../helpers/devices.ts'
import { codeOf, rejectionOf } from '../helpers/errors.ts'
import { values } from '../helpers/values.ts'
import { liveSlots, onFreshDevices } from '../lifetime/fresh.ts'

const index = (values: number[], device: Device): Tensor => tensor(values, { dtype: 'i32', device })

onDevices('an index out of range poisons the outputs that depend on it, run by run', async (t, { kind }) => {
  const device = await open({ kind })
  const table = tensor([[1, 2], [3, 4]], { device }) // prettier-ignore
  const f = compile((i: Tensor) => {
    const rows = gather(table, i)
    return { rows, sum: rows.sum(), other: table.mul(2), view: rows.reshape([1, 4]) }
  })
  for (const [i, ok] of [
    [[0, 1], true],
    [[0, 2], false],
    [[1, 0], true],
    [[-1, 0], false],
    [[1, 1], true],
  ] as const) {
    // prettier-ignore
    const { rows, sum, other, view } = f(index([...i], device))
    t.deepEqual(await values(other), [2, 4, 6, 8])
    if (ok) {
      t.deepEqual(await values(rows), i.flatMap((row) => [1 + 2 * row, 2 + 2 * row])) // prettier-ignore
      t.is(
        await sum.item(),
        i.reduce<number>((total, row) => total + 3 + 4 * row, 0),
      )
      continue
    }
    for (const poisoned of [rows, sum, view]) {
      const error = await t.throwsAsync(poisoned.data(), { code: 'ERR_ARGUMENT' })
      t.regex(error.message, /gather/)
    }
    // What is computed of it outside, or by another run, is lost as well.
    t.is(await rejectionOf(sum.add(1).data()), 'ERR_ARGUMENT')
    const twice = compile((x: Tensor) => x.mul(2))
    t.is(await rejectionOf(twice(sum).data()), 'ERR_ARGUMENT')
    t.is(await twice(tensor(4, { device })).item(), 8)
  }
  t.is(f.stats().recordings, 1)
})

for (const [name, make] of [
  ['SGD', (p: Parameter[]) => new optim.SGD(p, { lr: 0.5, momentum: 0.5 })],
  ['AdamW', (p: Parameter[]) => new optim.AdamW(p, { lr: 0.5 })],
] as const) {
  onDevices(`a step with a poisoned gradient is not applied, and the next one is: ${name}`, async (t, { kind }) => {
    const device = await open({ kind })
    const make2 = () => {
      const w = new Parameter([1, 2], { device })
      const optimizer = make([w])
      const step = (i: Tensor): Tensor => {
        optimizer.zeroGrad()
        const loss = gather(w, i).square().sum()
        loss.backward()
        optimizer.step()
        return loss
      }
      return { w, optimizer, step }
    }
    const [a, b] = [make2(), make2()]
    const compiled = compile(a.step)
    for (const i of [
      [0, 1],
      [0, 5],
      [1, 1],
      [2, 0],
      [0, 1],
    ]) {
      // prettier-ignore
      const [loss, expected] = [compiled(index(i, device)), b.step(index(i, device))]
      const bad = i.some((row) => row > 1)
      t.is(await rejectionOf(loss.data()), bad ? 'ERR_ARGUMENT' : 'nothing')
      t.is(await rejectionOf(expected.data()), bad ? 'ERR_ARGUMENT' : 'nothing')
      t.is(await rejectionOf(a.w.grad!.data()), bad ? 'ERR_ARGUMENT' : 'nothing')
      t.deepEqual(await values(a.w), await values(b.w))
      t.deepEqual((await a.optimizer.stateDict()).groups, (await b.optimizer.stateDict()).groups)
    }
    t.is(compiled.stats().recordings, 1)
  })
}

onDevices('a poisoned micro-batch spoils its window and not the next one', async (t, { kind }) => {
  const device = await open({ kind })
  const w = new Parameter([[1, 2]], { device })
  const acc = new train.GradientAccumulator(new optim.SGD([w], { lr: 1 }))
  const add = compile((y: Tensor) =>
    acc.add(nn.crossEntropy(zeros([2, 1], { device }).add(1).matmul(w), y, { reduction: 'parts' })),
  )
  const step = compile(() => acc.step())
  add(index([0, 1], device))
  add(index([0, 2], device))
  const { applied, norm } = step()
  t.is(await rejectionOf(norm.data()), 'ERR_ARGUMENT')
  t.is(await rejectionOf(applied.data()), 'ERR_ARGUMENT')
  t.deepEqual(await values(w), [1, 2])
  add(index([1, 1], device))
  const next = step()
  t.true(await next.applied.array())
  t.is(await next.count.item(), 2)
  t.notDeepEqual(await values(w), [1, 2])
})

onDevices('a poisoned argument or captured tensor poisons what depends on it, not the program', async (t, { kind }) => {
  const device = await open({ kind })
  const poisoned = gather(tensor([1, 2], { device }), index([7], device))
  const fine = tensor([3], { device })
  const f = compile((x: Tensor) => [x.mul(2), fine.add(1)])
  for (const x of [fine, poisoned, fine]) {
    const [y, z] = f(x)
    t.is(await rejectionOf(y!.data()), x === fine ? 'nothing' : 'ERR_ARGUMENT')
    t.deepEqual(await values(z), [4])
  }
  const captured = compile((x: Tensor) => [x.mul(poisoned), x.mul(2)])
  const [bad, good] = captured(fine)
  t.is(await rejectionOf(bad!.data()), 'ERR_ARGUMENT')
  t.deepEqual(await values(good), [6])
})

onFreshDevices(
  'without memory a run gives ERR_OUT_OF_MEMORY, applies nothing, and a smaller one goes on',
  async (t, device) => {
    const w = new Parameter([1, 2], { device })
    const optimizer = new optim.SGD([w], { lr: 1 })
    const step = compile((rows: number) => {
      optimizer.zeroGrad()
      const loss = w.expand([rows, 2]).mul(1).add(0).mean()
      loss.backward()
      optimizer.step()
      return { loss, large: w.expand([rows, 2]).add(1) }
    })
    step(2).large.dispose()
    const before = await values(w)
    const slots = await liveSlots(device)
    const { large, loss } = step(2_000_000)
    t.is(await rejectionOf(large.data()), 'ERR_OUT_OF_MEMORY')
    large.dispose()
    loss.dispose()
    // All memory of a run is had before it begins: nothing of it has happened.
    t.deepEqual(await values(w), before)
    optimizer.zeroGrad()
    step(2).large.dispose()
    t.deepEqual(await values(w), before.map((v) => v - 0.5)) // prettier-ignore
    t.true((await liveSlots(device)) <= slots + 4)
  },
  { memoryLimit: 4 << 20 },
)

onDevices('after close: ERR_DEVICE_LOST, and another device goes on', async (t, { kind }) => {
  const [first, second] = [await open({ kind }), await open({ kind })]
  const f = compile((x: Tensor) => x.mul(2).add(1))
  const [x, y] = [tensor([1], { device: first }), tensor([1], { device: second })]
  t.deepEqual([await values(f(x)), await values(f(y))], [[3], [3]])
  await first.close()
  t.is(codeOf(() => f(x)), 'ERR_DEVICE_LOST') // prettier-ignore
  t.deepEqual(await values(f(y)), [3])
  f.clear()
  t.is(codeOf(() => f(x)), 'ERR_DEVICE_LOST') // prettier-ignore
  t.deepEqual(await values(f(y)), [3])
})
