/**
 * Prints what a copy of the library finds: its devices, what `auto` opens, and the error of asking for `cpu`. Arguments:
 * folder of the copy, and a platform to pretend.
 */

import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

import type * as Library from '../../../ts/index.ts'

const [folder, platform] = process.argv.slice(2)
// What other loaders obey. Set here and not for the whole process: the one that runs this file is such a loader.
Object.assign(process.env, { NAPI_RS_NATIVE_LIBRARY_PATH: '/nowhere/other.node', NAPI_RS_FORCE_WASI: '1' })
if (platform !== undefined) Object.defineProperty(process, 'platform', { value: platform })
const library = (await import(pathToFileURL(join(folder!, 'ts/index.ts')).href)) as typeof Library

const devices = await library.devices()
const auto = await library.openDevice('auto')
const sum = await library.ones([3, 4], { device: auto }).sum().item()
let cpu: object
try {
  const device = await library.openDevice('cpu')
  cpu = { opened: device.kind }
} catch (error) {
  if (!(error instanceof library.TilegradError)) throw error
  cpu = { code: error.code, message: error.message, hasCause: error.cause !== undefined }
}
console.log(JSON.stringify({ devices, auto: auto.kind, sum, cpu }))
