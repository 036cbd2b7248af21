/** Byte streams to chosen pods: HBONE with exactly the identity that the pod has, or plain where it takes no tunnels. */
import type net from 'node:net'
import { TunnelPool, type PoolKey } from '../../shared/hbone/pool.ts'
import { ClientSession } from '../../shared/hbone/session.ts'
import { connectTls } from '../../shared/hbone/tls.ts'
import type { Tunnel } from '../../shared/hbone/tunnel.ts'
import type { WorkloadCertificate } from '../../shared/identity/certificate.ts'
import type { SpiffeId } from '../../shared/identity/spiffe-id.ts'
import { workloadIdentity, type Workload } from '../../shared/mesh/model.ts'
import { formatSocketAddress, ip, type Ip, type SocketAddress } from '../../shared/net/address.ts'
import type { ByteStream } from '../../shared/net/byte-stream.ts'
import { dial } from '../../shared/net/dial.ts'
import { streamOf } from '../../shared/net/socket-stream.ts'
import { MeshError } from '../../shared/runtime/errors.ts'
import { firstToConnect } from '../egress/first-to-connect.ts'
import type { Alpn, TlsOrigination } from './backend-tls.ts'

const hbonePort = 15_008

export interface TunnelsOptions {
  readonly identity: SpiffeId
  readonly certificate: (signal: AbortSignal) => Promise<WorkloadCertificate>
  readonly connectTimeoutMs: number
}

/** A pod and the port that it listens on. */
export interface Target {
  readonly workload: Workload
  readonly port: number
  /** Of a waypoint's pod, whose port takes tunnels: whom it is to lead to. */
  readonly asks?: SocketAddress
}

/** How a stream is opened; undefined: as the waypoint does for everybody. */
export interface Opening {
  readonly timeoutMs: number | undefined
  /** Of the pod's own. */
  readonly tls: TlsOrigination | undefined
  readonly alpn: Alpn
}

export class Tunnels {
  readonly #options: TunnelsOptions
  readonly #pool: TunnelPool
  readonly #ended = new AbortController()

  constructor(options: TunnelsOptions) {
    this.#options = options
    this.#pool = new TunnelPool({ dial: (key, signal) => this.#dial(key, signal) })
  }

  /** Throws a MeshError that says why there is none. */
  async open(target: Target, opening?: Opening): Promise<ByteStream> {
    const timeoutMs = opening?.timeoutMs ?? this.#options.connectTimeoutMs
    const signal = AbortSignal.any([this.#ended.signal, AbortSignal.timeout(timeoutMs)])
    const stream = await this.#reach(target, signal)
    if (opening?.tls === undefined) return streamOf(stream)
    return opening.tls.secure(stream, opening.alpn, signal, target.workload.hostname)
  }

  close(): void {
    this.#ended.abort(new Error('the waypoint is ending'))
    this.#pool.close()
  }

  async #reach({ workload, port, asks }: Target, signal: AbortSignal): Promise<net.Socket | Tunnel> {
    const [address] = workload.addresses
    if (address === undefined) {
      const name = `${workload.namespace}/${workload.name}`
      throw new MeshError('CONNECT_FAILED', `${name} has no address in this network`)
    }
    if (workload.protocol !== 'HBONE' && asks === undefined)
      return this.#connectToAny(workload.addresses, port, signal)
    const key: PoolKey = {
      source: this.#options.identity,
      expected: [workloadIdentity(workload)],
      address: { ip: address, port: asks === undefined ? hbonePort : port },
      sourceIp: own
    }
    const authority = formatSocketAddress(asks ?? { ip: address, port })
    return (await this.#pool.tunnel(key, { authority, headers: [] }, signal)).tunnel
  }

  async #dial({ address, expected }: PoolKey, signal: AbortSignal): Promise<ClientSession> {
    const certificate = await this.#options.certificate(signal)
    const socket = await this.#connect(address, signal)
    const secured = await connectTls(socket, certificate, expected, signal, {
      timeoutMs: this.#options.connectTimeoutMs
    })
    return new ClientSession(secured.socket, {
      expiresAt: Math.min(certificate.notAfter, secured.notAfter)
    })
  }

  /** In the clear there is no identity that would tell whose addresses they are: any that answers is right. */
  #connectToAny(addresses: readonly Ip[], port: number, signal: AbortSignal): ReturnType<typeof dial> {
    const connect = (ip: Ip, signal: AbortSignal): ReturnType<typeof dial> =>
      this.#connect({ ip, port }, signal)
    const [only] = addresses
    if (only !== undefined && addresses.length === 1) return connect(only, signal)
    return firstToConnect(addresses, connect, signal)
  }

  #connect(to: SocketAddress, signal: AbortSignal): ReturnType<typeof dial> {
    return dial({ place: {}, to, timeoutMs: this.#options.connectTimeoutMs, tcp: { noDelay: true } }, signal)
  }
}

/** All our requests have one source: only the identities tell sessions apart. */
const own = ip('0.0.0.0')
