/**
 * A control plane for tests: certificates for whoever asks, and the resources that the test gives it, over the
 * real gRPC. It runs in the test's process and can be reached from inside the nodes of `two-nodes.ts`.
 */
import net from 'node:net'
import { GrpcServer, type MessageStream, type Refusal } from '../../controlplane/serve/grpc-server.ts'
import {
  createRoot,
  issueCertificate,
  issuerOf,
  issueServerCertificate,
  type Issuer
} from '../../shared/identity/issue.ts'
import { readCsr } from '../../shared/identity/csr.ts'
import { parseSpiffeId } from '../../shared/identity/spiffe-id.ts'
import { ip, ipFromBytes } from '../../shared/net/address.ts'
import { openListener } from '../../shared/net/sockets.ts'
import { message } from '../../shared/xds/schema.ts'
import type { Teardown, TestNode } from './two-nodes.ts'

const certificateRequest = message<{
  csr?: string
  validityDuration?: number
  metadata?: { fields?: Record<string, { stringValue?: string }> }
}>('istio.v1.auth.IstioCertificateRequest')
const certificateResponse = message<{ certChain: readonly string[] }>(
  'istio.v1.auth.IstioCertificateResponse'
)
const discoveryRequest = message<{
  typeUrl?: string
  responseNonce?: string
  errorDetail?: { message?: string }
  resourceNamesSubscribe?: string[]
  resourceNamesUnsubscribe?: string[]
  initialResourceVersions?: Record<string, string>
}>('envoy.service.discovery.v3.DeltaDiscoveryRequest')
const discoveryResponse = message<object>('envoy.service.discovery.v3.DeltaDiscoveryResponse')
const addressMessage = message<object>('istio.workload.Address')
const authorizationMessage = message<object>('istio.security.Authorization')

export const ADDRESS_TYPE = 'type.googleapis.com/istio.workload.Address'
export const AUTHORIZATION_TYPE = 'type.googleapis.com/istio.security.Authorization'

/** Resources in protobuf's own field names (camelCase), by type and resource name. */
export interface TestResources {
  /** `{ workload: {…} }` or `{ service: {…} }`. */
  readonly addresses?: Readonly<Record<string, object>>
  readonly policies?: Readonly<Record<string, object>>
}

/** A response that a client has acknowledged. */
export interface Delivery {
  readonly type: string
  /** Names. */
  readonly resources: readonly string[]
  readonly removed: readonly string[]
  readonly bytes: number
  /** From handing it to the transport to its acknowledgement. */
  readonly ms: number
}

export interface TestControlPlane {
  /** `https://127.0.0.1:15012`, the same inside every node. */
  readonly address: string
  readonly rootPem: string
  /** Environment that makes a ztunnel, ours or Istio's, use it for certificates. */
  readonly caEnv: Readonly<Record<string, string>>
  readonly xdsEnv: Readonly<Record<string, string>>
  /** What clients did not accept: resource type and their text. */
  readonly nacks: readonly string[]
  /** What clients were sent and took, oldest first. */
  readonly deliveries: readonly Delivery[]
  /** Names that clients asked for on demand. */
  readonly asked: readonly string[]
  /** Identities of the certificates that were issued. */
  readonly issued: readonly string[]
  /** While set, every request for a certificate is refused with it. */
  refuseCertificates: string | undefined
  /** Seconds, for every certificate from now on. */
  ttlSeconds: number
  /** Adds or replaces resources and tells all clients. */
  put(resources: TestResources): void
  remove(type: string, name: string): void
  /** Resolves when every connected client has acknowledged all that was sent. */
  settled(): Promise<void>
  /** Cuts every connection and takes no new ones, until it is up again. */
  down(): void
  up(): void
}

interface HeldResource {
  readonly bytes: Buffer
  readonly version: string
  /** `network/ip` of each of its addresses, by which clients ask on demand. */
  readonly aliases: readonly string[]
  /** Of a workload: the services that it is part of. */
  readonly services: readonly string[]
}

const PORT = 15_012

interface Client {
  readonly stream: MessageStream
  readonly types: Set<string>
  unanswered: number
  /** Sent and not acknowledged yet, by nonce; `sentAt` by a clock that only goes forward. */
  readonly sent: Map<string, Omit<Delivery, 'ms'> & { readonly sentAt: number }>
}

function ownIssuer(): Issuer {
  const now = Date.now()
  const root = createRoot({
    organization: 'cluster.local',
    notBefore: now - 60_000,
    notAfter: now + 86_400_000
  })
  return issuerOf({ ...root, rootsPem: root.certificatePem })
}

/** `issuer`: of all certificates; one of its own when left out. */
export async function startControlPlane(
  t: Teardown,
  nodes: readonly TestNode[],
  resources: TestResources = {},
  { issuer = ownIssuer() }: { readonly issuer?: Issuer } = {}
): Promise<TestControlPlane> {
  const now = Date.now()
  const validity = { notBefore: now - 60_000, notAfter: now + 86_400_000 }
  const serving = issueServerCertificate({
    names: ['127.0.0.1', 'localhost', 'istiod.istio-system.svc'],
    issuer,
    ...validity
  })
  const held = new Map<string, Map<string, HeldResource>>([
    [ADDRESS_TYPE, new Map()],
    [AUTHORIZATION_TYPE, new Map()]
  ])
  const clients = new Set<Client>()
  const bridges: Bridge[] = []
  const nacks: string[] = []
  const issued: string[] = []
  const asked: string[] = []
  const deliveries: Delivery[] = []
  let version = 0
  let nonce = 0

  const send = (
    client: Client,
    type: string,
    changed: readonly string[],
    removed: readonly string[] = []
  ): void => {
    const known = held.get(type)
    const resources = changed.flatMap(name => {
      const resource = known?.get(name)
      if (resource === undefined) return []
      const { aliases, version, bytes: value } = resource
      return [{ name, aliases, version, resource: { type_url: type, typeUrl: type, value } }]
    })
    const response = { typeUrl: type, nonce: String(++nonce), removedResources: removed, resources }
    const bytes = discoveryResponse.encode(response)
    const names = resources.map(({ name }) => name)
    client.unanswered += 1
    client.sent.set(response.nonce, {
      type,
      resources: names,
      removed,
      bytes: bytes.length,
      sentAt: performance.now()
    })
    client.stream.send(bytes)
  }
  const acknowledged = (client: Client, nonce: string): void => {
    client.unanswered -= 1
    const found = client.sent.get(nonce)
    client.sent.delete(nonce)
    if (found === undefined) return
    const { sentAt, ...delivery } = found
    deliveries.push({ ...delivery, ms: performance.now() - sentAt })
  }
  /** Everything, or, to a client that comes back, what is not as it has it. */
  const start = (client: Client, type: string, versions: Readonly<Record<string, string>>): void => {
    const known = held.get(type) ?? new Map<string, HeldResource>()
    const changed = [...known].filter(([name, { version }]) => versions[name] !== version)
    send(
      client,
      type,
      changed.map(([name]) => name),
      Object.keys(versions).filter(name => !known.has(name))
    )
  }
  const put = (
    type: string,
    encode: (value: object) => Buffer,
    values: Readonly<Record<string, object>> = {}
  ): void => {
    for (const [name, value] of Object.entries(values))
      held.get(type)?.set(name, {
        bytes: encode(value),
        version: String(++version),
        aliases: addressesOf(value),
        services: Object.keys((value as { workload?: { services?: object } }).workload?.services ?? {})
      })
    for (const client of clients)
      if (client.types.has(type) && Object.keys(values).length > 0) send(client, type, Object.keys(values))
  }
  const plane: TestControlPlane = {
    address: `https://127.0.0.1:${PORT}`,
    rootPem: issuer.rootsPem,
    caEnv: { FAKE_CA: 'false', CA_ADDRESS: `https://127.0.0.1:${PORT}`, CA_ROOT_CA: issuer.rootsPem },
    xdsEnv: { XDS_ADDRESS: `https://127.0.0.1:${PORT}`, XDS_ROOT_CA: issuer.rootsPem },
    nacks,
    issued,
    asked,
    deliveries,
    refuseCertificates: undefined,
    ttlSeconds: 3600,
    put: ({ addresses, policies }) => {
      put(AUTHORIZATION_TYPE, value => authorizationMessage.encode(value), policies)
      put(ADDRESS_TYPE, value => addressMessage.encode(value), addresses)
    },
    remove: (type, name) => {
      held.get(type)?.delete(name)
      for (const client of clients) if (client.types.has(type)) send(client, type, [], [name])
    },
    settled: async () => {
      for (let look = 0; look < 500; look++) {
        if (
          clients.size > 0 &&
          [...clients].every(client => client.unanswered === 0 && client.types.size === 2)
        )
          return
        await new Promise(resolve => setTimeout(resolve, 20))
      }
      throw new Error('clients did not acknowledge what they were sent')
    },
    down: () => bridges.forEach(bridge => bridge.down()),
    up: () => bridges.forEach(bridge => bridge.up())
  }
  plane.put(resources)
  const server = new GrpcServer({
    maxConnectionAgeMs: 3_600_000,
    services: {
      createCertificate: async (info, request) => {
        const refuse = (text: string): Refusal => ({
          kind: 'refused',
          status: 'UNAUTHENTICATED',
          message: text
        })
        if (plane.refuseCertificates !== undefined) return refuse(plane.refuseCertificates)
        const { csr = '', metadata } = certificateRequest.decode(request)
        // Dedicated proxies do not say whose certificate they want; their token would. Here the request's own name counts.
        const parsed = readCsr(csr)
        const requested = parsed.kind === 'problem' ? '' : (parsed.uris[0] ?? '')
        const wanted = metadata?.fields?.['ImpersonatedIdentity']?.stringValue ?? requested
        const identity = parseSpiffeId(wanted)
        if (identity === undefined) return refuse(`no identity: ${wanted} from ${info.remote}`)
        const answer = issueCertificate({
          csrPem: csr,
          identity,
          ttlSeconds: plane.ttlSeconds,
          issuer,
          now: Date.now()
        })
        if (answer.kind === 'refused') return refuse(answer.problem)
        issued.push(identity)
        return { kind: 'answer', message: certificateResponse.encode({ certChain: answer.certChain }) }
      },
      deltaStream: async stream => {
        const client: Client = { stream, types: new Set(), unanswered: 0, sent: new Map() }
        clients.add(client)
        return {
          request: bytes => {
            const request = discoveryRequest.decode(bytes)
            const { typeUrl = '', responseNonce = '', errorDetail } = request
            if (errorDetail !== undefined) nacks.push(`${typeUrl}: ${errorDetail.message}`)
            if (responseNonce !== '') {
              acknowledged(client, responseNonce)
              return
            }
            const { resourceNamesSubscribe = [], resourceNamesUnsubscribe = [] } = request
            if (resourceNamesUnsubscribe.includes('*')) return // subscribes to nothing yet
            if (resourceNamesSubscribe.length > 0) {
              for (const name of resourceNamesSubscribe) {
                asked.push(name)
                const all = [...(held.get(typeUrl) ?? [])]
                const found = all
                  .filter(([key, { aliases }]) => key === name || aliases.includes(name))
                  .map(([key]) => key)
                // A service is of no use without its workloads: control planes send both.
                const behind = all.filter(([, { services }]) => services.some(key => found.includes(key)))
                const names = new Set([...found, ...behind.map(([key]) => key)])
                send(client, typeUrl, [...names], names.size === 0 ? [name] : [])
              }
              return
            }
            client.types.add(typeUrl)
            start(client, typeUrl, request.initialResourceVersions ?? {})
          },
          ended: () => {
            clients.delete(client)
          }
        }
      }
    }
  })
  const { port } = await server.listenTls(
    { ip: ip('127.0.0.1'), port: 0 },
    { ...serving, clientRootsPem: issuer.rootsPem }
  )
  t.teardown(() => server.close(0))
  for (const node of nodes) bridges.push(await openBridge(t, node, port))
  return plane
}

/** A port inside the node that leads to one on the test's own loopback. */
interface Bridge {
  down(): void
  up(): void
}

async function openBridge(t: Teardown, node: TestNode, to: number): Promise<Bridge> {
  const fd = openListener({ netns: node.netnsFd }, { address: { ip: ip('127.0.0.1'), port: PORT } })
  const open = new Set<net.Socket>()
  let up = true
  const server = net.createServer(near => {
    if (!up) {
      near.destroy()
      return
    }
    const far = net.connect(to, '127.0.0.1')
    for (const [socket, other] of [
      [near, far],
      [far, near]
    ] as const) {
      open.add(socket)
      socket.on('error', () => undefined) // one end tells the other by closing
      socket.on('close', () => {
        open.delete(socket)
        other.destroy()
      })
      socket.pipe(other)
    }
  })
  const cut = (): void => {
    for (const socket of open) socket.destroy()
  }
  await new Promise<void>(resolve => server.listen({ fd }, resolve))
  t.teardown(() => {
    cut()
    server.close()
  })
  return {
    down: () => {
      up = false
      cut()
    },
    up: () => {
      up = true
    }
  }
}

function addressesOf(value: object): string[] {
  const { workload, service } = value as {
    workload?: { addresses?: Uint8Array[] }
    service?: { addresses?: { address: Uint8Array }[] }
  }
  const all = [...(workload?.addresses ?? []), ...(service?.addresses ?? []).map(({ address }) => address)]
  return all.map(bytes => `/${ipFromBytes(bytes) ?? ''}`)
}
