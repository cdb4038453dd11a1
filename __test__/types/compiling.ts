/** What the type checker says about compiled functions. Nothing here runs. */

import { type CompileStats, type Compiled, type ProgramInfo, Scalar, type Tensor, compile, nn, scalar, train } from 'tilegrad' // prettier-ignore
import { is, same } from './expect.js'

export function inferring(x: Tensor, model: nn.Module, acc: train.GradientAccumulator): void {
  const forward = compile((input: Tensor) => model.forward(input))
  is<Compiled<[input: Tensor], Tensor>>()(forward)
  is<Tensor>()(forward(x))
  is<nn.Parts>()(compile((a: Tensor, b: Tensor) => nn.crossEntropy(a, b, { reduction: 'parts' }))(x, x))
  is<train.StepResult>()(compile(() => acc.step())())
  is<train.StepResult | null>()(compile(() => acc.flush())())
  is<undefined>()(compile((a: Tensor) => void a.add(1))(x))
  const { y, list } = compile((a: Tensor, k: number, on?: boolean) => ({ y: a.mul(k), list: [a, on] as const }))(x, 3)
  is<Tensor>()(y)
  is<readonly [Tensor, boolean | undefined]>()(list)
  is<Tensor>()(compile((a: Tensor, { by, of = [] }: { by: Scalar; of?: Tensor[] }) => a.mul(by).add(of.length))(x, { by: scalar(1) })) // prettier-ignore
  is<Tensor>()(compile((...all: Tensor[]) => all[0]!)(x, x, x))
  same<Parameters<typeof forward>, [input: Tensor]>()
  same<ReturnType<typeof forward>, Tensor>()
  // @ts-expect-error a tensor is missing
  forward()
  // @ts-expect-error one too many
  forward(x, x)
  // @ts-expect-error a number is no tensor
  forward(3)
  // @ts-expect-error what is compiled is a function
  compile(model)
  // @ts-expect-error a misspelt option
  compile(() => x, { nam: 'step' })
  // Whoever takes the function takes the compiled one.
  const plain: (input: Tensor) => Tensor = forward
  is<Tensor>()(compile(plain, { name: 'plain' })(x))
}

export function looking(f: Compiled<[], Tensor>): void {
  is<CompileStats>()(f.stats())
  is<ProgramInfo | null | undefined>()(f.stats().signatures[0]?.plan)
  is<void>()(f.clear())
  // @ts-expect-error statistics are for reading
  f.stats().calls = 0
}

export function scalars(x: Tensor): void {
  const k = scalar(2)
  is<Scalar>()(k)
  is<number>()(k.value)
  k.value = 3
  is<Tensor>()(x.mul(k))
  is<Tensor>()(x.greater(k))
  // @ts-expect-error text is no number
  k.value = '3'
  // @ts-expect-error nor here
  scalar('3')
}
