/** Our HTTP/1.1 connection to a server: one request at a time, and it stays as long as both sides keep it. */
import type { ByteStream } from '../../shared/net/byte-stream.ts'
import { withFirst } from '../../shared/net/prefixed-stream.ts'
import type { BodySink } from '../http/body.ts'
import type {
  ClientConnection,
  ClientConnectionEvents,
  ClientRequest,
  ClientRequestEvents
} from '../http/exchange.ts'
import type { HeaderList } from '../http/header-list.ts'
import { HeadReader } from './head-reader.ts'
import { removeHopByHop } from './hop-by-hop.ts'
import { IncomingBody } from './incoming-body.ts'
import { MessageWriter } from './message-writer.ts'
import type { Refusal } from './refusal.ts'
import { readResponseHead, type Http1ResponseHead } from './response-head.ts'
import { requestHeadText } from './write-head.ts'

const EMPTY = Buffer.alloc(0)

interface Current {
  readonly method: string
  readonly events: ClientRequestEvents
  writer?: MessageWriter
  sent: boolean
  body?: IncomingBody
  keepAlive: boolean
}

export class Http1ClientConnection implements ClientConnection {
  readonly #stream: ByteStream
  readonly #events: ClientConnectionEvents
  readonly #reader = new HeadReader()
  #pending: Buffer = EMPTY
  #current: Current | undefined
  #served = 0
  #draining = false
  #over = false

  constructor(stream: ByteStream, events: ClientConnectionEvents) {
    this.#stream = stream
    this.#events = events
    stream.attach({
      data: chunk => this.#onData(chunk),
      end: () => {
        this.#current?.body?.connectionEnded()
        this.#lose(new Error('the server closed the connection'))
      },
      drain: () => this.#current?.writer?.drained(),
      close: error => this.#lose(error ?? new Error('the connection is gone'))
    })
    stream.resume()
  }

  get usable(): boolean {
    return !this.#over && !this.#draining && this.#current === undefined
  }

  get active(): number {
    return this.#current === undefined ? 0 : 1
  }

  send(request: ClientRequest, events: ClientRequestEvents): BodySink {
    if (!this.usable) throw new Error('the connection has a request under way')
    const { method, target, authority, framing } = request
    const current: Current = { method, events, sent: false, keepAlive: true }
    this.#current = current
    const text = requestHeadText(method, target, authority, headersFor(request))
    const writer = new MessageWriter(this.#stream, text, framing, {
      drained: () => events.drained?.(),
      finished: whole => {
        current.sent = true
        if (!whole) this.#lose(new Error('the request was given up'))
        else this.#settle(current)
      },
      // Its answer may never come, and until then nobody else could use the connection.
      abandoned: () => {
        if (this.#current === current) this.#lose(new Error('the request was given up'))
      }
    })
    current.writer = writer
    return writer
  }

  drain(): void {
    this.#draining = true
    if (this.#current === undefined) this.#lose(new Error('the connection is not wanted any more'))
  }

  destroy(): void {
    this.#lose(new Error('the connection was closed'))
  }

  #onData(chunk: Buffer): void {
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
      if (taken.kind === 'later') return this.#stream.pause()
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
    removeHopByHop(head.headers)
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

  #answer(current: Current, head: Http1ResponseHead): void {
    current.keepAlive = head.keepAlive
    const body = new IncomingBody(
      head.framing,
      () => {
        this.#stream.resume()
        this.#advance()
      },
      // The rest of it would have to be read for nothing.
      () => this.#lose(new Error('the answer was given up'))
    )
    current.body = body
    current.events.answered(head, body)
    this.#settle(current)
  }

  #switch(current: Current, head: Http1ResponseHead, rest: Buffer): void {
    if (current.events.switched === undefined)
      return this.#lose(new Error(`the server switched protocols unasked (${head.status})`))
    this.#over = true
    this.#stream.pause()
    current.events.switched(head, withFirst(this.#stream, rest))
    this.#events.closed()
  }

  /** The exchange is over once its answer has ended and its request is sent whole. */
  #settle(current: Current): void {
    if (this.#current !== current || this.#over || current.body?.over !== true) return
    // An answer that comes before the request has been sent means that the rest of it is not wanted.
    if (!current.sent || !current.keepAlive || this.#draining)
      return this.#lose(new Error('the connection is used up'))
    this.#current = undefined
    this.#served += 1
    this.#stream.resume()
    if (this.#pending.length > 0) return this.#lose(new Error('the server sent what was not asked for'))
    this.#events.idle()
  }

  /** Always false: there is no next head. */
  #refuse({ reason }: Refusal): false {
    this.#lose(new Error(reason))
    return false
  }

  #lose(error: Error): void {
    if (this.#over) return
    this.#over = true
    const current = this.#current
    // A connection that is only not needed any more says so; one that is cut must not look whole.
    if (current === undefined || (current.sent && current.body?.over === true)) this.#stream.close()
    else this.#stream.destroy()
    if (current?.body !== undefined) current.body.lose(error)
    else current?.events.failed(error, { untouched: this.#served > 0 && this.#reader.empty })
    this.#events.closed()
  }
}

function headersFor({ headers, framing, upgrade }: ClientRequest): HeaderList {
  if (framing.kind === 'none' && upgrade === undefined) return headers
  const all = headers.copy()
  if (framing.kind === 'length') all.set('content-length', String(framing.bytes))
  if (framing.kind === 'chunked') all.set('transfer-encoding', 'chunked')
  if (upgrade !== undefined) {
    all.set('connection', 'upgrade')
    all.set('upgrade', upgrade)
  }
  return all
}
