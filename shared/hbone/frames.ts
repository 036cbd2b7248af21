/** Frames of HTTP/2: their constants and how they are written. Pure. Source: RFC 9113 sections 4, 6 and 7. */

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
  maxHeaderListSize: 6,
  /** RFC 8441 section 3. */
  enableConnectProtocol: 8
} as const

/** Identifier and value, in the order of the frame. */
export type SettingPairs = readonly (readonly [id: number, value: number])[]

export const clientPreface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')

export const headerLength = 9
export const defaultFrameSize = 16_384
export const maxStreamId = 0x7fff_ffff
export const maxWindow = 0x7fff_ffff

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
