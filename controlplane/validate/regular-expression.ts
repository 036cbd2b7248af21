/** Regular expressions that proxies take. Source: RE2's published syntax, which has no look-around and no back-references. */
import type { Problem } from './finding.ts'

const longest = 1024
/** What may follow a backslash, of letters and digits. */
const escapes = /[\dAabBCdDfnpPQrsStvwWxzE]/

export function regularExpression(text: string): Problem | undefined {
  if (text.length > longest) {
    return { message: `is longer than ${longest} characters`, remedy: 'use a shorter expression' }
  }
  const problem = syntaxProblem(text)
  if (problem === undefined) return undefined
  return { message: `${JSON.stringify(text)}: ${problem}`, remedy: 'use the syntax of RE2' }
}

function syntaxProblem(text: string): string | undefined {
  if (/(?<!\\)(?:\\\\)*\(\?(?:[=!]|<[=!])/.test(text)) return 'look-around is not supported'
  for (const [, escaped = ''] of text.matchAll(/\\([\s\S])/g)) {
    if (/[1-9]/.test(escaped)) return 'back-references are not supported'
    if (/[A-Za-z]/.test(escaped) && !escapes.test(escaped)) return `\\${escaped} is no escape`
  }
  if (/(?:^|[^\\])(?:\\\\)*\\$/.test(text)) return 'ends in a backslash'
  const repeat = [...text.matchAll(/\{(\d+)(?:,(\d*))?\}/g)].flatMap(([, low, high]) => [low, high])
  if (repeat.some(count => Number(count ?? 0) > 1000)) return 'repeats more than 1000 times'
  try {
    // Flags and names in groups are written otherwise in this language.
    void new RegExp(
      text
        .replaceAll(/\(\?[imsU-]+\)/g, '')
        .replaceAll(/\(\?[imsU-]+:/g, '(?:')
        .replaceAll('(?P<', '(?<')
    )
    return undefined
  } catch (error) {
    return error instanceof Error
      ? error.message.replace(/^Invalid regular expression: /, '')
      : 'is no expression'
  }
}
