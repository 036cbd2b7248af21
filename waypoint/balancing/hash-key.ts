/** What of a request decides on its endpoint. Source: Istio's published `ConsistentHashLB` (networking.istio.io/v1). */
import { randomBytes } from 'node:crypto'
import { hashOf } from '../../shared/mesh/hash.ts'
import type { Ip } from '../../shared/net/address.ts'
import { cookieValues } from '../http/cookies.ts'
import type { RequestHead } from '../http/exchange.ts'
import { queryOf } from '../http/target.ts'
import type { HashKey } from '../traffic-policy.ts'

export interface Keyed {
  readonly head: Pick<RequestHead, 'target' | 'headers'>
  readonly sourceIp: Ip
}

export interface KeyHash {
  /** 32 bits without sign; undefined: the request has no key, and may go anywhere. */
  readonly hash: number | undefined
  /** The value of a Set-Cookie field for the answer, so that the client comes back with a key. */
  readonly setCookie: string | undefined
}

/** `newValue`: of a cookie that the client lacks; nobody must be able to guess it. */
export function keyHashOf(
  key: HashKey,
  request: Keyed,
  newValue: () => string = () => randomBytes(16).toString('base64url')
): KeyHash {
  const value = valueOf(key, request)
  if (key.from !== 'cookie' || key.ttlMs === undefined || (value !== undefined && value !== '')) {
    return { hash: value === undefined ? undefined : hashOf(value), setCookie: undefined }
  }
  const made = newValue()
  return { hash: hashOf(made), setCookie: setCookieOf(key, key.ttlMs, made) }
}

function valueOf(key: HashKey, { head: { target, headers }, sourceIp }: Keyed): string | undefined {
  switch (key.from) {
    case 'source-ip':
      return sourceIp
    case 'header': {
      const name = key.name.toLowerCase()
      // Sorted: the order in which several came is not the client's to keep.
      return headers.has(name) ? headers.all(name).toSorted().join() : undefined
    }
    case 'query':
      return new URLSearchParams(queryOf(target)).get(key.name) ?? undefined
    default:
      return cookieValues(headers, key.name)[0]
  }
}

/** Without an age where it is for the client's session. Scripts have no use for it (RFC 6265 section 5.2.6). */
function setCookieOf(
  { name, path, attributes }: Extract<HashKey, { from: 'cookie' }>,
  ttlMs: number,
  value: string
): string {
  const parts = [`${name}=${value}`]
  if (path !== '') parts.push(`Path=${path}`)
  if (ttlMs > 0) parts.push(`Max-Age=${Math.ceil(ttlMs / 1000)}`)
  for (const [attribute, text] of attributes) parts.push(text === '' ? attribute : `${attribute}=${text}`)
  if (!attributes.some(([attribute]) => attribute.toLowerCase() === 'httponly')) parts.push('HttpOnly')
  return parts.join('; ')
}
