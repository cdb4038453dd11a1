/**
 * Products: batched `matmul`, the fused layer `linear` and its gradient. All end in `gemm`, whose f64 results they
 * finish with the bias and round, at the store; an activation follows.
 */

import type { TypedArray } from '../../dtype.ts'
import { numel } from '../../shape.ts'
import { FUSED_ACTIVATIONS } from './activation.ts'
import { type Matrix, gemm } from './gemm.ts'
import type { Call, Kernels, Operand } from './kernel.ts'
import { Walk, stridesOf } from './strides.ts'

/** A row-major matrix with rows of `columns` elements, or its transpose. */
function matrix(data: TypedArray, offset: number, columns: number, transposed = false): Matrix {
  return transposed
    ? { data, offset, rowStride: 1, columnStride: columns }
    : { data, offset, rowStride: columns, columnStride: 1 }
}

/** Computes m × n elements into `out`, which is row-major from `offset` on. */
function multiply(m: number, n: number, k: number, a: Matrix, b: Matrix, out: TypedArray, offset: number): void {
  gemm(m, n, k, a, b, (z, start, row, column, count) => {
    const at = offset + row * n + column
    for (let i = 0; i < count; i++) out[at + i] = z[start + i]!
  })
}

function matmul({ inputs, outputs, attributes }: Call): void {
  const a = inputs[0]!
  const b = inputs[1]!
  const out = outputs[0]!
  const transposeA = attributes[0] === 1
  const transposeB = attributes[1] === 1
  const [m, n] = out.shape.slice(-2) as [number, number]
  const k = a.shape.at(transposeA ? -2 : -1)!
  const [aColumns, bColumns] = [a.shape.at(-1)!, b.shape.at(-1)!]
  if (b.shape.length === 2 && !transposeA) {
    // One B for all of A: its batches are rows of one product.
    const rows = numel(out.shape.slice(0, -1))
    multiply(rows, n, k, matrix(a.data, 0, aColumns), matrix(b.data, 0, bColumns, transposeB), out.data, 0)
    return
  }
  const batch = out.shape.slice(0, -2)
  const walk = new Walk(batch, [batchTrack(a, batch.length), batchTrack(b, batch.length)])
  const [aStep, bStep] = walk.steps as [number, number]
  let at = 0
  if (walk.length === 0) return
  do {
    const [aStart, bStart] = walk.offsets as [number, number]
    for (let i = 0; i < walk.length; i++, at += m * n) {
      const left = matrix(a.data, aStart + i * aStep, aColumns, transposeA)
      multiply(m, n, k, left, matrix(b.data, bStart + i * bStep, bColumns, transposeB), out.data, at)
    }
  } while (walk.next())
}

/** How an operand is walked over batch dimensions, which broadcast. */
function batchTrack({ shape }: Operand, rank: number): { strides: number[]; offset: number } {
  const strides = stridesOf(shape).slice(0, -2)
  const own = strides.map((stride, i) => (shape[i] === 1 ? 0 : stride))
  return { strides: [...new Array<number>(rank - own.length).fill(0), ...own], offset: 0 }
}

/** [x […, K], weight [K, N], bias [N] | none] → act(xW + b), and z = xW + b where it is saved. */
function linear({ inputs, outputs, attributes }: Call): void {
  const x = inputs[0]!
  const [k, n] = inputs[1]!.shape as [number, number]
  const bias = inputs[2]?.data
  const y = outputs[0]!.data
  const saved = outputs[1]?.data
  const activation = FUSED_ACTIVATIONS.get(attributes[0]!)
  const rows = numel(x.shape.slice(0, -1))
  gemm(rows, n, k, matrix(x.data, 0, k), matrix(inputs[1]!.data, 0, n), (z, start, row, column, count) => {
    const at = row * n + column
    if (bias !== undefined) for (let i = 0; i < count; i++) z[start + i]! += bias[column + i]!
    if (saved !== undefined) for (let i = 0; i < count; i++) saved[at + i] = z[start + i]!
    for (let i = 0; i < count; i++) y[at + i] = z[start + i]!
    // From the rounded sum, so that the layer has the bits of xW + b and then the activation.
    activation?.forward(y, at, y, at, count, activation.p, activation.q)
  })
}

const WANT_X = 1
const WANT_WEIGHT = 2
const WANT_BIAS = 4

/** [dy, saved, x, weight] → the wanted of dx = dz Wᵀ, dW = xᵀ dz, db = Σ dz with dz = dy ⊙ act′. */
function linearGrad({ inputs, outputs, attributes }: Call): void {
  const [dy, , x, weight] = inputs
  const n = dy!.shape.at(-1)!
  const rows = numel(dy!.shape.slice(0, -1))
  const dz = activationGrad(inputs, attributes[0]!)
  const wanted = attributes[1]!
  let next = 0
  if (wanted & WANT_X) {
    const k = weight!.shape[0]!
    multiply(rows, k, n, matrix(dz, 0, n), matrix(weight!.data, 0, n, true), outputs[next++]!.data, 0)
  }
  if (wanted & WANT_WEIGHT) {
    const k = x!.shape.at(-1)!
    multiply(k, n, rows, matrix(x!.data, 0, k, true), matrix(dz, 0, n), outputs[next++]!.data, 0)
  }
  if (wanted & WANT_BIAS) sumRows(dz, rows, n, outputs[next]!.data)
}

/** dz, in f64: it is rounded only in what is computed from it. */
function activationGrad([dy, saved]: readonly (Operand | undefined)[], code: number): TypedArray {
  const activation = FUSED_ACTIVATIONS.get(code)
  if (activation === undefined) return dy!.data
  const dz = new Float64Array(dy!.size)
  activation.grad(dy!.data, 0, 1, saved!.data, 0, 1, dz, 0, dz.length, activation.p, activation.q)
  return dz
}

function sumRows(dz: TypedArray, rows: number, n: number, out: TypedArray): void {
  const totals = new Float64Array(n)
  for (let row = 0, at = 0; row < rows; row++) for (let i = 0; i < n; i++) totals[i]! += dz[at++]!
  out.set(totals)
}

/** Kernels of the products. */
export const MATMUL: Pick<Kernels, 'matmul' | 'linear' | 'linearGrad'> = { matmul, linear, linearGrad }
