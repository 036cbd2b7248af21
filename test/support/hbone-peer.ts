/** A peer that ends HBONE at an address of a node: plays a waypoint or a network gateway, and keeps what it was asked. */
import type { Duplex } from 'node:stream'
import { serveTunnels, type TunnelRequest } from '../../shared/hbone/server.ts'
import { ClientSession } from '../../shared/hbone/session.ts'
import { acceptTls, connectTls } from '../../shared/hbone/tls.ts'
import { tunnelDuplex } from '../../shared/hbone/tunnel-duplex.ts'
import { FakeCa } from '../../shared/identity/fake-ca.ts'
import { parseSpiffeId, type SpiffeId } from '../../shared/identity/spiffe-id.ts'
import { formatSocketAddress, ip, type Ip, type SocketAddress } from '../../shared/net/address.ts'
import { connect, serve, type Teardown, type TestNode, type TwoNodes } from './two-nodes.ts'

const never = new AbortController().signal

/** One CONNECT request as the peer saw it. */
export interface Asked {
  readonly authority: string | undefined
  header(name: string): readonly string[]
  /** Identity that the client's certificate proved. */
  readonly client: SpiffeId
  /** Where the TCP connection came from. */
  readonly from: SocketAddress
}

export interface HbonePeer {
  readonly asked: readonly Asked[]
  readonly address: SocketAddress
}

export interface HbonePeerOptions {
  readonly identity: string
  /** An address of node b's cable that no proxy captures; made here. */
  readonly ip: Ip
  readonly port: number
  /** Where the bytes of a tunnel go; a rejection answers 503. */
  readonly forward: (asked: Asked) => Promise<Duplex>
}

export async function hbonePeer(
  t: Teardown,
  nodes: TwoNodes,
  { identity, ip: address, port, forward }: HbonePeerOptions
): Promise<HbonePeer> {
  uncaptured(nodes, address)
  const asked: Asked[] = []
  const certificate = await new FakeCa().fetch(idOf(identity), never)
  const onSocket = async (socket: Parameters<typeof acceptTls>[0], from: SocketAddress): Promise<void> => {
    const secured = await acceptTls(socket, certificate, never)
    const session = serveTunnels(secured.socket, {}, request => {
      const { authority } = request
      const one = { authority, client: secured.peer, from, header: (name: string) => request.header(name) }
      asked.push(one)
      void join(request, forward(one))
    })
    t.teardown(() => session.destroy(new Error('the test is over')))
  }
  await serve(
    t,
    nodes.b,
    socket => {
      const from = { ip: ip(socket.remoteAddress ?? ''), port: socket.remotePort ?? 0 }
      onSocket(socket, from).catch(() => undefined) // a client that refuses us: its own log says why
    },
    { address, port }
  )
  return { asked, address: { ip: address, port } }
}

/** One more address of node b whose connections reach their listener without a proxy. */
export function uncaptured(nodes: TwoNodes, address: Ip): void {
  nodes.addAddress('b', address)
  nodes.run('b', 'iptables', '-w', '-t', 'nat', '-I', 'PREROUTING', '-d', address, '-j', 'ACCEPT')
}

/** A tunnel of its own session, made from inside a node as another proxy would make it. */
export async function openHbone(
  t: Teardown,
  from: TestNode,
  options: {
    readonly to: SocketAddress
    readonly identity: string
    readonly expect: string
    readonly authority: string
    readonly headers?: readonly (readonly [string, string])[]
    readonly bind?: Ip
  }
): Promise<{ readonly stream: Duplex; readonly from: string }> {
  const { to, identity, expect, authority, headers = [], bind } = options
  const socket = await connect(from, to, {
    captured: false,
    ...(bind !== undefined && { bind: { ip: bind, port: 0 } })
  })
  const local = formatSocketAddress({ ip: ip(socket.localAddress ?? ''), port: socket.localPort ?? 0 })
  const certificate = await new FakeCa().fetch(idOf(identity), never)
  const { socket: secure } = await connectTls(socket, certificate, [idOf(expect)], never)
  const session = new ClientSession(secure)
  t.teardown(() => session.destroy(new Error('the test is over')))
  const { tunnel } = await session.openTunnel({ authority, headers }, never)
  session.close() // ends with its only tunnel
  return { stream: tunnelDuplex(tunnel), from: local }
}

async function join(request: TunnelRequest, target: Promise<Duplex>): Promise<void> {
  let onward: Duplex
  try {
    onward = await target
  } catch {
    request.refuse(503)
    return
  }
  const tunnel = tunnelDuplex(request.accept([]))
  for (const [here, there] of [
    [tunnel, onward],
    [onward, tunnel]
  ] as const) {
    here.on('error', () => there.destroy())
    here.pipe(there)
  }
}

function idOf(text: string): SpiffeId {
  const id = parseSpiffeId(text)
  if (id === undefined) throw new Error(`not an identity: ${text}`)
  return id
}
