/**
 * A request and its answer, whatever version of HTTP carries them: what routes, policies and filters work with.
 * Fields of one connection only (RFC 9110 section 7.6.1) are never among the headers here; each side adds its own.
 */
import type { ByteStream } from '../../shared/net/byte-stream.ts'
import type { Body, BodySink } from './body.ts'
import type { Framing, HttpVersion } from './framing.ts'
import type { HeaderList } from './header-list.ts'

export interface RequestHead {
  readonly method: string
  /** Path and query as sent, beginning with `/`; `*` for OPTIONS of the server; the authority for CONNECT. */
  readonly target: string
  /** Host or `:authority`, with its port where one was sent; empty where HTTP/1.0 gave none. */
  readonly authority: string
  /** `http` or `https`, where the request says it. */
  readonly scheme?: string
  readonly version: HttpVersion
  /** End-to-end fields, without `host`. */
  readonly headers: HeaderList
  readonly framing: Framing
  /** The protocol that it wants to switch to, in lower case. */
  readonly upgrade?: string
}

export interface ResponseHead {
  readonly status: number
  readonly headers: HeaderList
  /** `none`: there is no body, but a length in the headers may tell what it would have been. */
  readonly framing: Framing
}

/** A request that was received. Exactly one of `respond` and `switchProtocols` is called, once. */
export interface Exchange {
  readonly head: RequestHead
  readonly body: Body
  /** Called when the client is gone before its answer ended; at once where it is gone already. Replaces an earlier one. */
  onGone(listener: (reason: Error) => void): void
  /** An interim response, such as 103; dropped where the client could not read it. */
  inform(status: number, headers: HeaderList): void
  /** `onDrain`: after the writer said that it takes no more for now. */
  respond(head: ResponseHead, onDrain?: () => void): BodySink
  /** 101, or its like in HTTP/2. What comes and goes from here on is the caller's; it starts paused. */
  switchProtocols(headers: HeaderList): ByteStream
}

/** A request to send: the head without what one hop adds. */
export interface ClientRequest {
  readonly method: string
  readonly target: string
  readonly authority: string
  readonly scheme: string
  readonly headers: HeaderList
  readonly framing: Framing
  /** Asks to switch to this protocol. */
  readonly upgrade?: string
}

/** What became of a request: interim answers, then one of the others. */
export interface ClientRequestEvents {
  /** 100, 103 and the like. */
  readonly informed?: (head: ResponseHead) => void
  readonly answered: (head: ResponseHead, body: Body) => void
  /** The server switched protocols. */
  readonly switched?: (head: ResponseHead, stream: ByteStream) => void
  /** Before any answer. */
  readonly failed: (error: Error, outcome: RequestOutcome) => void
  /** After the writer said that it takes no more for now. */
  readonly drained?: () => void
}

export interface RequestOutcome {
  /** The server cannot have acted on it: it refused the stream, or it let go of a connection that had been idle. */
  readonly untouched: boolean
}

/** A connection to a server. */
export interface ClientConnection {
  /** Whether it takes a request now. */
  readonly usable: boolean
  /** Requests under way. */
  readonly active: number
  /** Only while {@link usable}. The sink takes the body; cancelling is `fail`. */
  send(request: ClientRequest, events: ClientRequestEvents): BodySink
  /** Takes no further requests; ends with the last that is under way. */
  drain(): void
  /** Ends it, with the requests under way. */
  destroy(): void
}

export interface ClientConnectionEvents {
  /** It takes another request. */
  readonly idle: () => void
  /** It takes none any more. */
  readonly closed: () => void
}
