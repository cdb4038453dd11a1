/**
 * Times several ways of doing the same thing, taking turns, so that whatever else the machine does meets all of them. It
 * knows neither devices nor tensors: what one turn is, its caller says.
 */

/** One way of doing it. */
export interface Racer {
  /** Does it once, to the end; gives the milliseconds it took. */
  turn(): Promise<number>
}

/** How a racer did: milliseconds of a turn, or the error that ended it. */
export type Outcome = { readonly milliseconds: number } | { readonly error: unknown }

/** A racer that is so many times slower than the fastest once both are warm is not timed any further. */
const OUT_OF_REACH = 10

/**
 * Lets all racers warm up, then take turns; the median of its turns is a racer's time. One that fails is out.
 *
 * @param warmup turns that do not count, at least 1
 * @param turns turns that count, at least 1
 */
export async function race(racers: readonly Racer[], warmup: number, turns: number): Promise<Outcome[]> {
  const outcomes: Outcome[] = []
  for (const racer of racers) outcomes.push(await last(racer, warmup))
  const fastest = Math.min(...outcomes.map((outcome) => ('error' in outcome ? Infinity : outcome.milliseconds)))
  const times: number[][] = racers.map(() => [])
  for (let i = 0; i < turns; i++) {
    for (const [j, racer] of racers.entries()) {
      const outcome = outcomes[j]!
      if ('error' in outcome || (times[j]!.length === 0 && outcome.milliseconds > OUT_OF_REACH * fastest)) continue
      const turn = await last(racer, 1)
      if ('error' in turn) outcomes[j] = turn
      else times[j]!.push(turn.milliseconds)
    }
  }
  return outcomes.map((outcome, j) => {
    const own = times[j]!
    return 'error' in outcome || own.length === 0 ? outcome : { milliseconds: median(own) }
  })
}

/** The last of some turns. */
async function last(racer: Racer, turns: number): Promise<Outcome> {
  try {
    let milliseconds = 0
    for (let i = 0; i < turns; i++) milliseconds = await racer.turn()
    return { milliseconds }
  } catch (error) {
    return { error }
  }
}

/** The middle one; of an even number the mean of the two in the middle. */
export function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}
