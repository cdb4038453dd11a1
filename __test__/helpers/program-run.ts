/**
 * Runs random programs: on a device, giving what nothing else used and the gradients of the leaves, and in f64 with
 * every result looked at, to know whether gradients can be compared at all.
 */

import { type Device, type Dtype, type Tensor, manualSeed, tensor } from '../../ts/index.ts'
import type { Program } from './program-generator.ts'
import { RULE } from './rules/index.ts'

/** One result or gradient. */
export interface Output {
  readonly name: string
  readonly data: ArrayLike<number>
}

/** What dropout draws from in every run of a program. */
const SEED = 5

/** Closer to a jump of a derivative than this, rounding may decide on which side an element lies. */
const TOO_CLOSE = 1e-3

function leaves(program: Program, device: Device, dtype: Dtype): Tensor[] {
  return program.leaves.map(({ shape, kind, values, requiresGrad }) =>
    tensor(Float64Array.from(values), {
      shape,
      device,
      dtype: kind === 'index' ? 'i32' : dtype,
      requiresGrad: requiresGrad && program.backward,
    }),
  )
}

/** Weights that make the gradients of equal elements different. */
function weighted(x: Tensor): Tensor {
  const weights = Float64Array.from({ length: x.size }, (_, i) => Math.fround(Math.cos(3 * i + 1)))
  const pattern = tensor(weights, { shape: x.shape, dtype: x.dtype, device: x.device })
  return x.mul(pattern).sum()
}

/**
 * Runs a program on a device.
 *
 * @param backward whether gradients are wanted
 */
export async function execute(program: Program, device: Device, dtype: Dtype, backward: boolean): Promise<Output[]> {
  const made = leaves(program, device, dtype)
  manualSeed(SEED)
  const used = new Set(program.steps.flatMap((step) => step.inputs))
  for (const { op, inputs, options } of program.steps) {
    made.push(RULE.get(op)!.apply(inputs.map((i) => made[i]!), options)) // prettier-ignore
  }
  const ends = made.flatMap((x, i) => (used.has(i) || i < program.leaves.length ? [] : [{ name: `%${i}`, x }]))
  const kept = new Set<Tensor>(ends.map(({ x }) => x))
  // What only the program needs is gone before anything runs, so that chains can be fused.
  const inside = made.slice(program.leaves.length).filter((x) => !kept.has(x))
  if (backward) {
    const losses = ends.filter(({ x }) => x.requiresGrad).map(({ x }) => weighted(x))
    for (const x of inside) x.dispose()
    losses.reduce<Tensor | null>((sum, loss) => (sum === null ? loss : sum.add(loss)), null)?.backward()
  } else for (const x of inside) x.dispose()
  const gradients = made
    .slice(0, program.leaves.length)
    .flatMap(({ grad }, i) => (grad === null ? [] : [{ name: `d%${i}`, x: grad }]))
  const outputs = await Promise.all(
    [...ends, ...gradients].map(async ({ name, x }) => ({ name, data: await x.data() })),
  )
  for (const x of [...made, ...gradients.map((g) => g.x)]) x.dispose()
  return outputs
}

/** Whether no element comes near a place where a derivative jumps; computed on a device with f64. */
export async function isSmooth(program: Program, device: Device): Promise<boolean> {
  const made = leaves({ ...program, backward: false }, device, 'f64')
  manualSeed(SEED)
  const floats: (ArrayLike<number> | undefined)[] = []
  const look = async (i: number): Promise<ArrayLike<number>> => (floats[i] ??= await made[i]!.data())
  let smooth = true
  for (const { op, inputs, options } of program.steps) {
    const rule = RULE.get(op)!
    const operands = inputs.map((i) => made[i]!)
    made.push(rule.apply(operands, options))
    if (rule.distance === undefined) continue
    const data = await Promise.all(inputs.map(look))
    // Whole numbers are exact in every dtype, so all devices stand on the same side.
    if (data.every((list) => Array.from(list).every(Number.isInteger))) continue
    if (rule.distance(data, options, operands.map((x) => x.shape)) < TOO_CLOSE) smooth = false // prettier-ignore
  }
  for (const x of made) x.dispose()
  return smooth
}
