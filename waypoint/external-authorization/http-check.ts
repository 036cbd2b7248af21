/**
 * An authorizer that speaks HTTP: it gets the head of the request, and its status decides. Source: Istio's published
 * mesh/v1alpha1/config.proto; Envoy's published documentation of the HTTP service of ext_authz.
 */
import type { RequestHead } from '../http/exchange.ts'
import { HeaderList } from '../http/header-list.ts'
import { headerEdit, isOwnHeader, noEdits, type HeaderEdit } from './changes.ts'
import type { HttpAnswer, HttpCheck, Outcome, Sender, Subject } from './check.ts'
import { denial, maxBody } from './denial.ts'
import type { HttpProvider, NameTest } from './providers.ts'

/** Of an answer that denies, whatever was configured: without them a client could not act on it. */
const alwaysToClient = new Set(['location', 'www-authenticate'])
const removeHeader = 'x-envoy-auth-headers-to-remove'

/** Throws an Error where the authorizer gives no answer that can be acted upon. */
export async function checkHttp(
  provider: HttpProvider,
  { http }: Subject,
  { sendHttp }: Pick<Sender, 'sendHttp'>,
  signal: AbortSignal
): Promise<Outcome> {
  if (http === undefined) throw new Error('an authorizer by HTTP cannot be asked about a connection')
  return readHttpAnswer(provider, await sendHttp(provider.service, httpCheck(provider, http), signal))
}

export function httpCheck(
  { pathPrefix, requestHeaders, extraHeaders }: HttpProvider,
  head: RequestHead
): HttpCheck {
  const headers = new HeaderList()
  for (const [name, value] of head.headers) {
    if (name === 'authorization' || (requestHeaders(name) && !isOwnHeader(name))) headers.append(name, value)
  }
  for (const [name, value] of extraHeaders) headers.set(name, value)
  headers.set('content-length', '0')
  const { method, authority, target } = head
  return { method, authority, target: pathPrefix + target, headers, maxBody }
}

export function readHttpAnswer(provider: HttpProvider, answer: HttpAnswer): Outcome {
  const { status, headers } = answer
  if (status < 200 || status >= 500) throw new Error(`answered ${status}`)
  if (status !== 200) return denial(status, headersToClient(provider, headers), answer)
  return {
    kind: 'allowed',
    changes: {
      request: overwriting(headers, provider.upstreamOnAllow),
      remove: headers.members(removeHeader).map(name => name.toLowerCase()),
      query: noEdits,
      response: editsOf(headers, provider.downstreamOnAllow, () => 'append')
    }
  }
}

/** The first of a name takes the place of the request's own, further ones stand beside it. */
function overwriting(headers: HeaderList, wanted: NameTest): readonly HeaderEdit[] {
  const seen = new Set<string>()
  return editsOf(headers, wanted, name => {
    const how = seen.has(name) ? 'append' : 'set'
    seen.add(name)
    return how
  })
}

function editsOf(
  headers: HeaderList,
  wanted: NameTest,
  how: (name: string) => HeaderEdit['how']
): readonly HeaderEdit[] {
  return [...headers].flatMap(([name, value]) => {
    const edit = wanted(name) ? headerEdit(how(name), name, value) : undefined
    return edit === undefined ? [] : [edit]
  })
}

function headersToClient({ downstreamOnDeny }: HttpProvider, headers: HeaderList): HeaderList {
  const passed = new HeaderList()
  for (const [name, value] of headers) {
    if (isOwnHeader(name)) continue
    if (downstreamOnDeny === undefined || downstreamOnDeny(name) || alwaysToClient.has(name))
      passed.append(name, value)
  }
  return passed
}
