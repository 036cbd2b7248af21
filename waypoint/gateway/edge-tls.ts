/** TLS that ends at a gateway: one server for each listener, another one when what it shows or asks for changes. */
import tls, { type TLSSocket } from 'node:tls'
import type net from 'node:net'
import type { Logger } from '../../shared/telemetry/logger.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { GatewayState } from './gateway-state.ts'
import type { Listener } from './gateway.ts'

export interface EdgeTlsOptions {
  readonly gateway: Pick<GatewayState, 'credentials'>
  readonly log: Logger
  readonly handshakeTimeoutMs: number
  readonly secured: (listener: Listener, socket: TLSSocket) => void
}

interface Shown {
  readonly server: tls.Server
  readonly credentials: tls.TlsOptions
  /** As it was when the last connection came. */
  listener: Listener
}

export class EdgeTls {
  readonly #options: EdgeTlsOptions
  readonly #servers = new Map<string, Shown>()

  constructor(options: EdgeTlsOptions) {
    this.#options = options
  }

  /** What was read of the socket is in front of it again. Throws where the listener has no certificate. */
  end(listener: Listener, socket: net.Socket): void {
    const credentials = this.#options.gateway.credentials(listener)
    if (credentials === undefined) throw new Error('the certificate of the listener is not known')
    const key = `${listener.protocol} ${listener.id.listener}`
    let shown = this.#servers.get(key)
    if (shown?.credentials !== credentials) {
      this.#servers.set(key, (shown = this.#make(listener, credentials)))
    }
    shown.listener = listener
    shown.server.emit('connection', socket)
  }

  /** Forgets those of listeners that are gone. */
  keepOnly(listeners: readonly Listener[]): void {
    const keys = new Set(listeners.map(({ protocol, id }) => `${protocol} ${id.listener}`))
    for (const key of this.#servers.keys()) if (!keys.has(key)) this.#servers.delete(key)
  }

  #make(listener: Listener, credentials: tls.TlsOptions): Shown {
    const { log, handshakeTimeoutMs, secured } = this.#options
    const server = tls.createServer({
      ...credentials,
      ...(listener.protocol === 'HTTPS' ? { ALPNProtocols: ['h2', 'http/1.1'] } : {}),
      handshakeTimeout: handshakeTimeoutMs
    })
    const shown: Shown = { server, credentials, listener }
    server.on('secureConnection', socket => {
      socket.on('error', () => undefined) // nobody listens yet while its backend is looked for
      secured(shown.listener, socket)
    })
    server.on('tlsClientError', (error, socket) => {
      socket.destroy()
      log.debug('a TLS handshake failed', { listener: listener.id.listener, error: messageOf(error) })
    })
    return shown
  }
}
