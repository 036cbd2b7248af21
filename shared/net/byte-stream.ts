/** Bytes in both directions, whatever carries them: a TCP or TLS connection, or a tunnel inside one. */

/** What a byte stream tells whoever reads it. After `close` it says nothing more. */
export interface ByteSink {
  /** `more`: another chunk follows before control returns to the event loop, so gather instead of writing. */
  data(chunk: Buffer, more: boolean): void
  /** The peer sends no more; writing still works. */
  end(): void
  /** A `write` that returned false has gone out. */
  drain(): void
  /** Both directions are over. With an error the stream was cut; without, everything that was sent arrived. */
  close(error: Error | undefined): void
}

/** A full-duplex byte stream with half close. It starts paused. */
export interface ByteStream {
  /** Nobody else holds the memory of the chunks that it tells. */
  readonly exclusive: boolean
  /** Says where events go from now on; before anything else. Replaces an earlier sink. */
  attach(sink: ByteSink): void
  pause(): void
  resume(): void
  /**
   * False: stop until `drain`. The chunk must not be changed from here on. After the end it drops the bytes.
   * `disposable`: nobody else holds the chunk's memory, so it may be freed once the chunk is sent.
   */
  write(chunk: Buffer, disposable?: boolean): boolean
  /** Holds writes back until `uncork`, so that they leave together. */
  cork(): void
  uncork(): void
  /** Ends writing after what was written; reading goes on. */
  end(): void
  /** Ends writing after what was written, and reading at once. */
  close(): void
  /** Cuts both directions. With an error the peer sees a connection error, without one a cancellation. */
  destroy(error?: Error): void
}
