/** A caller that is faster than the device, and never yields, is slowed down before memory runs out. */

import test from 'ava'

import { DEVICES } from '../helpers/devices.ts'
import { endedWith, lastJson, run } from '../helpers/process.ts'

interface Report {
  readonly before: number
  readonly highest: { readonly rss: number; readonly jobs: number; readonly uploads: number; readonly scratch: number }
  readonly last: number
}

// Rounds enough for a gigabyte of uploads, or for seconds of products, were nobody to wait.
const WORK: Record<string, Readonly<Record<'uploads' | 'products', number>>> = {
  cpu: { uploads: 1000, products: 4000 },
  js: { uploads: 1000, products: 60 },
}

for (const { kind } of DEVICES) {
  for (const what of ['uploads', 'products'] as const) {
    test(`${what} in a loop that never yields stay bounded in memory [${kind}]`, async (t) => {
      const rounds = (WORK[kind] ?? WORK['cpu']!)[what]
      const child = await run(new URL('children/pressure.ts', import.meta.url), {
        args: [kind, String(rounds), what],
        deadlineMs: 60_000,
      })
      endedWith(t, child, { code: 0 })
      const { before, highest, last } = lastJson(child) as Report
      const grown = (highest.rss - before) / 2 ** 20
      t.log(`${rounds} rounds: ${grown.toFixed(0)} MiB more than before`)
      // 256 MiB of uploads may wait, and what they become is alive until their turn has come.
      t.true(grown <= 400, `${grown} MiB`)
      t.true(Math.abs(last - 1) < 1e-3, `${last}`)
    })
  }
}

for (const { kind } of DEVICES.filter((d) => d.kind !== 'js')) {
  test(`uploads to a device that is busy wait in a bounded queue [${kind}]`, async (t) => {
    // Of 4 MiB each, twice as many as may wait.
    const child = await run(new URL('children/pressure.ts', import.meta.url), {
      args: [kind, '128', 'backlog'],
      deadlineMs: 60_000,
    })
    endedWith(t, child, { code: 0 })
    const { highest, last } = lastJson(child) as Report
    const [uploads, scratch] = [highest.uploads / 2 ** 20, highest.scratch / 2 ** 20]
    t.log(`at most ${highest.jobs} jobs, ${uploads} MiB of uploads, ${scratch.toFixed(0)} MiB of scratch memory`)
    // The limit, and what was handed over against it before the caller began to wait.
    t.true(highest.jobs <= 64 + 2, `${highest.jobs} jobs`)
    t.true(uploads <= 256 + 4, `${uploads} MiB of uploads`)
    // A gpu has as much again on its way, in staging buffers, some being filled, and some idle.
    t.true(scratch <= 256 + 64 + 128, `${scratch} MiB of scratch memory`)
    t.true(highest.jobs > 8, 'the device was not busy enough')
    t.true(Math.abs(last - 1) < 1e-3, `${last}`)
  })
}
