/** What carries the frames of a connection: a socket (`socket-transport.ts`), or any other stream of bytes (`stream-transport.ts`). */

export interface TransportEvents {
  /** `more`: another chunk follows at once, so what came may wait for it. */
  data(chunk: Buffer, more: boolean): void
  /** A transport that was full takes bytes again. */
  drain(): void
  /** The peer sends no more, or the transport is gone. May come more than once; the error, if any, by the last. */
  end(error: Error | undefined): void
}

export interface Transport {
  /** It keeps no reference to what it has taken, and nobody else has what it hands out. */
  readonly copies: boolean
  /** Writers have to wait for `drain`. */
  readonly full: boolean
  /** Begins to read; once. */
  start(events: TransportEvents): void
  /** Gathered: what is sent in one turn of the event loop leaves together. */
  send(frame: Buffer): void
  /** A frame's head and content. `disposable`: nobody else holds the content's memory; it may be freed once sent. */
  sendData(head: Buffer, content: Buffer, disposable: boolean): void
  /** What was gathered leaves now. */
  flush(): void
  /** Ends sending after what was sent; reading goes on. */
  end(): void
  destroy(): void
}
