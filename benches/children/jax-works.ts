/**
 * What jax-js is asked to do, on whatever backend is its default. Whole steps are compiled by its `jit`. Its arrays are
 * counted by hand: every use of one consumes a reference, `.ref` adds one.
 */

import { type Array as JaxArray, blockUntilReady, jit, nn, numpy as np, valueAndGrad } from '@jax-js/jax'
import { numbers, sample } from '../measure.ts'
import { ADAM, SIZES, batchOf, initial } from './mlp.ts'
import type { Work, Works } from './serve.ts'

function gemm(n: number): Work {
  const a = np.array(numbers(n * n, 7)).reshape([n, n])
  const b = np.array(numbers(n * n, 11)).reshape([n, n])
  const product = jit((x: JaxArray, y: JaxArray) => np.matmul(x, y))
  return {
    run: async (calls) => {
      const results = Array.from({ length: calls }, () => product(a.ref, b.ref))
      await blockUntilReady(results)
      for (const result of results) result.dispose()
    },
    check: async () => sample(await product(a.ref, b.ref).data()),
  }
}

/** The same with A given by the host and C read by it. */
function gemmHost(n: number): Work {
  const data = numbers(n * n, 7)
  const b = np.array(numbers(n * n, 11)).reshape([n, n])
  const product = jit((x: JaxArray, y: JaxArray) => np.matmul(x, y))
  const call = () => product(np.array(data).reshape([n, n]), b.ref).data()
  return {
    run: async (calls) => {
      for (let i = 0; i < calls; i++) await call()
    },
    check: async () => sample(await call()),
  }
}

/** Mean cross-entropy of the MLP; consumes its arguments. */
function loss(parameters: JaxArray[], x: JaxArray, targets: JaxArray): JaxArray {
  const [w1, b1, w2, b2, w3, b3] = parameters as [JaxArray, JaxArray, JaxArray, JaxArray, JaxArray, JaxArray]
  const h1 = nn.relu(np.matmul(x, w1).add(b1))
  const h2 = nn.relu(np.matmul(h1, w2).add(b2))
  const logits = np.matmul(h2, w3).add(b3)
  return nn
    .logSoftmax(logits)
    .mul(targets)
    .sum()
    .mul(-1 / targets.shape[0]!)
}

type State = { parameters: JaxArray[]; m: JaxArray[]; v: JaxArray[] }

/** One AdamW step; `rate` and `scale` carry the bias corrections of this step. */
function step(state: State, x: JaxArray, targets: JaxArray, rate: JaxArray, scale: JaxArray): [State, JaxArray] {
  const [value, gradients] = valueAndGrad(loss)(
    state.parameters.map((p) => p.ref),
    x,
    targets,
  ) as unknown as [JaxArray, JaxArray[]]
  const next: State = { parameters: [], m: [], v: [] }
  gradients.forEach((g, i) => {
    const m = state.m[i]!.mul(ADAM.beta1).add(g.ref.mul(1 - ADAM.beta1))
    const v = state.v[i]!.mul(ADAM.beta2).add(g.ref.mul(g).mul(1 - ADAM.beta2))
    const update = m.ref.mul(rate.ref).div(np.sqrt(v.ref).mul(scale.ref).add(ADAM.epsilon))
    next.parameters.push(state.parameters[i]!.mul(1 - ADAM.rate * ADAM.decay).sub(update))
    next.m.push(m)
    next.v.push(v)
  })
  rate.dispose()
  scale.dispose()
  return [next, value]
}

function mlp(batch: number): Work {
  const { x: rows, classes } = batchOf(batch)
  const x = np.array(rows).reshape([batch, SIZES[0]])
  const targets = nn.oneHot(np.array(classes), SIZES[3])
  const compiled = jit(step)
  const zeros = () => initial().map(({ shape, data }) => np.array(new Float32Array(data.length)).reshape(shape))
  const start = () => ({
    state: {
      parameters: initial().map(({ shape, data }) => np.array(data).reshape(shape)),
      m: zeros(),
      v: zeros(),
    },
    steps: 0,
  })
  const advance = (training: ReturnType<typeof start>): JaxArray => {
    const t = ++training.steps
    const rate = np.array(ADAM.rate / (1 - ADAM.beta1 ** t))
    const scale = np.array(1 / Math.sqrt(1 - ADAM.beta2 ** t))
    const [next, value] = compiled(training.state, x.ref, targets.ref, rate, scale)
    training.state = next
    return value
  }
  const timed = start()
  return {
    run: async (calls) => {
      for (let i = 0; i < calls; i++) advance(timed).dispose()
      await blockUntilReady(timed.state)
    },
    check: async () => {
      const fresh = start()
      const losses: number[] = []
      for (let i = 0; i < 8; i++) losses.push(...(await advance(fresh).data()))
      return losses
    },
  }
}

/** Everything. */
export const JAX_WORKS: Works = { gemm, gemmHost, mlp }
