/**
 * onnxruntime-node on its WebGPU provider, in a process of its own. Results always come back to the host: results kept
 * on the GPU abort the process. So that tensors which stay on the device can still be compared with ours, a run of
 * `gemm` is one of a chain of products whose operands are constants and of whose result one number is read.
 */

import { InferenceSession, Tensor } from 'onnxruntime-node'
import { numbers, sample } from '../measure.ts'
import { type OnnxGraph, onnxModel } from '../onnx.ts'
import { onnxNorm } from '../onnx-norms.ts'
import type { Norm } from '../ours-norms.ts'
import { type Work, pinned, serve } from './serve.ts'

/** Products in a chain; what comes before and after them is then too small to see. */
const CHAIN = 4

/** Normalisations in a chain: they are worth little more than what comes before and after. */
const NORMS = 16

async function session(graph: OnnxGraph): Promise<InferenceSession> {
  return InferenceSession.create(onnxModel(graph), {
    executionProviders: ['webgpu'],
    graphOptimizationLevel: 'all',
    // Threads of its CPU side would spin beside a software GPU.
    intraOpNumThreads: 1,
  })
}

/** C = AB from host to host. */
async function gemmHost(n: number): Promise<Work> {
  const shape = [n, n]
  const single = await session({
    nodes: [{ op: 'MatMul', inputs: ['a', 'b'], outputs: ['c'] }],
    constants: { b: { shape, data: numbers(n * n, 11) } },
    inputs: { a: shape },
    outputs: { c: shape },
  })
  const feeds = { a: new Tensor('float32', numbers(n * n, 7), shape) }
  return {
    run: async (calls) => {
      for (let i = 0; i < calls; i++) await single.run(feeds)
    },
    check: async () => sample((await single.run(feeds))['c']!.data as Float32Array),
  }
}

/** C = AB on the device. */
async function gemm(n: number): Promise<Work> {
  const shape = [n, n]
  const chain = await session({
    nodes: [
      { op: 'Mul', inputs: ['a', 's'], outputs: ['c0'] },
      ...Array.from({ length: CHAIN }, (_, i) => ({ op: 'MatMul', inputs: [`c${i}`, 'b'], outputs: [`c${i + 1}`] })),
      { op: 'ReduceMax', inputs: [`c${CHAIN}`], outputs: ['y'], attributes: { keepdims: 0 } },
    ],
    constants: { a: { shape, data: numbers(n * n, 7) }, b: { shape, data: numbers(n * n, 11) } },
    inputs: { s: [1, 1] },
    outputs: { y: [] },
  })
  const feeds = { s: new Tensor('float32', Float32Array.of(1), [1, 1]) }
  const read = await gemmHost(n)
  return {
    unit: CHAIN,
    run: async (calls) => {
      for (let i = 0; i < calls; i += CHAIN) await chain.run(feeds)
    },
    check: () => read.check(),
  }
}

/** A normalisation, on the device. */
async function norm(name: Norm, shape: readonly number[]): Promise<Work> {
  const [rows, columns] = shape as [number, number]
  const links = Array.from({ length: NORMS }, (_, i) => onnxNorm(name, shape, `c${i}`, `c${i + 1}`))
  const { x, constants, opset } = links[0]!
  const chain = await session({
    nodes: [
      { op: 'Mul', inputs: ['a', 's'], outputs: ['c0'] },
      ...links.flatMap(({ nodes }) => nodes),
      // A product with one row: little work, and little to be read.
      { op: 'MatMul', inputs: ['row', `c${NORMS}`], outputs: ['y'] },
    ],
    constants: { ...constants, a: { shape, data: x }, row: { shape: [1, rows], data: numbers(rows, 3) } },
    inputs: { s: [1, 1] },
    outputs: { y: [1, columns] },
    opset,
  })
  const feeds = { s: new Tensor('float32', Float32Array.of(1), [1, 1]) }
  const { nodes } = onnxNorm(name, shape, 'x', 'y')
  const single = await session({ nodes, constants, opset, inputs: { x: shape }, outputs: { y: shape } })
  return {
    unit: NORMS,
    run: async (calls) => {
      for (let i = 0; i < calls; i += NORMS) await chain.run(feeds)
    },
    check: async () => {
      const result = await single.run({ x: new Tensor('float32', x, shape) })
      return sample(result['y']!.data as Float32Array)
    },
  }
}

const norms = Object.fromEntries(
  (['softmax', 'layerNorm', 'rmsNorm', 'batchNormEvaluation'] as const).map((name) => [
    name,
    (...shape: readonly number[]) => norm(name, shape),
  ]),
)

await serve(async () => {
  const supported = await import('onnxruntime-node').then(({ listSupportedBackends }) => listSupportedBackends())
  if (!supported.some(({ name }) => name === 'webgpu')) throw new Error('this build has no WebGPU provider')
  // Refuses here, and not at the first work, where Dawn accepts no adapter.
  await gemmHost(8)
  return { description: `onnxruntime-node ${pinned('onnxruntime-node')}, webgpu`, works: { gemm, gemmHost, ...norms } }
})
