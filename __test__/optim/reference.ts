/** The optimisers in f64, from their formulas, one parameter at a time: what the fused updates are compared with. */

/** A parameter with the state that optimisers keep for it. */
export interface Reference {
  readonly p: Float64Array
  readonly m: Float64Array
  readonly v: Float64Array
  t: number
}

/** A fresh parameter. */
export function reference(p: ArrayLike<number>): Reference {
  return { p: Float64Array.from(p), m: new Float64Array(p.length), v: new Float64Array(p.length), t: 0 }
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

/** Options of {@link adamw}. */
export interface AdamW {
  readonly lr: number
  readonly betas?: readonly [number, number]
  readonly eps?: number
  readonly weightDecay?: number
}

/** One step of AdamW. */
export function adamw(state: Reference, gradient: ArrayLike<number>, options: AdamW): void {
  const { lr, betas: [b1, b2] = [0.9, 0.999], eps = 1e-8, weightDecay = 0.01 } = options
  state.t++
  const [c1, c2] = [1 - b1 ** state.t, 1 - b2 ** state.t]
  for (let i = 0; i < state.p.length; i++) {
    const g = gradient[i]!
    state.p[i]! *= 1 - lr * weightDecay
    state.m[i] = b1 * state.m[i]! + (1 - b1) * g
    state.v[i] = b2 * state.v[i]! + (1 - b2) * g * g
    state.p[i]! -= ((lr / c1) * state.m[i]!) / (Math.sqrt(state.v[i]!) / Math.sqrt(c2) + eps)
  }
}
