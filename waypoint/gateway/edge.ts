/** A gateway's clients: what comes to a port of its listeners, and who takes it. */
import type net from 'node:net'
import type tls from 'node:tls'
import { formatSocketAddress, parseIp } from '../../shared/net/address.ts'
import { streamOf } from '../../shared/net/socket-stream.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import { clientAddress } from '../client-address.ts'
import { chooseBackend } from '../request.ts'
import { serveHttp } from '../serve-http.ts'
import { sniff } from '../sniff.ts'
import { serveTcp } from '../tcp.ts'
import { throughWaypoint } from '../upstream/through-waypoint.ts'
import type { Arrival, ListenerPort, Waypoint } from '../waypoint.ts'
import { forwardedCertificate, isSameValidation } from './client-certificate.ts'
import { EdgeTls } from './edge-tls.ts'
import type { Listener } from './gateway.ts'
import { awaitClientHello } from './hello-reader.ts'
import { hostOf } from './hostname.ts'
import { ListenerSockets } from './listener-sockets.ts'

/** For the first bytes of a request. Source: the edge profile of Istio's published connection settings. */
const firstBytesMs = 60_000

export class Edge {
  readonly #waypoint: Waypoint
  readonly #sockets: ListenerSockets
  readonly #tls: EdgeTls
  /** Those that have not said what they want yet. */
  readonly #silent = new Set<net.Socket>()

  constructor(waypoint: Waypoint) {
    this.#waypoint = waypoint
    const { config, gateway, log } = waypoint
    this.#sockets = new ListenerSockets({
      ipv6: config.ipv6,
      log,
      accept: (port, socket) => this.#accept(port, socket)
    })
    this.#tls = new EdgeTls({
      gateway,
      log,
      handshakeTimeoutMs: config.connectTimeoutMs,
      secured: (listener, socket) => this.#serveDecrypted(listener, socket)
    })
  }

  /** Connections that are open. */
  get open(): number {
    return this.#sockets.open.size
  }

  /** Listeners or certificates have changed. */
  update(): void {
    const { gateway, clients } = this.#waypoint
    this.#sockets.listenAt(new Set(gateway.ports.keys()))
    this.#tls.keepOnly(gateway.listeners)
    for (const [client, { destination }] of clients) {
      if (destination.kind !== 'listener') continue
      const { port, tls, serverName, validation } = destination
      const plan = gateway.ports.get(port)
      const isSame =
        plan?.kind === (tls ? 'tls' : 'http') &&
        (!tls || isSameValidation(plan.listeners.find(serverName)?.validation, validation))
      if (!isSame) client.drain()
    }
  }

  /** What is under way goes on. */
  stopListening(): void {
    this.#sockets.listenAt(new Set())
    for (const socket of this.#silent) socket.destroy()
  }

  destroy(): void {
    this.stopListening()
    this.#sockets.destroyOpen()
  }

  #accept(port: number, socket: net.Socket): void {
    this.#silent.add(socket)
    socket.once('close', () => this.#silent.delete(socket))
    const plan = this.#waypoint.gateway.ports.get(port)
    switch (plan?.kind) {
      case 'http':
        return this.#serveHttp(port, socket)
      case 'tls':
        return this.#serveTls(port, socket)
      default:
        socket.destroy() // of a port that is closed by now, or has a protocol for which there are no routes
    }
  }

  /** HTTP/1.1, or HTTP/2 of clients that know it of us. */
  #serveHttp(port: number, socket: net.Socket): void {
    const arrival = arrivalAt({ kind: 'listener', port, tls: false, serverName: '' }, socket)
    sniff(streamOf(socket), firstBytesMs, (detected, whole) => {
      this.#silent.delete(socket)
      serveHttp(this.#waypoint, arrival, detected === 'http2' ? 'http2' : 'http1', whole, 'http')
    })
  }

  #serveTls(port: number, socket: net.Socket): void {
    const { config, gateway, log } = this.#waypoint
    const refuse = (error: unknown): void => {
      log.debug('a TLS client was refused', {
        'src.addr': socket.remoteAddress,
        port,
        error: messageOf(error)
      })
      socket.destroy()
    }
    awaitClientHello(socket, config.connectTimeoutMs)
      .then(hello => {
        this.#silent.delete(socket)
        if (hello.kind === 'refused') throw new Error(hello.reason)
        const serverName = hello.serverName ?? ''
        const listener = gateway.ports.get(port)?.listeners.find(serverName)
        if (listener === undefined) throw new Error(`no listener has the name ${JSON.stringify(serverName)}`)
        if (listener.certificates.length > 0) return this.#tls.end(listener, socket)
        return this.#relayByName(listener, serverName, socket)
      })
      .catch(refuse)
  }

  #serveDecrypted(listener: Listener, socket: tls.TLSSocket): void {
    const serverName = hostOf(socket.servername || '')
    const { port, validation } = listener
    const now = this.#waypoint.gateway.ports.get(port)?.listeners.find(serverName)
    if (!isSameValidation(now?.validation, validation)) {
      socket.destroy() // its handshake began when something else was asked for
      return
    }
    if (listener.protocol === 'TLS') return this.#relayByName(listener, serverName, socket)
    const clientCertificate = forwardedCertificate(socket)
    const destination = {
      kind: 'listener',
      port,
      tls: true,
      serverName,
      validation,
      clientCertificate
    } as const
    const arrival = arrivalAt(destination, socket)
    const version = socket.alpnProtocol === 'h2' ? 'http2' : 'http1'
    return serveHttp(this.#waypoint, arrival, version, streamOf(socket), 'https')
  }

  /** As a TLSRoute says, whether or not TLS has ended here. */
  #relayByName(listener: Listener, serverName: string, socket: net.Socket): void {
    const { gateway, log, random, view } = this.#waypoint
    const { port } = listener
    const arrival = arrivalAt({ kind: 'listener', port, tls: true, serverName }, socket)
    const route = gateway.tlsRoutes.at(listener.id).find(serverName)
    const backend = route && chooseBackend(route.backends, random)
    const service =
      backend?.kind === 'service' ? view().service(`${backend.namespace}/${backend.hostname}`) : undefined
    if (backend?.kind === 'service' && service !== undefined) {
      const straight = { kind: 'service', service, port: backend.port } as const
      const upstream = throughWaypoint(this.#waypoint, service, backend.port) ?? straight
      return serveTcp(this.#waypoint, arrival, streamOf(socket), upstream)
    }
    const reason = route === undefined ? 'no route' : 'no backend that can be used'
    log.debug('a TLS client was refused', { 'src.addr': arrival.client.ip, port, serverName, error: reason })
    socket.destroy()
  }
}

function arrivalAt(destination: ListenerPort, socket: net.Socket): Arrival {
  const client = clientAddress(socket)
  const address = { ip: parseIp(socket.localAddress ?? '') ?? client.ip, port: destination.port }
  return {
    peer: undefined,
    peerNamespace: '',
    client,
    source: undefined,
    baggage: undefined,
    destination,
    authority: formatSocketAddress(address),
    addressed: { kind: 'address', address }
  }
}
