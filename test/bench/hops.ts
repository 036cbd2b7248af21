/**
 * Two namespaces, a proxy in each, servers behind: client → capture → proxy → (TLS) → proxy → server.
 * One of these per contender; all stand at the same time and take their loads in turn.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { applyCapture } from '../../daemonset/rules/capture.ts'
import { proxyMark } from '../../daemonset/rules/desired.ts'
import { ip } from '../../shared/net/address.ts'
import { closeNetns, openNetns } from '../../shared/net/netns.ts'
import { run, type RunClient } from './load.ts'
import { asCaptured, joinNamespaces, redirect } from './network.ts'
import { startHttpServer, startNginxHop } from './nginx-hop.ts'
import { end, startZtunnel, workloadLine } from './ztunnel-hop.ts'

export type Contender =
  | {
      readonly kind: 'underpass'
      readonly program: readonly string[]
      readonly workers: number
      /** `redirect` as the peers; `tproxy`: the node agent's own rules, and the client's address kept as in a pod. */
      readonly capture: 'redirect' | 'tproxy'
      readonly env?: Readonly<Record<string, string>>
    }
  | { readonly kind: 'rust'; readonly program: readonly string[] }
  | { readonly kind: 'nginx' }

export interface Hops {
  readonly client: RunClient
  readonly clientNamespace: string
  readonly http: { readonly ip: string; readonly port: number }
  readonly iperf: { readonly ip: string; readonly port: number }
  /** Process of the client-side and of the server-side proxy. */
  readonly clientPid: number
  readonly serverPid: number
  /** Ends and starts again the client-side proxy, to time its start; not for nginx. */
  stopClient(): Promise<void>
  startClient(): Promise<void>
  stop(): Promise<void>
}

export interface HopsOptions {
  /** Names the namespaces; short, unique on this machine. */
  readonly name: string
  /** A number of 0 to 255 that is this pair's own: the third octet of its addresses. */
  readonly octet: number
  readonly folder: string
  /** Folder with cert.pem, key.pem, root.pem, for nginx. */
  readonly certificates: string
}

const HTTP_PORT = 8080
const IPERF_PORT = 5201

export async function startHops(contender: Contender, options: HopsOptions): Promise<Hops> {
  const { name, octet, folder } = options
  const [a, b] = [`${name}a`, `${name}b`]
  const [clientIp, serverIp] = [`10.97.${octet}.1`, `10.97.${octet}.2`]
  const made = new AsyncDisposableStack()
  mkdirSync(folder, { recursive: true })
  try {
    for (const netns of [a, b]) {
      execFileSync('ip', ['netns', 'add', netns])
      made.defer(() => void execFileSync('ip', ['netns', 'del', netns]))
    }
    joinNamespaces([a, clientIp], [b, serverIp])
    const server = await startHttpServer(b, path.join(folder, 'http'), `${serverIp}:${HTTP_PORT}`)
    made.defer(() => server.stop())
    const iperf = spawn(
      'ip',
      ['netns', 'exec', b, 'iperf3', '-s', '-B', serverIp, '-p', String(IPERF_PORT)],
      { stdio: 'ignore', detached: true }
    )
    made.defer(() => end(iperf))
    const proxies = await startProxies(contender, options, { a, b, clientIp, serverIp })
    made.defer(() => proxies.stop())
    await capture({ a, b }, contender)
    const [first, ...asUser] = asCaptured(a)
    return {
      client: async (command, ...args) => run(first, [...asUser, command, ...args]),
      clientNamespace: a,
      http: { ip: serverIp, port: HTTP_PORT },
      iperf: { ip: serverIp, port: IPERF_PORT },
      get clientPid() {
        return proxies.clientPid()
      },
      serverPid: proxies.serverPid,
      stopClient: () => proxies.stopClient(),
      startClient: () => proxies.startClient(),
      stop: () => made.disposeAsync()
    }
  } catch (error) {
    await made.disposeAsync()
    throw error
  }
}

interface Places {
  readonly a: string
  readonly b: string
  readonly clientIp: string
  readonly serverIp: string
}

interface Proxies {
  clientPid(): number
  readonly serverPid: number
  stopClient(): Promise<void>
  startClient(): Promise<void>
  stop(): Promise<void>
}

async function startProxies(contender: Contender, options: HopsOptions, places: Places): Promise<Proxies> {
  return contender.kind === 'nginx'
    ? startNginxPair(options, places)
    : startZtunnelPair(contender, options, places)
}

async function startNginxPair(
  { folder, certificates }: HopsOptions,
  { a, b, serverIp }: Places
): Promise<Proxies> {
  const far = await startNginxHop(b, path.join(folder, 'server'), certificates, [
    { listen: `${serverIp}:15008`, forward: `${serverIp}:${HTTP_PORT}`, role: 'tls-server' },
    { listen: `${serverIp}:15009`, forward: `${serverIp}:${IPERF_PORT}`, role: 'tls-server' }
  ])
  const near = await startNginxHop(a, path.join(folder, 'client'), certificates, [
    { listen: '15001', forward: `${serverIp}:15008`, role: 'tls-client' },
    { listen: '15002', forward: `${serverIp}:15009`, role: 'tls-client' }
  ])
  return {
    clientPid: () => near.pid,
    serverPid: far.pid,
    stopClient: () => near.stop(),
    startClient: () => Promise.reject(new Error('nginx is not timed')),
    stop: async () => {
      await near.stop()
      await far.stop()
    }
  }
}

async function startZtunnelPair(
  contender: Exclude<Contender, { kind: 'nginx' }>,
  { folder }: HopsOptions,
  { a, b, clientIp, serverIp }: Places
): Promise<Proxies> {
  const config = path.join(folder, 'mesh.yaml')
  writeFileSync(
    config,
    ['workloads:', workloadLine('client', clientIp), workloadLine('server', serverIp)].join('\n')
  )
  const env = { LOCAL_XDS_PATH: config, ...(contender.kind === 'underpass' ? ownSettings(contender) : {}) }
  const start = async (netns: string, role: string): Promise<ChildProcess> =>
    startZtunnel({ program: contender.program, netns, role, folder, env })
  const far = await start(b, 'server')
  let near: ChildProcess
  try {
    near = await start(a, 'client')
  } catch (error) {
    await end(far)
    throw error
  }
  return {
    clientPid: () => near.pid ?? 0,
    serverPid: far.pid ?? 0,
    stopClient: () => end(near),
    startClient: async () => {
      near = await start(a, 'client')
    },
    stop: async () => {
      await end(near)
      await end(far)
    }
  }
}

function ownSettings({
  workers,
  capture,
  env
}: Extract<Contender, { kind: 'underpass' }>): Record<string, string> {
  return {
    ZTUNNEL_WORKER_THREADS: String(workers),
    ...(capture === 'tproxy' ? { PACKET_MARK: String(proxyMark), ENABLE_ORIG_SRC: 'true' } : {}),
    ...env
  }
}

async function capture({ a, b }: Pick<Places, 'a' | 'b'>, contender: Contender): Promise<void> {
  if (contender.kind === 'underpass' && contender.capture === 'tproxy') {
    for (const netns of [a, b]) await captureAsPod(netns)
    return
  }
  redirect(a, HTTP_PORT, 15001)
  redirect(a, IPERF_PORT, contender.kind === 'nginx' ? 15002 : 15001)
}

/** The rules that the node agent writes into a pod. */
async function captureAsPod(netns: string): Promise<void> {
  const fd = openNetns(`/run/netns/${netns}`)
  try {
    await applyCapture(
      fd,
      { backend: 'nft', mode: 'tproxy' },
      {
        mode: 'tproxy',
        inbound: true,
        dns: false,
        virtualInterfaces: [],
        probeAddresses: [ip('169.254.7.127')],
        leakGuard: true
      }
    )
  } finally {
    closeNetns(fd)
  }
}
