/**
 * The byte pump: copies both directions between two byte streams until both have ended.
 *
 * Listeners, not `pipe`, `pipeline` or `for await`: they cost least per connection and make half close,
 * counters and errors explicit. Each direction ends on its own: the end of one side's input ends the other
 * side's output, and the opposite direction lives on for as long as its ends like.
 */
import type net from 'node:net'
import { MeshError } from '../runtime/errors.ts'

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
  /** Says where events go; called once, before anything else. */
  attach(sink: ByteSink): void
  pause(): void
  resume(): void
  /** False: stop until `drain`. The stream owns the chunk from here on. After the end it drops the bytes. */
  write(chunk: Buffer): boolean
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

/** Bytes passed on so far; updated while the relay runs. */
export interface RelayCounters {
  aToB: number
  bToA: number
}

/**
 * Resolves when both streams are closed, also when a peer closed its connection early. Rejects with a
 * `MeshError` when a stream failed, and with the signal's reason when it aborts (both streams are cut).
 */
export function relay(
  _a: net.Socket | ByteStream,
  _b: net.Socket | ByteStream,
  _counters: RelayCounters,
  _signal: AbortSignal
): Promise<void> {
  throw new MeshError('STREAM_FAILED', 'in progress')
}
