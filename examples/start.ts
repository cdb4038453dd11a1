/**
 * What every example shares: its options, the device that becomes the default one, where its lines go, and how its page
 * is brought up to date. An example is a value that the tests run too, on every device and in its quick form.
 *
 *   npm run example -- xor                          on the best device
 *   npm run example -- xor --device gpu|cpu|js      on that one; gpu may be a software adapter, which auto never takes
 *   npm run example -- xor --quick                  a small form: some of the rows, the same numbers in them
 *   npm run example -- xor --record                 writes output and picture into its page, docs/examples/xor.md
 */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { relative } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { type Device, type DeviceKind, TilegradError, devices, openDevice, setDefaultDevice } from 'tilegrad'

/** What an example is run with. */
export interface Setting {
  /** The default device, for what wants to name it. */
  readonly device: Device
  /** The small form. */
  readonly quick: boolean
  /** A line of the report. */
  readonly print: (line?: string) => void
  /** A line that is written over while something takes its time; nothing where no terminal shows it. */
  readonly progress: (text: string) => void
}

/** An example: prints its report, gives the numbers in it, and can draw them. */
export interface Example<Result> {
  /** Of its file and of its page. */
  readonly name: string
  run(setting: Setting): Promise<Result>
  /** An SVG document. */
  picture(result: Result): string
}

/** The device a name stands for. */
export function deviceNamed(name: string): 'auto' | DeviceKind {
  if (name !== 'auto' && name !== 'gpu' && name !== 'cpu' && name !== 'js')
    throw new OptionError(`--device is one of auto, gpu, cpu and js, not ${name}`)
  return name
}

/** A mistake on the command line: its message is enough. */
export class OptionError extends Error {}

/** Opens a device; a software adapter will do for `gpu`, because what it computes is what a GPU computes. */
export function open(kind: 'auto' | DeviceKind): Promise<Device> {
  return openDevice(kind === 'gpu' ? { kind, allowSoftware: true } : kind)
}

/** Says it where the processor plays the GPU. */
export async function remark(device: Device): Promise<string> {
  const list = await devices()
  const isSoftware = list.some(({ name, adapter }) => name === device.name && adapter?.type === 'software')
  return isSoftware ? ' (a software adapter: it shows that the gpu device works, not how fast a GPU is)' : ''
}

/** One line that is written over; nothing where no terminal shows it. */
export function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[2K${text}`)
}

/** Runs a main function; of errors that users can make, only the message is shown. */
export async function main(body: () => Promise<void>): Promise<void> {
  try {
    await body()
  } catch (error) {
    if (!(error instanceof TilegradError) && !(error instanceof OptionError)) throw error
    console.error(`\n${error.message}`)
    process.exitCode = 1
  }
}

/** Whether a module is what Node was asked to run. */
export function isMain(url: string): boolean {
  return url === pathToFileURL(process.argv[1] ?? '').href
}

/** Runs an example with the options of the command line. */
export function start<Result>(example: Example<Result>, words = process.argv.slice(2)): Promise<void> {
  return main(() => run(example, words))
}

async function run<Result>(example: Example<Result>, words: string[]): Promise<void> {
  const { values } = parseArgs({
    args: words,
    options: {
      device: { type: 'string', default: 'auto' },
      quick: { type: 'boolean', default: false },
      record: { type: 'boolean', default: false },
    },
  })
  const device = await open(deviceNamed(values.device))
  setDefaultDevice(device)
  const lines: string[] = []
  const print = (line = ''): void => {
    progress('')
    console.log(line)
    lines.push(line)
  }
  print(`device ${device.name}${await remark(device)}`)
  const result = await example.run({ device, quick: values.quick, print, progress })
  const picture = example.picture(result)
  if (values.record) record(example.name, lines, picture)
  else {
    const folder = new URL('out/', import.meta.url)
    mkdirSync(folder, { recursive: true })
    const file = new URL(`${example.name}-${device.kind}.svg`, folder)
    writeFileSync(file, picture)
    console.log(`\nas a picture: ${relative(process.cwd(), fileURLToPath(file))}`)
  }
  await device.close()
}

/** The page of an example. */
export function page(name: string): URL {
  return new URL(`../docs/examples/${name}.md`, import.meta.url)
}

/** Where a page shows what its example printed. */
export const OUTPUT = /(?<=^```text\n).*?(?=^```$)/ms

function record(name: string, lines: readonly string[], picture: string): void {
  const text = readFileSync(page(name), 'utf8')
  writeFileSync(
    page(name),
    text.replace(OUTPUT, () => `${lines.join('\n').trim()}\n`),
  )
  writeFileSync(new URL(`${name}.svg`, page(name)), picture)
  console.log(`\nrecorded in ${relative(process.cwd(), fileURLToPath(page(name)))}`)
}
