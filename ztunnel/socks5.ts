/**
 * SOCKS5 in front of the outbound path: a way into the mesh without capture rules, for trying it out. Listens in the
 * pod, for its own loopback only. No authentication, CONNECT only. Source: RFC 1928.
 */
import type net from 'node:net'
import { ipFamily, ipFromBytes, type Ip, type SocketAddress } from '../shared/net/address.ts'
import { MeshError, messageOf } from '../shared/runtime/errors.ts'
import { directFlow } from './capture.ts'
import { carryOutbound } from './outbound.ts'
import type { Pod } from './pod.ts'
import { addressesOf } from './resolve.ts'

const VERSION = 5
const NO_AUTHENTICATION = 0
const NO_METHOD = 0xff
const CONNECT = 1
const AddressType = { v4: 1, name: 3, v6: 4 } as const
const Reply = {
  succeeded: 0,
  hostUnreachable: 4,
  commandNotSupported: 7,
  addressNotSupported: 8
} as const

export async function proxySocks(pod: Pod, socket: net.Socket): Promise<void> {
  const over = new AbortController()
  const onEnd = (): void => over.abort(new Error('the client left'))
  socket.once('end', onEnd).once('close', onEnd)
  let flow
  try {
    const patience = AbortSignal.timeout(pod.config.connectTimeoutMs)
    flow = await negotiate(pod, socket, AbortSignal.any([pod.gone, patience, over.signal]))
  } catch (error) {
    pod.log.info('SOCKS5 request refused', { error: messageOf(error) })
    socket.destroySoon() // after the reply that says why
    return
  } finally {
    socket.off('end', onEnd).off('close', onEnd)
  }
  await carryOutbound(pod, socket, flow)
}

/** Told of success before anything is dialled, so that a client that speaks first is not kept waiting. */
async function negotiate(
  pod: Pod,
  socket: net.Socket,
  signal: AbortSignal
): Promise<{ readonly source: SocketAddress; readonly destination: SocketAddress }> {
  const source = directFlow(socket)?.source
  if (source === undefined) throw refusal('the client is gone')
  using parts = new Parts(socket, signal)
  const take = (length: number): Promise<Buffer> => parts.take(length)
  const [version, methods = 0] = await take(2)
  if (version !== VERSION) throw refusal(`version ${version} is not SOCKS5`)
  const accepted = (await take(methods)).includes(NO_AUTHENTICATION)
  socket.write(Buffer.from([VERSION, accepted ? NO_AUTHENTICATION : NO_METHOD]))
  if (!accepted) throw refusal('the client does not go on without authentication')

  const [, command, , type = 0] = await take(4)
  const ip = await destinationOf(pod, socket, type, take)
  const port = (await take(2)).readUInt16BE()
  if (command !== CONNECT) {
    reply(socket, Reply.commandNotSupported)
    throw refusal(`command ${command} is not CONNECT`)
  }
  if (ip === undefined) {
    reply(socket, Reply.hostUnreachable)
    throw refusal('the name has no address')
  }
  reply(socket, Reply.succeeded)
  return { source, destination: { ip, port } }
}

/** The address that is asked for; undefined when it is a name that leads nowhere. */
async function destinationOf(
  pod: Pod,
  socket: net.Socket,
  type: number,
  take: (length: number) => Promise<Buffer>
): Promise<Ip | undefined> {
  switch (type) {
    case AddressType.v4:
      return ipFromBytes(await take(4))
    case AddressType.v6:
      return ipFromBytes(await take(16))
    case AddressType.name: {
      const [length = 0] = await take(1)
      return lookUp(pod, (await take(length)).toString('latin1'))
    }
    default:
      reply(socket, Reply.addressNotSupported)
      throw refusal(`address type ${type} is unknown`)
  }
}

/** A service of the mesh, else what the node's resolver says; IPv4 where there is a choice. */
async function lookUp(pod: Pod, name: string): Promise<Ip | undefined> {
  const { namespace } = pod.description.info
  const vips = pod.mesh.read(view => view.serviceByHostname(name, namespace)?.vips ?? [])
  const own = vips.filter(({ network }) => network === pod.config.network).map(({ ip }) => ip)
  try {
    const candidates = own.length > 0 ? own : await addressesOf(pod, name)
    return candidates.find(ip => ipFamily(ip) === 4) ?? candidates[0]
  } catch {
    return undefined // the client is told; the resolver has no more to say than that
  }
}

/** Reads a socket in exact parts; what follows the last one stays in the socket. */
class Parts implements Disposable {
  readonly #socket: net.Socket
  readonly #signal: AbortSignal
  #wake: () => void = () => undefined

  constructor(socket: net.Socket, signal: AbortSignal) {
    this.#socket = socket
    this.#signal = signal
    // One listener for all parts: each new one would be told at once of bytes that are too few.
    socket.on('readable', this.#onChange)
    signal.addEventListener('abort', this.#onChange)
  }

  async take(length: number): Promise<Buffer> {
    if (length === 0) return Buffer.alloc(0)
    for (;;) {
      this.#signal.throwIfAborted()
      const bytes = this.#socket.read(length) as Buffer | null
      if (bytes?.length === length) return bytes
      if (bytes !== null) throw refusal('the client ended in the middle of its request')
      await new Promise<void>(resolve => {
        this.#wake = resolve
      })
    }
  }

  [Symbol.dispose](): void {
    this.#socket.off('readable', this.#onChange)
    this.#signal.removeEventListener('abort', this.#onChange)
  }

  readonly #onChange = (): void => this.#wake()
}

/** With the bound address 0.0.0.0:0, which nobody needs for CONNECT. */
function reply(socket: net.Socket, code: (typeof Reply)[keyof typeof Reply]): void {
  socket.write(Buffer.from([VERSION, code, 0, AddressType.v4, 0, 0, 0, 0, 0, 0]))
}

function refusal(reason: string): MeshError {
  return new MeshError('CONNECT_FAILED', reason)
}
