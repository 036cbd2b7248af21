/** A waypoint with pods behind it and clients before it, all on loopback. */
import type { Test } from 'tap'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Duplex } from 'node:stream'
import { ClientSession } from '../../shared/hbone/session.ts'
import { serveTunnels } from '../../shared/hbone/server.ts'
import { acceptTls, connectTls } from '../../shared/hbone/tls.ts'
import { tunnelDuplex } from '../../shared/hbone/tunnel-duplex.ts'
import { FakeCa } from '../../shared/identity/fake-ca.ts'
import { spiffeId } from '../../shared/identity/spiffe-id.ts'
import { formatSocketAddress } from '../../shared/net/address.ts'
import { relay } from '../../shared/net/relay.ts'
import { LogOutput } from '../../shared/telemetry/logger.ts'
import { startWaypoint, type App } from '../../waypoint/app.ts'
import { readConfig } from '../../waypoint/config.ts'

const never = new AbortController().signal
const ca = new FakeCa()
const waypointIdentity = spiffeId({
  trustDomain: 'cluster.local',
  namespace: 'shop',
  serviceAccount: 'waypoint'
})

export interface Pod {
  readonly name: string
  /** Loopback address that nobody else uses. */
  readonly address: string
  readonly port: number
  /** Services that it belongs to, by name. */
  readonly services: readonly string[]
  readonly protocol?: 'HBONE' | 'TCP'
  /** That goes through the waypoint where it is addressed itself. */
  readonly waypoint?: true
  /** Other fields of its record. */
  readonly record?: Readonly<Record<string, unknown>>
  readonly labels?: Readonly<Record<string, string>>
}

export interface ServiceOptions {
  readonly name: string
  readonly vip: string
  readonly port?: number
  /** Default HTTP11; `none`: nobody said. */
  readonly speaks?: string
  readonly waypoint?: string
  /** Also for what comes from a gateway. */
  readonly ingress?: true
  /** Other fields of its record. */
  readonly record?: Readonly<Record<string, unknown>>
}

export interface WorldOptions {
  readonly services: readonly ServiceOptions[]
  readonly pods: readonly Pod[]
  /** Routes and policies as YAML, of namespace shop. */
  readonly config?: string
  readonly env?: Readonly<Record<string, string>>
}

export interface World {
  readonly app: App
  readonly log: string[]
  readonly lines: string[]
  /** A connection to an address as a pod of that namespace and account makes it. */
  connect(
    authority: string,
    from?: { readonly namespace?: string; readonly account?: string }
  ): Promise<Duplex>
  /** One request on a connection of its own. */
  ask(authority: string, options?: Asked): Promise<Answer>
  metrics(): Promise<string>
}

export interface Asked {
  readonly method?: string
  readonly path?: string
  readonly headers?: http.OutgoingHttpHeaders
  readonly body?: string | Buffer
  readonly namespace?: string
}

export interface Answer {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly text: string
}

export async function startWorld(t: Test, options: WorldOptions): Promise<World> {
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-waypoint-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const files = { mesh: path.join(folder, 'mesh.yaml'), config: path.join(folder, 'config.yaml') }
  writeFileSync(files.mesh, meshYaml(options))
  writeFileSync(files.config, options.config ?? '')
  const { config } = readConfig({
    env: {
      ...{ XDS_ADDRESS: '', CA_ADDRESS: '', FAKE_CA: 'true', LOCAL_XDS_PATH: files.mesh },
      ...{ POD_NAMESPACE: 'shop', SERVICE_ACCOUNT: 'waypoint', POD_NAME: 'waypoint-1' },
      ...{ UNDERPASS_INBOUND_PORT: '0', UNDERPASS_ADMIN_PORT: '0' },
      ...{ UNDERPASS_STATS_PORT: '0', UNDERPASS_READY_PORT: '0' },
      ...(options.config === undefined ? {} : { UNDERPASS_LOCAL_CONFIG: files.config }),
      ...options.env
    },
    readFile: () => undefined
  })
  const log: string[] = []
  const lines: string[] = []
  const output = new LogOutput({
    filter: { fallback: 'info', targets: new Map() },
    format: 'plain',
    sink: { write: line => log.push(line) }
  })
  const app = await startWaypoint(config, { log: output, writeLine: line => lines.push(line) })
  t.teardown(() => app[Symbol.asyncDispose]())
  const sessions = new Map<string, Promise<ClientSession>>()
  t.teardown(async () => {
    for (const session of sessions.values()) (await session).destroy(new Error('the test is over'))
  })
  const port = app.addresses.get('hbone')?.port ?? 0
  const session = (namespace: string, account: string): Promise<ClientSession> => {
    const name = `${namespace}/${account}`
    let known = sessions.get(name)
    if (known === undefined) sessions.set(name, (known = openSession(port, namespace, account)))
    return known
  }
  const world: World = {
    app,
    log,
    lines,
    async connect(authority, { namespace = 'shop', account = 'client' } = {}) {
      const opened = await (await session(namespace, account)).openTunnel({ authority, headers: [] }, never)
      const stream = tunnelDuplex(opened.tunnel)
      stream.on('error', () => undefined) // whoever uses it sees it too
      return stream
    },
    async ask(authority, asked = {}) {
      const socket = await world.connect(authority, { namespace: asked.namespace ?? 'shop' })
      try {
        return await request(socket, asked)
      } finally {
        socket.destroy()
      }
    },
    async metrics() {
      const stats = app.addresses.get('stats')
      const answer = await fetch(`http://127.0.0.1:${stats?.port}/stats/prometheus`)
      return answer.text()
    }
  }
  return world
}

/** An HTTP server on a pod's address, and its ztunnel where the pod takes tunnels. */
export async function startPod(t: Test, pod: Pod, handler: http.RequestListener): Promise<http.Server> {
  const server = http.createServer(handler)
  await listen(t, server, pod)
  return server
}

/** Any server on a pod's address. */
export async function listen(
  t: Test,
  server: net.Server,
  { name, address, port, protocol }: Pod
): Promise<void> {
  server.on('connection', (socket: net.Socket) => socket.on('error', () => undefined)) // cut by the other side
  server.listen(port, address)
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    if (server instanceof http.Server) server.closeAllConnections()
  })
  if (protocol === 'TCP') return
  const identity = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: name })
  const certificate = await ca.fetch(identity, never)
  const open = new Set<net.Socket>()
  const ztunnel = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, socket => {
    open.add(socket)
    socket.on('error', () => undefined)
    void acceptTls(socket, certificate, never).then(
      ({ socket: secured, peer }) => {
        serveTunnels(secured, {}, tunnel => {
          if (peer !== waypointIdentity) return tunnel.refuse(401)
          const [host = '', toPort = ''] = tunnel.authority?.split(':') ?? []
          const application = net.connect({ host, port: Number(toPort), allowHalfOpen: true })
          application.once('error', () => tunnel.refuse(503))
          application.once('connect', () => {
            application.removeAllListeners('error')
            relay(tunnel.accept([]), application, { aToB: 0, bToA: 0 }, never).catch(() => undefined)
          })
        })
      },
      () => socket.destroy()
    )
  })
  ztunnel.listen(15_008, address)
  await once(ztunnel, 'listening')
  t.teardown(() => {
    ztunnel.close()
    for (const socket of open) socket.destroy()
  })
}

export function request(socket: Duplex, asked: Asked = {}): Promise<Answer> {
  const { method = 'GET', path: target = '/', headers = {}, body } = asked
  return new Promise((resolve, reject) => {
    const sent = http.request(
      { method, path: target, headers: { host: 'shop.example', ...headers }, createConnection: () => socket },
      response => {
        let text = ''
        response.setEncoding('latin1').on('data', (chunk: string) => (text += chunk))
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, headers: response.headers, text })
        )
        response.on('error', reject)
      }
    )
    sent.on('error', reject)
    sent.end(body)
  })
}

async function openSession(port: number, namespace: string, account: string): Promise<ClientSession> {
  const identity = spiffeId({ trustDomain: 'cluster.local', namespace, serviceAccount: account })
  const certificate = await ca.fetch(identity, never)
  const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  await once(socket, 'connect')
  const secured = await connectTls(socket, certificate, [waypointIdentity], never)
  return new ClientSession(secured.socket)
}

function meshYaml({ services, pods }: WorldOptions): string {
  const throughUs = {
    waypoint: { destination: `shop/${hostnameOf('waypoint')}`, hboneMtlsPort: 15_008 }
  }
  return JSON.stringify({
    services: services.map(
      ({ name, vip, port = 80, speaks = 'HTTP11', waypoint = 'waypoint', ingress, record }) => ({
        name,
        namespace: 'shop',
        hostname: hostnameOf(name),
        canonical: true,
        ingressUseWaypoint: ingress ?? false,
        vips: [`/${vip}`],
        ports: { [port]: 0 },
        ...(speaks === 'none' ? {} : { appProtocols: { [port]: speaks } }),
        ...(waypoint === ''
          ? {}
          : { waypoint: { destination: `shop/${hostnameOf(waypoint)}`, hboneMtlsPort: 15_008 } }),
        ...record
      })
    ),
    workloads: pods.map(
      ({ name, address, port, services: own, protocol = 'HBONE', waypoint, labels, record }) => ({
        ...(waypoint === undefined ? {} : throughUs),
        uid: `Kubernetes//Pod/shop/${name}`,
        name,
        namespace: 'shop',
        workloadIps: [address],
        trustDomain: 'cluster.local',
        serviceAccount: name,
        workloadName: name,
        canonicalName: name,
        canonicalRevision: 'v1',
        protocol,
        labels: labels ?? {},
        services: Object.fromEntries(
          own.map(service => [
            `shop/${hostnameOf(service)}`,
            { [services.find(one => one.name === service)?.port ?? 80]: port }
          ])
        ),
        ...record
      })
    )
  })
}

function hostnameOf(name: string): string {
  return `${name}.shop.svc.cluster.local`
}

export function addressOf(app: App, name: string): string {
  const address = app.addresses.get(name)
  return address === undefined ? '' : formatSocketAddress(address)
}
