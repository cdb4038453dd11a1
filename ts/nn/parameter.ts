/** A tensor that a model learns. Optimisers move parameters into one slab; the tensor object stays the same. */

import { expected } from '../errors.ts'
import { refuseTracing } from '../program/tracing.ts'
import { type CreationOptions, type TensorData, tensor } from '../ops/creation.ts'
import type { Shape } from '../shape.ts'
import { Tensor } from '../tensor.ts'

/**
 * A leaf tensor that requires a gradient and that modules list among their parameters.
 *
 * @example
 * ```ts
 * import { Parameter } from 'tilegrad'
 * const scale = new Parameter([1, 1, 1])
 * console.log(scale.requiresGrad) // true
 * ```
 */
export class Parameter extends Tensor {
  /**
   * @param data what `tensor()` takes, or a tensor whose memory is taken over (its handle is disposed)
   * @throws `ERR_DTYPE` unless the dtype is f32 or f64
   */
  constructor(
    data: TensorData | Tensor,
    options: Omit<CreationOptions, 'requiresGrad'> & { readonly shape?: Shape } = {},
  ) {
    refuseTracing('making a parameter', 'make models outside')
    if (data instanceof Tensor && data.node !== null)
      throw expected('Parameter: data', 'a tensor that was not computed; detach() it', data)
    const source = data instanceof Tensor ? data : tensor(data, options)
    // A parameter outlives every scope: the model it belongs to decides.
    super(source.device, source.value.retain(), false)
    source.dispose()
    this.requiresGrad = true
  }
}
