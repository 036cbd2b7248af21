/**
 * Reads frames of HTTP/2 from bytes, however they were split. Pure: no sockets, no timers. Source: RFC 9113
 * sections 4 and 6.
 *
 * DATA is never joined or copied, but handed out as slices of what came in. Every other frame is small and
 * bounded (see {@link ReaderLimits}), and is joined only when it was split. A violation is a value
 * ({@link Fault}), never an exception.
 */
import {
  clientPreface,
  defaultFrameSize,
  errorCode,
  fault,
  frameFlag,
  frameType,
  headerLength,
  type Fault,
  type SettingPairs
} from './frames.ts'

/** Who is told of frames. Each answer is undefined, or the fault that ends the connection. */
export interface FrameHandler {
  /**
   * A piece of DATA. `flowLength` is what the frame takes from the windows, padding included, and comes
   * with its first piece; later pieces have 0. `endStream` comes with the last. The piece may be empty.
   */
  data(streamId: number, piece: Buffer, flowLength: number, endStream: boolean): Fault | undefined
  /** The part of a DATA frame's `flowLength` that is padding; comes after its first, empty, piece. */
  padding(streamId: number, length: number): Fault | undefined
  /** A whole header block, CONTINUATION joined. The block is only valid during the call. */
  headers(streamId: number, block: Buffer, endStream: boolean): Fault | undefined
  rstStream(streamId: number, code: number): Fault | undefined
  settings(pairs: SettingPairs): Fault | undefined
  settingsAck(): Fault | undefined
  /** `opaque` is only valid during the call. */
  ping(opaque: Buffer, ack: boolean): Fault | undefined
  goaway(lastStreamId: number, code: number, debug: string): Fault | undefined
  /** `streamId` 0 is the connection. */
  windowUpdate(streamId: number, increment: number): Fault | undefined
  /** A violation that ends one stream. */
  streamFault(streamId: number, code: number, reason: string): Fault | undefined
  /** A frame that asks nothing of us: PRIORITY, unknown types. Told so that floods can be counted. */
  idle(type: number): Fault | undefined
}

export interface ReaderLimits {
  /** Largest frame payload that we announced. */
  readonly maxFrameSize: number
  /** Largest compressed header block, bytes. */
  readonly maxHeaderBlock: number
  /** Most CONTINUATION frames in one block. */
  readonly maxContinuations: number
}

/** Largest SETTINGS, GOAWAY or PING payload; RFC 9113's least frame size, far beyond what anybody needs. */
const maxControlPayload = defaultFrameSize

const noBytes = Buffer.alloc(0)

const reading = { preface: 0, header: 1, data: 2, padding: 3, whole: 4, skip: 5, failed: 6 } as const

export class FrameReader {
  readonly #handler: FrameHandler
  readonly #limits: ReaderLimits
  #state: number
  /** Bytes still to come in the present state, except in `header` and `preface`, where it counts up. */
  #left = 0
  readonly #head = Buffer.alloc(headerLength)
  #settingsSeen = false

  // the frame in hand
  #type = 0
  #flags = 0
  #streamId = 0
  #length = 0
  /** Trailing padding of DATA still to skip after its content. */
  #padding = 0
  /** The Pad Length byte of DATA has yet to come. */
  #padPending = false
  #flowLength = 0
  /** Collects a frame that was split; undefined while none is. */
  #whole: Buffer | undefined

  // the header block in hand
  #blockStream = 0
  #blockEndsStream = false
  #blockParts: Buffer[] = []
  #blockLength = 0
  #continuations = 0

  /** `expectPreface`: as servers, which first read the client's 24 bytes. */
  constructor(handler: FrameHandler, limits: ReaderLimits, expectPreface: boolean) {
    this.#handler = handler
    this.#limits = limits
    this.#state = expectPreface ? reading.preface : reading.header
  }

  /** Reads on. After a fault every call returns without reading. */
  read(chunk: Buffer): Fault | undefined {
    let at = 0
    const end = chunk.length
    while (at < end) {
      let found: Fault | undefined
      switch (this.#state) {
        case reading.header: {
          if (this.#left === 0 && end - at >= headerLength) {
            found = this.#begin(chunk, at)
            at += headerLength
            break
          }
          const taken = Math.min(headerLength - this.#left, end - at)
          chunk.copy(this.#head, this.#left, at, at + taken)
          at += taken
          this.#left += taken
          if (this.#left === headerLength) {
            this.#left = 0
            found = this.#begin(this.#head, 0)
          }
          break
        }
        case reading.data: {
          if (this.#padPending) {
            found = this.#readPadLength(chunk[at] ?? 0)
            at += 1
            break
          }
          const taken = Math.min(this.#left, end - at)
          this.#left -= taken
          found = this.#passData(
            taken === end && at === 0 ? chunk : chunk.subarray(at, at + taken),
            this.#left === 0
          )
          at += taken
          break
        }
        case reading.whole: {
          const taken = Math.min(this.#left, end - at)
          if (taken === this.#length) {
            this.#left = 0
            found = this.#finish(chunk.subarray(at, at + taken))
          } else {
            this.#whole ??= Buffer.allocUnsafe(this.#length)
            chunk.copy(this.#whole, this.#length - this.#left, at, at + taken)
            this.#left -= taken
            if (this.#left === 0) {
              const whole = this.#whole
              this.#whole = undefined
              found = this.#finish(whole)
            }
          }
          at += taken
          break
        }
        case reading.padding:
        case reading.skip: {
          const taken = Math.min(this.#left, end - at)
          at += taken
          this.#left -= taken
          if (this.#left === 0) this.#state = reading.header
          break
        }
        case reading.preface: {
          const taken = Math.min(clientPreface.length - this.#left, end - at)
          const same = clientPreface.compare(chunk, at, at + taken, this.#left, this.#left + taken) === 0
          at += taken
          this.#left += taken
          if (!same) found = fault('PROTOCOL_ERROR', 'the client preface of HTTP/2 is missing')
          else if (this.#left === clientPreface.length) {
            this.#left = 0
            this.#state = reading.header
          }
          break
        }
        default:
          return undefined
      }
      if (found !== undefined) {
        this.#state = reading.failed
        return found
      }
    }
    return undefined
  }

  /** A frame's nine bytes are here: checks what can be checked, chooses how to read the payload. */
  #begin(bytes: Buffer, at: number): Fault | undefined {
    const length = ((bytes[at] ?? 0) << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0)
    const type = bytes[at + 3] ?? 0
    const flags = bytes[at + 4] ?? 0
    const streamId =
      (((bytes[at + 5] ?? 0) & 0x7f) << 24) |
      ((bytes[at + 6] ?? 0) << 16) |
      ((bytes[at + 7] ?? 0) << 8) |
      (bytes[at + 8] ?? 0)
    this.#type = type
    this.#flags = flags
    this.#streamId = streamId
    this.#length = length
    if (length > this.#limits.maxFrameSize) {
      return fault('FRAME_SIZE_ERROR', `a frame of ${length} bytes exceeds ${this.#limits.maxFrameSize}`)
    }
    if (this.#blockStream !== 0 && (type !== frameType.continuation || streamId !== this.#blockStream)) {
      return fault(
        'PROTOCOL_ERROR',
        `a frame of type ${type} interrupts the header block of stream ${this.#blockStream}`
      )
    }
    if (!this.#settingsSeen) {
      if (type !== frameType.settings || (flags & frameFlag.ack) !== 0) {
        return fault('PROTOCOL_ERROR', `the first frame is of type ${type}, not SETTINGS`)
      }
      this.#settingsSeen = true
    }
    if (type === frameType.data) return this.#beginData()
    const invalid = this.#checkHead(type, flags, streamId, length)
    if (invalid !== undefined) return invalid
    this.#left = length
    if (type > frameType.continuation) {
      this.#state = length === 0 ? reading.header : reading.skip
      return this.#handler.idle(type)
    }
    this.#state = reading.whole
    return length === 0 ? this.#finish(noBytes) : undefined
  }

  #checkHead(type: number, flags: number, streamId: number, length: number): Fault | undefined {
    const onStream = streamId !== 0
    switch (type) {
      case frameType.headers:
      case frameType.continuation:
        if (!onStream) return fault('PROTOCOL_ERROR', 'a header block on stream 0')
        return this.#checkBlock(type, length)
      case frameType.priority:
        return onStream ? undefined : fault('PROTOCOL_ERROR', 'PRIORITY on stream 0')
      case frameType.rstStream:
        if (!onStream) return fault('PROTOCOL_ERROR', 'RST_STREAM on stream 0')
        return length === 4 ? undefined : fault('FRAME_SIZE_ERROR', `RST_STREAM of ${length} bytes`)
      case frameType.settings:
        if (onStream) return fault('PROTOCOL_ERROR', `SETTINGS on stream ${streamId}`)
        if ((flags & frameFlag.ack) !== 0 && length > 0)
          return fault('FRAME_SIZE_ERROR', 'an acknowledgement of SETTINGS with content')
        if (length % 6 !== 0) return fault('FRAME_SIZE_ERROR', `SETTINGS of ${length} bytes`)
        break
      case frameType.pushPromise:
        return fault('PROTOCOL_ERROR', 'PUSH_PROMISE, which nobody may send here')
      case frameType.ping:
        if (onStream) return fault('PROTOCOL_ERROR', `PING on stream ${streamId}`)
        return length === 8 ? undefined : fault('FRAME_SIZE_ERROR', `PING of ${length} bytes`)
      case frameType.goaway:
        if (onStream) return fault('PROTOCOL_ERROR', `GOAWAY on stream ${streamId}`)
        if (length < 8) return fault('FRAME_SIZE_ERROR', `GOAWAY of ${length} bytes`)
        break
      case frameType.windowUpdate:
        return length === 4 ? undefined : fault('FRAME_SIZE_ERROR', `WINDOW_UPDATE of ${length} bytes`)
      default:
        return undefined
    }
    return length <= maxControlPayload
      ? undefined
      : fault('ENHANCE_YOUR_CALM', `a control frame of ${length} bytes`)
  }

  #checkBlock(type: number, length: number): Fault | undefined {
    if (type === frameType.continuation) {
      if (this.#blockStream === 0) return fault('PROTOCOL_ERROR', 'CONTINUATION without HEADERS')
      this.#continuations += 1
      if (this.#continuations > this.#limits.maxContinuations) {
        return fault('ENHANCE_YOUR_CALM', `more than ${this.#limits.maxContinuations} CONTINUATION frames`)
      }
    }
    return this.#blockLength + length <= this.#limits.maxHeaderBlock
      ? undefined
      : fault('ENHANCE_YOUR_CALM', `a header block of more than ${this.#limits.maxHeaderBlock} bytes`)
  }

  #beginData(): Fault | undefined {
    if (this.#streamId === 0) return fault('PROTOCOL_ERROR', 'DATA on stream 0')
    this.#flowLength = this.#length
    this.#padding = 0
    this.#left = this.#length
    this.#padPending = (this.#flags & frameFlag.padded) !== 0
    if (this.#padPending && this.#length === 0)
      return fault('FRAME_SIZE_ERROR', 'padded DATA without Pad Length')
    this.#state = reading.data
    return this.#length === 0 ? this.#passData(noBytes, true) : undefined
  }

  #readPadLength(padding: number): Fault | undefined {
    this.#padPending = false
    this.#left -= 1
    if (padding > this.#left) return fault('PROTOCOL_ERROR', 'padding longer than its DATA frame')
    this.#padding = padding
    this.#left -= padding
    const refused = this.#passData(noBytes, false) ?? this.#handler.padding(this.#streamId, padding + 1)
    return refused ?? (this.#left === 0 ? this.#passData(noBytes, true) : undefined)
  }

  #passData(piece: Buffer, last: boolean): Fault | undefined {
    const flowLength = this.#flowLength
    this.#flowLength = 0
    if (last) {
      this.#left = this.#padding
      this.#state = this.#padding > 0 ? reading.padding : reading.header
    }
    const endStream = last && (this.#flags & frameFlag.endStream) !== 0
    return this.#handler.data(this.#streamId, piece, flowLength, endStream)
  }

  /** The whole payload of a frame other than DATA. */
  #finish(payload: Buffer): Fault | undefined {
    this.#state = reading.header
    const streamId = this.#streamId
    const ack = (this.#flags & frameFlag.ack) !== 0
    switch (this.#type) {
      case frameType.headers:
        return this.#readHeaders(payload)
      case frameType.continuation:
        return this.#addToBlock(payload)
      case frameType.priority:
        if (payload.length === 5) return this.#handler.idle(frameType.priority)
        return this.#handler.streamFault(
          streamId,
          errorCode.FRAME_SIZE_ERROR,
          `PRIORITY of ${payload.length} bytes`
        )
      case frameType.rstStream:
        return this.#handler.rstStream(streamId, payload.readUInt32BE(0))
      case frameType.settings:
        return ack ? this.#handler.settingsAck() : this.#handler.settings(readSettings(payload))
      case frameType.ping:
        return this.#handler.ping(payload, ack)
      case frameType.goaway:
        return this.#handler.goaway(
          payload.readUInt32BE(0) & 0x7fff_ffff,
          payload.readUInt32BE(4),
          payload.toString('utf8', 8, Math.min(payload.length, 264))
        )
      default:
        return this.#readWindowUpdate(payload)
    }
  }

  #readWindowUpdate(payload: Buffer): Fault | undefined {
    const increment = payload.readUInt32BE(0) & 0x7fff_ffff
    if (increment > 0) return this.#handler.windowUpdate(this.#streamId, increment)
    const reason = 'WINDOW_UPDATE of 0'
    return this.#streamId === 0
      ? fault('PROTOCOL_ERROR', reason)
      : this.#handler.streamFault(this.#streamId, errorCode.PROTOCOL_ERROR, reason)
  }

  #readHeaders(payload: Buffer): Fault | undefined {
    let from = 0
    let to = payload.length
    if ((this.#flags & frameFlag.padded) !== 0) {
      if (to < 1) return fault('FRAME_SIZE_ERROR', 'padded HEADERS without Pad Length')
      from = 1
      to -= payload[0] ?? 0
    }
    if ((this.#flags & frameFlag.priority) !== 0) from += 5
    if (from > payload.length) return fault('FRAME_SIZE_ERROR', 'HEADERS too short for its priority')
    if (from > to) return fault('PROTOCOL_ERROR', 'padding longer than its HEADERS frame')
    this.#blockStream = this.#streamId
    this.#blockEndsStream = (this.#flags & frameFlag.endStream) !== 0
    this.#continuations = 0
    return this.#addToBlock(payload.subarray(from, to))
  }

  #addToBlock(part: Buffer): Fault | undefined {
    const complete = (this.#flags & frameFlag.endHeaders) !== 0
    if (!complete) {
      this.#blockParts.push(Buffer.from(part)) // a copy: the slice would keep all that came with it in memory
      this.#blockLength += part.length
      return undefined
    }
    const block = this.#blockLength === 0 ? part : Buffer.concat([...this.#blockParts, part])
    const streamId = this.#blockStream
    this.#blockStream = 0
    this.#blockLength = 0
    if (this.#blockParts.length > 0) this.#blockParts = []
    return this.#handler.headers(streamId, block, this.#blockEndsStream)
  }
}

function readSettings(payload: Buffer): SettingPairs {
  const pairs: (readonly [number, number])[] = []
  for (let at = 0; at < payload.length; at += 6) {
    pairs.push([payload.readUInt16BE(at), payload.readUInt32BE(at + 2)])
  }
  return pairs
}
