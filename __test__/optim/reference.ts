/** The optimisers in f64, from their formulas, one parameter at a time: what the fused updates are compared with. */

/** A parameter with the state that optimisers keep for it. */
export interface Reference {
  readonly p: Float64Array
  readonly m: Float64Array
  readonly v: Float64Array
  readonly a: Float64Array
  t: number
}

/** A fresh parameter. */
export function reference(p: ArrayLike<number>): Reference {
  const [m, v, a] = [0, 1, 2].map(() => new Float64Array(p.length)) as [Float64Array, Float64Array, Float64Array]
  return { p: Float64Array.from(p), m, v, a, t: 0 }
}

/** Options of {@link sgd}. */
export interface Sgd {
  readonly lr: number
  readonly momentum?: number
  readonly dampening?: number
  readonly weightDecay?: number
  readonly nesterov?: boolean
}

/** One step of SGD; `m` is the velocity. */
export function sgd(state: Reference, gradient: ArrayLike<number>, options: Sgd): void {
  const { lr, momentum = 0, dampening = 0, weightDecay = 0, nesterov = false } = options
  state.t++
  for (let i = 0; i < state.p.length; i++) {
    let g = gradient[i]! + weightDecay * state.p[i]!
    if (momentum > 0) {
      state.m[i] = state.t === 1 ? g : momentum * state.m[i]! + (1 - dampening) * g
      g = nesterov ? g + momentum * state.m[i]! : state.m[i]!
    }
    state.p[i]! -= lr * g
  }
}

/** Options of {@link adam}. */
export interface Adam {
  readonly lr: number
  readonly betas?: readonly [number, number]
  readonly eps?: number
  readonly weightDecay?: number
  readonly amsgrad?: boolean
}

/** One step of Adam; `a` is the greatest second moment. `decoupled`: AdamW. */
function adamStep(state: Reference, gradient: ArrayLike<number>, options: Required<Adam>, decoupled: boolean): void {
  const { lr, betas: [b1, b2], eps, weightDecay, amsgrad } = options // prettier-ignore
  state.t++
  const [c1, c2] = [1 - b1 ** state.t, 1 - b2 ** state.t]
  for (let i = 0; i < state.p.length; i++) {
    let g = gradient[i]!
    if (decoupled) state.p[i]! *= 1 - lr * weightDecay
    else g += weightDecay * state.p[i]!
    state.m[i] = b1 * state.m[i]! + (1 - b1) * g
    state.v[i] = b2 * state.v[i]! + (1 - b2) * g * g
    state.a[i] = Math.max(state.a[i]!, state.v[i]!)
    const second = amsgrad ? state.a[i]! : state.v[i]!
    state.p[i]! -= ((lr / c1) * state.m[i]!) / (Math.sqrt(second) / Math.sqrt(c2) + eps)
  }
}

const ADAM = { betas: [0.9, 0.999], eps: 1e-8, amsgrad: false } as const

/** One step of Adam. */
export function adam(state: Reference, gradient: ArrayLike<number>, options: Adam): void {
  adamStep(state, gradient, { ...ADAM, weightDecay: 0, ...options }, false)
}

/** One step of AdamW. */
export function adamw(state: Reference, gradient: ArrayLike<number>, options: Adam): void {
  adamStep(state, gradient, { ...ADAM, weightDecay: 0.01, ...options }, true)
}

/** Options of {@link rmsprop}. */
export interface Rmsprop {
  readonly lr: number
  readonly alpha?: number
  readonly eps?: number
  readonly weightDecay?: number
  readonly momentum?: number
  readonly centered?: boolean
}

/** One step of RMSprop; `m` is the velocity, `a` the mean. */
export function rmsprop(state: Reference, gradient: ArrayLike<number>, options: Rmsprop): void {
  const { lr, alpha = 0.99, eps = 1e-8, weightDecay = 0, momentum = 0, centered = false } = options
  state.t++
  for (let i = 0; i < state.p.length; i++) {
    const g = gradient[i]! + weightDecay * state.p[i]!
    state.v[i] = alpha * state.v[i]! + (1 - alpha) * g * g
    state.a[i] = alpha * state.a[i]! + (1 - alpha) * g
    const spread = centered ? state.v[i]! - state.a[i]! ** 2 : state.v[i]!
    state.m[i] = momentum * state.m[i]! + g / (Math.sqrt(spread) + eps)
    state.p[i]! -= lr * state.m[i]!
  }
}
