/**
 * What an example says that it prints, held against what it prints: `console.log(x) // 4`. Only lines of their own at the
 * top level, which run once; a comment that ends in … describes and is not held. Numbers agree to the digits written, those
 * of few digits exactly, but for the rounding of f32; how Node breaks lines and counts elements does not matter.
 */

const CLAIM = /^(?<call>console\.log\(.*\)) \/\/ (?<claim>.*[^…])$/
const SPOKEN = /^<claim (?<line>\d+)>\n(?<text>.*?)^<\/claim>$/gms
const TOKEN = /-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|[a-z_$][\w$]*|\S/gi

/** From so many digits on a number is one that was rounded. */
const ROUNDED = 4

/** The same code, on the same lines, which marks in its output what each claim is about. */
export function marked(code: string): string {
  const lines = code.split('\n').map((line, i) => {
    const call = CLAIM.exec(line)?.groups?.['call']
    return call === undefined ? line : `;console.log('<claim ${i}>');${call};console.log('</claim>')`
  })
  return lines.join('\n')
}

/** The claims that do not hold, given what the marked code has printed. */
export function unfounded(code: string, output: string): string[] {
  const spoken = new Map([...output.matchAll(SPOKEN)].map(({ groups }) => [Number(groups!['line']), groups!['text']!]))
  return code.split('\n').flatMap((line, i) => {
    const claim = CLAIM.exec(line)?.groups?.['claim']
    const text = spoken.get(i) ?? ''
    return claim === undefined || agree(claim, text) ? [] : [`says ${claim}, prints ${text.trim()}`]
  })
}

/** Whether a text is what is claimed. */
export function agree(claim: string, text: string): boolean {
  const [claimed, printed] = [tokens(claim), tokens(text)]
  return (
    claimed.length === printed.length && claimed.every((token, i) => token === printed[i] || near(token, printed[i]!))
  )
}

function tokens(text: string): string[] {
  return text.replaceAll(/(Array|Set|Map)\(\d+\)/g, '$1').match(TOKEN) ?? []
}

function near(claimed: string, printed: string): boolean {
  const [a, b] = [Number(claimed), Number(printed)]
  const [mantissa, exponent = '0'] = claimed.split('e') as [string, string?]
  const decimals = mantissa.split('.')[1]?.length ?? 0
  const digits = mantissa.replace(/^-?0*\.?0*/, '').replace('.', '').length
  return Math.abs(a - b) <= (digits < ROUNDED ? 1e-6 * Math.abs(a) : 0.501 * 10 ** (Number(exponent) - decimals))
}
