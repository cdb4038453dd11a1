/** The page of operations is the one that the code would write now. */

import { readFileSync } from 'node:fs'
import test from 'ava'
import { PAGE, opsPage } from '../../scripts/ops-matrix.ts'

test('docs/ops.md is up to date: node scripts/bootstrap.mjs run scripts/ops-matrix.ts', async (t) => {
  t.is(readFileSync(new URL(`../../${PAGE}`, import.meta.url), 'utf8'), await opsPage())
})
