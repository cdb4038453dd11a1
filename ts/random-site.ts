/**
 * Where layers draw random numbers, and how they count: the second half of the Philox counter of `random.ts`.
 *
 * A *site* is a random layer. Its draws are numbered so that a mask depends on the data's place in training alone:
 * - within a *pass*, from one backward() to the next, every call of the layer has a number of its own;
 * - the rows of a call continue those of the same call in the passes before, as if their batches were one;
 * - a *window* ends with a step of an optimiser: then rows begin at 0 again, and the *draw* counts one up.
 *
 * So the passes of a window see the masks of one pass over the joined batch. All of it is counted by host effects: compiled
 * functions count in each run. docs/adr/0020 has the reasons.
 */

import { TilegradError, expected, show } from './errors.ts'
import { hostEffect, refuseTracing, takeBack } from './program/tracing.ts'
import { manualSeed, seedWords, seedingCount, setSiteDraw, siteDraws } from './random.ts'

/** What one draw counts from: the scalars of a `dropout` instruction. */
export interface Drawn {
  readonly seed: readonly [number, number]
  readonly site: number
  readonly draw: number
  readonly rowBase: number
}

/** Numbers of sites fill the low half of the word, numbers of calls the high one; 0xFFFF there is the library's own. */
const NUMBERS = 0xffff
const CALLS = 0xffff

/** How far one site has counted. */
export interface SiteState {
  /** Number of the site. */
  readonly site: number
  /** Windows in which it has drawn. */
  readonly draw: number
  /** Rows before the running pass, for each call of a pass. */
  readonly bases: readonly number[]
  /** Rows of the running pass, for each call so far. */
  readonly rows: readonly number[]
}

/** Everything that the next random numbers depend on, for checkpoints: plain data, fit for JSON. */
export interface RandomState {
  readonly seed: number
  /** Next draws of the library's own generators, by site. */
  readonly draws: Readonly<Record<string, number>>
  readonly sites: readonly SiteState[]
}

/** The same, while it is counted. */
class Count {
  draw = 0
  bases: number[] = []
  rows: number[] = []

  /** Counts a call; gives its number. */
  next(rows: number): number {
    if (this.rows.length === CALLS) this.endPass()
    const counted = this.rows
    takeBack(() => counted.pop())
    return counted.push(rows) - 1
  }

  endPass(): void {
    if (this.rows.length === 0) return
    const { bases, rows } = this
    this.#set(this.draw, rows.length < bases.length ? [...bases] : rows.map((_, call) => bases[call] ?? 0))
    rows.forEach((count, call) => (this.bases[call]! += count))
  }

  endWindow(): void {
    if (this.bases.length + this.rows.length > 0) this.#set(this.draw + 1, [])
  }

  #set(draw: number, bases: number[]): void {
    const before = { draw: this.draw, bases: this.bases, rows: this.rows }
    takeBack(() => Object.assign(this, before))
    Object.assign(this, { draw, bases, rows: [] })
  }
}

let seeding = 0
/** How many sites have been made since the seed was set. */
let made = 0
/** Numbers that belong to somebody. */
const taken = new Set<number>()
/** By number; of sites that have drawn, or are going to. */
const counts = new Map<number, Count>()

/** Forgets everything when a seed has been set. */
function settle(): void {
  if (seeding === seedingCount()) return
  seeding = seedingCount()
  made = 0
  taken.clear()
  counts.clear()
}

/**
 * What tells the random numbers of one layer from those of another. `nn.Dropout` has one of its own; make one for each
 * layer of your own that calls {@link dropout}, beside its parameters. Numbers are given out in the order in which sites
 * are made, beginning anew with `manualSeed`; of two that would have the same number, the one that draws later gets the next free one.
 *
 * @example
 * ```ts
 * import { RandomSite, type Tensor, dropout, nn, randn } from 'tilegrad'
 * class Noisy extends nn.Module {
 *   readonly #site = new RandomSite()
 *   forward(x: Tensor): Tensor {
 *     return dropout(x, { p: 0.1, training: this.training, site: this.#site })
 *   }
 * }
 * console.log(new Noisy().forward(randn([2, 8])).shape) // [2, 8]
 * ```
 */
export class RandomSite {
  readonly #wanted: number
  #seeding = -1
  #number = 0

  constructor() {
    refuseTracing('making a random layer', 'make models outside')
    settle()
    this.#wanted = made++ % NUMBERS
  }

  /**
   * @internal Counts a call.
   *
   * @param rows of the batch; `null` for data that has none
   */
  next(rows: number | null): Drawn {
    settle()
    if (this.#seeding !== seeding) {
      this.#seeding = seeding
      this.#number = this.claim(this.#wanted)
    }
    let count = counts.get(this.#number)
    if (count === undefined) counts.set(this.#number, (count = new Count()))
    const call = count.next(rows ?? 0)
    return {
      seed: seedWords(),
      site: this.#number + call * (NUMBERS + 1),
      draw: count.draw >>> 0,
      rowBase: rows === null ? 0 : (count.bases[call] ?? 0) >>> 0,
    }
  }

  /** @internal The number that is wanted, or the next one that nobody has. Once all are taken they are shared. */
  protected claim(wanted: number): number {
    let number = wanted
    if (taken.size < NUMBERS) while (taken.has(number)) number = (number + 1) % NUMBERS
    taken.add(number)
    return number
  }
}

/** Calls of functions that name no site. */
class SharedSite extends RandomSite {
  protected override claim(): number {
    return NUMBERS
  }
}

/** @internal */
export const SHARED_SITE: RandomSite = new SharedSite()
made = 0

/** @internal A draw for one call: of now, or in a compiled function of each run. Read its fields when they are needed. */
export function drawEach(site: RandomSite, rows: number | null): Drawn {
  const drawn: Drawn = { seed: [0, 0], site: 0, draw: 0, rowBase: 0 }
  hostEffect(() => Object.assign(drawn, site.next(rows)))
  return drawn
}

/** @internal A backward() has been through: the next calls belong to another pass. */
export function endPass(): void {
  settle()
  for (const count of counts.values()) count.endPass()
}

/** @internal An optimiser has stepped. Sites that have not drawn since the last step count on where they are. */
export function endWindow(): void {
  settle()
  for (const count of counts.values()) count.endWindow()
}

/**
 * What the next random numbers depend on: the seed, and how far everything has counted. With {@link setRandomState} they
 * go on from there, in this process or, where the same layers are made in the same order, in another one.
 *
 * @example
 * ```ts
 * import { rand, randomState, setRandomState } from 'tilegrad'
 * const state = randomState()
 * const a = await rand([3]).data()
 * setRandomState(state)
 * const b = await rand([3]).data()
 * console.log(a.every((v, i) => v === b[i])) // true
 * ```
 */
export function randomState(): RandomState {
  refuseTracing('reading the random state', 'read it between the calls')
  settle()
  const [low, high] = seedWords()
  const sites = [...counts].map(([site, { draw, bases, rows }]) => ({ site, draw, bases: [...bases], rows: [...rows] }))
  return {
    seed: high * 2 ** 32 + low,
    draws: Object.fromEntries(siteDraws()),
    sites: sites.toSorted((a, b) => a.site - b.site),
  }
}

/**
 * Goes on from a state of {@link randomState}.
 *
 * @throws `ERR_FORMAT` for what is no such state; nothing has changed then
 *
 * @example
 * ```ts
 * import { dropout, ones, randomState, setRandomState } from 'tilegrad'
 * const state = randomState()
 * const a = await dropout(ones([100])).data()
 * setRandomState(state) // as it was before the mask was drawn
 * const b = await dropout(ones([100])).data()
 * console.log(a.every((v, i) => v === b[i])) // true
 * ```
 */
export function setRandomState(state: RandomState): void {
  refuseTracing('setting the random state', 'set it between the calls')
  checkState(state)
  const before = made
  manualSeed(state.seed)
  settle()
  // The layers are there: those that come are numbered after them.
  made = before
  for (const [site, draw] of Object.entries(state.draws)) setSiteDraw(Number(site), draw)
  for (const { site, draw, bases, rows } of state.sites)
    counts.set(site, Object.assign(new Count(), { draw, bases: [...bases], rows: [...rows] }))
}

function checkState(state: RandomState): void {
  if (typeof state !== 'object' || state === null)
    throw expected('setRandomState: state', 'what randomState() gives', state)
  const wrong = (what: string, found: unknown): TilegradError =>
    new TilegradError('ERR_FORMAT', `setRandomState: ${what} should be whole numbers ≥ 0, not ${show(found)}`)
  const whole = (x: unknown): boolean => Number.isSafeInteger(x) && (x as number) >= 0
  const { seed, draws, sites } = state
  if (!whole(seed)) throw wrong('seed', seed)
  if (typeof draws !== 'object' || draws === null) throw wrong('draws', draws)
  for (const [site, draw] of Object.entries(draws)) if (!whole(Number(site)) || !whole(draw)) throw wrong('draws', draw)
  if (!Array.isArray(sites)) throw wrong('sites', sites)
  for (const one of sites as readonly SiteState[]) {
    if (!whole(one?.site) || one.site > NUMBERS || !whole(one.draw)) throw wrong('site and draw', one)
    for (const list of [one.bases, one.rows])
      if (!Array.isArray(list) || list.length > CALLS || !list.every(whole)) throw wrong('rows', list)
  }
}
