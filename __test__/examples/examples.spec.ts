/**
 * The examples, in their quick form, on every device: what they claim holds, and what their pages show is what comes out.
 * To the bit where numbers are whole, else within the ranges stated here. Times are not compared.
 */

import { existsSync, readFileSync } from 'node:fs'
import test, { type ExecutionContext } from 'ava'
import { accumulation } from '../../examples/accumulation.ts'
import { batchSize } from '../../examples/batch-size.ts'
import { type Rule, largeBatch } from '../../examples/large-batch.ts'
import { perceptron } from '../../examples/perceptron.ts'
import { rows } from '../../examples/rows.ts'
import { type Example, page } from '../../examples/start.ts'
import { xor } from '../../examples/xor.ts'
import { setDefaultDevice } from '../../ts/index.ts'
import { DEVICES } from '../helpers/devices.ts'
import { linesOf, numbersOf } from './page.ts'

/** What a test of an example looks at. */
interface Ran<Result> {
  readonly result: Result
  /** What it has printed now. */
  readonly lines: readonly string[]
  /** What it had printed when its page was made, in its full form. */
  readonly shown: readonly string[]
}

/** One after the other: an example uses the default device and the seed of the process. */
function onDevices<Result>(
  title: string,
  example: Example<Result>,
  check: (t: ExecutionContext, ran: Ran<Result>) => void,
): void {
  for (const device of DEVICES) {
    test.serial(`${example.name}: ${title} [${device.kind}]`, async (t) => {
      t.timeout(120_000)
      setDefaultDevice(device)
      const lines: string[] = []
      const result = await example.run({
        device,
        quick: true,
        print: (line = '') => lines.push(...line.split('\n')),
        progress: () => undefined,
      })
      check(t, { result, lines, shown: linesOf(example.name) })
      t.regex(example.picture(result), /^<svg [^]*<polyline points="[\d., -]+"[^]*<\/svg>\n$/)
    })
  }
}

function within(t: ExecutionContext, got: number, want: number, tolerance: number, what: string): void {
  t.true(Math.abs(got - want) <= tolerance, `${what}: ${got} instead of ${want} ± ${tolerance}`)
}

/** Whole rows of a classification may differ by some of the 299 test rows. */
const ROWS = 1 / 299

onDevices(
  'every number of the page, to the bit, and a row alone is the row in the batch',
  perceptron,
  (t, { result, lines, shown }) => {
    t.deepEqual(result.sums, [
      [11230, 17110, -2674],
      [27744, 30889, -32489],
      [-91118, -183965, 129540],
      [-145948, -251248, 218381],
    ])
    t.deepEqual(result.fires, [[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1]]) // prettier-ignore
    t.is(result.differing, 0)
    t.is(result.mistakes.at(-1), 0)
    t.deepEqual(lines, shown.slice(1))
  },
)

onDevices('a perceptron never learns it, an MLP from every seed', xor, (t, { result, lines, shown }) => {
  t.true(result.mistakes.every((n) => n > 0))
  t.true(result.best <= 3)
  const claim = lines.find((line) => line.startsWith('perceptron'))
  t.true(shown.includes(claim!), claim)
  for (const { seed, right, losses } of result.learned) {
    t.is(right, 4)
    const [rightThen, , lossThen] = numbersOf(shown, `${seed}   `)
    t.is(rightThen, 4)
    within(t, losses.at(-1)!, lossThen!, 0.02 * lossThen!, `loss of seed ${seed}`)
  }
  t.true(shown.includes('learned from 20 of 20 seeds'))
})

onDevices('a row has the same bits alone and in every batch', rows, (t, { result, shown }) => {
  t.is(result.compared, 1 + 2 + 16)
  t.is(result.differing, 0)
  t.true(result.timings.every(({ milliseconds }) => milliseconds > 0))
  t.deepEqual(numbersOf(shown, 'rows compared'), [1023])
  t.deepEqual(numbersOf(shown, 'of them different'), [0])
  // The page's table agrees with itself, and with the latency of a single row beside it.
  const [first] = numbersOf(shown, '1   ')
  for (const batch of [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]) {
    const [milliseconds, perRow, , share] = numbersOf(shown, `${batch}  `)
    within(t, perRow!, (1000 * milliseconds!) / batch, 0.6, `µs a row at ${batch}`)
    within(t, share!, (100 * milliseconds!) / batch / first!, 1, `share at ${batch}`)
  }
  within(t, numbersOf(shown, 'one row, b = 1:')[0]!, 1000 * first!, 0.6, 'latency of one row')
})

onDevices('the first epoch of each way, and noise as theory has it', batchSize, (t, { result, lines, shown }) => {
  for (const table of ['after 1498 examples', 'after 47 steps']) {
    for (const way of ['SGD, batch 1', 'mini-batch 32', 'full batch']) {
      const [now, then] = [lines, shown].map((of) => numbersOf(of, way, table)) as [number[], number[]]
      t.deepEqual(now.slice(0, 3), then.slice(0, 3), `${table}, ${way}: rate, steps, examples`)
      within(t, now[3]!, then[3]!, 0.02 * then[3]! + 1e-4, `${table}, ${way}: loss`)
      within(t, now[4]!, then[4]!, 300 * ROWS + 0.1, `${table}, ${way}: accuracy`)
    }
  }
  const { trace, squaredNorm, scale, estimate, points } = result.noise
  const [traceThen, normThen, scaleThen] = numbersOf(shown, 'gradient noise at the first weights: trΣ')
  for (const [what, now, then] of [
    ['trΣ', trace, traceThen!],
    ['‖G‖²', squaredNorm, normThen!],
    ['scale', scale, scaleThen!],
  ] as const)
    // prettier-ignore
    within(t, now, then, 2e-3 * then, what)
  within(t, estimate, scale, 0.15 * scale, 'noise scale from two sizes')
  for (const { batch, drawn, subset } of points) {
    // The mean of 100 draws of a sum of many squares; with one number it would have a deviation of √(2/100).
    within(t, drawn.measured, drawn.theory, 0.15 * drawn.theory, `V(${batch}) with replacement`)
    within(t, subset.measured, subset.theory, 0.15 * subset.theory, `V(${batch}) without`)
  }
  for (const batch of [1, 4, 16, 64, 256, 1024]) {
    const [drawn, theory, std, subset, subsetTheory] = numbersOf(shown, `B = ${batch} `) as [number, number, number, number, number] // prettier-ignore
    within(t, theory, traceThen! / batch, 0.01 * theory, `page: trΣ/${batch}`)
    within(t, subsetTheory, ((traceThen! / batch) * (1498 - batch)) / 1497, 0.01 * subsetTheory, 'page: without')
    within(t, std, Math.sqrt(drawn), 0.001, 'page: std')
    within(t, drawn, theory, 0.15 * theory, 'page: measured with')
    within(t, subset, subsetTheory, 0.15 * subsetTheory, 'page: measured without')
  }
})

onDevices('accumulation is the large batch, the mean of means is not', accumulation, (t, { result, lines, shown }) => {
  const { exact, large, microMean } = result.tokens
  for (const { loss, gradient } of [exact, large]) {
    within(t, loss, 1.3, 1e-6, 'exact loss')
    within(t, gradient, -2.2, 1e-6, 'exact gradient')
  }
  within(t, microMean.loss, 2.5, 1e-6, 'mean of means')
  within(t, microMean.gradient, -3, 1e-6, 'its gradient')
  for (const name of ['one batch', 'micro-batches,', 'mean of the']) {
    const line = lines.find((text) => text.startsWith(name))
    t.true(shown.includes(line!), line)
  }
  t.deepEqual(
    result.beside.map(({ exact }) => exact),
    [true, true, true, false, true, false, true, false],
  )
  for (const { cut, way, exact, gradient, weights } of result.beside) {
    const then = numbersOf(shown, `${cut.padEnd(23)}${way}`) as [number, number, number, number]
    if (exact) {
      // The bound of f32: 1e-5 of each tensor's largest gradient.
      for (const g of [gradient, then[0]]) t.true(g <= 1e-5, `${cut}, ${way}: ${g}`)
      for (const w of [...weights, ...then.slice(1)]) t.true(w <= 1e-6, `${cut}, ${way}: ${w}`)
    } else {
      within(t, gradient, then[0], 0.02 * then[0], `${cut}, ${way}`)
      within(t, weights[0]!, then[1], 0.02 * then[1], `${cut}, ${way}, after 1`)
      within(t, weights[4]!, then[2], 0.05 * then[2], `${cut}, ${way}, after 5`)
      t.true(then[3] > 0.5, `${cut}, ${way}, after 60`)
    }
  }
})

onDevices('rates for large batches', largeBatch, (t, { result, lines, shown }) => {
  t.is(result.length, 5)
  for (const { batch, rule } of result) {
    const label = `${batch}   ${rule}  `
    const [now, then] = [lines, shown].map((of) => numbersOf(of, label)) as [number[], number[]]
    t.deepEqual(now.slice(0, 2), then.slice(0, 2), `${label}: rate and steps`)
    // Where the loss shoots up first, rounding decides how far training comes back.
    if (rule === 'linear') t.true(now[3]! < 90 && then[3]! < 90, `${label}: ${now[3]} and ${then[3]} %`)
    else within(t, now[3]!, then[3]!, 1.5, `${label}: accuracy`)
  }
  const of = (rule: Rule): number => result.find((run) => run.rule === rule)!.accuracy
  const peak = (rule: Rule): number => Math.max(...result.find((run) => run.rule === rule)!.losses)
  t.true(peak('linear') > 5, `the highest loss: ${peak('linear')}`)
  t.true(peak('sqrt') < 3, `the highest loss: ${peak('sqrt')}`)
  t.true(of('sqrt') > of('unscaled'))
  t.true(of('linear, warm-up') > of('linear') + 0.05)
  t.true(of('linear, warm-up, cosine') > of('linear') + 0.05)
  for (const batch of [32, 128]) {
    for (const rule of ['sqrt', 'linear', 'linear, warm-up', 'linear, warm-up, cosine'])
      t.true(numbersOf(shown, `${batch}   ${rule}  `)[3]! >= 95, `page: ${batch}, ${rule}`)
  }
})

test('every example has its page with output and picture, and is in the index', (t) => {
  const index = readFileSync(page('README'), 'utf8')
  for (const { name } of [perceptron, xor, rows, batchSize, accumulation, largeBatch]) {
    t.true(linesOf(name).length > 5, name)
    t.true(readFileSync(page(name), 'utf8').includes(`](${name}.svg)`), name)
    t.true(existsSync(new URL(`${name}.svg`, page(name))), name)
    t.true(index.includes(`](${name}.md)`), name)
  }
})
