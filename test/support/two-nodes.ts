/**
 * Two nodes on this machine: two network namespaces joined by a cable, in each of them one workload with its
 * address and one ztunnel, ours or Istio's, in dedicated mode with a local configuration. Outgoing connections
 * of marked sockets and of the client user are captured by REDIRECT, incoming ones too. Needs root.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { accessSync } from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import path from 'node:path'
import type { Duplex } from 'node:stream'
import { ip, ipFamily, type Ip, type SocketAddress } from '../../shared/net/address.ts'
import { closeNetns, openNetns } from '../../shared/net/netns.ts'
import { dialerSocket, listenBacklog, openDialer, openListener } from '../../shared/net/sockets.ts'

/** Connections of sockets with this mark are captured, as those of {@link CLIENT_UID} are. */
export const CLIENT_MARK = 0x99
/** Run clients that cannot mark their sockets as this user. */
export const CLIENT_UID = 1338

const root = path.dirname(path.dirname(import.meta.dirname))

export interface Teardown {
  teardown(fn: () => unknown): unknown
}

export interface TwoNodesOptions {
  /** Start of the namespaces' names; unique on the machine. */
  readonly prefix?: string
  readonly capture?: 'redirect' | 'none'
}

export interface TestNode {
  readonly name: 'a' | 'b'
  readonly netns: string
  readonly netnsFd: number
  readonly v4: Ip
  readonly v6: Ip
}

export interface TwoNodes {
  readonly a: TestNode
  readonly b: TestNode
  /** One more address on a node's cable. */
  addAddress(name: 'a' | 'b', address: Ip): void
  /** Runs a command inside a node; throws with what it said when it fails. */
  run(name: 'a' | 'b', command: string, ...args: string[]): void
}

/** Why these tests cannot run here; false when they can. */
export function needsRoot(): string | false {
  if (process.getuid?.() !== 0) return 'needs root'
  for (const program of ['ip', 'iptables', 'ip6tables']) {
    if (spawnSync('sh', ['-c', `command -v ${program}`]).status !== 0) return `needs ${program}`
  }
  return false
}

/** Where the real programs to test against are; a reason to skip when they are not here. */
export function peerProgram(name: string): { path: string } | { reason: string } {
  const folder = process.env['UNDERPASS_PEERS']
  if (folder === undefined) return { reason: 'UNDERPASS_PEERS is not set' }
  const file = path.join(folder, name)
  try {
    accessSync(file)
    return { path: file }
  } catch {
    return { reason: `${file} is not there` }
  }
}

let made = 0

export async function twoNodes(t: Teardown, options: TwoNodesOptions = {}): Promise<TwoNodes> {
  const prefix = options.prefix ?? `uph7-${process.pid}-${++made}`
  const names = { a: `${prefix}a`, b: `${prefix}b` }
  t.teardown(() => {
    for (const name of Object.values(names)) spawnSync('ip', ['netns', 'del', name])
  })
  for (const name of Object.values(names)) run('ip', 'netns', 'add', name)
  run('ip', 'link', 'add', 'eth0', 'netns', names.a, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', names.b)
  const nodes = { a: node('a', names.a, 1), b: node('b', names.b, 2) }
  for (const { netns, netnsFd, v4, v6 } of Object.values(nodes)) {
    t.teardown(() => closeNetns(netnsFd))
    ipIn(netns, `link set lo up`)
    ipIn(netns, `link set eth0 up`)
    ipIn(netns, `addr add ${v4}/24 dev eth0`)
    ipIn(netns, `addr add ${v6}/64 dev eth0 nodad`)
    ipIn(netns, `route add default dev eth0`) // unknown addresses have to lead somewhere to be captured
    ipIn(netns, `-6 route add default dev eth0`)
    if (options.capture !== 'none') redirect(netns)
  }
  return {
    ...nodes,
    addAddress: (name, address) =>
      ipIn(
        nodes[name].netns,
        `addr add ${address}/${ipFamily(address) === 4 ? 24 : 64} dev eth0${ipFamily(address) === 4 ? '' : ' nodad'}`
      ),
    run: (name, command, ...args) => run('ip', 'netns', 'exec', nodes[name].netns, command, ...args)
  }
}

function node(name: 'a' | 'b', netns: string, last: number): TestNode {
  const netnsFd = openNetns(`/var/run/netns/${netns}`)
  return { name, netns, netnsFd, v4: ip(`10.77.0.${last}`), v6: ip(`fd77::${last}`) }
}

/** What the node agent's REDIRECT rules do, for a namespace in which proxy and applications live side by side. */
function redirect(netns: string): void {
  for (const command of ['iptables', 'ip6tables']) {
    const rule = (text: string): void =>
      run('ip', 'netns', 'exec', netns, command, '-w', '-t', 'nat', ...text.split(' '))
    rule(`-A OUTPUT -p tcp -m mark --mark ${CLIENT_MARK} -j REDIRECT --to-ports 15001`)
    rule(`-A OUTPUT -p tcp -m owner --uid-owner ${CLIENT_UID} -j REDIRECT --to-ports 15001`)
    rule(
      '-A PREROUTING -i eth0 -p tcp -m multiport ! --dports 15008,15020,15021 -j REDIRECT --to-ports 15006'
    )
  }
}

export interface ProxyOptions {
  readonly kind: 'underpass' | 'rust'
  /** `namespace/name/serviceaccount`. */
  readonly workload: string
  /** YAML of workloads, services and policies; empty for none. */
  readonly localConfig: string
  readonly workers?: number
  /** More variables; they win. */
  readonly env?: Readonly<Record<string, string>>
  /** What to run instead of our sources, for example a compiled build. */
  readonly command?: readonly string[]
}

export interface TestAnswer {
  readonly status: number
  readonly contentType: string | undefined
  readonly body: string
}

/** A running ztunnel. */
export interface Proxy {
  readonly process: ChildProcess
  readonly pid: number
  /** Lines of its log so far. */
  readonly log: readonly string[]
  /** Resolves with the first line, old or new, that matches; rejects after `patienceMs`. */
  logged(pattern: RegExp, patienceMs?: number): Promise<string>
  /** One request to a port on the node's loopback. */
  ask(
    port: number,
    path: string,
    init?: { method?: string; body?: string; headers?: Record<string, string> }
  ): Promise<TestAnswer>
  stop(signal?: NodeJS.Signals): Promise<number | null>
}

/** Starts a ztunnel in the node and waits until it is ready. */
export async function startProxy(t: Teardown, at: TestNode, options: ProxyOptions): Promise<Proxy> {
  const rust = options.kind === 'rust' ? peerProgram('ztunnel') : undefined
  if (rust !== undefined && 'reason' in rust) throw new Error(rust.reason)
  const ours = options.command ?? [
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    path.join(root, 'ztunnel/main.ts')
  ]
  const command = rust === undefined ? ours : [rust.path]
  const env = {
    PATH: process.env['PATH'] ?? '',
    PROXY_MODE: 'dedicated',
    PROXY_WORKLOAD_INFO: options.workload,
    NODE_NAME: at.name,
    LOCAL_XDS: options.localConfig,
    XDS_ADDRESS: '',
    CA_ADDRESS: '',
    FAKE_CA: 'true',
    ENABLE_ORIG_SRC: 'false',
    ISTIO_META_DNS_CAPTURE: 'false',
    ZTUNNEL_WORKER_THREADS: String(options.workers ?? 1),
    RUST_LOG: 'info',
    ...options.env
  }
  if (options.localConfig === '') delete (env as { LOCAL_XDS?: string }).LOCAL_XDS
  const child = spawn('ip', ['netns', 'exec', at.netns, ...command, 'proxy', 'ztunnel'], {
    env,
    stdio: ['ignore', 'pipe', 'pipe']
  })
  const lines: string[] = []
  const waiting = new Set<() => void>()
  for (const stream of [child.stdout, child.stderr]) {
    let rest = ''
    stream.setEncoding('utf8').on('data', (text: string) => {
      const parts = (rest + text).split('\n')
      rest = parts.pop() ?? ''
      lines.push(...parts)
      for (const look of waiting) look()
    })
  }
  const exited = new Promise<number | null>(resolve => child.once('exit', code => resolve(code)))
  const proxy: Proxy = {
    process: child,
    pid: child.pid ?? 0,
    log: lines,
    logged: (pattern, patienceMs = 10_000) =>
      new Promise((resolve, reject) => {
        const finish = (act: () => void): void => {
          clearTimeout(timer)
          waiting.delete(look)
          act()
        }
        const look = (): void => {
          const found = lines.find(line => pattern.test(line))
          if (found !== undefined) finish(() => resolve(found))
        }
        const timer = setTimeout(
          () =>
            finish(() => reject(new Error(`no line matches ${pattern}; the log is:\n${lines.join('\n')}`))),
          patienceMs
        )
        waiting.add(look)
        look()
      }),
    ask: (port, path, init) => request(at, { ip: ip('127.0.0.1'), port }, path, init),
    stop: async (signal = 'SIGTERM') => {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal)
      return exited
    }
  }
  t.teardown(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
    await exited
  })
  await untilReady(proxy, exited)
  return proxy
}

async function untilReady(proxy: Proxy, exited: Promise<unknown>): Promise<void> {
  const over = new AbortController()
  void exited.then(() => over.abort())
  for (let attempt = 0; attempt < 300 && !over.signal.aborted; attempt++) {
    const answer = await proxy.ask(15021, '/healthz/ready').catch(() => undefined)
    if (answer?.status === 200) return
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  throw new Error(`the proxy did not become ready; its log is:\n${proxy.log.join('\n')}`)
}

/** One HTTP request from inside the node, not captured. */
export async function request(
  from: TestNode,
  to: SocketAddress,
  path: string,
  {
    method = 'GET',
    body,
    headers = {}
  }: { method?: string; body?: string; headers?: Record<string, string> } = {}
): Promise<TestAnswer> {
  const socket = await connect(from, to, { captured: false })
  return new Promise((resolve, reject) => {
    const sent = http.request({
      createConnection: () => socket,
      method,
      path,
      headers: { host: 'test', connection: 'close', ...headers }
    })
    sent.on('error', reject)
    sent.on('response', response => {
      let text = ''
      response.setEncoding('utf8').on('data', (part: string) => (text += part))
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          contentType: response.headers['content-type'],
          body: text
        })
      )
      response.on('error', reject)
    })
    sent.end(body)
  })
}

/** A connection from inside the node, as an application there would make it. */
export async function connect(
  from: TestNode,
  to: SocketAddress,
  { captured = true, bind }: { captured?: boolean; bind?: SocketAddress } = {}
): Promise<net.Socket> {
  const place = captured ? { netns: from.netnsFd, mark: CLIENT_MARK } : { netns: from.netnsFd }
  const socket = dialerSocket(
    openDialer(place, { family: ipFamily(to.ip), noDelay: true, ...(bind && { bind }) })
  )
  const connected = once(socket, 'connect')
  socket.connect({ host: to.ip, port: to.port })
  await connected
  return socket
}

/** A server inside the node, as an application there would run it. */
export async function serve(
  t: Teardown,
  at: TestNode,
  onConnection: (socket: net.Socket) => void,
  { address = ip('::'), port = 0 }: { address?: Ip; port?: number } = {}
): Promise<number> {
  const fd = openListener({ netns: at.netnsFd }, { address: { ip: address, port }, dualStack: true })
  const server = net.createServer({ allowHalfOpen: true }, socket => {
    socket.on('error', () => undefined) // the other side of a test may be cut at any time
    onConnection(socket)
  })
  server.listen({ fd }, listenBacklog)
  await once(server, 'listening')
  t.teardown(() => server.close())
  return (server.address() as net.AddressInfo).port
}

/** Sends everything, ends, and gives back all that comes until the other side ends. */
export async function exchange(socket: Duplex, payload: Buffer): Promise<Buffer> {
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  const over = new Promise<void>((resolve, reject) => {
    socket.once('end', resolve)
    socket.once('error', reject)
    socket.once('close', () => resolve())
  })
  socket.end(payload)
  await over
  socket.destroy()
  return Buffer.concat(chunks)
}

/** As {@link exchange}, for connections that are refused: a reset is an answer without bytes. */
export async function attempt(socket: net.Socket, payload: Buffer): Promise<string> {
  try {
    return String(await exchange(socket, payload))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ECONNRESET') return ''
    throw error
  }
}

/** A command inside the node, as the user whose connections are captured. */
export function runAsClient(at: TestNode, ...command: readonly string[]): ReturnType<typeof spawnSync> {
  return spawnSync(
    'ip',
    ['netns', 'exec', at.netns, 'setpriv', `--reuid=${CLIENT_UID}`, '--clear-groups', ...command],
    { encoding: 'utf8' }
  )
}

function ipIn(netns: string, text: string): void {
  run('ip', '-n', netns, ...text.split(' '))
}

function run(command: string, ...args: string[]): void {
  const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`)
}

export function at(ip: Ip, port: number): SocketAddress {
  return { ip, port }
}
