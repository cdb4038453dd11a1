/** What the type checker says about tensors, operations and devices. Nothing here runs. */

import {
  type AdapterInfo,
  type AdapterLimits,
  type DataTypes,
  Device,
  type DeviceKind,
  type DeviceStats,
  type Dtype,
  type ErrorCode,
  type NestedArray,
  Parameter,
  type Shape,
  Tensor,
  TilegradError,
  type TypedArray,
  add,
  argmax,
  concat,
  customGrad,
  defaultDevice,
  devices,
  full,
  grad,
  keep,
  linear,
  manualSeed,
  matmul,
  noGrad,
  openDevice,
  scope,
  setDefaultDevice,
  tensor,
  valueAndGrad,
  where,
  zeros,
} from 'tilegrad'
import { is, same } from './expect.js'

export async function reading(x: Tensor): Promise<void> {
  is<TypedArray>()(await x.data())
  is<TypedArray>()(x.dataSync())
  is<NestedArray>()(await x.array())
  is<number>()(await x.item())
  is<Tensor>()(await x.to(defaultDevice()))
  is<Dtype>()(x.dtype)
  is<Shape>()(x.shape)
  is<Tensor | null>()(x.grad)
  same<DataTypes[Dtype], TypedArray>()
  same<DataTypes['f64'], Float64Array<ArrayBuffer>>()
  // @ts-expect-error a shape is not for writing
  x.shape[0] = 3
  // @ts-expect-error the dtype of a tensor never changes
  x.dtype = 'i32'
  // @ts-expect-error the device of a tensor never changes
  x.device = defaultDevice()
  // @ts-expect-error tensors are made by functions, not by their constructor
  void new Tensor(defaultDevice(), [1, 2])
  // @ts-expect-error what stands behind the handle is not public
  void x.value
}

export function creating(): void {
  is<Tensor>()(tensor([[1, 2], [3, 4]], { dtype: 'i32', requiresGrad: false })) // prettier-ignore
  tensor(new Float32Array(4), { shape: [2, 2] })
  tensor(true)
  const shape: Shape = [1, 2] as const
  zeros(shape)
  // @ts-expect-error a shape is an array
  zeros(3)
  // @ts-expect-error there is no f16 yet
  zeros([3], { dtype: 'f16' })
  // @ts-expect-error text is no data
  tensor('1, 2')
  // @ts-expect-error a misspelt option
  zeros([3], { requireGrad: true })
  // @ts-expect-error the value is a number
  full([2], '3')
  // @ts-expect-error a seed is a number
  manualSeed('1')
  // @ts-expect-error a parameter always requires a gradient
  void new Parameter([1], { requiresGrad: false })
}

export function operations(x: Tensor, y: Tensor): void {
  is<Tensor>()(add(x, 1))
  is<Tensor>()(add(1, x))
  is<Tensor>()(where(x.greater(0), x, 0))
  is<Tensor>()(matmul(x, y, { transposeB: true }))
  is<Tensor>()(linear(x, y, null, { activation: 'geluTanh' }))
  is<Tensor>()(concat([x, y], -1))
  is<Tensor>()(argmax(x, 1, { keepDims: true }))
  // @ts-expect-error text is no operand
  add(x, '1')
  // @ts-expect-error arrays become tensors explicitly
  add(x, [1, 2])
  // @ts-expect-error the condition is a tensor
  where(true, x, y)
  // @ts-expect-error no such activation
  linear(x, y, null, { activation: 'softmax' })
  // @ts-expect-error a misspelt option
  matmul(x, y, { transpose: true })
  // @ts-expect-error matmul multiplies tensors
  matmul(x, 3)
  // @ts-expect-error argmax takes one axis
  argmax(x, [0, 1])
}

export function methods(x: Tensor, y: Tensor): void {
  is<Tensor>()(x.add(y).mul(2).sub(y).div(3).pow(2).exp().relu())
  is<Tensor>()(x.sum([0, 1], { keepDims: true }).mean().max(0))
  is<Tensor>()(x.reshape([2, -1]).transpose([1, 0]).slice([0], [1]).pad([[0, 1], [1, 0]])) // prettier-ignore
  is<Tensor>()(x.variance(0, { correction: 0 }).softmax(-1).cast('i32'))
  is<Tensor>()(x.matmul(y, { transposeA: true }).linear(y, null))
  is<Tensor>()(x.gelu({ approximate: 'tanh' }))
  is<Tensor>()(x.topK(2).values.add(x.topK(2, 0).indices))
  is<void>()(x.backward({ retainGraph: true, gradient: y }))
  is<void>()(x.dispose())
  is<void>()(x[Symbol.dispose]())
  {
    using temporary = x.neg()
    is<number>()(temporary.rank)
  }
  // @ts-expect-error the operand is missing
  x.add()
  // @ts-expect-error neg takes nothing
  x.neg(1)
  // @ts-expect-error a misspelt option of a reduction
  x.sum(0, { keepdim: true })
  // @ts-expect-error no such approximation
  x.gelu({ approximate: 'erf' })
  // @ts-expect-error no such dtype
  x.cast('float32')
  // @ts-expect-error axes are numbers
  x.transpose(['a'])
  // @ts-expect-error a function of several tensors is no method
  x.concat([y])
  // @ts-expect-error no such method
  x.frobnicate()
}

export function differentiation(x: Tensor): void {
  is<{ value: Tensor; grads: Tensor[] }>()(valueAndGrad((v) => v.sum())(x))
  is<Tensor[]>()(grad((v, w) => v.mul(w).sum())(x, x))
  is<number>()(noGrad(() => 5))
  is<[Tensor, { a: Tensor }]>()(scope((): [Tensor, { a: Tensor }] => [x, { a: x }]))
  is<Tensor>()(keep(x))
  is<(...inputs: Tensor[]) => Tensor>()(customGrad(([v]) => v!, (dy) => [dy, null])) // prettier-ignore
  // @ts-expect-error the function gives a tensor
  grad(() => 5)
  // @ts-expect-error the function is synchronous
  grad(async (v) => v.sum())
  // @ts-expect-error the function is synchronous
  valueAndGrad((v) => Promise.resolve(v))
  // @ts-expect-error gradients of inputs come as a list
  customGrad(([v]) => v!, (dy) => dy) // prettier-ignore
  // @ts-expect-error an upstream gradient is a tensor
  x.backward({ gradient: 1 })
}

export async function opening(): Promise<void> {
  const device = await openDevice({ kind: 'cpu', threads: 2, memoryLimit: 1e9, fuse: false })
  is<Device>()(device)
  is<DeviceKind>()(device.kind)
  same<DeviceKind, 'gpu' | 'cpu' | 'js'>()
  is<DeviceStats>()(device.stats())
  is<number>()(device.stats().liveBytes)
  is<void>()(await device.sync())
  is<void>()(await device.close())
  setDefaultDevice(device)
  for (const info of await devices()) {
    is<boolean>()(info.available)
    is<string | undefined>()(info.reason)
    is<AdapterInfo | undefined>()(info.adapter)
    if (info.adapter === undefined) continue
    await openDevice({ kind: 'gpu', adapter: info.adapter.name, allowSoftware: info.adapter.type === 'software' })
    same<AdapterInfo['type'], 'discrete' | 'integrated' | 'virtual' | 'software' | 'other'>()
    is<string[]>()(info.adapter.features)
    is<AdapterLimits>()(info.adapter.limits)
    is<number>()(info.adapter.limits.bindingBytes)
    is<string | undefined>()(info.adapter.refusal)
  }
  // @ts-expect-error no such device
  await openDevice('tpu')
  // @ts-expect-error a misspelt option
  await openDevice({ kind: 'cpu', thread: 2 })
  // @ts-expect-error allowing is yes or no
  await openDevice({ kind: 'gpu', allowSoftware: 'lavapipe' })
  // @ts-expect-error an adapter is chosen by its name
  await openDevice({ kind: 'gpu', adapter: 0 })
  // @ts-expect-error devices are opened, not constructed
  void new Device({})
  // @ts-expect-error the backend of a device is not public
  void device.backend
  // @ts-expect-error nor is its recorder
  void device.recorder
}

export function failing(error: unknown): ErrorCode | undefined {
  if (!(error instanceof TilegradError)) return undefined
  is<ErrorCode>()(error.code)
  // @ts-expect-error codes are a closed list
  if (error.code === 'ERR_SHAPES') return undefined
  return error.code
}
