/**
 * The exponential moving average of a model's weights, which often generalises better than the last of them. It lives on
 * the device and is updated there by one instruction per slab, under the same gate as the optimiser's step.
 */

import { type Names, TilegradError, checkOptions, expected, show } from '../errors.ts'
import { checkSameDtype, sharedDevice } from '../ops/apply.ts'
import { checkEach, hostEffect, refuseTracing, takeBack } from '../program/tracing.ts'
import { sameShape, showShape } from '../shape.ts'
import { Tensor } from '../tensor.ts'
import { fraction } from './optimizer.ts'
import { type ParameterState, Slab } from './slab.ts'

/** Weights: a module, or a list of parameters. */
export type Weights = Iterable<Tensor> | { parameters(): Iterable<Tensor> }

/** Options of {@link EMA}. */
export interface EMAOptions {
  /** How much of the average stays at an update, or a function of the update, counted from 0. Default 0.999. */
  readonly decay?: number | ((update: number) => number)
}

/** The state of an average: how many updates were attempted, and for each parameter its average and how many it has had. */
export interface EMAState {
  readonly update: number
  readonly parameters: readonly ParameterState[]
}

/**
 * a = first update ? p : decay·a + (1 − decay)·p, for every parameter that required a gradient when the average was made.
 * Before the first update it holds the weights of then. Buffers, such as running statistics, are the model's own.
 *
 * Call {@link update} once after each step, and around an evaluation {@link swap}, or {@link copyTo} another model.
 *
 * @example
 * ```ts
 * import { nn, optim, randn } from 'tilegrad'
 * const model = new nn.Linear(4, 1)
 * const optimizer = new optim.AdamW(model.parameters())
 * // A short memory in the beginning, when the weights are still far off.
 * const ema = new optim.EMA(model, { decay: (n) => Math.min(0.999, (1 + n) / (10 + n)) })
 * for (let i = 0; i < 3; i++) {
 *   optimizer.zeroGrad()
 *   model.forward(randn([8, 4])).square().mean().backward()
 *   optimizer.step()
 *   ema.update()
 * }
 * ema.swap() // the model has the averages
 * console.log(model.forward(randn([8, 4])).shape) // [8, 1]
 * ema.swap() // and its own weights again
 * ```
 */
export class EMA {
  readonly #decay: number | ((update: number) => number)
  readonly #slabs: readonly Slab[]
  /** Every parameter with its average, in the order given. */
  readonly #averages: ReadonlyMap<Tensor, Tensor>
  #updates = 0
  /** Weight of the new value in the update that is being recorded or run. */
  #weight = 0
  #swapped = false

  constructor(weights: Weights, options: EMAOptions = {}) {
    refuseTracing('making an average of weights', 'make it outside')
    checkOptions('EMA', options, { decay: true } satisfies Names<EMAOptions>)
    const { decay = 0.999 } = options
    this.#decay = typeof decay === 'function' ? decay : fraction('EMA: decay', decay)
    const list = listOf('EMA', weights)
    this.#slabs = Slab.group('EMA', list)
    const places = this.#slabs.flatMap((slab) => {
      const values = slab.copyIn()
      return slab.parameters.map((p, i) => [p, new Tensor(slab.device, values[i]!, false)] as const)
    })
    const averages = new Map(places)
    this.#averages = new Map(list.filter((p) => averages.has(p)).map((p) => [p, averages.get(p)!]))
  }

  /** Whether the model has the averages now, and this object the model's weights. */
  get swapped(): boolean {
    refuseTracing('asking whether weights are swapped', 'ask between the calls')
    return this.#swapped
  }

  /**
   * Takes the weights of now into the average.
   *
   * @param gate.ok bool of one element, such as `applied` of a `GradientAccumulator`: when false nothing changes
   * @throws `ERR_ARGUMENT` while the weights are {@link swapped}
   */
  update(gate: { readonly ok?: Tensor } = {}): void {
    this.#checkOwn()
    checkEach(() => this.#checkOwn())
    hostEffect(() => {
      const n = this.#updates
      const decay = this.#decay
      this.#weight = 1 - (typeof decay === 'function' ? fraction(`EMA: decay(${n})`, decay(n)) : decay)
      this.#updates = n + 1
      takeBack(() => (this.#updates = n))
    })
    for (const slab of this.#slabs) {
      slab.device.recorder.emitMany(
        'ema',
        [
          slab.memory.value,
          slab.steps.value,
          null,
          gate.ok?.value ?? null,
          ...slab.parameters.map(({ value }) => value),
        ],
        [],
        [() => this.#weight, slab.offsets.flatMap((offset, i) => [i, offset])],
      )
    }
  }

  #checkOwn(): void {
    if (!this.#swapped) return
    throw new TilegradError('ERR_ARGUMENT', 'EMA.update: the model has the averages now; call swap() first')
  }

  /** Exchanges the weights of the model and the averages, in place; the second time all is as before. */
  swap(): void {
    refuseTracing('swapping weights', 'swap them between the calls')
    for (const [p, average] of this.#averages) {
      const { recorder } = p.device
      // Of the device's own: a view would change with what it is a view of.
      const own = recorder.emit('expand', [p.value], { dtype: p.dtype, shape: p.shape })
      recorder.emitMany('assign', [p.value, average.value], [])
      recorder.emitMany('assign', [average.value, own], [])
      own.release()
    }
    this.#swapped = !this.#swapped
  }

  /**
   * Writes the averages into the parameters of a model of the same kind.
   *
   * @param target default: the model itself, whose own weights are lost then
   * @throws `ERR_ARGUMENT`, `ERR_SHAPE`, `ERR_DTYPE`, `ERR_DEVICE_MISMATCH` when they do not fit; then nothing is written
   */
  copyTo(target?: Weights): void {
    refuseTracing('copying averages', 'copy them between the calls')
    if (this.#swapped)
      throw new TilegradError('ERR_ARGUMENT', 'EMA.copyTo: the model has the averages now; call swap() first')
    const own = [...this.#averages.keys()]
    const list = target === undefined ? own : listOf('EMA.copyTo', target).filter((p) => p.requiresGrad)
    if (list.length !== own.length)
      throw expected('EMA.copyTo: target', `a model of ${own.length} parameters`, list.length)
    list.forEach((p, i) => {
      const average = this.#averages.get(own[i]!)!
      if (!sameShape(p.shape, average.shape)) {
        const [wanted, given] = [showShape(average.shape), showShape(p.shape)]
        throw new TilegradError(
          'ERR_SHAPE',
          `EMA.copyTo: an average of shape ${wanted} does not fit a parameter ${given}`,
        )
      }
      checkSameDtype('EMA.copyTo', average, p)
      sharedDevice('EMA.copyTo', average, p)
    })
    list.forEach((p, i) => p.device.recorder.emitMany('assign', [p.value, this.#averages.get(own[i]!)!.value], []))
  }

  /** A copy of the state on the host, for {@link loadStateDict}. While weights are swapped the averages are the model's state. */
  stateDict(): Promise<EMAState> {
    refuseTracing('reading a state', 'read it between the calls')
    if (this.#swapped)
      throw new TilegradError('ERR_ARGUMENT', 'EMA.stateDict: the model has the averages now; call swap() first')
    return this.#read()
  }

  async #read(): Promise<EMAState> {
    const update = this.#updates
    const states = new Map<Tensor, ParameterState>()
    await Promise.all(
      this.#slabs.map(async (slab) => {
        const all = await slab.read([['average', slab.memory]])
        slab.parameters.forEach((p, i) => states.set(p, all[i]!))
      }),
    )
    return { update, parameters: [...this.#averages.keys()].map((p) => states.get(p)!) }
  }

  /**
   * Continues from a state of the average of such a model. Nothing changes unless all fits.
   *
   * @throws `ERR_FORMAT`
   */
  loadStateDict(state: EMAState): void {
    refuseTracing('loading the state of an average', 'load it between the calls')
    if (this.#swapped)
      throw new TilegradError('ERR_ARGUMENT', 'EMA.loadStateDict: the model has the averages now; call swap() first')
    const mismatch = (why: string): TilegradError =>
      new TilegradError('ERR_FORMAT', `EMA: this state does not belong to these parameters: ${why}`)
    if (!Number.isSafeInteger(state?.update) || state.update < 0)
      throw mismatch(`update should be a whole number, not ${show(state?.update)}`)
    const own = [...this.#averages.keys()]
    const given: readonly ParameterState[] = Array.isArray(state.parameters) ? state.parameters : []
    if (given.length !== own.length) throw mismatch(`it has ${given.length} parameters instead of ${own.length}`)
    const states = new Map(own.map((p, i) => [p, given[i]]))
    const writes = this.#slabs.map((slab) =>
      slab.restore(
        slab.parameters.map((p) => states.get(p)),
        [['average', slab.memory]],
        mismatch,
      ),
    )
    for (const write of writes) write()
    this.#updates = state.update
  }
}

function listOf(op: string, weights: Weights): Tensor[] {
  const given: unknown =
    typeof weights === 'object' && weights !== null && 'parameters' in weights ? weights.parameters() : weights
  if (typeof given !== 'object' || given === null || !(Symbol.iterator in given))
    throw expected(`${op}: weights`, 'a module or a list of parameters', given)
  const list: unknown[] = [...new Set(given as Iterable<unknown>)]
  for (const p of list) if (!(p instanceof Tensor)) throw expected(`${op}: weights`, 'parameters', p)
  if (list.length === 0) throw expected(`${op}: weights`, 'at least one parameter', list)
  return list as Tensor[]
}
