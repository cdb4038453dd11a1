/**
 * Memory of a GPU that is really full, not only above a limit of ours (that is in lifetime/memory): a child fills a
 * software adapter, whose memory is its own address space, under a limit of that space. `ERR_OUT_OF_MEMORY` comes out, and the
 * device goes on.
 */

import { spawnSync } from 'node:child_process'
import test from 'ava'

import { DEVICES } from '../helpers/devices.ts'
import { endedWith, lastJson, run } from '../helpers/process.ts'

interface Report {
  readonly reports: readonly { readonly code: string; readonly blocks: number; readonly right: boolean }[]
  readonly zero: number
}

const ROUNDS = 3
/** Address space that the child may add to what is reserved once it computes. */
const ROOM = 0.75 * 2 ** 30

const software = DEVICES.some((d) => d.kind === 'gpu' && d.name.includes('software'))
const limited = spawnSync('prlimit', ['--version']).status === 0
// Only a software adapter takes its memory from the process, and only Linux has prlimit.
const withLimit = software && limited ? test : test.skip

withLimit('a GPU that is full says so, and goes on when memory is freed', async (t) => {
  t.timeout(60_000)
  const child = await run(new URL('children/memory.ts', import.meta.url), {
    args: [String(ROUNDS), String(ROOM)],
    deadlineMs: 55_000,
  })
  endedWith(t, child, { code: 0 })
  const { reports, zero } = lastJson(child) as Report
  t.log(reports.map(({ code, blocks }) => `${code} after ${blocks} blocks of 64 MiB`).join(', '))
  t.is(reports.length, ROUNDS)
  for (const { code, blocks, right } of reports) {
    t.is(code, 'ERR_OUT_OF_MEMORY')
    t.true(right)
    // As much fits as the first time: nothing is lost on the way.
    t.true(blocks >= 1 && Math.abs(blocks - reports[0]!.blocks) <= 1, `${blocks} blocks after ${reports[0]!.blocks}`)
  }
  t.is(zero, 0)
})
