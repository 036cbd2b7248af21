/** DNS messages in a TCP stream: two bytes of length in front of each (RFC 1035, 4.2.2). */

const lengthBytes = 2

/** Cuts a stream into messages. Holds at most one unfinished message. */
export class FrameReader {
  #parts: Buffer[] = []
  #held = 0
  /** Bytes without which there is no use in looking. */
  #needed = lengthBytes

  /** The messages that are complete with this chunk; they may share memory with it. */
  push(chunk: Buffer): readonly Buffer[] {
    this.#parts.push(chunk)
    this.#held += chunk.length
    if (this.#held < this.#needed) return []
    let bytes = this.#parts.length === 1 ? chunk : Buffer.concat(this.#parts)
    const messages: Buffer[] = []
    while (bytes.length >= (this.#needed = frameLength(bytes))) {
      messages.push(bytes.subarray(lengthBytes, this.#needed))
      bytes = bytes.subarray(this.#needed)
    }
    this.#parts = bytes.length === 0 ? [] : [Buffer.from(bytes)]
    this.#held = bytes.length
    return messages
  }
}

export function frame(message: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(lengthBytes + message.length)
  bytes.writeUInt16BE(message.length, 0)
  bytes.set(message, lengthBytes)
  return bytes
}

/** Of the frame that starts here, as far as can be seen. */
function frameLength(bytes: Buffer): number {
  return bytes.length < lengthBytes ? lengthBytes : lengthBytes + bytes.readUInt16BE(0)
}
