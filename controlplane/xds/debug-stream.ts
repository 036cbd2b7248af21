/**
 * Answers istioctl over xDS (`StreamAggregatedResources`): which client has what, and the pages of /debug.
 * Nothing of the mesh is served in this variant of the protocol.
 * Source: istioctl's published requests: types `istio.io/debug`, `istio.io/debug/syncz`, `istio.io/connections`.
 */
import { message, type Message } from '../../shared/xds/schema.ts'
import { toStruct } from '../../shared/xds/struct.ts'
import type { Caller } from '../access/token.ts'
import { displayName, nodeProblem, readNode, type ClientNode } from './client-node.ts'
import { syncStatus, type ClientStatus, type ClientStream } from './server.ts'

export interface DebugStreamOptions {
  readonly clients: () => readonly ClientStatus[]
  /** JSON of a page such as `syncz` or `config_dump?proxyID=…`; undefined when there is none of the name. */
  readonly page: (name: string) => string | undefined
  readonly systemNamespace: string
  /** Off: everybody may ask, as over HTTP. */
  readonly authenticate: boolean
  /** Who answers, for the column ISTIOD. */
  readonly podName: string
  readonly version: string
}

interface Request {
  readonly node?: { readonly id?: string; readonly metadata?: unknown }
  readonly resourceNames: readonly string[]
  readonly typeUrl?: string
  readonly responseNonce?: string
}

interface Resource {
  readonly type_url: string
  readonly value: Buffer
}

const requestMessage: Message<Request> = message('envoy.service.discovery.v3.DiscoveryRequest')
const responseMessage: Message<object> = message('envoy.service.discovery.v3.DiscoveryResponse')
const clientConfig: Message<object> = message('envoy.service.status.v3.ClientConfig')
const nodeMessage: Message<object> = message('envoy.service.discovery.v3.Node')

const debugType = 'istio.io/debug'
/** A tool asks once or twice; answers can be large and are not held back. */
const maxAnswers = 16

export function debugStream(
  options: DebugStreamOptions,
  stream: ClientStream
): { request(bytes: Buffer): void; ended(): void } {
  let node: ClientNode | undefined
  let over = false
  let answers = 0
  const refuse = (status: Parameters<ClientStream['close']>[0], reason: string): void => {
    over = true
    stream.close(status, reason)
  }
  const request = (bytes: Buffer): void => {
    if (over) return
    const asked = decode(bytes)
    if (asked === undefined) return refuse('INVALID_ARGUMENT', 'the request is no DiscoveryRequest')
    node ??= readNode(asked.node)
    if (node === undefined) {
      return refuse('INVALID_ARGUMENT', 'the first request must carry a node with an id')
    }
    const problem = nodeProblem(node, stream.caller)
    if (problem !== undefined) return refuse('PERMISSION_DENIED', problem)
    // istioctl puts the time in there, so only our own nonces acknowledge anything.
    if (isOwnNonce(asked.responseNonce ?? '', answers)) return
    if (answers === maxAnswers) {
      return refuse('INVALID_ARGUMENT', `${maxAnswers} answers a stream; open another one`)
    }
    const answer = answerTo(options, asked, stream.caller)
    if ('reason' in answer) return refuse(answer.status, answer.reason)
    answers += 1
    const { typeUrl = '' } = asked
    const controlPlane = { identifier: identifier(options) }
    stream.send(
      responseMessage.encode({
        typeUrl,
        nonce: nonce(answers),
        versionInfo: options.version,
        resources: answer.resources,
        controlPlane
      })
    )
  }
  return { request, ended: () => (over = true) }
}

type Answer =
  | { readonly resources: readonly Resource[] }
  | { readonly status: Parameters<ClientStream['close']>[0]; readonly reason: string }

function answerTo(options: DebugStreamOptions, asked: Request, caller: Caller | undefined): Answer {
  const { authenticate, systemNamespace } = options
  if (authenticate && caller === undefined) {
    return { status: 'UNAUTHENTICATED', reason: 'debug types are for clients that authenticate' }
  }
  // An account of another namespace sees the clients of its own.
  const outsider = authenticate && caller?.namespace !== systemNamespace ? caller?.namespace : undefined
  const clients = options
    .clients()
    .flatMap(client => (client.node === undefined ? [] : [{ ...client, node: client.node }]))
    .filter(({ node }) => outsider === undefined || node.namespace === outsider)
  switch (asked.typeUrl) {
    case `${debugType}/syncz`:
      return { resources: clients.map(syncOf) }
    case 'istio.io/connections':
      return { resources: clients.map(({ node }) => nodeOf(node)) }
    case debugType:
      if (outsider === undefined) return pageOf(options, asked.resourceNames)
      return {
        status: 'PERMISSION_DENIED',
        reason: `only accounts of namespace ${systemNamespace} may ask for ${debugType}`
      }
    default:
      return {
        status: 'INVALID_ARGUMENT',
        reason: `type ${asked.typeUrl ?? ''} is not served by StreamAggregatedResources; use DeltaAggregatedResources`
      }
  }
}

function pageOf({ page }: DebugStreamOptions, names: readonly string[]): Answer {
  const [name, ...more] = names
  if (name === undefined || more.length > 0) {
    return { status: 'INVALID_ARGUMENT', reason: `type ${debugType} takes one resource name, such as syncz` }
  }
  const text = page(name)
  if (text === undefined) return { status: 'INVALID_ARGUMENT', reason: `there is no debug page ${name}` }
  return { resources: [{ type_url: debugType, value: Buffer.from(text) }] }
}

function syncOf({ node, types }: ClientStatus & { readonly node: ClientNode }): Resource {
  const value = clientConfig.encode({
    node: { id: displayName(node), metadata: metadataOf(node) },
    genericXdsConfigs: types
      .toSorted((a, b) => (a.typeUrl < b.typeUrl ? -1 : 1))
      .map(type => ({
        typeUrl: type.typeUrl,
        configStatus: syncStatus(type),
        ...(type.sentAt === 0 ? {} : { lastUpdated: timestamp(type.sentAt) }),
        ...(type.rejected === undefined
          ? {}
          : { errorState: { lastUpdateAttempt: timestamp(type.sentAt), details: type.rejected } })
      }))
  })
  return { type_url: 'type.googleapis.com/envoy.service.status.v3.ClientConfig', value }
}

function nodeOf(node: ClientNode): Resource {
  const value = nodeMessage.encode({ id: node.id, metadata: metadataOf(node) })
  return { type_url: 'type.googleapis.com/envoy.config.core.v3.Node', value }
}

function metadataOf({ clusterId, namespace, version }: ClientNode): object {
  return toStruct({ CLUSTER_ID: clusterId, NAMESPACE: namespace, ISTIO_VERSION: version })
}

function timestamp(ms: number): { readonly seconds: number; readonly nanos: number } {
  return { seconds: Math.floor(ms / 1000), nanos: (ms % 1000) * 1_000_000 }
}

/** In the form of istiod's, which istioctl takes apart. */
function identifier({ podName, version }: DebugStreamOptions): string {
  return JSON.stringify({ Component: 'istiod', ID: podName, Info: buildInfo(version) })
}

/** A version as istioctl reads it. */
export function buildInfo(version: string): Readonly<Record<string, string>> {
  return { version, revision: '', golang_version: '', status: 'Clean', tag: version }
}

function decode(bytes: Buffer): Request | undefined {
  try {
    return requestMessage.decode(bytes)
  } catch {
    return undefined // the client is told that it is none
  }
}

const noncePrefix = 'debug-'

function nonce(count: number): string {
  return `${noncePrefix}${count}`
}

function isOwnNonce(text: string, count: number): boolean {
  const number = text.startsWith(noncePrefix) ? Number(text.slice(noncePrefix.length)) : 0
  return number >= 1 && number <= count
}
