/**
 * Two namespaces, a proxy in each, servers behind: client → REDIRECT → proxy → (TLS) → proxy → server.
 * One of these per contender; all stand at the same time and take their loads in turn.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdirSync, openSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { run, type RunClient } from './load.ts'
import { startHttpServer, startNginxHop } from './nginx-hop.ts'

export type Contender =
  | {
      readonly kind: 'underpass'
      readonly program: readonly string[]
      readonly workers: number
      readonly workloads?: number
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

/** The user whose connections are captured: nobody. */
const CAPTURED_UID = 65534
const HTTP_PORT = 8080
const IPERF_PORT = 5201
const READY_PORT = 15021

export async function startHops(contender: Contender, options: HopsOptions): Promise<Hops> {
  const { name, octet, folder } = options
  const [a, b] = [`${name}a`, `${name}b`]
  const [clientIp, serverIp] = [`10.97.${octet}.1`, `10.97.${octet}.2`]
  const stops: (() => Promise<void> | void)[] = []
  const stop = async (): Promise<void> => {
    for (const end of stops.toReversed()) await end()
  }
  mkdirSync(folder, { recursive: true })
  try {
    makeNamespaces(a, b, clientIp, serverIp)
    stops.push(() => {
      for (const netns of [a, b]) execFileSync('ip', ['netns', 'del', netns])
    })
    const server = await startHttpServer(b, path.join(folder, 'http'), `${serverIp}:${HTTP_PORT}`)
    stops.push(() => server.stop())
    const iperf = spawn(
      'ip',
      ['netns', 'exec', b, 'iperf3', '-s', '-B', serverIp, '-p', String(IPERF_PORT)],
      {
        stdio: 'ignore'
      }
    )
    stops.push(() => end(iperf))
    const proxies = await startProxies(contender, options, { a, b, clientIp, serverIp })
    stops.push(() => proxies.stop())
    capture(a, contender)
    const asUser = ['netns', 'exec', a, 'setpriv', `--reuid=${CAPTURED_UID}`, '--clear-groups']
    return {
      client: async (command, ...args) => run('ip', [...asUser, command, ...args]),
      clientNamespace: a,
      http: { ip: serverIp, port: HTTP_PORT },
      iperf: { ip: serverIp, port: IPERF_PORT },
      get clientPid() {
        return proxies.clientPid()
      },
      serverPid: proxies.serverPid,
      stopClient: () => proxies.stopClient(),
      startClient: () => proxies.startClient(),
      stop
    }
  } catch (error) {
    await stop()
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
  const extra = contender.kind === 'underpass' ? (contender.workloads ?? 0) : 0
  writeFileSync(config, meshConfig(clientIp, serverIp, extra))
  const far = await startZtunnel(contender, b, 'server', config, folder)
  let near = await startZtunnel(contender, a, 'client', config, folder)
  return {
    clientPid: () => near.pid ?? 0,
    serverPid: far.pid ?? 0,
    stopClient: () => end(near),
    startClient: async () => {
      near = await startZtunnel(contender, a, 'client', config, folder)
    },
    stop: async () => {
      await end(near)
      await end(far)
    }
  }
}

/** Starts one ztunnel in dedicated mode and waits until it is ready. Logs at warn: the access log is off, as the peer's. */
async function startZtunnel(
  contender: Extract<Contender, { kind: 'underpass' | 'rust' }>,
  netns: string,
  role: 'client' | 'server',
  config: string,
  folder: string
): Promise<ChildProcess> {
  const workers = contender.kind === 'underpass' ? contender.workers : 1
  const log = openSync(path.join(folder, `${role}.log`), 'w')
  const child = spawn('nsenter', [`--net=/run/netns/${netns}`, ...contender.program, 'proxy', 'ztunnel'], {
    stdio: ['ignore', log, log],
    cwd: folder,
    env: {
      PATH: process.env['PATH'],
      PROXY_MODE: 'dedicated',
      PROXY_WORKLOAD_INFO: `bench/${role}/${role}`,
      NODE_NAME: role,
      LOCAL_XDS_PATH: config,
      XDS_ADDRESS: '',
      CA_ADDRESS: '',
      FAKE_CA: 'true',
      ENABLE_ORIG_SRC: 'false',
      ZTUNNEL_WORKER_THREADS: String(workers),
      RUST_LOG: 'warn',
      ISTIO_META_DNS_CAPTURE: 'false'
    }
  })
  const ready = [
    'netns',
    'exec',
    netns,
    'curl',
    '-sf',
    '-o',
    '/dev/null',
    `http://127.0.0.1:${READY_PORT}/healthz/ready`
  ]
  for (let attempt = 0; attempt < 400; attempt += 1) {
    if (child.exitCode !== null)
      throw new Error(`${contender.kind} ended with ${child.exitCode}; see ${folder}/${role}.log`)
    if (await succeeds('ip', ready)) return child
    await delay(25)
  }
  throw new Error(`${contender.kind} was not ready within 10 s; see ${folder}/${role}.log`)
}

/** The client's and the server's workload, and `extra` others that nobody calls. */
function meshConfig(clientIp: string, serverIp: string, extra: number): string {
  const lines = ['workloads:', workload('client', clientIp), workload('server', serverIp)]
  for (let index = 0; index < extra; index += 1) {
    lines.push(workload(`other-${index}`, `10.${100 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`))
  }
  return lines.join('\n')
}

function workload(name: string, ip: string): string {
  return `- {uid: c//Pod/bench/${name}, name: ${name}, namespace: bench, serviceAccount: ${name}, trustDomain: cluster.local, workloadIps: [${ip}], protocol: HBONE, node: ${name}, services: {}}`
}

function makeNamespaces(a: string, b: string, clientIp: string, serverIp: string): void {
  const ip = (...args: string[]): void => {
    execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'inherit'] })
  }
  ip('netns', 'add', a)
  ip('netns', 'add', b)
  ip('-n', a, 'link', 'add', 'veth0', 'type', 'veth', 'peer', 'name', 'veth0', 'netns', b)
  for (const [netns, address] of [
    [a, clientIp],
    [b, serverIp]
  ] as const) {
    ip('-n', netns, 'address', 'add', `${address}/24`, 'dev', 'veth0')
    ip('-n', netns, 'link', 'set', 'veth0', 'up')
    ip('-n', netns, 'link', 'set', 'lo', 'up')
    const more = [
      'net.ipv4.ip_local_port_range=10000 60999',
      'net.ipv4.tcp_tw_reuse=1',
      'net.core.somaxconn=4096'
    ]
    for (const setting of more) execFileSync('ip', ['netns', 'exec', netns, 'sysctl', '-qw', setting])
  }
}

function capture(netns: string, contender: Contender): void {
  const redirect = (port: number, to: number): void => {
    const match = ['-p', 'tcp', '-m', 'owner', '--uid-owner', String(CAPTURED_UID), '--dport', String(port)]
    execFileSync('ip', [
      ...['netns', 'exec', netns, 'iptables', '-t', 'nat', '-A', 'OUTPUT', ...match],
      ...['-j', 'REDIRECT', '--to-ports', String(to)]
    ])
  }
  redirect(HTTP_PORT, 15001)
  redirect(IPERF_PORT, contender.kind === 'nginx' ? 15002 : 15001)
}

async function succeeds(command: string, args: readonly string[]): Promise<boolean> {
  return run(command, args, 2000).then(
    () => true,
    () => false
  )
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise(resolve => child.on('close', resolve))
  child.kill('SIGKILL')
  await ended
}
