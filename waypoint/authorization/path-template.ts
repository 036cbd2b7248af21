/**
 * Paths with `{*}` (one segment, not empty) and `{**}` (the rest, also none).
 * Source: Istio's published AuthorizationPolicy, `paths`; RFC 3986 section 3.3.
 */
import { textPattern, type TextTest } from './text-pattern.ts'

/** Characters of a segment, but for the star. */
const literal = /^[\w\-.~%!$&'()+,;:@=]+$/

/** Throws an Error with what is wrong. */
export function pathTest(value: string): TextTest {
  if (value.includes('{*}') || value.includes('{**}')) return pathTemplate(value)
  if (/[{}]/.test(value)) throw new Error(`${JSON.stringify(value)} has braces: use {*} or {**} as a segment`)
  return textPattern(value)
}

function pathTemplate(value: string): TextTest {
  check(value)
  const [before = '', after] = value.split('{**}')
  const [first = '', ...rest] = before.split('{*}')
  return path => {
    if (!path.startsWith(first)) return false
    let at = first.length
    for (const part of rest) {
      const end = endOfSegment(path, at)
      if (end === at || !path.startsWith(part, end)) return false
      at = end + part.length
    }
    return after === undefined ? at === path.length : path.length - at >= after.length && path.endsWith(after)
  }
}

function endOfSegment(path: string, at: number): number {
  const slash = path.indexOf('/', at)
  return slash < 0 ? path.length : slash
}

function check(value: string): void {
  const complain = (problem: string): never => {
    throw new Error(`${JSON.stringify(value)} ${problem}`)
  }
  if (!value.startsWith('/')) complain('has to begin with /')
  let ended = false
  for (const segment of value.replace(/\/$/, '').slice(1).split('/')) {
    if (segment === '{*}' || segment === '{**}') {
      if (ended) complain('has an operator after {**}, which has to be the last one')
      ended = segment === '{**}'
    } else if (!literal.test(segment)) {
      complain(
        /[{}*]/.test(segment)
          ? 'has braces or stars that are not a whole segment {*} or {**}'
          : `has the segment ${JSON.stringify(segment)}, which no path can have`
      )
    }
  }
}
