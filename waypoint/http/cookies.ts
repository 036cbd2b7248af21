/** Cookies of a request: RFC 6265. */
import type { HeaderList } from './header-list.ts'

/** Values of that name in their order, which begins with those for the longest paths (section 5.4). */
export function cookieValues(headers: HeaderList, name: string): readonly string[] {
  if (!headers.has('cookie')) return []
  const found: string[] = []
  for (const field of headers.all('cookie')) {
    for (const part of field.split(';')) {
      const equals = part.indexOf('=')
      if (equals >= 0 && part.slice(0, equals).trim() === name) found.push(unquoted(part.slice(equals + 1)))
    }
  }
  return found
}

/** The quotes around a value are not part of it (section 4.2.1). */
function unquoted(text: string): string {
  const value = text.trim()
  return value.length > 1 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : value
}
