/**
 * The server's side of a SPDY/3.1 connection, for kubectl's port-forward: the client opens streams. There is no
 * flow control by window: a stream that is not read holds the whole connection, so memory stays bounded.
 */
import { Duplex } from 'node:stream'
import {
  controlFrame,
  dataFrame,
  finFlag,
  frameLength,
  frameType,
  HeaderCodec,
  headerLength,
  maxFrameBytes,
  readFrame,
  uint32,
  type Frame
} from './spdy-frames.ts'

export interface SpdyStream {
  readonly headers: ReadonlyMap<string, string>
  readonly duplex: Duplex
}

interface OpenStream {
  readonly duplex: Duplex
  readonly onRoom: () => Promise<void>
}

/** Streams that are open at once; further ones are refused. */
const maxStreams = 1000
const refusedStream = 3
const cancelled = 5

export class SpdyConnection {
  readonly #transport: Duplex
  readonly #onStream: (stream: SpdyStream) => void
  readonly #codec = new HeaderCodec()
  readonly #streams = new Map<number, OpenStream>()

  constructor(transport: Duplex, onStream: (stream: SpdyStream) => void) {
    this.#transport = transport
    this.#onStream = onStream
  }

  /** Serves until the connection ends or the peer breaks the protocol; then every stream is ended. */
  async run(): Promise<void> {
    try {
      let waiting: Buffer = Buffer.alloc(0)
      for await (const chunk of this.#transport as AsyncIterable<Buffer>) {
        waiting = waiting.length === 0 ? chunk : Buffer.concat([waiting, chunk])
        waiting = await this.#takeFrames(waiting)
      }
    } catch {
      // a broken connection or frame: there is nobody left to tell
    } finally {
      for (const { duplex } of this.#streams.values()) duplex.destroy()
      this.#streams.clear()
      this.#codec.close()
      this.#transport.destroy()
    }
  }

  /** Handles the whole frames and returns what is left over. */
  async #takeFrames(bytes: Buffer): Promise<Buffer> {
    let rest = bytes
    while (rest.length >= headerLength) {
      const length = frameLength(rest)
      if (length > maxFrameBytes) throw new RangeError(`a frame has ${length} bytes`)
      if (rest.length < length) break
      await this.#handle(readFrame(rest.subarray(0, length)))
      rest = rest.subarray(length)
    }
    return rest
  }

  async #handle(frame: Frame): Promise<void> {
    if (frame.kind === 'data') {
      const stream = this.#streams.get(frame.streamId)
      if (stream === undefined) return
      const room = frame.payload.length === 0 || stream.duplex.push(Buffer.from(frame.payload))
      if (frame.fin) stream.duplex.push(null)
      else if (!room) await stream.onRoom()
      return
    }
    switch (frame.type) {
      case frameType.synStream:
        return this.#open(frame.payload, (frame.flags & finFlag) !== 0)
      case frameType.rstStream:
        this.#streams.get(frame.payload.readUInt32BE(0))?.duplex.destroy()
        return
      case frameType.ping:
        this.#transport.write(controlFrame(frameType.ping, 0, frame.payload))
        return
      case frameType.headers:
        // must be read, or later blocks would not decompress
        await this.#codec.decode(frame.payload.subarray(4))
        return
      default:
      // SETTINGS, GOAWAY and WINDOW_UPDATE ask for nothing here
    }
  }

  async #open(payload: Buffer, fin: boolean): Promise<void> {
    const id = payload.readUInt32BE(0) & 0x7fffffff
    const headers = await this.#codec.decode(payload.subarray(10))
    if (this.#streams.size >= maxStreams || this.#streams.has(id)) {
      this.#transport.write(
        controlFrame(frameType.rstStream, 0, Buffer.concat([uint32(id), uint32(refusedStream)]))
      )
      return
    }
    const duplex = this.#createStream(id)
    if (fin) duplex.push(null)
    const reply = await this.#codec.encode(new Map())
    this.#transport.write(controlFrame(frameType.synReply, 0, Buffer.concat([uint32(id), reply])))
    this.#onStream({ headers, duplex })
  }

  #createStream(id: number): Duplex {
    let wake: (() => void) | undefined
    const room = (): void => {
      wake?.()
      wake = undefined
    }
    const duplex: Duplex = new Duplex({
      read: room,
      write: (data: Buffer, _encoding, done) => this.#send(dataFrame(id, false, data), done),
      final: done => this.#send(dataFrame(id, true, Buffer.alloc(0)), done),
      destroy: (error, done) => {
        this.#streams.delete(id)
        room()
        if (!duplex.writableFinished && this.#transport.writable) {
          this.#transport.write(
            controlFrame(frameType.rstStream, 0, Buffer.concat([uint32(id), uint32(cancelled)]))
          )
        }
        done(error)
      }
    })
    duplex.on('error', () => undefined) // whoever uses the stream sees it too
    const onRoom = async (): Promise<void> => new Promise(resolve => (wake = resolve))
    this.#streams.set(id, { duplex, onRoom })
    return duplex
  }

  #send(frame: Buffer, done: (error?: Error | null) => void): void {
    if (!this.#transport.writable) done(new Error('the connection has ended'))
    else if (this.#transport.write(frame)) done()
    else this.#transport.once('drain', () => done())
  }
}
