/** A gateway with pods behind it and clients outside, all on loopback, told what to do by a control plane of the test's own. */
import type { Test } from 'tap'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import tls from 'node:tls'
import { encodeConfigResource } from '../../../shared/xds/config-resource.ts'
import { FakeControlPlane, type FakeStream } from '../../support/fake-control-plane.ts'
import { openssl } from '../../support/openssl.ts'
import {
  request,
  startWorld,
  type Answer,
  type Asked,
  type Pod,
  type ServiceOptions,
  type World
} from '../world.ts'

type Spec = Readonly<Record<string, unknown>>
type Kind = keyof typeof typeUrls

/** In the order in which they are pushed. */
const typeUrls = {
  MeshConfig: 'mesh.istio.io/v1alpha1/MeshConfig',
  AuthorizationPolicy: 'security.istio.io/v1/AuthorizationPolicy',
  RequestAuthentication: 'security.istio.io/v1/RequestAuthentication',
  RateLimitPolicy: 'ratelimits.underpass.dev/v1alpha1/RateLimitPolicy',
  Secret: 'core/v1/Secret',
  DestinationRule: 'networking.istio.io/v1/DestinationRule',
  BackendTLSPolicy: 'gateway.networking.k8s.io/v1/BackendTLSPolicy',
  HTTPRoute: 'gateway.networking.k8s.io/v1/HTTPRoute',
  GRPCRoute: 'gateway.networking.k8s.io/v1/GRPCRoute',
  TLSRoute: 'gateway.networking.k8s.io/v1/TLSRoute',
  Gateway: 'gateway.networking.k8s.io/v1/Gateway'
}

export interface GatewayObject {
  readonly kind: Kind
  readonly name: string
  readonly spec: Spec
}

export interface GatewayWorld extends World {
  /** Objects of namespace shop; resolves when the gateway has answered. The texts of what it rejects. */
  put(...objects: readonly GatewayObject[]): Promise<string | undefined>
  remove(kind: Kind, name: string): Promise<void>
  /** One request on a connection of its own. */
  get(port: number, host: string, asked?: Asked & { readonly serverName?: string }): Promise<Answer>
}

export async function startGateway(
  t: Test,
  options: {
    readonly services: readonly ServiceOptions[]
    readonly pods: readonly Pod[]
    readonly objects: readonly GatewayObject[]
    readonly env?: Readonly<Record<string, string>>
  }
): Promise<GatewayWorld> {
  const plane = new FakeControlPlane()
  await plane.start()
  t.teardown(() => plane.stop())
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-gateway-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const root = path.join(folder, 'root.pem')
  writeFileSync(root, plane.certificatePem)
  const started = startWorld(t, {
    services: options.services.map(service => ({ waypoint: '', ...service })),
    pods: options.pods,
    env: {
      ...{ UNDERPASS_ROLE: 'gateway', UNDERPASS_GATEWAY: 'edge', IPV6_ENABLED: 'false' },
      ...{ XDS_ADDRESS: plane.address, XDS_ROOT_CA: root, AUTH_TOKEN: 'nobody checks' },
      ...options.env
    }
  })
  const stream = await plane.stream(0)
  const told = new Teller(stream)
  for (const kind of Object.keys(typeUrls) as Kind[]) {
    const rejected = await told.push(
      kind,
      options.objects.filter(object => object.kind === kind)
    )
    if (rejected !== undefined) throw new Error(rejected)
  }
  const known = new Set<string>(Object.values(typeUrls))
  for (const { typeUrl } of stream.requests.filter(asked => !known.has(asked.typeUrl)))
    stream.push(typeUrl, [])
  const world = await started
  return {
    ...world,
    async put(...objects) {
      let rejected: string | undefined
      for (const object of objects) rejected = (await told.push(object.kind, [object])) ?? rejected
      return rejected
    },
    async remove(kind, name) {
      await told.push(kind, [], [`shop/${name}`])
    },
    async get(port, host, { serverName, ...asked } = {}) {
      const socket =
        serverName === undefined ? await connect(port) : await connectTls(port, { servername: serverName })
      try {
        return await request(socket, { ...asked, headers: { host, ...asked.headers } })
      } finally {
        socket.destroy()
      }
    }
  }
}

/** Pushes, and waits for what the gateway says of it. */
class Teller {
  readonly #stream: FakeStream

  constructor(stream: FakeStream) {
    this.#stream = stream
  }

  async push(
    kind: Kind,
    objects: readonly GatewayObject[],
    removed: readonly string[] = []
  ): Promise<string | undefined> {
    const resources = objects.map(({ name, spec }) => ({
      name: `shop/${name}`,
      bytes: encodeConfigResource({ namespace: 'shop', name, createdMs: 0, spec })
    }))
    const nonce = this.#stream.push(typeUrls[kind], resources, removed)
    for (let count = 1; ; count += 1) {
      const requests = await this.#stream.received(count)
      const answer = requests.find(({ responseNonce }) => responseNonce === nonce)
      if (answer !== undefined) return answer.errorDetail?.message
    }
  }
}

export interface ListenerSpec {
  readonly name?: string
  readonly port: number
  readonly protocol?: 'HTTP' | 'HTTPS' | 'TLS' | 'TCP'
  readonly hostname?: string
  /** Names of Secrets; or what passes through. */
  readonly certificate?: string | readonly string[]
  readonly passthrough?: true
  /** What clients have to show. */
  readonly frontend?: Spec
}

/** The Gateway that the gateway runs for. */
export function gateway(...listeners: readonly ListenerSpec[]): GatewayObject {
  const spec = {
    listeners: listeners.map(({ name = 'web', port, protocol = 'HTTP', hostname = '', ...more }) => ({
      ...{ name, port, protocol, hostname },
      ...(more.passthrough ? { tls: { mode: 'Passthrough' } } : {}),
      ...(more.certificate === undefined
        ? {}
        : {
            tls: {
              mode: 'Terminate',
              certificateRefs: [more.certificate].flat().map(secret => ({ namespace: 'shop', name: secret })),
              ...(more.frontend === undefined ? {} : { frontend: more.frontend })
            }
          })
    }))
  }
  return { kind: 'Gateway', name: 'edge', spec }
}

/** A parent of a route: a listener, and the hostnames that both have. */
export function at(listener: string, ...hostnames: readonly string[]): Spec {
  return {
    ...{ group: 'gateway.networking.k8s.io', kind: 'Gateway', namespace: 'shop', name: 'edge' },
    listeners: [{ name: listener, hostnames: hostnames.length === 0 ? [''] : hostnames }]
  }
}

/** To port 80 of a service, for everything unless `rule` says otherwise. */
export function httpRoute(
  name: string,
  parents: readonly Spec[],
  service: string,
  rule: Spec = {}
): GatewayObject {
  const rules = [{ backendRefs: [{ name: service, port: 80 }], ...rule }]
  return { kind: 'HTTPRoute', name, spec: { parentRefs: parents, rules } }
}

export function tlsRoute(name: string, parents: readonly Spec[], service: string): GatewayObject {
  const rules = [{ backendRefs: [{ name: service, port: 80 }] }]
  return { kind: 'TLSRoute', name, spec: { parentRefs: parents, rules } }
}

export interface Pair {
  readonly cert: string
  readonly key: string
}

/** Self-signed for these names, with a key on P-256. */
export function certificateFor(...names: readonly string[]): Pair {
  return selfSigned(names, ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'])
}

export function rsaCertificateFor(...names: readonly string[]): Pair {
  return selfSigned(names, ['rsa:2048'])
}

function selfSigned(names: readonly string[], key: readonly string[]): Pair {
  const { output } = openssl([
    ...['req', '-x509', '-newkey', ...key, '-nodes', '-days', '2'],
    ...[
      '-subj',
      `/CN=${names[0]}`,
      '-addext',
      `subjectAltName=${names.map(name => `DNS:${name}`).join(',')}`
    ],
    ...['-keyout', '-', '-out', '-']
  ])
  const part = (label: string): string =>
    new RegExp(`-----BEGIN ${label}-----[\\s\\S]*?-----END ${label}-----`).exec(output)?.[0] ?? ''
  return { cert: `${part('CERTIFICATE')}\n`, key: `${part('PRIVATE KEY')}\n` }
}

export function secret(name: string, { cert, key }: Pair): GatewayObject {
  return { kind: 'Secret', name, spec: { 'tls.crt': cert, 'tls.key': key } }
}

export async function connect(port: number): Promise<net.Socket> {
  const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  await once(socket, 'connect')
  socket.on('error', () => undefined) // whoever uses it sees it too
  return socket
}

let lastPort = 20_000 + ((process.pid * 31) % 12_000)

/** Where nobody listens, below the ports that outgoing connections take for themselves. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < 100; tries += 1) {
    lastPort = 20_000 + ((lastPort + 1 - 20_000) % 12_000)
    const server = net.createServer()
    const listening = once(server, 'listening').then(
      () => true,
      () => false
    )
    server.listen(lastPort)
    if (!(await listening)) continue
    server.close()
    await once(server, 'close')
    return lastPort
  }
  throw new Error('a hundred ports in a row are taken')
}

export async function isClosed(port: number): Promise<boolean> {
  const socket = await connect(port).catch(() => undefined)
  socket?.destroy()
  return socket === undefined
}

/** Whatever certificate is shown. */
export async function connectTls(port: number, options: tls.ConnectionOptions): Promise<tls.TLSSocket> {
  const socket = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false, ...options })
  await once(socket, 'secureConnect')
  socket.on('error', () => undefined)
  return socket
}
