/** The operations random programs are made of. */

import { COMPOSITIONS } from './compositions.ts'
import { ELEMENTWISE } from './elementwise.ts'
import { NORMS } from './norms.ts'
import { PRODUCTS } from './products.ts'
import { REDUCTIONS } from './reductions.ts'
import type { Rule } from './rule.ts'
import { SHAPES } from './shapes.ts'

/** Every operation; the rarer families several times, so that they are not drowned by the elementwise ones. */
export const RULES: readonly Rule[] = [
  ...ELEMENTWISE,
  ...REDUCTIONS,
  ...NORMS,
  ...COMPOSITIONS,
  ...PRODUCTS,
  ...PRODUCTS,
  ...PRODUCTS,
  ...SHAPES,
  ...SHAPES,
]

/** By name. */
export const RULE: ReadonlyMap<string, Rule> = new Map(RULES.map((rule) => [rule.op, rule]))
