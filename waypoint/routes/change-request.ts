/** What filters make of a request: its new path and headers, or the place that its client is sent to. */
import type { RequestHead } from '../http/exchange.ts'
import type { HeaderList } from '../http/header-list.ts'
import { pathOf } from '../http/target.ts'
import type { HeaderChange, PathChange, Redirect } from './route.ts'

export function changeHeaders(headers: HeaderList, change: HeaderChange): void {
  for (const [name, value] of change.set) headers.set(name, value)
  for (const [name, value] of change.add) headers.append(name, value)
  for (const name of change.remove) headers.remove(name)
}

/** `target`: path and query; `prefix`: what matched of it. The query stays. */
export function changeTarget(target: string, change: PathChange, prefix: string | undefined): string {
  const path = pathOf(target)
  const query = target.slice(path.length)
  if (change.kind === 'full') return (change.value === '' ? '/' : change.value) + query
  if (change.kind === 'text') return rooted(change.value + path.slice(prefix?.length ?? 0)) + query
  if (change.kind === 'expression') return rooted(change.value.apply(path)) + query
  // Of `/foo` in `/foo/bar` the rest begins with its slash, so `/` and `/xyz/` must not bring another one.
  const rest = path.slice(prefix?.length ?? 0)
  const replaced = change.value.replace(/\/+$/, '') + rest
  return rooted(replaced) + query
}

function rooted(path: string): string {
  return path.startsWith('/') ? path : `/${path}`
}

export interface RedirectContext {
  /** The port that the client asked for. */
  readonly port: number
  readonly prefix: string | undefined
}

/** Value of `location`. A port that the scheme means anyway is not written. Source: Gateway API v1, HTTPRequestRedirectFilter. */
export function redirectLocation(
  head: Pick<RequestHead, 'authority' | 'scheme' | 'target'>,
  { scheme, hostname, path, port }: Redirect,
  context: RedirectContext
): string {
  const toScheme = scheme ?? head.scheme ?? 'http'
  const host = hostname ?? head.authority.replace(/:\d+$/, '')
  const wellKnown = toScheme === 'https' ? 443 : 80
  const toPort = port ?? (scheme === undefined ? context.port : wellKnown)
  const target = path === undefined ? head.target : changeTarget(head.target, path, context.prefix)
  return `${toScheme}://${host}${toPort === wellKnown ? '' : `:${toPort}`}${target}`
}
