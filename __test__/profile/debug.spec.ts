/** `TILEGRAD_DEBUG`: what is said on standard error, in processes of their own. */

import test from 'ava'

import { DEVICES } from '../helpers/devices.ts'
import { type Ended, endedWith, lastJson, run } from '../helpers/process.ts'

function child(kind: string, level: string, what: 'good' | 'bad' = 'good'): Promise<Ended> {
  return run(new URL('children/debug.ts', import.meta.url), {
    args: [kind, what],
    env: { TILEGRAD_DEBUG: level },
    deadlineMs: 60_000,
  })
}

function count(text: string, part: string | RegExp): number {
  return text.split(part).length - 1
}

const HEAD =
  /tilegrad: step\(f32 \[4, 4\]\) on .+: \d+ instructions, \d+ steps, \d+ bytes of intermediates \(\d+ alive at most\), planned in \d+\.\d\d ms\n/

for (const { kind, name } of DEVICES) {
  test(`each level says what the one before does, and more [${kind}]`, async (t) => {
    const [one, two, three] = await Promise.all(['1', '2', '3'].map((level) => child(kind, level)))
    for (const ended of [one!, two!, three!]) {
      endedWith(t, ended, {})
      t.true((lastJson(ended) as string[]).includes('read'))
    }

    for (const { stderr } of [one!, two!, three!]) {
      t.is(count(stderr, HEAD), 1, stderr)
      t.is(count(stderr, '= matmul %0, %0 {transposeA: 0, transposeB: 0}\n'), 1, 'each program once')
      t.is(count(stderr, '= exp %0\n'), 1, 'each stream once')
      t.true(stderr.includes(`tilegrad: stream on ${name}: `), stderr)
    }
    t.is(count(one!.stderr, 'tilegrad: plan of'), 0)
    for (const { stderr } of [two!, three!]) {
      t.is(count(stderr, 'tilegrad: plan of step(f32 [4, 4])\n'), 1, stderr)
      t.true(count(stderr, 'tilegrad: plan of stream\n') >= 2)
    }
    for (const { stderr } of [one!, two!]) t.is(count(stderr, / (ran|was recorded) in /), 0)
    const ran =
      /tilegrad: step\(f32 \[4, 4\]\) (?:ran|was recorded) in \d+\.\d{3} ms\n +\d+\.\d{3} ms {2}matmul {2}f32\[4,4\], f32\[4,4\] → /
    t.is(count(three!.stderr, ran), 2, three!.stderr)
    t.is(count(three!.stderr, 'ms  exp  f32[4,4] → f32[4,4]'), 2)
    t.is(count(three!.stderr, 'tilegrad: the GPU took ') > 0, kind === 'gpu')
    t.true((lastJson(three!) as string[]).includes('log'), 'a profile can be made meanwhile')
  })

  test(`an error of execution names the line of code that recorded it [${kind}]`, async (t) => {
    const ended = await child(kind, '1', 'bad')
    endedWith(t, ended, {})
    const { code, message } = lastJson(ended) as { code: string; message: string }
    t.is(code, 'ERR_ARGUMENT')
    t.regex(message, /outside \[0, 2\).*\n {2}recorded\n {4}at wrong \(.*children.debug\.ts:\d+:10\)/s)
    t.notRegex(message, /\/ts\/(?:ops|program|debug)\//)
  })
}

test('without a level nothing is said, and errors have no places', async (t) => {
  const [good, bad] = await Promise.all([child('js', ''), child('js', '0', 'bad')])
  for (const ended of [good, bad]) {
    endedWith(t, ended, {})
    t.false(ended.stderr.includes('tilegrad: '), ended.stderr)
  }
  t.false((lastJson(bad) as { message: string }).message.includes('recorded'))
})

test('a level that is none is said once, and nothing else', async (t) => {
  const ended = await child('js', 'verbose')
  endedWith(t, ended, {})
  t.is(count(ended.stderr, 'TILEGRAD_DEBUG is 1, 2 or 3, not verbose'), 1, ended.stderr)
  t.is(count(ended.stderr, 'tilegrad: '), 0)
})
