/** Where requests carry tokens: finding them, and taking them out. */
import type { RequestHead } from '../http/exchange.ts'
import type { HeaderList } from '../http/header-list.ts'
import { pathOf, queryOf } from '../http/target.ts'
import type { TokenPlaces } from './jwt-rule.ts'

/** RFC 6750 sections 2.1 and 2.3: where a rule names no place of its own. */
export const defaultPlaces: TokenPlaces = {
  headers: [{ name: 'authorization', prefix: 'Bearer ' }],
  params: ['access_token'],
  cookies: []
}

/** Texts of the tokens at these places; the same text twice counts once. */
export function findTokens(
  { headers, params, cookies }: TokenPlaces,
  head: Pick<RequestHead, 'target' | 'headers'>
): readonly string[] {
  const found: string[] = []
  const add = (token: string): void => {
    if (!found.includes(token)) found.push(token)
  }
  for (const { name, prefix } of headers) {
    if (!head.headers.has(name)) continue
    for (const value of head.headers.all(name)) if (value.startsWith(prefix)) add(value.slice(prefix.length))
  }
  if (params.length > 0 && head.target.includes('?')) {
    for (const part of queryOf(head.target).split('&')) {
      const [name, value] = parameter(part)
      if (params.includes(name)) add(value)
    }
  }
  if (cookies.length > 0 && head.headers.has('cookie')) {
    for (const field of head.headers.all('cookie')) {
      for (const part of field.split(';')) {
        const [name, value] = cookie(part)
        if (cookies.includes(name)) add(value)
      }
    }
  }
  return found
}

/** Takes the tokens at these places out of `headers`, and returns the target without them. `keep`: not these. */
export function stripTokens(
  places: TokenPlaces,
  headers: HeaderList,
  target: string,
  keep: readonly string[]
): string {
  for (const { name, prefix } of places.headers) {
    retain(headers, name, value =>
      value.startsWith(prefix) && !keep.includes(value.slice(prefix.length)) ? undefined : value
    )
  }
  if (places.cookies.length > 0) {
    retain(headers, 'cookie', field => {
      const left = field.split(';').filter(part => {
        const [name, value] = cookie(part)
        return !places.cookies.includes(name) || keep.includes(value)
      })
      return left.length === 0 ? undefined : left.join(';').trimStart()
    })
  }
  if (places.params.length === 0 || !target.includes('?')) return target
  const parts = queryOf(target).split('&')
  const left = parts.filter(part => {
    const [name, value] = parameter(part)
    return !places.params.includes(name) || keep.includes(value)
  })
  if (left.length === parts.length) return target
  const path = pathOf(target)
  return left.length === 0 ? path : `${path}?${left.join('&')}`
}

/** Each field of that name as `change` makes it, in their order; without those that it makes nothing of. */
function retain(headers: HeaderList, name: string, change: (value: string) => string | undefined): void {
  if (!headers.has(name)) return
  const values = headers.all(name)
  const changed = values.map(change)
  if (changed.every((value, at) => value === values[at])) return
  headers.remove(name)
  for (const value of changed) if (value !== undefined) headers.append(name, value)
}

/** Name and value as servers read them; what cannot be decoded stays as it is, and is no token. */
function parameter(part: string): readonly [name: string, value: string] {
  const at = part.indexOf('=')
  return at < 0 ? [decoded(part), ''] : [decoded(part.slice(0, at)), decoded(part.slice(at + 1))]
}

function decoded(text: string): string {
  if (!text.includes('%')) return text
  try {
    return decodeURIComponent(text)
  } catch {
    return text // see above
  }
}

/** RFC 6265 section 4.2.1; a value may be in quotes. */
function cookie(part: string): readonly [name: string, value: string] {
  const at = part.indexOf('=')
  if (at < 0) return ['', part.trim()]
  const value = part.slice(at + 1).trim()
  const quoted = value.length > 1 && value.startsWith('"') && value.endsWith('"')
  return [part.slice(0, at).trim(), quoted ? value.slice(1, -1) : value]
}
