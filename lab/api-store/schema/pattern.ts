/**
 * Patterns of schemas, which are written for Go's regular expressions (RE2). What differs from JavaScript's is
 * translated; a pattern that cannot be is not checked.
 */

const compiled = new Map<string, RegExp | undefined>()
/** Patterns come from definitions, so there are few; a bound all the same. */
const maxCompiled = 2000

export function matchesPattern(text: string, pattern: string): boolean {
  if (!compiled.has(pattern)) {
    if (compiled.size >= maxCompiled) compiled.clear()
    compiled.set(pattern, compile(pattern))
  }
  return compiled.get(pattern)?.test(text) ?? true
}

function compile(pattern: string): RegExp | undefined {
  const [, flags = '', rest = ''] = /^(?:\(\?([ims]+)\))?([\s\S]*)$/.exec(pattern) ?? []
  const source = rest
    .replaceAll('(?P<', '(?<')
    .replaceAll(/\\A/g, '^')
    .replaceAll(/\\z/g, '$')
    .replaceAll(posixClass, posix)
  for (const mode of ['u', '']) {
    try {
      return new RegExp(source, flags + mode)
    } catch {
      // Unicode mode knows \p{…} and is strict about escapes; what it refuses may still be valid without it
    }
  }
  return undefined
}

const posixClass = /\[:(alnum|alpha|digit|lower|upper|space|xdigit):\]/g
const posixRanges: Readonly<Record<string, string>> = {
  alnum: '0-9A-Za-z',
  alpha: 'A-Za-z',
  digit: '0-9',
  lower: 'a-z',
  upper: 'A-Z',
  space: '\\s',
  xdigit: '0-9A-Fa-f'
}

function posix(_class: string, name: string): string {
  return posixRanges[name] ?? ''
}
