/** Optimisers, clipping, averages of weights and schedules beside PyTorch's, from `scripts/golden/optim.py`. */

import { type Device, Parameter, type Tensor, compile, optim, tensor } from '../../ts/index.ts'
import { type GoldenCall, declareGolden } from '../helpers/golden.ts'

interface Given {
  readonly options: object
  readonly clip?: { readonly maxNorm: number; readonly normType: number } | { readonly limit: number }
}

/** Of a fixed decay, of min(most, (1 + n) / (offset + n)), or of the mean of all. */
interface Average {
  readonly decay?: number
  readonly rising?: readonly [most: number, offset: number]
}

interface Inputs {
  readonly start: Tensor
  readonly gradients: Tensor
}

/** Every other step is compiled: one course, whichever way its steps are taken. */
function course(make: (p: Tensor, options: object) => optim.Optimizer): GoldenCall {
  return ({ start, gradients }: Inputs, { options, clip }: Given) => {
    const p = new Parameter(start.mul(1))
    const optimizer = make(p, options)
    const step = (gradient: Tensor): void => {
      p.grad = gradient.mul(1)
      if (clip !== undefined && 'limit' in clip) optim.clipGradValue([p], clip.limit)
      else if (clip !== undefined) optim.clipGradNorm([p], clip.maxNorm, { normType: clip.normType })
      optimizer.step()
      optimizer.zeroGrad()
    }
    return firstAndLast(gradients, step, () => p.mul(1).detach())
  }
}

function firstAndLast(gradients: Tensor, step: (gradient: Tensor) => void, result: () => Tensor) {
  const [steps, size] = gradients.shape as [number, number]
  const compiled = compile(step)
  let first: Tensor | null = null
  for (let s = 0; s < steps; s++) {
    const gradient = gradients.slice([s, 0], [1, size]).reshape([size])
    ;(s % 2 === 0 ? compiled : step)(gradient)
    first ??= result()
  }
  return { first: first!, last: result() }
}

function ema({ start, gradients }: Inputs, { decay, rising }: Average) {
  const p = new Parameter(start.mul(1))
  const sgd = new optim.SGD([p], { lr: 0.1 })
  const [most, offset] = rising ?? [1, 1]
  const average = new optim.EMA([p], {
    decay: decay ?? ((n) => Math.min(most, (rising === undefined ? n : 1 + n) / (offset + n))),
  })
  const step = (gradient: Tensor): void => {
    p.grad = gradient.mul(1)
    sgd.step()
    average.update()
  }
  return firstAndLast(gradients, step, () => {
    const copy = new Parameter(start.mul(0))
    average.copyTo([copy])
    return copy.mul(1).detach()
  })
}

const SCHEDULES: Readonly<Record<string, (base: number, ...settings: never[]) => optim.Schedule>> = {
  constant: optim.constant,
  step: optim.step,
  exponential: optim.exponential,
  linearWarmup: optim.linearWarmup,
  warmupCosine: optim.warmupCosine,
  sequential: (base) => optim.sequential([optim.exponential(base, 0.9), optim.step(base, 10, 0.5)], [25]),
}

declareGolden(
  'optim',
  {
    sgd: course((p, options) => new optim.SGD([p], options as optim.SGDOptions)),
    adam: course((p, options) => new optim.Adam([p], options)),
    adamw: course((p, options) => new optim.AdamW([p], options)),
    rmsprop: course((p, options) => new optim.RMSprop([p], options)),
    ema,
    schedule: ({ base }: { base: Tensor }, { name, settings }: { name: string; settings: never[] }, device: Device) => {
      const lr = SCHEDULES[name]!(0.5, ...settings)
      return { lr: tensor(Float64Array.from({ length: 100 }, (_, s) => lr(s)), { dtype: base.dtype, device }) } // prettier-ignore
    },
  },
  { eagerOnly: ['sgd', 'adam', 'adamw', 'rmsprop', 'ema'] },
)
