/** Field lines of heads and trailers: RFC 9112 section 5, with everything refused that readers understand differently. */
import { isFieldValue, isToken } from './characters.ts'
import { HeaderList } from '../http/header-list.ts'
import { refused, type Refusal } from './refusal.ts'

/** As Envoy's. */
export const MAX_FIELDS = 100

/**
 * Reads lines that end with CRLF from `text`, latin1, beginning at `start`, up to its end; the empty line at the end is
 * not part of it.
 */
export function readFieldLines(text: string, start: number): HeaderList | Refusal {
  const headers = new HeaderList()
  for (let at = start; at < text.length;) {
    const end = text.indexOf('\r\n', at)
    if (end < 0) return refused('a field line does not end with CRLF')
    const problem = readFieldLine(text, at, end, headers)
    if (problem !== undefined) return problem
    if (headers.size > MAX_FIELDS) return refused(`more than ${MAX_FIELDS} header fields`, 431)
    at = end + 2
  }
  return headers
}

function readFieldLine(text: string, start: number, end: number, headers: HeaderList): Refusal | undefined {
  const first = text.charCodeAt(start)
  if (first === 0x20 || first === 0x09) return refused('a field line is folded, or begins with a blank')
  const colon = text.indexOf(':', start)
  if (colon < 0 || colon >= end) return refused('a field line has no colon')
  const name = text.slice(start, colon)
  // A blank before the colon is no token character, so it is refused here too (RFC 9112 section 5.1).
  if (!isToken(name)) return refused('a field name is not a token')
  const value = withoutBlanks(text, colon + 1, end)
  if (!isFieldValue(value)) return refused(`the value of ${name.toLowerCase()} has a control character`)
  headers.append(name.toLowerCase(), value)
  return undefined
}

function withoutBlanks(text: string, from: number, to: number): string {
  let start = from
  let end = to
  while (start < end && isBlank(text.charCodeAt(start))) start += 1
  while (end > start && isBlank(text.charCodeAt(end - 1))) end -= 1
  return text.slice(start, end)
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09
}
