/**
 * Frames of HTTP/2 as bytes: encoding, and an incremental reader that takes bytes however they were split.
 * Pure: no sockets, no timers. Source: RFC 9113 sections 4 and 6.
 *
 * The reader never joins or copies DATA; it hands out slices of what came in. Every other frame is small
 * and bounded (see {@link ReaderLimits}), and is joined only when it was split. A violation is a value
 * ({@link Fault}), never an exception.
 */

export const frameType = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9
} as const

export const frameFlag = {
  /** On DATA and HEADERS: END_STREAM. On SETTINGS and PING: ACK. */
  endStream: 0x1,
  ack: 0x1,
  endHeaders: 0x4,
  padded: 0x8,
  priority: 0x20
} as const

/** RFC 9113 section 7. */
export const errorCode = {
  NO_ERROR: 0x0,
  PROTOCOL_ERROR: 0x1,
  INTERNAL_ERROR: 0x2,
  FLOW_CONTROL_ERROR: 0x3,
  SETTINGS_TIMEOUT: 0x4,
  STREAM_CLOSED: 0x5,
  FRAME_SIZE_ERROR: 0x6,
  REFUSED_STREAM: 0x7,
  CANCEL: 0x8,
  COMPRESSION_ERROR: 0x9,
  CONNECT_ERROR: 0xa,
  ENHANCE_YOUR_CALM: 0xb,
  INADEQUATE_SECURITY: 0xc,
  HTTP_1_1_REQUIRED: 0xd
} as const

export type ErrorCodeName = keyof typeof errorCode

/** The name of an error code of RFC 9113, or the number in hexadecimal. */
export function errorName(code: number): string {
  for (const [name, value] of Object.entries(errorCode)) if (value === code) return name
  return `0x${code.toString(16)}`
}

/** A violation that ends the whole connection: the code for GOAWAY and what the log says. */
export interface Fault {
  readonly code: number
  readonly reason: string
}

export function fault(name: ErrorCodeName, reason: string): Fault {
  return { code: errorCode[name], reason }
}

export const settingId = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6
} as const

/** Identifier and value, in the order of the frame. */
export type SettingPairs = readonly (readonly [id: number, value: number])[]

export const clientPreface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')

export const headerLength = 9
export const defaultFrameSize = 16_384
export const maxStreamId = 0x7fff_ffff
export const maxWindow = 0x7fff_ffff

// ---- encoding

/** The nine bytes before a payload of `length` bytes. */
export function frameHeader(length: number, type: number, flags: number, streamId: number): Buffer {
  return writeHeader(Buffer.allocUnsafe(headerLength), length, type, flags, streamId)
}

export function settingsFrame(pairs: SettingPairs): Buffer {
  const frame = frameOf(pairs.length * 6, frameType.settings, 0, 0)
  let at = headerLength
  for (const [id, value] of pairs) {
    frame.writeUInt16BE(id, at)
    frame.writeUInt32BE(value, at + 2)
    at += 6
  }
  return frame
}

export function settingsAckFrame(): Buffer {
  return frameOf(0, frameType.settings, frameFlag.ack, 0)
}

/** `opaque` has eight bytes. */
export function pingFrame(opaque: Buffer, ack: boolean): Buffer {
  const frame = frameOf(8, frameType.ping, ack ? frameFlag.ack : 0, 0)
  opaque.copy(frame, headerLength, 0, 8)
  return frame
}

export function windowUpdateFrame(streamId: number, increment: number): Buffer {
  const frame = frameOf(4, frameType.windowUpdate, 0, streamId)
  frame.writeUInt32BE(increment, headerLength)
  return frame
}

export function rstStreamFrame(streamId: number, code: number): Buffer {
  const frame = frameOf(4, frameType.rstStream, 0, streamId)
  frame.writeUInt32BE(code, headerLength)
  return frame
}

/** `debug` is text for the peer's log. */
export function goawayFrame(lastStreamId: number, code: number, debug: string): Buffer {
  const text = Buffer.from(debug, 'utf8')
  const frame = frameOf(8 + text.length, frameType.goaway, 0, 0)
  frame.writeUInt32BE(lastStreamId, headerLength)
  frame.writeUInt32BE(code, headerLength + 4)
  text.copy(frame, headerLength + 8)
  return frame
}

/** HEADERS, and CONTINUATION where the block is larger than the peer's frames may be. */
export function headersFrames(
  streamId: number,
  block: Buffer,
  endStream: boolean,
  maxFrameSize: number
): Buffer {
  const parts = Math.max(1, Math.ceil(block.length / maxFrameSize))
  const out = Buffer.allocUnsafe(block.length + parts * headerLength)
  let at = 0
  for (let part = 0; part < parts; part++) {
    const piece = block.subarray(part * maxFrameSize, (part + 1) * maxFrameSize)
    const first = part === 0
    const flags =
      (first && endStream ? frameFlag.endStream : 0) | (part === parts - 1 ? frameFlag.endHeaders : 0)
    writeHeader(
      out.subarray(at),
      piece.length,
      first ? frameType.headers : frameType.continuation,
      flags,
      streamId
    )
    piece.copy(out, at + headerLength)
    at += headerLength + piece.length
  }
  return out
}

function frameOf(length: number, type: number, flags: number, streamId: number): Buffer {
  return writeHeader(Buffer.allocUnsafe(headerLength + length), length, type, flags, streamId)
}

function writeHeader(frame: Buffer, length: number, type: number, flags: number, streamId: number): Buffer {
  frame[0] = length >>> 16
  frame[1] = length >>> 8
  frame[2] = length
  frame[3] = type
  frame[4] = flags
  frame[5] = streamId >>> 24
  frame[6] = streamId >>> 16
  frame[7] = streamId >>> 8
  frame[8] = streamId
  return frame
}

// ---- reading

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
