/**
 * Finds the TypeScript examples of the documentation: fenced `ts` blocks of Markdown files, and those inside doc
 * comments of the sources. Each block is a module of its own. A block marked `ts no-run` is type-checked only.
 */

import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

/** One fenced block. */
export interface Example {
  /** File relative to the repository, with forward slashes. */
  readonly file: string
  /** Line of the block's first line of code in that file, from 1. */
  readonly line: number
  readonly code: string
  /** Whether it may be run and not only type-checked. */
  readonly runs: boolean
}

const FENCE = /^```ts(?<mark> no-run)?\n(?<code>.*?)^```$/gms
const DOC_COMMENT = /\/\*\*.*?\*\//gs

function lineAt(text: string, position: number): number {
  return text.slice(0, position).split('\n').length
}

/** Blocks of a Markdown text, or of the text inside a doc comment. */
export function examplesIn(file: string, text: string, firstLine = 1): Example[] {
  return [...text.matchAll(FENCE)].map((match) => ({
    file,
    line: firstLine + lineAt(text, match.index),
    code: match.groups?.['code'] ?? '',
    runs: match.groups?.['mark'] === undefined,
  }))
}

/** Blocks of the doc comments in a TypeScript source. */
export function examplesInComments(file: string, source: string): Example[] {
  return [...source.matchAll(DOC_COMMENT)].flatMap((comment) =>
    examplesIn(file, comment[0].replaceAll(/^[ \t]*\*(?: |$)/gm, ''), lineAt(source, comment.index)),
  )
}

function filesBelow(root: string, folder: string, extension: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(extension))
    .map((name) => `${folder}/${name.replaceAll('\\', '/')}`)
    .toSorted()
}

/** Every example of the repository. */
export function allExamples(root: string): Example[] {
  const prose = [
    ...readdirSync(root).filter((name) => name.endsWith('.md')),
    ...filesBelow(root, 'docs', '.md'),
  ].flatMap((file) => examplesIn(file, readFileSync(join(root, file), 'utf8')))
  const comments = filesBelow(root, 'ts', '.ts').flatMap((file) =>
    examplesInComments(file, readFileSync(join(root, file), 'utf8')),
  )
  return [...prose, ...comments]
}
