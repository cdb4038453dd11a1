/** tilegrad's own contestants. Operands stay on the device, results are kept until the device has finished. */

import type { Tensor } from 'tilegrad'
import { type Device, compile, linear, matmul, nn, noGrad, optim, tensor } from 'tilegrad'
import { type Contestant, numbers, sample, time } from './measure.ts'

/** Results alive at once; a real service keeps a few, a benchmark must not keep thousands. */
const WINDOW = 8

/** Makes one result after the other, which stay on the device. */
export function contestant(name: string, device: Device, call: () => Tensor): Contestant {
  return {
    name,
    run: (calls) =>
      time(calls, async () => {
        for (let done = 0; done < calls; done += WINDOW) {
          const results = Array.from({ length: Math.min(WINDOW, calls - done) }, call)
          await device.sync()
          for (const result of results) result.dispose()
        }
      }),
    check: async () => {
      const out = call()
      const all = await out.data()
      out.dispose()
      return sample(all)
    },
  }
}

/** C = AB. */
export function gemm(device: Device, n: number, name = 'tilegrad'): Contestant {
  const a = tensor(numbers(n * n, 7), { shape: [n, n], device })
  const b = tensor(numbers(n * n, 11), { shape: [n, n], device })
  return contestant(name, device, () => matmul(a, b))
}

/** C = AB with A given by the host and C read by it, one call after the other; B stays on the device. */
export function gemmHost(device: Device, n: number): Contestant {
  const data = numbers(n * n, 7)
  const b = tensor(numbers(n * n, 11), { shape: [n, n], device })
  const call = async () => {
    const a = tensor(data, { shape: [n, n], device })
    const c = matmul(a, b)
    const read = await c.data()
    a.dispose()
    c.dispose()
    return read
  }
  return {
    name: 'tilegrad',
    run: (calls) =>
      time(calls, async () => {
        for (let i = 0; i < calls; i++) await call()
      }),
    check: async () => sample(await call()),
  }
}

/** relu(XW + b). */
export function fusedLinear(device: Device, m: number, k: number, n: number, name = 'tilegrad'): Contestant {
  const x = tensor(numbers(m * k, 7), { shape: [m, k], device })
  const w = tensor(numbers(k * n, 11), { shape: [k, n], device })
  const b = tensor(numbers(n, 13), { device })
  return contestant(name, device, () => linear(x, w, b, { activation: 'relu' }))
}

/** The same, each result read by the host before the next begins. */
export function fusedLinearRead(device: Device, m: number, k: number, n: number): Contestant {
  const x = tensor(numbers(m * k, 7), { shape: [m, k], device })
  const w = tensor(numbers(k * n, 11), { shape: [k, n], device })
  const b = tensor(numbers(n, 13), { device })
  return {
    name: 'tilegrad, read',
    run: (calls) =>
      time(calls, async () => {
        for (let i = 0; i < calls; i++) {
          const y = linear(x, w, b, { activation: 'relu' })
          await y.data()
          y.dispose()
        }
      }),
  }
}

/** The MLP 784-512-256-10 that the peers have too, or one of other widths. */
function mlp(device: Device, [a, b, c, d]: readonly [number, number, number, number] = [784, 512, 256, 10]) {
  const model = new nn.Sequential(
    new nn.Linear(a, b, { activation: 'relu', device }),
    new nn.Linear(b, c, { activation: 'relu', device }),
    new nn.Linear(c, d, { device }),
  )
  const values = (shape: readonly number[], i: number) =>
    numbers(
      shape.reduce((a, b) => a * b, 1),
      7 + 2 * i,
    ).map((v) => Math.fround(v * Math.fround(0.1)))
  model.loadStateDict(
    Object.fromEntries(
      [...model.namedParameters()].map(([key, p], i) => [key, { shape: p.shape, data: values(p.shape, i) }]),
    ),
  )
  return model
}

/** Inference of the MLP, compiled. */
export function mlpInference(device: Device, batch: number, name = 'tilegrad'): Contestant {
  const model = mlp(device).eval()
  const x = tensor(numbers(batch * 784, 3), { shape: [batch, 784], device })
  const predict = compile((x: Tensor) => noGrad(() => model.forward(x)))
  return contestant(name, device, () => predict(x))
}

/** One AdamW step of the MLP with cross-entropy, compiled or eager. */
export function mlpStep(device: Device, batch: number, name = 'tilegrad', compiled = true): Contestant {
  const make = () => {
    const model = mlp(device)
    const optimizer = new optim.AdamW(model.parameters())
    const step = (x: Tensor, y: Tensor): Tensor => {
      optimizer.zeroGrad()
      const logits = model.forward(x)
      const loss = nn.crossEntropy(logits, y)
      logits.dispose()
      loss.backward()
      optimizer.step()
      return loss
    }
    return compiled ? compile(step) : step
  }
  const x = tensor(numbers(batch * 784, 3), { shape: [batch, 784], device })
  const y = tensor(
    Int32Array.from({ length: batch }, (_, i) => i % 10),
    { device },
  )
  const timed = make()
  return {
    name,
    run: (calls) =>
      time(calls, async () => {
        for (let i = 0; i < calls; i++) timed(x, y).dispose()
        await device.sync()
      }),
    check: async () => {
      const fresh = make()
      const losses: number[] = []
      for (let i = 0; i < 8; i++) losses.push(await fresh(x, y).item())
      return losses
    },
  }
}

/** Recording `a + b` on four numbers, results dropped: seconds per operation on the JavaScript thread. */
export function recordAdd(device: Device): Contestant {
  const a = tensor([1, 2, 3, 4], { device })
  const b = tensor([5, 6, 7, 8], { device })
  return {
    name: 'record',
    run: async (calls) => {
      let seconds = 0
      const results: Tensor[] = []
      for (let done = 0; done < calls; done += 500) {
        const n = Math.min(500, calls - done)
        seconds +=
          n *
          (await time(n, () => {
            for (let i = 0; i < n; i++) results.push(a.add(b))
          }))
        for (const r of results.splice(0)) r.dispose()
        await device.sync()
      }
      return seconds / calls
    },
  }
}

/** The textbook triple loop over typed arrays. */
export function naiveGemm(n: number): Contestant {
  const [a, b] = [numbers(n * n, 7), numbers(n * n, 11)]
  return {
    name: 'naive loop',
    run: (calls) =>
      time(calls, () => {
        for (let call = 0; call < calls; call++) {
          const c = new Float32Array(n * n)
          for (let i = 0; i < n; i++) {
            for (let j = 0; j < n; j++) {
              let s = 0
              for (let k = 0; k < n; k++) s += a[i * n + k]! * b[k * n + j]!
              c[i * n + j] = s
            }
          }
        }
      }),
  }
}

/**
 * The compiled training step on next to no data, nothing awaited: its instructions without their work. What a run costs
 * besides its kernels is at most this.
 */
export function replayStep(device: Device): Contestant {
  const model = mlp(device, [1, 1, 1, 1])
  const optimizer = new optim.AdamW(model.parameters())
  const step = compile((x: Tensor, y: Tensor) => {
    optimizer.zeroGrad()
    const loss = nn.crossEntropy(model.forward(x), y)
    loss.backward()
    optimizer.step()
    return loss
  })
  const x = tensor([[1]], { device })
  const y = tensor([0], { dtype: 'i32', device })
  return {
    name: 'tilegrad',
    run: (calls) =>
      time(calls, async () => {
        for (let i = 0; i < calls; i++) step(x, y).dispose()
        await device.sync()
      }),
  }
}
