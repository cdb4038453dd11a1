/**
 * What a consumer's compiler accepts and refuses. Never run: tsc is the test, and a `@ts-expect-error` that expects
 * nothing is an error of its own.
 */

import {
  type Dtype,
  type ErrorCode,
  Parameter,
  type Shape,
  Tensor,
  TilegradError,
  type TypedArray,
  data,
  linear,
  nn,
  noGrad,
  openDevice,
  optim,
  scope,
  tensor,
  train,
  valueAndGrad,
} from 'tilegrad'
import { DataLoader, TensorDataset } from 'tilegrad/data'
import { Linear, Sequential, crossEntropy } from 'tilegrad/nn'
import { AdamW, type Optimizer } from 'tilegrad/optim'
import { GradientAccumulator } from 'tilegrad/train'

/** Only compiles when the two types are the same. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
function same<A, B>(_proof: Same<A, B>): void {}

// Subpaths and namespaces are the same classes.
same<InstanceType<typeof nn.Linear>, Linear>(true)
same<InstanceType<typeof optim.AdamW>, AdamW>(true)
same<InstanceType<typeof train.GradientAccumulator>, GradientAccumulator>(true)
same<typeof data.DataLoader, typeof DataLoader>(true)

// Tensors come from nested arrays, numbers and typed arrays.
const x = tensor([[1, 2, 3]], { dtype: 'f32' })
tensor(new Int32Array(4), { shape: [2, 2] })
tensor(1)
// @ts-expect-error there is no such dtype
tensor([1], { dtype: 'f128' })
// @ts-expect-error text is no data
tensor('1, 2, 3')
// @ts-expect-error options are checked for names
tensor([1], { dtpye: 'f32' })

same<typeof x.dtype, Dtype>(true)
same<typeof x.shape, Shape>(true)
same<Awaited<ReturnType<typeof x.data>>, TypedArray>(true)
same<ReturnType<typeof x.item>, Promise<number>>(true)
// @ts-expect-error shapes do not change
x.shape = [3]
// @ts-expect-error nor do their dimensions
x.shape[0] = 3

// Methods are the functions without their first operand; operands may be numbers.
same<ReturnType<typeof x.add>, Tensor>(true)
x.add(1).mul(x).softmax(-1).sum(0, { keepDims: true })
// @ts-expect-error an operand is a tensor or a number
x.add('1')
// @ts-expect-error there is no such operation
x.conjugate()

linear(x, x, null, { activation: 'relu' })
// @ts-expect-error there is no such activation
linear(x, x, null, { activation: 'step' })

// What a loss gives follows from its reduction.
const model = new Sequential(new Linear(3, 4, { activation: 'gelu' }), new nn.Linear(4, 2, { bias: false }))
const targets = tensor(new Int32Array(1))
const loss = crossEntropy(model.forward(x), targets)
same<typeof loss, Tensor>(true)
const parts = crossEntropy(model.forward(x), targets, { reduction: 'parts' })
same<typeof parts.sum, Tensor>(true)
same<typeof parts.count, Tensor>(true)
// @ts-expect-error parts are no tensor
parts.backward()
// @ts-expect-error there is no such reduction
crossEntropy(x, targets, { reduction: 'max' })

const optimizer: Optimizer = new AdamW(model.parameters(), { lr: 1e-3 })
const accumulator = new GradientAccumulator(optimizer)
accumulator.add(parts)
// @ts-expect-error a mean has lost its count
accumulator.add(loss)

/** Batches are tuples of tensors. */
export async function loop(): Promise<void> {
  for await (const [inputs, labels] of new DataLoader(new TensorDataset(x, targets), { batchSize: 1 })) {
    if (inputs === undefined || labels === undefined) continue
    same<typeof inputs, Tensor>(true)
  }
  const device = await openDevice({ kind: 'cpu', threads: 2 })
  same<typeof device.kind, 'gpu' | 'cpu' | 'js'>(true)
  // @ts-expect-error there is no such device
  await openDevice('tpu')
  await device.close()
}

// Functions that take functions pass their types through.
same<ReturnType<typeof noGrad<Tensor>>, Tensor>(true)
const kept = scope(() => ({ a: x.exp(), b: 3 }))
same<typeof kept.a, Tensor>(true)
valueAndGrad((w: Tensor) => w.mul(x).sum())
{
  using temporary = x.neg()
  temporary.rank satisfies number
}

const parameter = new Parameter(x)
parameter satisfies Tensor
new TilegradError('ERR_SHAPE', 'no').code satisfies ErrorCode
// @ts-expect-error codes are a closed union
new TilegradError('ERR_ODD', 'no')
// @ts-expect-error internal: a tensor's place in the graph is not public
x.node
// @ts-expect-error internal: nor is its value
x.value
