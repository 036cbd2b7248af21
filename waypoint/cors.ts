/**
 * Which other origins a browser lets read an answer. Preflights are answered here, and of the others the answer says
 * who may read it; a request is never kept back for it. Source: Gateway API v1, HTTPCORSFilter; the Fetch standard, CORS protocol.
 */
import { HeaderList } from './http/header-list.ts'
import type { AllowedOrigin, CorsPolicy, HttpOrigin } from './routes/route.ts'
import { textHolds } from './virtual-services/string-match.ts'

export type CorsDecision =
  /** The whole answer. */
  | { readonly kind: 'preflight'; readonly headers: HeaderList }
  /** `origin`: whom the answer may be shared with; undefined: nobody else. */
  | { readonly kind: 'request'; readonly origin: string | undefined }

const asksMethod = 'access-control-request-method'
const asksHeaders = 'access-control-request-headers'

export function decideCors(policy: CorsPolicy, method: string, headers: HeaderList): CorsDecision {
  const origin = allowedOrigin(policy, headers)
  const isPreflight = method === 'OPTIONS' && headers.has('origin') && headers.has(asksMethod)
  if (!isPreflight || (origin === undefined && policy.forwardsOthers === true)) {
    return { kind: 'request', origin }
  }
  const answer = new HeaderList()
  if (origin !== undefined) {
    allowOrigin(policy, origin, answer)
    // What is asked for, in place of a wildcard: credentials forbid one, and without them it would leave out `authorization`.
    list(answer, 'allow-methods', policy.methods, () => headers.members(asksMethod))
    list(answer, 'allow-headers', policy.headers, () => headers.members(asksHeaders))
    list(answer, 'expose-headers', policy.exposed, () => (policy.credentials ? [] : ['*']))
    const { maxAgeSeconds } = policy
    if (maxAgeSeconds !== undefined) answer.append('access-control-max-age', String(maxAgeSeconds))
  }
  answer.append('vary', 'origin')
  return { kind: 'preflight', headers: answer }
}

/** Changes an answer's headers in place. What the application says of other origins gives way to the route's policy. */
export function shareAnswer(policy: CorsPolicy, origin: string | undefined, headers: HeaderList): void {
  if (origin === undefined && policy.forwardsOthers === true) return
  const names = [...headers].map(([name]) => name)
  for (const name of names) if (name.startsWith('access-control-')) headers.remove(name)
  if (origin !== undefined) {
    allowOrigin(policy, origin, headers)
    const all = names.filter(name => !name.startsWith('access-control-'))
    list(headers, 'expose-headers', policy.exposed, () => (policy.credentials ? [...new Set(all)] : ['*']))
  }
  const varies = headers.members('vary').map(name => name.toLowerCase())
  if (!varies.includes('origin') && !varies.includes('*')) headers.append('vary', 'origin')
}

function allowOrigin({ credentials }: CorsPolicy, origin: string, headers: HeaderList): void {
  headers.append('access-control-allow-origin', origin)
  if (credentials) headers.append('access-control-allow-credentials', 'true')
}

function list(
  headers: HeaderList,
  name: string,
  names: readonly string[],
  everything: () => readonly string[]
): void {
  const told = names.includes('*') ? everything() : names
  if (told.length > 0) headers.append(`access-control-${name}`, told.join(', '))
}

/** As the client wrote it. */
function allowedOrigin({ origins }: CorsPolicy, headers: HeaderList): string | undefined {
  const [written, another] = headers.all('origin')
  if (written === undefined || another !== undefined) return undefined
  const origin = parseOrigin(written)
  return origins.some(allowed => matches(allowed, origin, written)) ? written : undefined
}

function matches(allowed: AllowedOrigin, origin: HttpOrigin | undefined, written: string): boolean {
  if (allowed.kind === 'any') return true
  if (allowed.kind === 'written') return textHolds(allowed.text, written)
  if (allowed.scheme !== origin?.scheme || allowed.port !== origin.port) return false
  if (allowed.kind === 'one') return allowed.host === origin.host
  return origin.host.length > allowed.host.length && origin.host.endsWith(allowed.host)
}

const form = /^(https?):\/\/(\[[0-9a-f:.]+\]|[^\s:/?#@[\]]+)(?::(\d{1,5}))?$/i

/** Scheme and host in lower case, the port that the scheme means where none is written; undefined: it is none of HTTP. */
export function parseOrigin(text: string): HttpOrigin | undefined {
  const [, scheme, host, port] = form.exec(text) ?? []
  if (scheme === undefined || host === undefined) return undefined
  const lower = scheme.toLowerCase() === 'https' ? 'https' : 'http'
  const number = port === undefined ? (lower === 'https' ? 443 : 80) : Number(port)
  return number > 65_535 || number === 0
    ? undefined
    : { scheme: lower, host: host.toLowerCase(), port: number }
}
