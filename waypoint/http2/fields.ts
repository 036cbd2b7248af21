/** Header lists of HTTP/2 as header fields, and back. What comes in may go out as HTTP/1.1, so it must be clean there too. */
import type { HeaderField, HeaderList as FieldSection } from '../../shared/hbone/header-field.ts'
import { findMalformed } from '../../shared/hbone/header-rules.ts'
import { HeaderList } from '../http/header-list.ts'
import { isFieldValue } from '../http1/characters.ts'
import { MAX_FIELDS } from '../http1/field-lines.ts'
import { refused, type Refusal } from '../http1/refusal.ts'

export type { FieldSection }

/** They decide about framing, routing or identity, and come too late for it: RFC 9110 section 6.5.1. */
const forbiddenInTrailers = ['content-length', 'host', 'authorization']

/**
 * The fields of a head without its pseudo fields, of which `allowed` may be there. Cookies that were sent apart are one
 * field again (RFC 9113 section 8.2.3).
 */
export function readFields(section: FieldSection, allowed: readonly string[]): HeaderList | Refusal {
  const malformed = findMalformed(section, allowed)
  if (malformed !== undefined) return refused(malformed)
  const headers = new HeaderList()
  for (const [name, value] of section) {
    if (name.startsWith(':')) continue
    if (!isFieldValue(value)) return refused(`the value of ${name} has a control character`)
    const before = name === 'cookie' ? headers.get(name) : undefined
    if (before === undefined) headers.append(name, value)
    // An empty one would leave a blank at the end, which the next reader takes off.
    else headers.set(name, [before, value].filter(cookie => cookie !== '').join('; '))
  }
  return headers.size > MAX_FIELDS ? refused(`more than ${MAX_FIELDS} header fields`, 431) : headers
}

/** Undefined: more of them came than we take. */
export function readTrailers(section: FieldSection | undefined): HeaderList | Refusal {
  if (section === undefined) return refused('trailers longer than we take', 431)
  const trailers = readFields(section, [])
  if (trailers instanceof HeaderList) {
    const wrong = forbiddenInTrailers.find(name => trailers.has(name))
    if (wrong !== undefined) return refused(`${wrong} in the trailers`)
  }
  return trailers
}

/** `length`: the content-length, in place of any that the headers have. */
export function writeFields(pseudo: HeaderField[], headers: HeaderList, length?: string): FieldSection {
  const section = pseudo
  for (const field of headers) if (field[0] !== 'content-length') section.push(field)
  if (length !== undefined) section.push(['content-length', length])
  return section
}
