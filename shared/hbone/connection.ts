/**
 * One HTTP/2 connection, either end: frames in, frames out, windows, limits, keepalive, GOAWAY, and the one
 * way that it ends. What the first HEADERS of a stream mean is the role's business (`session.ts`, `server.ts`).
 *
 * Memory: received and unread bytes are bounded by two connection windows (32 MiB by default, see
 * `receive-credit.ts`), unsent bytes by 512 KiB for the transport and one chunk a stream.
 */
import { MeshError } from '../runtime/errors.ts'
import { Deliveries } from './deliveries.ts'
import { FrameReader, type FrameHandler } from './frame-reader.ts'
import {
  errorCode,
  errorName,
  fault,
  frameFlag,
  frameHeader,
  frameType,
  clientPreface,
  goawayFrame,
  headersFrames,
  maxStreamId,
  pingFrame,
  rstStreamFrame,
  settingsAckFrame,
  settingsFrame,
  windowUpdateFrame,
  type Fault,
  type SettingPairs
} from './frames.ts'
import type { HeaderList } from './header-field.ts'
import { encodeHeaders, HpackDecoder } from './hpack.ts'
import { Keepalive } from './keepalive.ts'
import { maxContinuations, PeerBudget } from './limits.ts'
import { ReceiveCredit } from './receive-credit.ts'
import { Sender } from './sender.ts'
import type { SessionOptions } from './session-options.ts'
import {
  announcedSettings,
  applySettings,
  defaultWindow,
  initialPeerSettings,
  type PeerSettings
} from './settings.ts'
import { StreamTable } from './stream-table.ts'
import type { Transport } from './transport.ts'
import { Tunnel, type TunnelHost } from './tunnel.ts'

/** What makes a connection a client's or a server's. */
export interface Role {
  readonly server: boolean
  /** What it speaks, for the texts of errors. */
  readonly protocol: 'HBONE' | 'HTTP/2'
  /** The first header list of a stream. A server's tunnel is new, a client's has waited for this. */
  head(tunnel: Tunnel, fields: HeaderList, endStream: boolean): Fault | undefined
  /** As `head`, for a list beyond our limit. */
  oversizedHead(tunnel: Tunnel): void
  /** The header list that ends a stream, undefined where it is beyond our limit. Answers what is wrong with it. */
  trailers(tunnel: Tunnel, fields: HeaderList | undefined): string | undefined
  /** The peer's SETTINGS have come. */
  settled?(): void
  goaway(lastStreamId: number, code: number, debug: string): void
  /** The connection is gone; called once, before its tunnels are told. */
  ended(error: Error): void
}

/** How long a closing connection may take to send what is left and hear the peer's end. */
const lingerMs = 1000

const keepaliveOpaque = Buffer.from('underpas', 'latin1')
const drainOpaque = Buffer.from('draining', 'latin1')

export class Connection implements TunnelHost, FrameHandler {
  readonly #transport: Transport
  readonly #role: Role
  readonly #options: Required<SessionOptions>
  readonly #reader: FrameReader
  readonly #decoder: HpackDecoder
  readonly #budget: PeerBudget
  readonly #streams: StreamTable
  readonly #sender: Sender
  readonly #received: ReceiveCredit
  readonly #deliveries = new Deliveries()
  #keepalive: Keepalive | undefined
  #settingsTimer: NodeJS.Timeout | undefined
  #peer: PeerSettings
  #settled = false
  #ended = false
  /** Ends with the last stream. */
  #finishing = false
  /** The last stream identifier of the final GOAWAY. */
  #goawaySent: number | undefined

  constructor(transport: Transport, role: Role, options: Required<SessionOptions>) {
    this.#transport = transport
    this.#role = role
    this.#options = options
    this.#peer = initialPeerSettings(role.server ? Infinity : options.maxStreams)
    this.#streams = new StreamTable(role.server, 2 * Math.max(options.maxStreams, 100))
    this.#sender = new Sender(transport)
    this.#received = new ReceiveCredit(options.connectionWindow, credit =>
      this.#send(windowUpdateFrame(0, credit))
    )
    this.#decoder = new HpackDecoder(options.maxHeaderListSize)
    this.#budget = new PeerBudget(options.allowances, options.clock)
    const { maxFrameSize, maxHeaderBlock } = options
    this.#reader = new FrameReader(this, { maxFrameSize, maxHeaderBlock, maxContinuations }, role.server)
  }

  start(): void {
    const options = this.#options
    this.#transport.start({
      data: this.#onChunk,
      drain: () => this.#sender.drained(),
      end: error => this.#onTransportEnd(error)
    })
    this.#keepalive = new Keepalive({
      intervalMs: options.pingIntervalMs,
      timeoutMs: options.pingTimeoutMs,
      sendPing: () => this.#send(pingFrame(keepaliveOpaque, false)),
      onDead: () => this.#onDead()
    })
    this.#settingsTimer = setTimeout(() => {
      this.#fail(fault('SETTINGS_TIMEOUT', `no SETTINGS within ${options.settingsTimeoutMs} ms`))
    }, options.settingsTimeoutMs)
    this.#settingsTimer.unref()
    if (!this.#role.server) this.#send(clientPreface)
    this.#send(settingsFrame(announcedSettings(options, this.#role.server)))
    this.#send(windowUpdateFrame(0, options.connectionWindow - defaultWindow))
  }

  get streams(): number {
    return this.#streams.size
  }

  get ended(): boolean {
    return this.#ended
  }

  get peer(): PeerSettings {
    return this.#peer
  }

  /** The peer's SETTINGS have come: it speaks HTTP/2 and wants to. */
  get settled(): boolean {
    return this.#settled
  }

  /** New streams may begin: nobody has said goodbye, no certificate has expired, identifiers are left. */
  get open(): boolean {
    return !this.#ended && !this.#finishing && !this.#streams.exhausted && !this.#expired()
  }

  tunnels(): Iterable<Tunnel> {
    return this.#streams.values()
  }

  // ---- the role's side: streams and endings

  /** A client's new stream; its request has been sent. */
  openStream(fields: HeaderList, endStream = false): Tunnel {
    const tunnel = this.#newTunnel(this.#streams.takeId())
    this.sendHeaders(tunnel, fields, endStream)
    if (endStream) tunnel.headSentEnd()
    return tunnel
  }

  sendHeaders(tunnel: Tunnel, fields: HeaderList, endStream: boolean): void {
    this.#send(headersFrames(tunnel.id, encodeHeaders(fields), endStream, this.#peer.maxFrameSize))
  }

  /** Takes no more streams and ends with the last one. */
  finish(): void {
    this.#finishing = true
    if (this.#streams.size === 0)
      this.#terminate(new MeshError('DRAINED', 'the session was closed'), errorCode.NO_ERROR, '')
  }

  /** Graceful: GOAWAY that refuses nothing, then, when it has arrived, the one that tells the real last stream. */
  drain(): void {
    if (this.#ended || this.#finishing) return
    if (!this.#role.server) return this.finish()
    this.#finishing = true
    this.#send(goawayFrame(maxStreamId, errorCode.NO_ERROR, ''))
    this.#send(pingFrame(drainOpaque, false))
  }

  destroy(error: Error): void {
    this.#terminate(error, errorCode.NO_ERROR, '')
  }

  // ---- frames in

  data(streamId: number, piece: Buffer, flowLength: number, endStream: boolean): Fault | undefined {
    if (flowLength > 0 && !this.#received.take(flowLength)) {
      return fault(
        'FLOW_CONTROL_ERROR',
        `${flowLength} bytes, the connection window holds ${this.#received.open}`
      )
    }
    const tunnel = this.#streams.get(streamId)
    if (tunnel === undefined || tunnel.remoteEnded) return this.#dataOnClosed(streamId, piece, tunnel)
    if (flowLength > 0 && !tunnel.takeWindow(flowLength)) {
      this.consumed(piece.length)
      return this.streamFault(
        streamId,
        errorCode.FLOW_CONTROL_ERROR,
        'more DATA than the window of its stream'
      )
    }
    if (!tunnel.answered && !this.#role.server) {
      this.consumed(piece.length)
      return this.streamFault(streamId, errorCode.PROTOCOL_ERROR, 'DATA before the response')
    }
    if (piece.length > 0) {
      this.#earnPing()
      tunnel.receive(piece)
    } else if (!endStream && flowLength === 0) {
      const flood = this.#budget.spend('emptyData')
      if (flood !== undefined) return flood
    }
    if (endStream) tunnel.receiveEnd()
    return undefined
  }

  padding(streamId: number, length: number): Fault | undefined {
    this.consumed(length)
    this.#streams.get(streamId)?.credit(length)
    return undefined
  }

  headers(streamId: number, block: Buffer, endStream: boolean): Fault | undefined {
    this.#earnPing()
    const decoded = this.#decoder.decode(block)
    if (decoded.kind === 'malformed') return fault('COMPRESSION_ERROR', decoded.reason)
    const fields = decoded.kind === 'fields' ? decoded.fields : undefined
    const known = this.#streams.get(streamId)
    if (known !== undefined) {
      if (known.remoteEnded)
        return this.streamFault(streamId, errorCode.STREAM_CLOSED, 'HEADERS after END_STREAM')
      if (this.#role.server || known.answered) return this.#trailers(known, fields, endStream)
      return this.#head(known, fields, endStream)
    }
    if (!this.#streams.mayOpen(streamId)) {
      if (this.#streams.wasReset(streamId)) return undefined
      return this.#streams.isIdle(streamId)
        ? fault('PROTOCOL_ERROR', `HEADERS on stream ${streamId}, which only we could open`)
        : fault('STREAM_CLOSED', `HEADERS on stream ${streamId}, which is closed`)
    }
    if (this.#goawaySent !== undefined) return undefined // the peer knows from GOAWAY that it was not processed
    this.#streams.openedByPeer(streamId)
    if (this.#expired()) {
      this.#reset(streamId, errorCode.REFUSED_STREAM)
      this.drain()
      return undefined
    }
    if (this.#streams.size >= this.#options.maxStreams) {
      this.#reset(streamId, errorCode.REFUSED_STREAM)
      return this.#budget.spend('earlyReset')
    }
    return this.#head(this.#newTunnel(streamId), fields, endStream)
  }

  rstStream(streamId: number, code: number): Fault | undefined {
    const tunnel = this.#streams.get(streamId)
    if (tunnel === undefined) {
      return this.#streams.isIdle(streamId)
        ? fault('PROTOCOL_ERROR', `RST_STREAM on idle stream ${streamId}`)
        : undefined
    }
    const early = this.#role.server && !tunnel.answered
    tunnel.receiveReset(code)
    return early ? this.#budget.spend('earlyReset') : undefined
  }

  settings(pairs: SettingPairs): Fault | undefined {
    const flood = this.#budget.spend('settings')
    if (flood !== undefined) return flood
    const applied = applySettings(this.#peer, pairs, !this.#role.server)
    if (applied.kind === 'fault') return applied.fault
    const wider = applied.settings.initialWindow - this.#peer.initialWindow
    this.#peer = applied.settings
    this.#settled = true
    clearTimeout(this.#settingsTimer)
    this.#send(settingsAckFrame())
    for (const tunnel of wider === 0 ? [] : this.#streams.values()) {
      if (!tunnel.widen(wider)) return fault('FLOW_CONTROL_ERROR', 'SETTINGS make a window exceed 2^31 - 1')
    }
    this.#role.settled?.()
    return undefined
  }

  settingsAck(): Fault | undefined {
    this.#decoder.allowTable(0)
    return undefined
  }

  /** A peer that does not read what we send must not make us queue answers. */
  #earnPing(): void {
    if (!this.#transport.full) this.#budget.earn('ping')
  }

  ping(opaque: Buffer, ack: boolean): Fault | undefined {
    if (!ack) {
      this.#send(pingFrame(opaque, true))
      return this.#budget.spend('ping')
    }
    if (opaque.equals(keepaliveOpaque)) this.#keepalive?.pong()
    else if (opaque.equals(drainOpaque)) this.#onDrainPong()
    return undefined
  }

  goaway(lastStreamId: number, code: number, debug: string): Fault | undefined {
    if (this.#role.server) return undefined // clients say so when they leave; there is nothing to do but wait
    this.#finishing = true
    this.#role.goaway(lastStreamId, code, debug)
    if (this.#streams.size === 0) this.finish()
    return undefined
  }

  windowUpdate(streamId: number, increment: number): Fault | undefined {
    if (streamId === 0) {
      if (this.#sender.widen(increment)) return undefined
      return fault('FLOW_CONTROL_ERROR', 'the connection window exceeds 2^31 - 1')
    }
    const tunnel = this.#streams.get(streamId)
    if (tunnel === undefined) {
      return this.#streams.isIdle(streamId)
        ? fault('PROTOCOL_ERROR', `WINDOW_UPDATE on idle stream ${streamId}`)
        : undefined
    }
    if (tunnel.widen(increment)) return undefined
    return this.streamFault(streamId, errorCode.FLOW_CONTROL_ERROR, 'a window that exceeds 2^31 - 1')
  }

  streamFault(streamId: number, code: number, reason: string): Fault | undefined {
    if (this.#streams.isIdle(streamId)) return { code, reason: `${reason} on idle stream ${streamId}` }
    this.#reset(streamId, code)
    const error = new MeshError('STREAM_FAILED', `the peer violated HTTP/2 on this stream: ${reason}`)
    this.#streams.get(streamId)?.abandon(error)
    return this.#budget.spend('streamFault')
  }

  /** A violation that showed only when somebody looked at what the stream carried. */
  malformed(tunnel: Tunnel, reason: string): void {
    if (tunnel.over) return
    const flood = this.streamFault(tunnel.id, errorCode.PROTOCOL_ERROR, reason)
    if (flood !== undefined) this.#fail(flood)
  }

  idle(): Fault | undefined {
    return this.#budget.spend('idle')
  }

  // ---- what tunnels need

  get writable(): boolean {
    return this.#sender.writable
  }

  get exclusive(): boolean {
    return this.#sender.copies
  }

  sendData(tunnel: Tunnel, chunk: Buffer, disposable: boolean): number {
    if (this.#ended) return chunk.length
    return this.#sender.sendData(tunnel, chunk, disposable, this.#peer.maxFrameSize)
  }

  sendEnd(tunnel: Tunnel): void {
    this.#send(frameHeader(0, frameType.data, frameFlag.endStream, tunnel.id))
  }

  sendReset(tunnel: Tunnel, code: number): void {
    this.#reset(tunnel.id, code)
  }

  sendCredit(tunnel: Tunnel, bytes: number): void {
    this.#send(windowUpdateFrame(tunnel.id, bytes))
  }

  consumed(bytes: number): void {
    this.#received.consumed(bytes)
  }

  scheduleDelivery(tunnel: Tunnel): void {
    this.#deliveries.schedule(tunnel)
  }

  awaitWindow(tunnel: Tunnel): void {
    this.#sender.awaitWindow(tunnel)
  }

  awaitDrain(tunnel: Tunnel): void {
    this.#sender.awaitDrain(tunnel)
  }

  forget(tunnel: Tunnel): void {
    this.#streams.delete(tunnel.id)
    this.#sender.forget(tunnel)
    if (this.#streams.size > 0 || this.#ended) return
    if (!this.#finishing) {
      if (this.#expired()) this.drain()
      return
    }
    // A server that drains must first have told the real last stream, or a request on its way would be lost.
    if (this.#role.server && this.#goawaySent === undefined) return
    this.finish()
  }

  // ---- inside

  readonly #onChunk = (chunk: Buffer, more: boolean): void => {
    if (this.#ended) return
    const found = this.#reader.read(chunk)
    if (found !== undefined) this.#fail(found)
    this.#deliveries.afterChunk(more)
  }

  #newTunnel(id: number): Tunnel {
    const tunnel = new Tunnel(this, id, this.#options.streamWindow, this.#peer.initialWindow)
    this.#streams.add(tunnel)
    return tunnel
  }

  #head(tunnel: Tunnel, fields: HeaderList | undefined, endStream: boolean): Fault | undefined {
    if (fields === undefined) {
      this.#role.oversizedHead(tunnel)
      return undefined
    }
    if (endStream) tunnel.receiveEnd()
    return this.#role.head(tunnel, fields, endStream)
  }

  #trailers(tunnel: Tunnel, fields: HeaderList | undefined, endStream: boolean): Fault | undefined {
    const reason = endStream ? this.#role.trailers(tunnel, fields) : 'HEADERS in the middle of a stream'
    if (reason !== undefined) return this.streamFault(tunnel.id, errorCode.PROTOCOL_ERROR, reason)
    tunnel.receiveEnd()
    return undefined
  }

  #dataOnClosed(streamId: number, piece: Buffer, tunnel: Tunnel | undefined): Fault | undefined {
    this.consumed(piece.length)
    if (this.#streams.isIdle(streamId)) return fault('PROTOCOL_ERROR', `DATA on idle stream ${streamId}`)
    if (tunnel === undefined && this.#streams.wasReset(streamId)) return undefined
    return this.streamFault(streamId, errorCode.STREAM_CLOSED, 'DATA after END_STREAM')
  }

  #expired(): boolean {
    return this.#options.clock.now() >= this.#options.expiresAt
  }

  #reset(streamId: number, code: number): void {
    this.#send(rstStreamFrame(streamId, code))
    this.#streams.rememberReset(streamId)
  }

  #send(frame: Buffer): void {
    if (this.#ended) return
    this.#sender.send(frame)
  }

  #onDrainPong(): void {
    if (this.#goawaySent !== undefined) return
    this.#goawaySent = this.#streams.lastPeerId
    this.#send(goawayFrame(this.#streams.lastPeerId, errorCode.NO_ERROR, ''))
    if (this.#streams.size === 0) this.finish()
  }

  #onDead(): void {
    const { pingTimeoutMs } = this.#options
    this.#terminate(
      new MeshError(
        'STREAM_FAILED',
        `${this.#role.protocol} ping timeout: the peer did not answer within ${pingTimeoutMs} ms`
      ),
      errorCode.NO_ERROR,
      'ping timeout'
    )
  }

  #onTransportEnd(cause: Error | undefined): void {
    const text = `the peer closed the ${this.#role.protocol} connection`
    this.#terminate(new MeshError('STREAM_FAILED', text, cause && { cause }), undefined, '')
    this.#transport.destroy()
  }

  #fail({ code, reason }: Fault): void {
    const text = `the peer violated HTTP/2 (${errorName(code)}): ${reason}`
    this.#terminate(new MeshError('HTTP2_FAILED', text), code, reason)
  }

  /** The one way out: a goodbye where it can still be said, every stream told, then the socket. */
  #terminate(error: Error, code: number | undefined, debug: string): void {
    if (this.#ended) return
    if (code !== undefined) this.#send(goawayFrame(this.#streams.lastPeerId, code, debug))
    this.#ended = true
    this.#sender.flush()
    clearTimeout(this.#settingsTimer)
    this.#keepalive?.stop()
    this.#role.ended(error)
    for (const tunnel of [...this.#streams.values()]) tunnel.abandon(error)
    const transport = this.#transport
    transport.end()
    setTimeout(() => transport.destroy(), lingerMs).unref()
  }
}
