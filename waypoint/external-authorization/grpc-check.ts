/** An authorizer that speaks gRPC. Source: Envoy's published envoy.service.auth.v3.Authorization. */
import { message, type Message } from '../../shared/xds/schema.ts'
import type { RequestHead } from '../http/exchange.ts'
import { HeaderList } from '../http/header-list.ts'
import { headerEdit, type Changes, type HeaderEdit } from './changes.ts'
import type { Outcome, Sender, Subject } from './check.ts'
import { denial } from './denial.ts'
import type { GrpcProvider } from './providers.ts'

const path = '/envoy.service.auth.v3.Authorization/Check'

interface Peer {
  readonly address: { readonly socketAddress: { readonly address: string; readonly portValue: number } }
  readonly principal?: string
}

interface Entry {
  readonly key: string
  readonly value: string
}

interface CheckRequest {
  readonly attributes: {
    readonly source: Peer
    readonly destination: Peer
    readonly request: {
      readonly time: { readonly seconds: number; readonly nanos: number }
      readonly http?: HttpRequest
    }
  }
}

interface HttpRequest {
  readonly id: string
  readonly method: string
  readonly headers: readonly Entry[]
  readonly path: string
  readonly host: string
  readonly scheme: string
  /** Bytes of the body; -1 where that is not known. */
  readonly size: number
  readonly protocol: string
}

interface CheckResponse {
  readonly status?: { readonly code?: number }
  readonly deniedResponse?: {
    readonly status?: { readonly code?: number }
    readonly headers: readonly HeaderOption[]
    readonly body?: string
  }
  readonly okResponse?: {
    readonly headers: readonly HeaderOption[]
    readonly headersToRemove: readonly string[]
    readonly responseHeadersToAdd: readonly HeaderOption[]
    readonly queryParametersToSet: readonly Partial<Entry>[]
    readonly queryParametersToRemove: readonly string[]
  }
}

interface HeaderOption {
  readonly header?: { readonly key?: string; readonly value?: string; readonly rawValue?: Buffer }
  readonly append?: { readonly value?: boolean }
  readonly appendAction?: number
}

const checkRequest: Message<CheckRequest> = message('envoy.service.auth.v3.CheckRequest')
const checkResponse: Message<CheckResponse> = message('envoy.service.auth.v3.CheckResponse')

/** Throws an Error where the authorizer gives no answer that can be acted upon. */
export async function checkGrpc(
  provider: GrpcProvider,
  subject: Subject,
  { sendGrpc }: Pick<Sender, 'sendGrpc'>,
  signal: AbortSignal
): Promise<Outcome> {
  return readCheckResponse(await sendGrpc(provider.service, path, encodeCheckRequest(subject), signal))
}

export function encodeCheckRequest({ peer, client, destination, receivedMs, http }: Subject): Buffer {
  const seconds = Math.floor(receivedMs / 1000)
  const time = { seconds, nanos: Math.floor((receivedMs - seconds * 1000) * 1e6) }
  return checkRequest.encode({
    attributes: {
      source: { ...peerAt(client.ip, client.port), ...(peer === undefined ? {} : { principal: peer }) },
      destination: peerAt(destination.address, destination.port),
      request: http === undefined ? { time } : { time, http: httpRequest(http) }
    }
  })
}

function peerAt(address: string, portValue: number): Peer {
  return { address: { socketAddress: { address, portValue } } }
}

function httpRequest(head: RequestHead): HttpRequest {
  const { method, target, authority, version, headers, framing } = head
  const scheme = head.scheme ?? headers.get('x-forwarded-proto') ?? 'http'
  const pseudo = { ':authority': authority, ':method': method, ':path': target, ':scheme': scheme }
  const joined = new Map(Object.entries(pseudo))
  for (const [name, value] of headers) {
    const before = joined.get(name)
    joined.set(name, before === undefined ? value : `${before}${name === 'cookie' ? '; ' : ','}${value}`)
  }
  const unknown = framing.kind === 'chunked' || framing.kind === 'until close'
  return {
    id: utf8(headers.get('x-request-id') ?? ''),
    method,
    headers: Array.from(joined, ([key, value]) => ({ key, value: utf8(value) })),
    path: utf8(target),
    host: utf8(authority),
    scheme: utf8(scheme),
    size: unknown ? -1 : framing.kind === 'length' ? framing.bytes : 0,
    protocol: version
  }
}

/** Throws an Error for what is no answer, or one that no request could carry out. */
export function readCheckResponse(bytes: Uint8Array): Outcome {
  const { status, deniedResponse, okResponse } = checkResponse.decode(bytes)
  if (status === undefined && deniedResponse === undefined && okResponse === undefined) {
    throw new Error('its answer says neither yes nor no')
  }
  if ((status?.code ?? 0) !== 0 || deniedResponse !== undefined) return denied(deniedResponse)
  return { kind: 'allowed', changes: changesOf(okResponse) }
}

function denied(response: CheckResponse['deniedResponse']): Outcome {
  const code = response?.status?.code ?? 0
  const headers = new HeaderList()
  for (const option of response?.headers ?? []) {
    const edit = denialHeader(option)
    if (edit !== undefined) headers.append(edit.name, edit.value)
  }
  const status = code >= 200 && code <= 599 ? code : 403
  return denial(status, headers, { body: Buffer.from(response?.body ?? ''), whole: true })
}

/** A header that cannot be carried does not turn a denial into a failure, which might let the request pass. */
function denialHeader(option: HeaderOption): HeaderEdit | undefined {
  try {
    return headerEdit('append', option.header?.key ?? '', valueOf(option))
  } catch {
    return undefined // it can only be left out
  }
}

function changesOf(response: CheckResponse['okResponse']): Changes {
  const { headers = [], headersToRemove = [], responseHeadersToAdd = [] } = response ?? {}
  const { queryParametersToSet = [], queryParametersToRemove = [] } = response ?? {}
  return {
    request: headers.flatMap(option => editOf(option, 'set')),
    remove: headersToRemove.map(name => name.toLowerCase()),
    query: {
      set: queryParametersToSet.map(({ key = '', value = '' }) => [key, value] as const),
      remove: queryParametersToRemove
    },
    response: responseHeadersToAdd.flatMap(option => editOf(option, 'append'))
  }
}

const actions: readonly HeaderEdit['how'][] = ['append', 'add if absent', 'set', 'set if present']

/** `fallback`: where the authorizer says nothing, which on the wire is the first action. */
function editOf(option: HeaderOption, fallback: HeaderEdit['how']): readonly HeaderEdit[] {
  const { append, appendAction = 0 } = option
  const how =
    append !== undefined
      ? append.value === true
        ? 'append'
        : 'set'
      : appendAction === 0
        ? fallback
        : actions[appendAction]
  if (how === undefined) throw new Error(`append_action ${appendAction} is not known`)
  const edit = headerEdit(how, option.header?.key ?? '', valueOf(option))
  return edit === undefined ? [] : [edit]
}

/** Header values are bytes, one a character; texts of messages are UTF-8. */
function utf8(value: string): string {
  return Buffer.from(value, 'latin1').toString()
}

function valueOf({ header: { value = '', rawValue } = {} }: HeaderOption): string {
  return (value === '' && rawValue !== undefined ? rawValue : Buffer.from(value)).toString('latin1')
}
