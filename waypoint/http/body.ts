/** A message body on its way, from whoever reads it off a connection to whoever writes it to the next one. */
import type { HeaderList } from './header-list.ts'

/** Takes a body: data, then once either `end` or `fail`. */
export interface BodySink {
  /** False: enough for now, until {@link Body.resume}. What was read already may still come. */
  data(bytes: Buffer): boolean
  end(trailers?: HeaderList): void
  /** What came is not the whole; nothing more will. */
  fail(error: Error): void
}

/** Gives a body. Nothing is read from the connection before {@link pipe}, beyond what came with the head. */
export interface Body {
  /** Once. What has come already is given during the call. */
  pipe(sink: BodySink): void
  resume(): void
  /** Nothing more of it is wanted. The connection it comes on may end for it. */
  cancel(): void
}
