/** onnxruntime-node at its best: weights as initialisers, so that it packs them once; inputs stay where they are. */

import { InferenceSession, Tensor } from 'onnxruntime-node'
import { type Contestant, numbers, sample, time } from './measure.ts'
import { batchOf, initial } from './children/mlp.ts'
import { type OnnxGraph, onnxModel } from './onnx.ts'
import { onnxNorm } from './onnx-norms.ts'
import type { Norm } from './ours-norms.ts'

async function contestant(
  graph: OnnxGraph,
  feeds: Readonly<Record<string, Float32Array>>,
  threads: number,
): Promise<Contestant> {
  const session = await InferenceSession.create(onnxModel(graph), {
    intraOpNumThreads: threads,
    graphOptimizationLevel: 'all',
  })
  const given = Object.fromEntries(
    Object.entries(feeds).map(([name, data]) => [name, new Tensor('float32', data, graph.inputs[name] ?? [])]),
  )
  return {
    name: 'onnxruntime',
    run: (calls) =>
      time(calls, async () => {
        for (let i = 0; i < calls; i++) await session.run(given)
      }),
    check: async () => {
      const [out] = Object.values(await session.run(given))
      return sample(out!.data as Float32Array)
    },
  }
}

/** C = AB, both given at run time. */
export function ortGemm(n: number, threads: number): Promise<Contestant> {
  return contestant(
    {
      nodes: [{ op: 'MatMul', inputs: ['a', 'b'], outputs: ['c'] }],
      inputs: { a: [n, n], b: [n, n] },
      outputs: { c: [n, n] },
    },
    { a: numbers(n * n, 7), b: numbers(n * n, 11) },
    threads,
  )
}

/** relu(XW + b) with constant W and b. */
export function ortLinear(m: number, k: number, n: number, threads: number): Promise<Contestant> {
  return contestant(
    {
      nodes: [
        { op: 'Gemm', inputs: ['x', 'w', 'b'], outputs: ['z'] },
        { op: 'Relu', inputs: ['z'], outputs: ['y'] },
      ],
      constants: { w: { shape: [k, n], data: numbers(k * n, 11) }, b: { shape: [n], data: numbers(n, 13) } },
      inputs: { x: [m, k] },
      outputs: { y: [m, n] },
    },
    { x: numbers(m * k, 7) },
    threads,
  )
}

/** A normalisation or softmax of numbers as ours has them. */
export function ortNorm(norm: Norm, shape: readonly number[], threads: number): Promise<Contestant> {
  const { nodes, constants, x, opset } = onnxNorm(norm, shape, 'x', 'y')
  return contestant({ nodes, constants, opset, inputs: { x: shape }, outputs: { y: shape } }, { x }, threads)
}

/** The MLP 784-512-256-10 with constant parameters. */
export function ortMlp(batch: number, threads: number): Promise<Contestant> {
  const parameters = initial()
  const constants = Object.fromEntries(parameters.map((value, i) => [`p${i}`, value]))
  const nodes = [0, 1, 2].flatMap((layer) => {
    const [input, output] = [layer === 0 ? 'x' : `h${layer}`, layer === 2 ? 'y' : `z${layer}`]
    const product = { op: 'Gemm', inputs: [input, `p${2 * layer}`, `p${2 * layer + 1}`], outputs: [output] }
    return layer === 2 ? [product] : [product, { op: 'Relu', inputs: [output], outputs: [`h${layer + 1}`] }]
  })
  const graph = { nodes, constants, inputs: { x: [batch, 784] }, outputs: { y: [batch, 10] } }
  return contestant(graph, { x: batchOf(batch).x }, threads)
}
