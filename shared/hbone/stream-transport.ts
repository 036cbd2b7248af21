/** A byte stream that carries a connection: HTTP/2 inside a tunnel, or on a plain socket. */
import type { ByteStream } from '../net/byte-stream.ts'
import type { Transport, TransportEvents } from './transport.ts'

/** Bytes that leave at once instead of at the end of the turn. */
const flushAt = 131_072
/** Up to here a turn's frames are joined: copying costs less than each of them does on its way through a tunnel and TLS. */
const joinUpTo = 65_536

export class StreamTransport implements Transport {
  readonly #stream: ByteStream
  #gathered: Buffer[] = []
  #gatheredBytes = 0
  #flushScheduled = false
  #full = false
  #peerEnded = false
  #closed = false

  /** Owns the stream from now on. */
  constructor(stream: ByteStream) {
    this.#stream = stream
  }

  get copies(): boolean {
    return this.#stream.exclusive
  }

  get full(): boolean {
    return this.#full
  }

  start(events: TransportEvents): void {
    this.#stream.attach({
      data: (chunk, more) => events.data(chunk, more),
      drain: () => {
        this.#full = false
        events.drain()
      },
      end: () => {
        this.#peerEnded = true
        events.end(undefined)
      },
      close: error => {
        this.#closed = true
        events.end(error)
      }
    })
    this.#stream.resume()
  }

  send(frame: Buffer): void {
    this.#gathered.push(frame)
    this.#gatheredBytes += frame.length
    if (this.#flushScheduled) return
    this.#flushScheduled = true
    setImmediate(this.#onTurn)
  }

  sendData(head: Buffer, content: Buffer): void {
    this.send(head)
    this.#gathered.push(content)
    this.#gatheredBytes += content.length
    if (this.#gatheredBytes >= flushAt) this.flush()
  }

  flush(): void {
    const frames = this.#gathered
    if (frames.length === 0) return
    this.#gathered = []
    const joined = frames.length > 1 && this.#gatheredBytes <= joinUpTo
    this.#gatheredBytes = 0
    if (joined) return this.#write(Buffer.concat(frames))
    this.#stream.cork()
    for (const frame of frames) this.#write(frame)
    this.#stream.uncork()
  }

  end(): void {
    this.flush()
    this.#stream.end()
  }

  destroy(): void {
    if (this.#closed) return
    // Whoever has said goodbye is not cut off.
    if (this.#peerEnded) this.#stream.close()
    else this.#stream.destroy()
  }

  #write(bytes: Buffer): void {
    if (!this.#stream.write(bytes)) this.#full = true
  }

  readonly #onTurn = (): void => {
    this.#flushScheduled = false
    this.flush()
  }
}
