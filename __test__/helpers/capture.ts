/** Records what the SDK sends to a device, uploads and streams, to send it elsewhere or to look at it. */

import type { Device } from '../../ts/index.ts'
import type { Dtype, TypedArray } from '../../ts/dtype.ts'

/** One call. */
export type Sent =
  | { readonly kind: 'write'; readonly slot: number; readonly dtype: Dtype; readonly data: TypedArray }
  | { readonly kind: 'submit'; readonly words: Uint32Array<ArrayBuffer> }

/** Notes every upload and stream of a device from now on, until `stop`. */
export function capture(device: Device): { readonly sent: Sent[]; readonly stop: () => void } {
  const { backend } = device
  const sent: Sent[] = []
  const [write, submit] = [backend.write.bind(backend), backend.submit.bind(backend)]
  backend.write = (slot, dtype, data) => {
    sent.push({ kind: 'write', slot, dtype, data: data.slice() })
    write(slot, dtype, data)
  }
  backend.submit = (words) => {
    sent.push({ kind: 'submit', words: new Uint32Array(words) })
    submit(words)
  }
  return {
    sent,
    stop: () => Object.assign(backend, { write, submit }),
  }
}
