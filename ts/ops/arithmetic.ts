/**
 * Arithmetic of two operands with NumPy broadcasting. Gradients come back to an operand summed over what it was stretched
 * along; where a formula would be 0 · ∞ (powers of 0, equal maxima) it is a select instead.
 */

import { Scalar } from '../scalar.ts'
import type { Tensor } from '../tensor.ts'
import type { Operand } from './apply.ts'
import { binary, both, give, nothing, reduceTo, restore, withTensors } from './binary.ts'
import { equal, greater, less, where } from './compare.ts'
import { zerosLike } from './creation.ts'
import { log, neg } from './unary.ts'

/**
 * a + b.
 *
 * @example
 * ```ts
 * import { add, tensor } from 'tilegrad'
 * console.log(await add(tensor([[1], [2]]), tensor([10, 20])).array()) // [[11, 21], [12, 22]]
 * ```
 */
export function add(a: Operand, b: Operand): Tensor {
  if (a instanceof Scalar || b instanceof Scalar) return withTensors('add', a, b, add)
  return binary('add', a, b, nothing, (dy, _, needs) => [give(needs, 0, a, dy), give(needs, 1, b, dy)])
}

/**
 * a − b.
 *
 * @example
 * ```ts
 * import { sub, tensor } from 'tilegrad'
 * console.log(await sub(tensor([1, 2]), 1).array()) // [0, 1]
 * ```
 */
export function sub(a: Operand, b: Operand): Tensor {
  if (a instanceof Scalar || b instanceof Scalar) return withTensors('sub', a, b, sub)
  return binary('sub', a, b, nothing, (dy, _, needs) => [give(needs, 0, a, dy), needs[1] ? reduceTo(neg(dy), b) : null])
}

/**
 * a · b, element by element.
 *
 * @example
 * ```ts
 * import { mul, tensor } from 'tilegrad'
 * console.log(await mul(tensor([1, 2]), tensor([3, 4])).array()) // [3, 8]
 * ```
 */
export function mul(a: Operand, b: Operand): Tensor {
  if (a instanceof Scalar || b instanceof Scalar) return withTensors('mul', a, b, mul)
  return binary('mul', a, b, both(a, b), (dy, saved, needs) => {
    const [x, y] = restore(a, b, saved)
    return [needs[0] ? reduceTo(mul(dy, y), a) : null, needs[1] ? reduceTo(mul(dy, x), b) : null]
  })
}

/**
 * a / b. Float only: cast integers first.
 *
 * @example
 * ```ts
 * import { div, tensor } from 'tilegrad'
 * console.log(await div(1, tensor([2, 4])).array()) // [0.5, 0.25]
 * ```
 */
export function div(a: Operand, b: Operand): Tensor {
  if (a instanceof Scalar || b instanceof Scalar) return withTensors('div', a, b, div)
  return binary('div', a, b, both(a, b), (dy, saved, needs) => {
    const [x, y] = restore(a, b, saved)
    return [needs[0] ? reduceTo(div(dy, y), a) : null, needs[1] ? reduceTo(neg(mul(div(dy, y), div(x, y))), b) : null]
  })
}

/**
 * aᵇ. A negative base with a fraction as exponent is NaN; x⁰ is 1.
 *
 * @example
 * ```ts
 * import { pow, tensor } from 'tilegrad'
 * console.log(await pow(tensor([2, 3]), 2).array(), await pow(2, tensor([3, 0.5])).array()) // [4, 9] [8, 1.414214]
 * ```
 */
export function pow(a: Operand, b: Operand): Tensor {
  if (a instanceof Scalar || b instanceof Scalar) return withTensors('pow', a, b, pow)
  return binary('pow', a, b, both(a, b), (dy, saved, needs) => {
    const [x, y] = restore(a, b, saved)
    return [
      needs[0] ? reduceTo(powBaseGrad(dy, x, y), a) : null,
      needs[1] ? reduceTo(powExponentGrad(dy, x, y), b) : null,
    ]
  })
}

function powBaseGrad(dy: Tensor, x: Tensor | number, y: Tensor | number): Tensor {
  if (typeof y === 'number') return y === 0 ? zerosLike(dy) : mul(dy, mul(pow(x, y - 1), y))
  // x⁰ is constant, but 0 · 0⁻¹ is NaN.
  return where(equal(y, 0), 0, mul(dy, mul(pow(x, sub(y, 1)), y)))
}

function powExponentGrad(dy: Tensor, x: Tensor | number, y: Tensor | number): Tensor {
  if (typeof x === 'number') return x === 0 ? zerosLike(dy) : mul(dy, mul(pow(x, y), Math.log(x)))
  // 0ʸ is constant where it is defined, but 0 · log 0 is NaN.
  return mul(dy, where(equal(x, 0), 0, mul(pow(x, y), log(x))))
}

/**
 * The larger one; NaN if either is. Equal operands share the gradient.
 *
 * @example
 * ```ts
 * import { maximum, tensor } from 'tilegrad'
 * console.log(await maximum(tensor([1, 5]), 3).array()) // [3, 5]
 * ```
 */
export function maximum(a: Operand, b: Operand): Tensor {
  if (a instanceof Scalar || b instanceof Scalar) return withTensors('maximum', a, b, maximum)
  return binary('maximum', a, b, both(a, b), (dy, saved, needs) =>
    extremumGrad(dy, ...restore(a, b, saved), needs, a, b, less),
  )
}

/**
 * The smaller one; NaN if either is. Equal operands share the gradient.
 *
 * @example
 * ```ts
 * import { minimum, tensor } from 'tilegrad'
 * console.log(await minimum(tensor([1, 5]), 3).array()) // [1, 3]
 * ```
 */
export function minimum(a: Operand, b: Operand): Tensor {
  if (a instanceof Scalar || b instanceof Scalar) return withTensors('minimum', a, b, minimum)
  return binary('minimum', a, b, both(a, b), (dy, saved, needs) =>
    extremumGrad(dy, ...restore(a, b, saved), needs, a, b, greater),
  )
}

function extremumGrad(
  dy: Tensor,
  x: Operand,
  y: Operand,
  needs: readonly boolean[],
  a: Operand,
  b: Operand,
  loses: (a: Operand, b: Operand) => Tensor,
): (Tensor | null)[] {
  const shared = where(equal(x, y), mul(dy, 0.5), dy)
  return [
    needs[0] ? reduceTo(where(loses(x, y), 0, shared), a) : null,
    needs[1] ? reduceTo(where(loses(y, x), 0, shared), b) : null,
  ]
}
