/** The client's end of one HTTP/2 session: opens tunnels. */
import type { Duplex } from 'node:stream'
import { MeshError } from '../runtime/errors.ts'
import { Connection, type Role } from './connection.ts'
import { errorCode, errorName, type Fault } from './frames.ts'
import { findMalformedTrailer, readResponseHead } from './header-rules.ts'
import type { HeaderField, HeaderList } from './header-field.ts'
import { withDefaults, type SessionOptions } from './session-options.ts'
import { SocketTransport } from './socket-transport.ts'
import type { Tunnel } from './tunnel.ts'

export type { SessionOptions } from './session-options.ts'

export interface ConnectHead {
  /** See `connect.ts`. */
  readonly authority: string
  readonly headers: HeaderList
}

export interface OpenedTunnel {
  /** Paused until it is attached and resumed. */
  readonly tunnel: Tunnel
  /** Of the 200 response, `:status` included. */
  readonly headers: HeaderList
}

/** Cause of an error that says: the peer has not looked at this request, so another session may try it. */
export class Unprocessed extends Error {
  constructor() {
    super('the request was not processed')
    this.name = 'Unprocessed'
  }
}

interface Opening {
  resolve(opened: OpenedTunnel): void
  reject(error: unknown): void
}

export class ClientSession {
  readonly #connection: Connection
  readonly #opening = new Map<Tunnel, Opening>()
  readonly #closed = new AbortController()
  #cutWith: Error | undefined

  /** `socket`: a TLS stream after its handshake (`connectTls`); nothing has been read from it. */
  constructor(socket: Duplex, options: SessionOptions = {}) {
    const role: Role = {
      server: false,
      protocol: 'HBONE',
      head: (tunnel, fields, endStream) => this.#head(tunnel, fields, endStream),
      oversizedHead: tunnel => this.#oversizedHead(tunnel),
      trailers: (_, fields) => findMalformedTrailer(fields ?? []),
      goaway: (lastStreamId, code, debug) => this.#goaway(lastStreamId, code, debug),
      ended: error => this.#ended(error)
    }
    this.#connection = new Connection(new SocketTransport(socket), role, withDefaults(options, false))
    this.#connection.start()
  }

  /**
   * Resolves with the response when it is a 200. Throws MeshError HTTP_STATUS, STREAM_FAILED, HTTP2_FAILED or
   * TLS_FAILED (the peer refused our certificate), or the signal's reason.
   */
  async openTunnel(head: ConnectHead, signal: AbortSignal): Promise<OpenedTunnel> {
    signal.throwIfAborted()
    if (!this.usable) throw unprocessed('the HBONE session takes no new streams')
    const fields: HeaderField[] = [[':method', 'CONNECT'], [':authority', head.authority], ...head.headers]
    const tunnel = this.#connection.openStream(fields)
    const onAbort = (): void => tunnel.destroy()
    signal.addEventListener('abort', onAbort)
    try {
      return await new Promise<OpenedTunnel>((resolve, reject) => {
        this.#opening.set(tunnel, { resolve, reject })
        tunnel.onAbandoned = () => this.#settle(tunnel)?.reject(signal.aborted ? signal.reason : lost(tunnel))
      })
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  /** Aborts when the connection is gone; the reason is a MeshError. */
  get closed(): AbortSignal {
    return this.#closed.signal
  }

  /** Another tunnel may be opened now. */
  get usable(): boolean {
    return this.#connection.open && this.streams < this.maxStreams
  }

  /** Tunnels open or opening. */
  get streams(): number {
    return this.#connection.streams
  }

  /** The peer's limit, or what we assume while it has not said one. */
  get maxStreams(): number {
    return this.#connection.peer.maxConcurrentStreams
  }

  /** Takes no new tunnels and ends with its last one. */
  close(): void {
    this.#connection.finish()
  }

  /** Cuts every tunnel; they report this reason. */
  destroy(reason: Error): void {
    this.#cutWith = reason
    this.#connection.destroy(reason)
  }

  // ---- what the connection asks of a client

  #head(tunnel: Tunnel, fields: HeaderList, endStream: boolean): Fault | undefined {
    const head = readResponseHead(fields)
    if (head.kind === 'malformed' || (head.status < 200 && (endStream || head.status === 101))) {
      const reason = head.kind === 'malformed' ? head.reason : `a final response with status ${head.status}`
      return this.#connection.streamFault(tunnel.id, errorCode.PROTOCOL_ERROR, reason)
    }
    if (head.status < 200) return undefined // interim: the answer is yet to come
    tunnel.answered = true
    tunnel.onAbandoned = undefined
    const opening = this.#settle(tunnel)
    if (head.status === 200) {
      opening?.resolve({ tunnel, headers: fields })
    } else {
      opening?.reject(
        new MeshError('HTTP_STATUS', `http status: ${head.status}`, { peerStatus: head.status })
      )
      tunnel.destroy()
    }
    return undefined
  }

  #oversizedHead(tunnel: Tunnel): void {
    const error = new MeshError('STREAM_FAILED', 'the response has more headers than we take')
    this.#settle(tunnel)?.reject(error)
    tunnel.destroy()
  }

  #goaway(lastStreamId: number, code: number, debug: string): void {
    const said = `the peer closed the HBONE session (${errorName(code)}${debug === '' ? '' : `: ${debug}`})`
    for (const tunnel of this.#connection.tunnels()) {
      if (tunnel.id <= lastStreamId) continue
      this.#settle(tunnel)?.reject(unprocessed(said))
      tunnel.abandon(new MeshError('HTTP2_FAILED', said))
    }
  }

  #ended(error: Error): void {
    const told = this.#connection.settled || error === this.#cutWith ? error : notWelcome(error)
    for (const opening of this.#opening.values()) opening.reject(told)
    this.#opening.clear()
    this.#closed.abort(told)
  }

  #settle(tunnel: Tunnel): Opening | undefined {
    const opening = this.#opening.get(tunnel)
    this.#opening.delete(tunnel)
    return opening
  }
}

function unprocessed(reason: string): MeshError {
  return new MeshError('HTTP2_FAILED', reason, { cause: new Unprocessed() })
}

/** The stream ended before its response. */
function lost(tunnel: Tunnel): MeshError {
  const { resetCode } = tunnel
  if (resetCode === errorCode.REFUSED_STREAM)
    return unprocessed('the peer refused the stream (REFUSED_STREAM)')
  const how =
    resetCode === undefined ? 'the stream ended' : `the peer reset the stream with ${errorName(resetCode)}`
  return new MeshError('STREAM_FAILED', `${how} before it answered the CONNECT request`)
}

/** Under TLS 1.3 a client learns that its certificate was refused only after its own handshake is done. */
function notWelcome(cause: Error): MeshError {
  const text =
    'the peer ended the connection after the TLS handshake, before it spoke HTTP/2: it has probably refused our certificate; its log says why'
  return new MeshError('TLS_FAILED', text, { cause })
}
