/** onnxruntime-node at its best: weights as initialisers, so that it packs them once; inputs stay where they are. */

import { InferenceSession, Tensor } from 'onnxruntime-node'
import { type Contestant, numbers, sample, time } from './measure.ts'
import { batchOf, initial } from './children/mlp.ts'
import { type OnnxGraph, onnxModel } from './onnx.ts'

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

/** Softmax over the last axis. */
export function ortSoftmax(rows: number, columns: number, threads: number): Promise<Contestant> {
  return contestant(
    {
      nodes: [{ op: 'Softmax', inputs: ['x'], outputs: ['y'], attributes: { axis: -1 } }],
      inputs: { x: [rows, columns] },
      outputs: { y: [rows, columns] },
    },
    { x: numbers(rows * columns, 7).map((v) => v * 8) },
    threads,
  )
}

/** layerNorm over the last axis with constant weight and bias. */
export function ortLayerNorm(rows: number, columns: number, threads: number): Promise<Contestant> {
  return contestant(
    {
      nodes: [{ op: 'LayerNormalization', inputs: ['x', 'w', 'b'], outputs: ['y'], attributes: { axis: -1 } }],
      constants: {
        w: { shape: [columns], data: numbers(columns, 11) },
        b: { shape: [columns], data: numbers(columns, 13) },
      },
      inputs: { x: [rows, columns] },
      outputs: { y: [rows, columns] },
    },
    { x: numbers(rows * columns, 7) },
    threads,
  )
}

/** Batch normalisation by given statistics: it has no other without its training build. */
export function ortBatchNorm(rows: number, channels: number, threads: number): Promise<Contestant> {
  const each = (step: number, add = 0) => ({ shape: [channels], data: numbers(channels, step).map((v) => v + add) })
  return contestant(
    {
      nodes: [{ op: 'BatchNormalization', inputs: ['x', 'weight', 'bias', 'mean', 'variance'], outputs: ['y'] }],
      constants: { weight: each(11), bias: each(13), mean: each(17), variance: each(19, 1) },
      inputs: { x: [rows, channels] },
      outputs: { y: [rows, channels] },
    },
    { x: numbers(rows * channels, 7) },
    threads,
  )
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
