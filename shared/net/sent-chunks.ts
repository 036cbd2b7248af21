/**
 * Frees the memory of chunks as soon as they are sent.
 *
 * Node reads each chunk into memory of its own, outside the heap. The collector sees only the small objects
 * that point to it, so under load megabytes of it gather until V8 cleans up everything: a fifth of all cost.
 */

/** Chunks from this size on are worth the trouble: what a full TLS record holds beside a frame's head. */
const least = 16_384 - 9

/** Bytes of a chunk's memory that may lie outside it: a frame's head, which nobody keeps. */
const most = 9

export class SentChunks {
  /** Oldest first, from `#freed` on. */
  readonly #waiting: Buffer[] = []
  #freed = 0

  /** Whether a chunk that nobody else holds is alone in its memory, and large. */
  static worth(chunk: Buffer): boolean {
    return chunk.length >= least && chunk.buffer.byteLength - chunk.length <= most
  }

  /** The next call of `onSent` but those of chunks added before it is this one's. */
  add(chunk: Buffer): void {
    this.#waiting.push(chunk)
  }

  /** For the callback of the chunk's `write`; streams call these in the order of the writes. */
  readonly onSent = (): void => {
    const chunk = this.#waiting[this.#freed++]
    if (this.#freed === this.#waiting.length || this.#freed === 64) {
      this.#waiting.splice(0, this.#freed)
      this.#freed = 0
    }
    if (chunk?.buffer instanceof ArrayBuffer) chunk.buffer.transfer(0)
  }
}
