/**
 * Fills a GPU whose memory is this process's address space, under a limit of it, until there is no more; then checks that
 * the device still computes. Prints what happened, several rounds of it. Arguments: rounds, and bytes of room.
 */

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

import { type Device, type Tensor, TilegradError, matmul, zeros } from '../../../ts/index.ts'
import { openDevice } from '../../helpers/open.ts'
import { productIsRight } from '../../native/children/work.ts'

/** Words of 64 MiB: large beside what anything else asks for, so that it is the GPU's memory that is missing first. */
const BLOCK = 16 << 20
/** More than any limit that makes sense here. */
const MOST = 256

const [rounds, room] = process.argv.slice(2).map(Number)

/** From now on this process may grow by `room` bytes: beyond what is reserved already, which is far more than is used. */
function limit(room: number): void {
  const reserved = Number(/VmSize:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024
  const done = spawnSync('prlimit', ['--pid', String(process.pid), `--as=${reserved + room}`])
  if (done.status !== 0) throw new Error(`prlimit: ${String(done.stderr)}`)
}

const device: Device = await openDevice({ kind: 'gpu', memoryLimit: 2 ** 40 })

async function fill(): Promise<{ code: string; blocks: number }> {
  const blocks: Tensor[] = []
  try {
    while (blocks.length < MOST) {
      const block = zeros([BLOCK], { device })
      blocks.push(block)
      await block.slice([BLOCK - 1], [1]).data()
    }
    return { code: 'nothing', blocks: blocks.length }
  } catch (error) {
    return { code: error instanceof TilegradError ? error.code : String(error), blocks: blocks.length - 1 }
  } finally {
    for (const block of blocks) block.dispose()
  }
}

const reports: object[] = []
if (!(await productIsRight(device))) throw new Error('the product is wrong from the beginning')
limit(room!)
for (let i = 0; i < rounds!; i++) {
  const { code, blocks } = await fill()
  reports.push({ code, blocks, right: await productIsRight(device) })
}
// The memory is there again: as much as before can be had.
using x = zeros([BLOCK], { device })
using y = matmul(x.reshape([BLOCK / 64, 64]), zeros([64, 1], { device })).sum()
console.log(JSON.stringify({ reports, zero: await y.item() }))
await device.close()
