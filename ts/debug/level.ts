/**
 * `TILEGRAD_DEBUG`: how much a device says about what it is given. Read when a device is opened.
 *
 * | level | says |
 * |---|---|
 * | 1 | each program once, as text; errors name the places in your code |
 * | 2 | also how it is planned |
 * | 3 | also each run, with the time of every step |
 */

/** 0 says nothing. */
export type DebugLevel = 0 | 1 | 2 | 3

let warned = false

/** The level that the environment asks for. What is none is 0, and said so once. */
export function debugLevel(): DebugLevel {
  const wanted = process.env['TILEGRAD_DEBUG'] ?? ''
  switch (wanted) {
    case '':
    case '0':
      return 0
    case '1':
      return 1
    case '2':
      return 2
    case '3':
      return 3
    default:
      if (!warned) process.emitWarning(`TILEGRAD_DEBUG is 1, 2 or 3, not ${wanted}`, { type: 'TilegradWarning' })
      warned = true
      return 0
  }
}
