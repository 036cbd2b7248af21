/** Our HTTP/1.1 connection to a server: one request at a time, and it stays as long as both sides keep it. */
import type { Duplex } from 'node:stream'
import type { Body } from './body.ts'
import type { Framing } from './framing.ts'
import { HeadReader } from './head-reader.ts'
import type { HeaderList } from './header-list.ts'
import { IncomingBody } from './incoming-body.ts'
import { MessageWriter } from './message-writer.ts'
import type { Refusal } from './refusal.ts'
import { readResponseHead, type ResponseHead } from './response-head.ts'
import { requestHeadText } from './write-head.ts'

export interface ClientRequest {
  readonly method: string
  readonly target: string
  /** End-to-end fields with `host`; framing is added. */
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
  /** 101, or 2xx to CONNECT: the connection is the caller's now; `rest` came behind the head. */
  readonly switched?: (head: ResponseHead, socket: Duplex, rest: Buffer) => void
  /** Before any answer. `untouched`: no byte of an answer had come, and the connection had been idle before. */
  readonly failed: (error: Error, outcome: { readonly untouched: boolean }) => void
}

export interface ClientConnectionEvents {
  /** It takes another request. */
  readonly idle: () => void
  /** It takes none any more. */
  readonly closed: () => void
}

const EMPTY = Buffer.alloc(0)

interface Current {
  readonly method: string
  readonly events: ClientRequestEvents
  readonly sent: { over: boolean }
  body?: IncomingBody
  keepAlive: boolean
}

export class ClientConnection {
  readonly #socket: Duplex
  readonly #events: ClientConnectionEvents
  readonly #reader = new HeadReader()
  #pending: Buffer = EMPTY
  #current: Current | undefined
  #served = 0
  #over = false

  constructor(socket: Duplex, events: ClientConnectionEvents) {
    this.#socket = socket
    this.#events = events
    socket.on('data', this.#onData)
    socket.on('end', this.#onEnd)
    socket.on('error', this.#onError)
    socket.on('close', this.#onClose)
  }

  get usable(): boolean {
    return !this.#over && this.#current === undefined
  }

  /** Only while {@link usable}. `onDrain`: after the writer said that it takes no more for now. */
  send(
    request: ClientRequest,
    events: ClientRequestEvents,
    onDrain: () => void = () => undefined
  ): MessageWriter {
    if (!this.usable) throw new Error('the connection has a request under way')
    const headers = request.headers.copy()
    if (request.framing.kind === 'length') headers.set('content-length', String(request.framing.bytes))
    if (request.framing.kind === 'chunked') headers.set('transfer-encoding', 'chunked')
    if (request.upgrade !== undefined) {
      headers.set('connection', 'upgrade')
      headers.set('upgrade', request.upgrade)
    }
    const current: Current = { method: request.method, events, sent: { over: false }, keepAlive: true }
    this.#current = current
    this.#socket.write(requestHeadText(request.method, request.target, headers), 'latin1')
    return new MessageWriter(this.#socket, request.framing, {
      drained: onDrain,
      finished: whole => {
        current.sent.over = true
        if (!whole) this.#lose(new Error('the request was given up'))
        else this.#settle(current)
      }
    })
  }

  /** Ends it, with the request under way if there is one. */
  destroy(): void {
    this.#lose(new Error('the connection was closed'))
  }

  readonly #onData = (chunk: Buffer): void => {
    if (this.#over) return
    // A server that speaks without being asked has lost count of requests, or somebody smuggled one.
    if (this.#current === undefined) return this.#lose(new Error('the server sent what was not asked for'))
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk])
    this.#advance()
  }

  #advance(): void {
    while (this.#pending.length > 0 && !this.#over) {
      const current = this.#current
      if (current === undefined) return this.#lose(new Error('the server sent what was not asked for'))
      if (current.body === undefined) {
        if (!this.#nextHead(current)) return
        continue
      }
      const taken = current.body.take(this.#pending)
      if (taken.kind === 'later') return void this.#socket.pause()
      if (taken.kind === 'refused') return void this.#refuse(taken)
      this.#pending = taken.kind === 'end' ? taken.rest : EMPTY
      if (taken.kind === 'end') this.#settle(current)
    }
  }

  #nextHead(current: Current): boolean {
    const cut = this.#reader.push(this.#pending)
    this.#pending = EMPTY
    if (cut.kind === 'more') return false
    if (cut.kind === 'refused') return this.#refuse(cut)
    const head = readResponseHead(cut.text, current.method)
    if (head.kind === 'refused') return this.#refuse(head)
    const switches =
      head.status === 101 || (current.method === 'CONNECT' && head.status < 300 && head.status >= 200)
    if (switches) {
      this.#switch(current, head, cut.rest)
      return false
    }
    this.#pending = cut.rest
    if (head.status < 200) current.events.informed?.(head)
    else this.#answer(current, head)
    return true
  }

  #answer(current: Current, head: ResponseHead): void {
    current.keepAlive = head.keepAlive
    const body = new IncomingBody(head.framing, {
      wanted: () => {
        this.#socket.resume()
        this.#advance()
      },
      // The rest of it would have to be read for nothing.
      cancelled: () => this.#lose(new Error('the answer was given up'))
    })
    current.body = body
    current.events.answered(head, body)
    this.#settle(current)
  }

  #switch(current: Current, head: ResponseHead, rest: Buffer): void {
    if (current.events.switched === undefined)
      return this.#lose(new Error(`the server switched protocols unasked (${head.status})`))
    this.#over = true
    const socket = this.#socket
    socket
      .off('data', this.#onData)
      .off('end', this.#onEnd)
      .off('error', this.#onError)
      .off('close', this.#onClose)
    socket.pause()
    current.events.switched(head, socket, rest)
    this.#events.closed()
  }

  /** The exchange is over once its answer has ended and its request is sent whole. */
  #settle(current: Current): void {
    if (this.#current !== current || this.#over || current.body?.over !== true) return
    // An answer that comes before the request has been sent means that the rest of it is not wanted.
    if (!current.sent.over || !current.keepAlive) return this.#lose(new Error('the connection is used up'))
    this.#current = undefined
    this.#served += 1
    this.#socket.resume()
    if (this.#pending.length > 0) return this.#lose(new Error('the server sent what was not asked for'))
    this.#events.idle()
  }

  readonly #onEnd = (): void => {
    this.#current?.body?.connectionEnded()
    this.#lose(new Error('the server closed the connection'))
  }

  readonly #onError = (error: Error): void => this.#lose(error)

  readonly #onClose = (): void => this.#lose(new Error('the connection is gone'))

  /** Always false: there is no next head. */
  #refuse({ reason }: Refusal): false {
    this.#lose(new Error(reason))
    return false
  }

  #lose(error: Error): void {
    if (this.#over) return
    this.#over = true
    const current = this.#current
    this.#socket.destroy()
    if (current?.body !== undefined) current.body.lose(error)
    else current?.events.failed(error, { untouched: this.#served > 0 && this.#reader.empty })
    this.#events.closed()
  }
}
