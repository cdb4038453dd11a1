/** TensorFlow.js on its WebGPU backend, in a process of its own. Tensors stay on the device; results are let go at once. */

import * as tf from '@tensorflow/tfjs'
import { numbers, sample } from '../measure.ts'
import { installDawn } from './dawn.ts'
import { ADAM, SIZES, batchOf, initial } from './mlp.ts'
import { type Work, serve } from './serve.ts'

/** As far as waiting needs it; its own declarations name types of a browser. */
interface Backend {
  readonly queue: { onSubmittedWorkDone(): Promise<void> }
  ensureCommandEncoderReady(): void
  endComputePassEncoder(): void
  submitQueue(): void
}

async function finish(): Promise<void> {
  const backend = tf.backend() as unknown as Backend
  backend.ensureCommandEncoderReady()
  backend.endComputePassEncoder()
  backend.submitQueue()
  await backend.queue.onSubmittedWorkDone()
}

function gemm(n: number): Work {
  const a = tf.tensor2d(numbers(n * n, 7), [n, n])
  const b = tf.tensor2d(numbers(n * n, 11), [n, n])
  return {
    run: async (calls) => {
      for (let i = 0; i < calls; i++) tf.matMul(a, b).dispose()
      await finish()
    },
    check: async () => sample(await tf.matMul(a, b).data()),
  }
}

/** The same with A given by the host and C read by it. */
function gemmHost(n: number): Work {
  const data = numbers(n * n, 7)
  const b = tf.tensor2d(numbers(n * n, 11), [n, n])
  const call = async () => {
    const a = tf.tensor2d(data, [n, n])
    const c = tf.matMul(a, b)
    const read = await c.data()
    tf.dispose([a, c])
    return read
  }
  return {
    run: async (calls) => {
      for (let i = 0; i < calls; i++) await call()
    },
    check: async () => sample(await call()),
  }
}

/** A training step with its own Adam: it has no AdamW, whose decay is one multiplication more. */
function mlp(batch: number): Work {
  const { x: rows, classes } = batchOf(batch)
  const x = tf.tensor2d(rows, [batch, SIZES[0]])
  const targets = tf.oneHot(tf.tensor1d(classes, 'int32'), SIZES[3]).toFloat()
  const start = () => {
    const variables = initial().map(({ shape, data }) => tf.variable(tf.tensor(data, shape)))
    const optimizer = tf.train.adam(ADAM.rate, ADAM.beta1, ADAM.beta2, ADAM.epsilon)
    const layer = (input: tf.Tensor2D, i: number, activation: 'relu' | 'linear') =>
      tf.fused.matMul({
        a: input,
        b: variables[2 * i] as unknown as tf.Tensor2D,
        bias: variables[2 * i + 1]!,
        activation,
      }) as tf.Tensor2D
    const loss = () => {
      const logits = layer(layer(layer(x, 0, 'relu'), 1, 'relu'), 2, 'linear')
      return tf.losses.softmaxCrossEntropy<tf.Tensor, tf.Scalar>(targets, logits)
    }
    return () => tf.tidy(() => optimizer.minimize(loss, true, variables)!)
  }
  const timed = start()
  return {
    run: async (calls) => {
      for (let i = 0; i < calls; i++) timed().dispose()
      await finish()
    },
    check: async () => {
      const fresh = start()
      const losses: number[] = []
      for (let i = 0; i < 8; i++) losses.push(...(await fresh().data()))
      return losses
    },
  }
}

await serve(async () => {
  const { name } = await installDawn()
  // Registers itself where it finds `navigator.gpu`, so not before.
  await import('@tensorflow/tfjs-backend-webgpu')
  // Small tensors would otherwise be computed on the CPU, each time with a read-back.
  tf.env().set('WEBGPU_CPU_FORWARD', false)
  if (!(await tf.setBackend('webgpu'))) throw new Error('tfjs did not accept its webgpu backend')
  await tf.ready()
  return { description: `tfjs ${tf.version.tfjs}, Dawn on ${name}`, works: { gemm, gemmHost, mlp } }
})
