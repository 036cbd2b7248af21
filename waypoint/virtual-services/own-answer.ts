/** What a rule of a VirtualService answers itself. Source: Istio's published HTTPRedirect and HTTPDirectResponse; Envoy's published RedirectAction. */
import type { RequestHead } from '../http/exchange.ts'
import { HeaderList } from '../http/header-list.ts'
import { pathOf } from '../http/target.ts'
import type { LocalReply } from '../local-reply.ts'
import { changeHeaders } from '../routes/change-request.ts'
import type { HeaderChange, OwnAnswer } from '../routes/route.ts'

type Asked = Pick<RequestHead, 'authority' | 'scheme' | 'target'>

/** `port`: which the client asked for. */
export function ownAnswerTo(
  answer: OwnAnswer,
  asked: Asked,
  { port, responseHeaders }: { readonly port: number; readonly responseHeaders: HeaderChange | undefined }
): LocalReply {
  const headers = new HeaderList()
  if (answer.kind === 'redirect') headers.append('location', locationOf(answer, asked, port))
  if (responseHeaders !== undefined) changeHeaders(headers, responseHeaders)
  const body = answer.kind === 'direct' ? answer.body : ''
  return { status: answer.status, body, flag: '-', details: 'direct_response', headers }
}

const defaultPorts: Readonly<Record<string, number>> = { http: 80, https: 443 }

function locationOf(
  answer: Extract<OwnAnswer, { kind: 'redirect' }>,
  { authority, scheme: asked = 'http', target }: Asked,
  requestPort: number
): string {
  const scheme = answer.scheme ?? asked
  const port = answer.port === 'request' ? requestPort : answer.port
  const host = answer.authority ?? withoutDefault(authority, scheme === asked ? undefined : asked)
  const path = answer.uri === undefined ? target : withQuery(answer.uri, target)
  if (port === undefined) return `${scheme}://${host}${path}`
  const shown = port === defaultPorts[scheme] ? '' : `:${port}`
  return `${scheme}://${host.replace(/:\d+$/, '')}${shown}${path}`
}

/** A port that was written because of the scheme means something else in another one. */
function withoutDefault(authority: string, scheme: string | undefined): string {
  const port = `:${defaultPorts[scheme ?? '']}`
  return authority.endsWith(port) ? authority.slice(0, -port.length) : authority
}

function withQuery(uri: string, target: string): string {
  return uri.includes('?') ? uri : uri + target.slice(pathOf(target).length)
}
