/** How `pickDevice` times its contestants, with racers made up: turns, medians, and who is out. No time is measured. */

import test from 'ava'

import { type Racer, median, race } from '../../ts/profile/race.ts'

/** A racer with these times, one after the other; a string is an error. Notes its turns. */
function racer(name: string, times: readonly (number | string)[], log: string[] = []): Racer {
  let turn = 0
  return {
    // eslint-disable-next-line require-await
    async turn() {
      log.push(name)
      const time = times[Math.min(turn++, times.length - 1)]!
      if (typeof time === 'string') throw new Error(time)
      return time
    },
  }
}

test('the median of the turns that count is the time', async (t) => {
  t.deepEqual(await race([racer('a', [40, 4, 1, 3, 2]), racer('b', [5])], 1, 4), [
    { milliseconds: 2.5 },
    { milliseconds: 5 },
  ])
  t.is(median([3, 1, 2]), 2)
})

test('racers warm up one after the other, then take turns', async (t) => {
  const log: string[] = []
  await race([racer('a', [1], log), racer('b', [2], log)], 2, 3)
  t.is(log.join(''), 'aabbababab')
})

test('one that is out of reach once it is warm is not timed again', async (t) => {
  const log: string[] = []
  const outcomes = await race([racer('a', [1], log), racer('b', [1, 11], log), racer('c', [99, 10], log)], 2, 2)
  t.deepEqual(outcomes, [{ milliseconds: 1 }, { milliseconds: 11 }, { milliseconds: 10 }])
  t.is(log.join(''), 'aabbccacac')
})

test('one that fails is out, whenever it fails', async (t) => {
  const log: string[] = []
  const outcomes = await race([racer('a', ['no'], log), racer('b', [3], log), racer('c', [2, 2, 'late'], log)], 1, 3)
  t.deepEqual(
    outcomes.map((outcome) => ('error' in outcome ? String(outcome.error) : outcome.milliseconds)),
    ['Error: no', 3, 'Error: late'],
  )
  t.is(log.join(''), 'abcbcbcb')
})

test('all may fail', async (t) => {
  t.deepEqual(Object.keys((await race([racer('a', ['no'])], 1, 2))[0]!), ['error'])
  t.deepEqual(await race([], 1, 1), [])
})
