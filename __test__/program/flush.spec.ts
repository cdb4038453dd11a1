/** The flush at the end of a macrotask: what it throws, nobody could catch there. */

import test from 'ava'

import type { Backend } from '../../ts/backend/backend.ts'
import { TilegradError } from '../../ts/errors.ts'
import { Recorder } from '../../ts/program/record.ts'

const macrotask = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve))

test('an error of the flush at the end of a macrotask is thrown by the next one that somebody calls, once', async (t) => {
  let submitted = 0
  const backend = {
    kind: 'cpu',
    submit() {
      if (submitted++ === 0) throw new TilegradError('ERR_OUT_OF_MEMORY', 'no room')
    },
  } as unknown as Backend
  const recorder = new Recorder(backend)
  recorder.emit('full', [], { dtype: 'f32', shape: [2] }, [1])
  await macrotask()
  await macrotask()
  t.is(submitted, 1)
  recorder.emit('full', [], { dtype: 'f32', shape: [2] }, [1])
  t.throws(() => recorder.flush(), { code: 'ERR_OUT_OF_MEMORY', message: 'no room' })
  t.is(submitted, 2, 'what came after it has been handed over')
  t.notThrows(() => recorder.flush())
})
