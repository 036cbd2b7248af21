/** What a rule of a VirtualService answers itself. Source: Istio's published HTTPRedirect and HTTPDirectResponse; Envoy's published RedirectAction. */
import type { RequestHead } from '../http/exchange.ts'
import { HeaderList } from '../http/header-list.ts'
import { pathOf } from '../http/target.ts'
import type { LocalReply } from '../local-reply.ts'
import { changeHeaders, changeTarget } from '../routes/change-request.ts'
import type { HeaderChange, OwnAnswer } from '../routes/route.ts'

type Asked = Pick<RequestHead, 'authority' | 'scheme' | 'target'>

interface Context {
  /** Which the client asked for. */
  readonly port: number
  /** What matched of the path. */
  readonly prefix: string | undefined
  readonly responseHeaders: HeaderChange | undefined
}

export function ownAnswerTo(
  answer: OwnAnswer,
  asked: Asked,
  { port, prefix, responseHeaders }: Context
): LocalReply {
  const headers = new HeaderList()
  if (answer.kind === 'redirect') headers.append('location', locationOf(answer, asked, { port, prefix }))
  if (responseHeaders !== undefined) changeHeaders(headers, responseHeaders)
  const body = answer.kind === 'direct' ? answer.body : ''
  return { status: answer.status, body, flag: '-', details: 'direct_response', headers }
}

const defaultPorts: Readonly<Record<string, number>> = { http: 80, https: 443 }

function locationOf(
  answer: Extract<OwnAnswer, { kind: 'redirect' }>,
  { authority, scheme: asked = 'http', target }: Asked,
  context: Omit<Context, 'responseHeaders'>
): string {
  const scheme = answer.scheme ?? asked
  const port = answer.port === 'request' ? context.port : answer.port
  const host = answer.authority ?? withoutDefault(authority, scheme === asked ? undefined : asked)
  const path = pathTo(answer, target, context.prefix)
  if (port === undefined) return `${scheme}://${host}${path}`
  const shown = port === defaultPorts[scheme] ? '' : `:${port}`
  return `${scheme}://${host.replace(/:\d+$/, '')}${shown}${path}`
}

function pathTo(
  { uri, prefix }: Extract<OwnAnswer, { kind: 'redirect' }>,
  target: string,
  matched: string | undefined
): string {
  if (uri !== undefined) return withQuery(uri, target)
  return prefix === undefined ? target : changeTarget(target, { kind: 'text', value: prefix }, matched)
}

/** A port that was written because of the scheme means something else in another one. */
function withoutDefault(authority: string, scheme: string | undefined): string {
  const port = `:${defaultPorts[scheme ?? '']}`
  return authority.endsWith(port) ? authority.slice(0, -port.length) : authority
}

function withQuery(uri: string, target: string): string {
  return uri.includes('?') ? uri : uri + target.slice(pathOf(target).length)
}
