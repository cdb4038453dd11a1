/** `npm run example -- NAME`: runs one of the examples; without a name it lists them. Their options: see `start.ts`. */

import { accumulation } from './accumulation.ts'
import { batchSize } from './batch-size.ts'
import { largeBatch } from './large-batch.ts'
import { perceptron } from './perceptron.ts'
import { rows } from './rows.ts'
import { type Example, OptionError, main, start } from './start.ts'
import { xor } from './xor.ts'

const STARTS = new Map([
  entry(perceptron),
  entry(xor),
  entry(rows),
  entry(batchSize),
  entry(accumulation),
  entry(largeBatch),
])

/** By its name, and with its own type of result out of sight. */
function entry<Result>(example: Example<Result>): [string, (words: string[]) => Promise<void>] {
  return [example.name, (words) => start(example, words)]
}

await main(async () => {
  const [name, ...words] = process.argv.slice(2)
  const names = [...STARTS.keys()].join(', ')
  const run = STARTS.get(name ?? '')
  if (run === undefined) throw new OptionError(`npm run example -- NAME, with one of ${names}`)
  await run(words)
})
