/** DNS messages in a TCP stream: two bytes of length in front of each (RFC 1035, 4.2.2). */

/** Cuts a stream into messages. Holds at most one unfinished message. */
export class FrameReader {
  #held: Buffer = Buffer.alloc(0)

  /** The messages that are complete with this chunk; they share memory with it. */
  push(chunk: Buffer): readonly Buffer[] {
    const messages: Buffer[] = []
    let bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk])
    while (bytes.length >= 2) {
      const end = 2 + bytes.readUInt16BE(0)
      if (bytes.length < end) break
      messages.push(bytes.subarray(2, end))
      bytes = bytes.subarray(end)
    }
    this.#held = Buffer.from(bytes)
    return messages
  }
}

export function frame(message: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(2 + message.length)
  bytes.writeUInt16BE(message.length, 0)
  bytes.set(message, 2)
  return bytes
}
