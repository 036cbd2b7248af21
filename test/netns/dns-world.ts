/** A node whose pods' DNS is captured, with resolvers on the node that remember who asked them what. Needs root. */
import dgram from 'node:dgram'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { applyCapture, removeCapture, type CaptureMethod } from '../../daemonset/rules/capture.ts'
import { ip, ipFamily, ipToBytes, parseIp, type Ip, type SocketAddress } from '../../shared/net/address.ts'
import {
  DatagramReader,
  openDatagramDialer,
  openDatagramListener,
  sendDatagram
} from '../../shared/net/datagrams.ts'
import { libc } from '../../shared/net/ffi.ts'
import { closeDescriptor, dialerSocket, openDialer, openListener } from '../../shared/net/sockets.ts'
import { queryOf, questionOf, readReply, replyTo, type Asked, type Heard } from '../support/dns-wire.ts'
import { stringifyYaml } from '../../shared/kube/yaml.ts'
import { sharedNode, type SharedNode } from '../support/shared-node.ts'

interface Teardown {
  teardown(fn: () => unknown): void
}

export interface Resolver {
  readonly address: Ip
  /** `udp 10.79.1.2 A name`, in their order. */
  readonly asked: string[]
  /** Stops answering, or answers again. */
  silent: boolean
}

export interface DnsWorld extends SharedNode {
  readonly first: Resolver
  readonly second: Resolver
  readonly six: Resolver
  readonly nodeLocal: Resolver
}

/** What each resolver answers for names of `example.org`, else its own address; everything else does not exist. */
const said: Readonly<Record<string, Ip>> = {
  '10.96.0.10': ip('192.0.2.10'),
  '10.96.0.11': ip('192.0.2.11'),
  'fd96::10': ip('192.0.2.16'),
  '169.254.20.10': ip('192.0.2.20')
}

export async function dnsWorld(t: Teardown, method: CaptureMethod): Promise<DnsWorld> {
  const world = await sharedNode(t, method.mode)
  const { node, client } = world
  for (const address of Object.keys(said)) {
    const [prefix, nodad] = ipFamily(ip(address)) === 4 ? ['32', []] : ['128', ['nodad']]
    node.run('ip', 'addr', 'add', `${address}/${prefix}`, 'dev', 'lo', ...nodad)
  }
  await removeCapture(client.netnsFd)
  await applyCapture(client.netnsFd, method, {
    mode: method.mode,
    inbound: true,
    dns: true,
    virtualInterfaces: [],
    probeAddresses: [],
    leakGuard: true
  })
  // What the pod's programs read, and what ztunnel reads, as `ip netns exec` shows it to them.
  const search = 'search shop.svc.cluster.local svc.cluster.local cluster.local'
  writeResolvConf(t, client.namespace, `nameserver 10.96.0.11\n${search}\noptions ndots:5\n`)
  writeResolvConf(t, node, 'nameserver 10.96.0.10\n')
  const [first, second, six, nodeLocal] = await Promise.all(
    Object.keys(said).map(async address => startResolver(t, node, ip(address)))
  )
  if (first === undefined || second === undefined || six === undefined || nodeLocal === undefined) {
    throw new Error('four resolvers')
  }
  return { ...world, first, second, six, nodeLocal }
}

/** What programs that `ip netns exec` starts in the namespace see as /etc/resolv.conf. */
export function writeResolvConf(t: Teardown, { name }: { readonly name: string }, text: string): void {
  const folder = `/etc/netns/${name}`
  mkdirSync(folder, { recursive: true })
  t.teardown(() => rmSync(folder, { recursive: true }))
  writeFileSync(`${folder}/resolv.conf`, text)
}

export async function startResolver(
  t: Teardown,
  { fd: netns }: { readonly fd: number },
  address: Ip
): Promise<Resolver> {
  const resolver: Resolver = { address, asked: [], silent: false }
  const family = ipFamily(address)
  const answer = (protocol: string, from: string, query: Buffer): Buffer | undefined => {
    const { name, type } = questionOf(query)
    resolver.asked.push(`${protocol} ${parseIp(from)} ${type} ${name}`)
    if (resolver.silent) return undefined
    if (name === 'big.example.org') {
      const all = Array.from({ length: 100 }, (_, index) => Buffer.from([192, 0, 3, index]))
      return protocol === 'tcp' ? replyTo(query, all) : replyTo(query, all.slice(0, 20), { flags: 0x0200 })
    }
    if (!name.endsWith('example.org')) return replyTo(query, [], { rcode: 3 })
    return replyTo(query, type === 1 ? [Buffer.from(ipToBytes(said[address] ?? address))] : [])
  }
  const udp = dgram.createSocket(family === 4 ? 'udp4' : 'udp6')
  udp.on('message', (query, from) => {
    const reply = answer('udp', from.address, query)
    if (reply !== undefined) udp.send(reply, from.port, from.address)
  })
  udp.bind({
    fd: openDatagramListener({ netns }, { address: { ip: address, port: 53 }, bufferBytes: 1 << 20 })
  })
  const tcp = net.createServer(socket => {
    socket.on('error', () => undefined)
    socket.on('data', (bytes: Buffer) => {
      for (let at = 0; at + 2 <= bytes.length; at += 2 + bytes.readUInt16BE(at)) {
        const query = bytes.subarray(at + 2, at + 2 + bytes.readUInt16BE(at))
        const reply = answer('tcp', socket.remoteAddress ?? '', query)
        if (reply !== undefined)
          socket.write(Buffer.concat([Buffer.from([reply.length >> 8, reply.length & 255]), reply]))
      }
    })
  })
  const open = new Set<net.Socket>()
  tcp.on('connection', socket => open.add(socket))
  const fd = openListener({ netns }, { address: { ip: address, port: 53 } })
  await new Promise<void>(resolve => tcp.listen({ fd }, resolve))
  t.teardown(() => {
    udp.close()
    tcp.close()
    for (const socket of open) socket.destroy()
  })
  return resolver
}

/** One query of an application by UDP, from a socket that takes answers of the asked address only. */
export async function ask(
  netns: number,
  to: SocketAddress,
  asked: Asked,
  timeoutMs = 20_000
): Promise<Heard> {
  const query = queryOf(asked)
  const socket = dgram.createSocket(ipFamily(to.ip) === 4 ? 'udp4' : 'udp6')
  const fd = openDatagramDialer({ netns }, to)
  socket.bind({ fd })
  try {
    return await new Promise<Heard>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer to ${asked.name}`)), timeoutMs)
      socket.once('message', bytes => {
        clearTimeout(timer)
        resolve(readReply(bytes))
      })
      socket.once('error', reject)
      libc.write(fd, query, query.length) // connected, which dgram does not know
    })
  } finally {
    socket.close()
  }
}

/** Many queries from one socket that is not connected; who answered, by name. Ends when all have, or in time. */
export async function askMany(
  netns: number,
  family: 4 | 6,
  queries: readonly { readonly to: SocketAddress; readonly asked: Asked }[],
  { perSecond = 1000, timeoutMs = 30_000 } = {}
): Promise<readonly { readonly from: SocketAddress; readonly heard: Heard }[]> {
  const address = { ip: ip(family === 4 ? '0.0.0.0' : '::'), port: 0 }
  const fd = openDatagramListener({ netns }, { address, bufferBytes: 4 << 20 })
  const reader = new DatagramReader()
  const found: { from: SocketAddress; heard: Heard }[] = []
  const started = Date.now()
  let sent = 0
  try {
    while (found.length < queries.length && Date.now() - started < timeoutMs) {
      const due = Math.min(queries.length, Math.ceil(((Date.now() - started + 5) / 1000) * perSecond))
      for (; sent < due; sent++) {
        const one = queries[sent]
        if (one !== undefined) sendDatagram(fd, queryOf({ ...one.asked, id: sent }), one.to)
      }
      for (let datagram = reader.read(fd); datagram !== undefined; datagram = reader.read(fd)) {
        found.push({ from: datagram.from, heard: readReply(datagram.bytes) })
      }
      await new Promise(resolve => setTimeout(resolve, 2))
    }
  } finally {
    closeDescriptor(fd)
  }
  return found
}

/** Several queries of an application through one TCP connection, sent at once; answers in the order of arrival. */
export async function askByTcp(
  netns: number,
  to: SocketAddress,
  asked: readonly Asked[],
  timeoutMs = 20_000
): Promise<readonly Heard[]> {
  const socket = dialerSocket(openDialer({ netns }, { family: ipFamily(to.ip) }))
  const found: Heard[] = []
  let bytes = Buffer.alloc(0)
  try {
    return await new Promise<readonly Heard[]>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('no answer by TCP')), timeoutMs)
      socket.on('error', reject)
      socket.on('close', () => reject(new Error(`closed after ${found.length} answers`)))
      socket.on('data', (chunk: Buffer) => {
        bytes = Buffer.concat([bytes, chunk])
        while (bytes.length >= 2 && bytes.length >= 2 + bytes.readUInt16BE(0)) {
          const end = 2 + bytes.readUInt16BE(0)
          found.push(readReply(bytes.subarray(2, end)))
          bytes = bytes.subarray(end)
        }
        if (found.length < asked.length) return
        clearTimeout(timer)
        resolve(found)
      })
      socket.connect({ host: to.ip, port: to.port }, () => {
        const frames = asked.map((one, id) => {
          const query = queryOf({ id, ...one })
          return Buffer.concat([Buffer.from([query.length >> 8, query.length & 255]), query])
        })
        socket.write(Buffer.concat(frames))
      })
    })
  } finally {
    socket.removeAllListeners('close').destroy()
  }
}

interface Addressed {
  readonly v4: Ip
  readonly v6: Ip
}

/** Services of the mesh as the tests ask for them, with the pods behind them. */
export function dnsMesh({ client, server }: Record<'client' | 'server', Addressed>): string {
  const pod = (name: string, ips: readonly Ip[], services: readonly string[] = []): object => ({
    uid: `Kubernetes//Pod/shop/${name}`,
    name,
    namespace: 'shop',
    serviceAccount: name,
    trustDomain: 'cluster.local',
    workloadIps: ips,
    protocol: 'HBONE',
    node: 'node-1',
    network: '',
    clusterId: 'Kubernetes',
    canonicalName: `${name}-app`,
    canonicalRevision: 'v1',
    services: Object.fromEntries(services.map(host => [`shop/${host}`, new Map([[5432, 5432]])]))
  })
  const service = (
    namespace: string,
    hostname: string,
    vips: readonly string[],
    more: object = {}
  ): object => ({
    name: hostname.split('.')[0],
    namespace,
    hostname,
    vips: vips.map(vip => `/${vip}`),
    ports: new Map([[80, 8080]]), // Istio's reader takes numbers only
    canonical: hostname.endsWith('.svc.cluster.local'),
    ...more
  })
  const headless = 'db.shop.svc.cluster.local'
  return stringifyYaml({
    workloads: [
      pod('client', [client.v4, client.v6]),
      pod('server', [server.v4, server.v6]),
      pod('db-0', [ip('10.79.2.50'), ip('fd79:2::50')], [headless]),
      pod('db-1', [ip('10.79.2.51'), ip('fd79:2::51')], [headless])
    ],
    services: [
      service('shop', 'web.shop.svc.cluster.local', ['10.97.0.1', 'fd97::1']),
      service('shop', headless, []),
      service('shop', 'four.shop.svc.cluster.local', ['10.97.0.4'], { ipFamilies: 'IPv4' }),
      service(
        'shop',
        'many.shop.svc.cluster.local',
        Array.from({ length: 256 }, (_, n) => `10.98.0.${n}`)
      ),
      service('bank', 'vault.bank.svc.cluster.local', ['10.97.0.2']),
      service('bank', 'secret.test', ['240.240.9.9'], { visibility: 'Namespace' }),
      service('shop', 'api.external.test', ['240.240.0.1', '2001:2::1']),
      service('shop', '*.wild.test', ['240.240.0.2'])
    ],
    policies: []
  })
}
