/**
 * One stream as a byte stream: windows in both directions, half close, trailers, reset.
 *
 * Invariants:
 * 1. At most one receive window of bytes waits in `#received`: credit goes back only for bytes that the sink
 *    took, so a sink that pauses stops the peer's writer.
 * 2. `#unsent` holds what was written since `write` last returned true; a writer that obeys leaves one chunk.
 * 3. The sink hears data, then end, then close, each from `deliver`, never from inside a call to the tunnel.
 */
import type { ByteSink, ByteStream } from '../net/byte-stream.ts'
import { MeshError } from '../runtime/errors.ts'
import { errorCode, errorName, maxWindow } from './frames.ts'
import type { HeaderList } from './header-field.ts'

/** What a tunnel needs of its connection. */
export interface TunnelHost {
  /** The transport takes bytes; false until it has drained. */
  readonly writable: boolean
  /** Nobody else holds the memory of what is received. */
  readonly exclusive: boolean
  /** Sends what the windows allow; the number of bytes sent. */
  sendData(tunnel: Tunnel, chunk: Buffer, disposable: boolean): number
  sendEnd(tunnel: Tunnel): void
  sendHeaders(tunnel: Tunnel, fields: HeaderList, endStream: boolean): void
  sendReset(tunnel: Tunnel, code: number): void
  /** WINDOW_UPDATE on the stream. */
  sendCredit(tunnel: Tunnel, bytes: number): void
  /** Bytes of the connection's window have left our memory. */
  consumed(bytes: number): void
  /** Will call `deliver` soon. */
  scheduleDelivery(tunnel: Tunnel): void
  /** Will call `flush` when the connection window opens. */
  awaitWindow(tunnel: Tunnel): void
  /** Will call `flush` when the transport has drained. */
  awaitDrain(tunnel: Tunnel): void
  /** The stream is over on the wire and no longer counts. */
  forget(tunnel: Tunnel): void
}

export class Tunnel implements ByteStream {
  readonly id: number
  /** The response head has been sent (server) or read (client). */
  answered = false
  /** What came after the peer's last byte. */
  trailers: HeaderList | undefined
  readonly #host: TunnelHost
  #sink: ByteSink | undefined
  #paused = true

  // receiving
  #received: Buffer[] = []
  #deliveryScheduled = false
  /** False: nobody wants what arrives any more. */
  #reading = true
  /** Bytes that the peer may still send. */
  #receiveWindow: number
  readonly #creditAt: number
  /** Bytes that the sink took and the peer was not told of. */
  #owed = 0
  #remoteEnded = false
  #whole = false
  #endTold = false

  // sending
  #unsent: Buffer[] = []
  /** Bytes that we may still send; negative after the peer shrank its initial window. */
  #sendWindow: number
  #writeEnded = false
  #lastFields: HeaderList | undefined
  #endSent = false
  #drainWanted = false

  /** Set once the stream is over on the wire; `error` is what the sink will be told. */
  #over: { readonly error: Error | undefined } | undefined
  #closeTold = false
  #resetCode: number | undefined
  #closeCode: number = errorCode.CANCEL
  #onAbandoned: (() => void) | undefined

  /** Windows in bytes, as the SETTINGS of both sides have them now. */
  constructor(host: TunnelHost, id: number, receiveWindow: number, sendWindow: number) {
    this.#host = host
    this.id = id
    this.#receiveWindow = receiveWindow
    this.#creditAt = receiveWindow / 2
    this.#sendWindow = sendWindow
  }

  // ---- as a byte stream

  get exclusive(): boolean {
    return this.#host.exclusive
  }

  /** Where events go from now on; replaces an earlier sink. */
  attach(sink: ByteSink): void {
    this.#sink = sink
    if (this.#over !== undefined) this.#schedule()
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    if (this.#received.length > 0 || this.#remoteEnded || this.#over !== undefined) this.#schedule()
  }

  write(chunk: Buffer, disposable = false): boolean {
    if (this.#writeEnded || this.#over !== undefined || chunk.length === 0) return true
    let rest = chunk
    if (this.#unsent.length === 0) {
      const sent = this.#host.sendData(this, chunk, disposable)
      if (sent === chunk.length) {
        if (this.#host.writable) return true
        this.#drainWanted = true
        this.#host.awaitDrain(this)
        return false
      }
      if (sent > 0) rest = chunk.subarray(sent)
    }
    this.#unsent.push(rest)
    this.#drainWanted = true
    if (this.#sendWindow > 0) this.#host.awaitWindow(this)
    return false
  }

  /** The connection gathers the frames of one turn of the event loop; there is nothing to hold back here. */
  cork(): void {}

  uncork(): void {}

  end(trailers?: HeaderList): void {
    if (this.#writeEnded || this.#over !== undefined) return
    this.#writeEnded = true
    this.#lastFields = trailers
    if (this.#unsent.length === 0) this.#sendEnd()
  }

  /** `code`: what a peer that has not ended yet is told, after all that was written. */
  close(code: number = errorCode.CANCEL): void {
    if (!this.#reading) return
    this.#stopReading()
    if (this.#over !== undefined) return
    this.#closeCode = code
    if (this.#endSent) this.#cancel(code, undefined)
    else this.end()
  }

  destroy(error?: Error): void {
    this.reset(error === undefined ? errorCode.CANCEL : errorCode.CONNECT_ERROR, error)
  }

  /** Cuts both directions with this code; `error` is what the sink is told. */
  reset(code: number, error?: Error): void {
    this.#stopReading()
    if (this.#over === undefined) this.#cancel(code, error)
  }

  // ---- for the connection and whoever decides about a request

  /** Over on the wire: nothing more can be sent. */
  get over(): boolean {
    return this.#over !== undefined
  }

  /** Why the stream is over, unless it came to its end or was cancelled. */
  get error(): Error | undefined {
    return this.#over?.error
  }

  /** Code of the peer's RST_STREAM. */
  get resetCode(): number | undefined {
    return this.#resetCode
  }

  get sendWindow(): number {
    return this.#sendWindow
  }

  get remoteEnded(): boolean {
    return this.#remoteEnded
  }

  /** All that the peer had to send has come, up to its END_STREAM. */
  get whole(): boolean {
    return this.#whole
  }

  /** Called at once when the stream is over, also while it is paused. */
  set onAbandoned(listener: (() => void) | undefined) {
    this.#onAbandoned = listener
  }

  /** Takes sent bytes from the send window. */
  spend(bytes: number): void {
    this.#sendWindow -= bytes
  }

  /** Changes the send window by WINDOW_UPDATE or SETTINGS; false when it would exceed 2^31 - 1. */
  widen(bytes: number): boolean {
    this.#sendWindow += bytes
    if (this.#sendWindow > maxWindow) return false
    if (this.#sendWindow > 0 && this.#unsent.length > 0) this.flush()
    return true
  }

  /** Takes a DATA frame's length from the receive window; false when the peer sent more than it may. */
  takeWindow(flowLength: number): boolean {
    this.#receiveWindow -= flowLength
    return this.#receiveWindow >= 0
  }

  /** Payload for the sink. */
  receive(piece: Buffer): void {
    if (this.#reading) {
      this.#received.push(piece)
      this.#schedule()
      return
    }
    this.#host.consumed(piece.length)
    this.credit(piece.length)
  }

  /** Bytes of the receive window that nobody holds any more. */
  credit(bytes: number): void {
    this.#owed += bytes
    if (this.#owed < this.#creditAt || this.#remoteEnded || this.#over !== undefined) return
    this.#receiveWindow += this.#owed
    this.#host.sendCredit(this, this.#owed)
    this.#owed = 0
  }

  /** The peer sent END_STREAM. */
  receiveEnd(): void {
    this.#remoteEnded = true
    this.#whole = true
    if (this.#endSent) this.#leave(undefined)
    else this.#schedule()
  }

  /** The peer sent RST_STREAM. NO_ERROR and CANCEL are an end like any other, the rest cut the stream. */
  receiveReset(code: number): void {
    if (this.#over !== undefined) return
    this.#resetCode = code
    const error = resetError(code)
    if (error === undefined) this.#remoteEnded = true
    else if (!this.#remoteEnded) this.#dropReceived()
    this.#leave(error)
  }

  /** The request's head has ended our half. */
  headSentEnd(): void {
    this.#writeEnded = true
    this.#endSent = true
  }

  /** The response has ended the stream; what the client still sends is not wanted. */
  refused(): void {
    this.#reading = false
    this.#dropReceived()
    if (!this.#remoteEnded) this.#host.sendReset(this, errorCode.NO_ERROR)
    this.#leave(undefined)
  }

  /** The connection is gone. A stream whose bytes have all arrived is still read to its end. */
  abandon(error: Error): void {
    if (this.#over !== undefined) return
    if (!this.#remoteEnded) this.#dropReceived()
    this.#leave(error)
  }

  /** Sends what waits, as far as the windows allow. */
  flush(): void {
    if (this.#over !== undefined) return
    const chunks = this.#unsent
    let done = 0
    for (; done < chunks.length; done++) {
      const chunk = chunks[done] as Buffer
      const sent = this.#host.sendData(this, chunk, false)
      if (sent === chunk.length) continue
      if (sent > 0) chunks[done] = chunk.subarray(sent)
      break
    }
    if (done > 0) chunks.splice(0, done)
    if (chunks.length > 0) {
      if (this.#sendWindow > 0) this.#host.awaitWindow(this)
    } else if (this.#writeEnded) {
      if (!this.#endSent) this.#sendEnd()
    } else if (this.#drainWanted) {
      if (!this.#host.writable) return this.#host.awaitDrain(this)
      this.#drainWanted = false
      this.#sink?.drain()
    }
  }

  /** Tells the sink what has happened. */
  deliver(): void {
    this.#deliveryScheduled = false
    const sink = this.#sink
    if (sink === undefined) return
    const chunks = this.#received
    let told = 0
    let bytes = 0
    while (told < chunks.length && !this.#paused && chunks === this.#received) {
      const chunk = chunks[told++] as Buffer
      bytes += chunk.length
      sink.data(chunk, told < chunks.length)
    }
    if (told > 0 && chunks === this.#received) {
      if (told === chunks.length) chunks.length = 0
      else chunks.splice(0, told)
      this.#host.consumed(bytes)
      this.credit(bytes)
    }
    if (this.#received.length > 0) return
    if (this.#remoteEnded && !this.#endTold && this.#reading) {
      this.#endTold = true
      sink.end()
    }
    if (this.#over !== undefined && !this.#closeTold) {
      this.#closeTold = true
      sink.close(this.#over.error)
    }
  }

  // ---- inside

  #schedule(): void {
    if (this.#deliveryScheduled || this.#sink === undefined) return
    this.#deliveryScheduled = true
    this.#host.scheduleDelivery(this)
  }

  #sendEnd(): void {
    this.#endSent = true
    if (this.#lastFields === undefined) this.#host.sendEnd(this)
    else this.#host.sendHeaders(this, this.#lastFields, true)
    if (this.#remoteEnded) this.#leave(undefined)
    else if (!this.#reading) this.#cancel(this.#closeCode, undefined)
  }

  #cancel(code: number, error: Error | undefined): void {
    this.#host.sendReset(this, code)
    this.#leave(error)
  }

  #leave(error: Error | undefined): void {
    this.#over = { error }
    this.#unsent = []
    this.#host.forget(this)
    this.#onAbandoned?.()
    this.#onAbandoned = undefined
    this.#schedule()
  }

  /** Also of a stream that is over: what waits unread counts for the connection's window until somebody drops it. */
  #stopReading(): void {
    this.#reading = false
    this.#dropReceived()
    if (this.#over !== undefined) this.#schedule()
  }

  #dropReceived(): void {
    let bytes = 0
    for (const chunk of this.#received) bytes += chunk.length
    this.#received = []
    if (bytes === 0) return
    this.#host.consumed(bytes)
    this.credit(bytes)
  }
}

/**
 * What the reader of a reset stream is told. A connection error at the peer (RFC 9113 section 8.5) reads as
 * what a socket would report, ECONNRESET; an ended stream as EPIPE.
 */
function resetError(code: number): Error | undefined {
  switch (code) {
    case errorCode.NO_ERROR:
    case errorCode.CANCEL:
      return undefined
    case errorCode.CONNECT_ERROR:
      return Object.assign(new Error('the peer reports that its connection was reset'), {
        code: 'ECONNRESET'
      })
    case errorCode.STREAM_CLOSED:
      return Object.assign(new Error('the peer has closed the stream'), { code: 'EPIPE' })
    default:
      return new MeshError('STREAM_FAILED', `the peer reset the stream with ${errorName(code)}`)
  }
}
