/** Matrix products of the last two axes, with batch dimensions that broadcast. Transposes are never materialised. */

import { track } from '../autograd/tape.ts'
import { type Names, TilegradError, checkOptions } from '../errors.ts'
import { broadcastShapes, numel, sameShape, showShape } from '../shape.ts'
import { Tensor } from '../tensor.ts'
import { checkDtypeClass, checkSameDtype, checkTensor, sharedDevice } from './apply.ts'
import { sumTo } from './reduce.ts'
import { reshape } from './shape.ts'
import { scope } from '../scope.ts'

/** Options of {@link matmul}. */
export interface MatmulOptions {
  /** Use the transpose of `a`'s last two axes. Default false. */
  readonly transposeA?: boolean
  /** Use the transpose of `b`'s last two axes. Default false. */
  readonly transposeB?: boolean
}

const OPTIONS: Names<MatmulOptions> = { transposeA: true, transposeB: true }

/**
 * op(a) · op(b) over the last two axes; leading axes broadcast. A vector counts as a row on the left and as a column on
 * the right, and that axis is dropped from the result, as in NumPy.
 *
 * @throws `ERR_SHAPE` when the inner sizes differ or the batch dimensions do not broadcast
 *
 * @example
 * ```ts
 * import { matmul, tensor } from 'tilegrad'
 * const c = matmul(tensor([[1, 2], [3, 4]]), tensor([[5, 6], [7, 8]]), { transposeB: true })
 * console.log(await c.array()) // [[17, 23], [39, 53]]
 * ```
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  checkTensor('matmul', 'a', a)
  checkTensor('matmul', 'b', b)
  if (a.shape.length === 0 || b.shape.length === 0) {
    throw new TilegradError(
      'ERR_SHAPE',
      `matmul: a ${showShape(a.shape)} and b ${showShape(b.shape)} have to be at least vectors; use mul() for numbers`,
    )
  }
  checkOptions('matmul', options, OPTIONS)
  const { transposeA = false, transposeB = false } = options
  if (a.shape.length > 1 && b.shape.length > 1) return product(a, b, transposeA, transposeB)
  return scope(() => {
    const rowed = a.shape.length === 1 ? reshape(a, [1, a.shape[0]!]) : a
    const columned = b.shape.length === 1 ? reshape(b, [b.shape[0]!, 1]) : b
    const c = product(rowed, columned, a.shape.length > 1 && transposeA, b.shape.length > 1 && transposeB)
    const shape = [...c.shape]
    if (b.shape.length === 1) shape.pop()
    if (a.shape.length === 1) shape.splice(b.shape.length === 1 ? shape.length - 1 : shape.length - 2, 1)
    return reshape(c, shape)
  })
}

function product(a: Tensor, b: Tensor, transposeA: boolean, transposeB: boolean): Tensor {
  checkDtypeClass('matmul', 'float', a.dtype)
  checkSameDtype('matmul', a, b)
  const device = sharedDevice('matmul', a, b)
  const [rowsA, columnsA] = a.shape.slice(-2) as [number, number]
  const [rowsB, columnsB] = b.shape.slice(-2) as [number, number]
  const [m, k] = transposeA ? [columnsA, rowsA] : [rowsA, columnsA]
  const [inner, n] = transposeB ? [columnsB, rowsB] : [rowsB, columnsB]
  if (k !== inner) {
    const [sa, sb] = [showShape(a.shape) + (transposeA ? 'ᵀ' : ''), showShape(b.shape) + (transposeB ? 'ᵀ' : '')]
    throw new TilegradError('ERR_SHAPE', `matmul: a ${sa} and b ${sb} do not fit: ${k} ≠ ${inner}`)
  }
  const batch = broadcastShapes('matmul', a.shape.slice(0, -2), b.shape.slice(0, -2))
  const shape = [...batch, m, n]
  const value = device.recorder.emit('matmul', [a.value, b.value], { dtype: a.dtype, shape }, [
    +transposeA,
    +transposeB,
  ])
  const out = new Tensor(device, value)
  device.recorder.addWork(2 * numel(shape) * k)
  return track(out, 'matmul', [a, b], [a, b], (dy, saved, needs) => {
    const [x, y] = saved as [Tensor, Tensor]
    const da = !needs[0] ? null : transposeA ? product(y, dy, transposeB, true) : product(dy, y, false, !transposeB)
    const db = !needs[1] ? null : transposeB ? product(dy, x, true, transposeA) : product(x, dy, !transposeA, false)
    return [fit(da, x), fit(db, y)]
  })
}

/** Sums a gradient over batch dimensions its operand was stretched along. */
function fit(gradient: Tensor | null, operand: Tensor): Tensor | null {
  return gradient === null || sameShape(gradient.shape, operand.shape) ? gradient : sumTo(gradient, operand.shape)
}
