/**
 * A client's HTTP/1.1 connection: requests are read one at a time, each is answered before the next is looked at
 * (RFC 9112 section 9.3). Bytes stay in the kernel while nobody takes them.
 */
import type { ByteStream } from '../../shared/net/byte-stream.ts'
import { withFirst } from '../../shared/net/prefixed-stream.ts'
import type { BodySink } from '../http/body.ts'
import type { Exchange, ResponseHead } from '../http/exchange.ts'
import type { Framing } from '../http/framing.ts'
import { HeaderList } from '../http/header-list.ts'
import { HeadReader } from './head-reader.ts'
import { removeHopByHop } from './hop-by-hop.ts'
import { IncomingBody } from './incoming-body.ts'
import { MessageWriter } from './message-writer.ts'
import type { Refusal } from './refusal.ts'
import { readRequestHead, type Http1RequestHead } from './request-head.ts'
import { responseHeadText } from './write-head.ts'

export interface Http1ServerOptions {
  readonly maxHeadBytes?: number
  /** Of all its requests, where it is known better than by what the client says. */
  readonly scheme?: 'http' | 'https'
  /** From the first byte of a head to its last. */
  readonly headTimeoutMs?: number
  /** Between requests. */
  readonly idleTimeoutMs?: number
  /** What is said of a message that is not taken, for the log. */
  readonly onRefused?: (refusal: Refusal) => void
  /** It takes no further requests, and nothing of it is under way. */
  readonly onOver?: () => void
}

const EMPTY = Buffer.alloc(0)
const leave = Buffer.from('HTTP/1.1 100 Continue\r\n\r\n', 'latin1')
/** How much and how long is still read from a client that was answered before its body had come. */
const lingerBytes = 1 << 20
const lingerMs = 2000

export class Http1ServerConnection {
  readonly #stream: ByteStream
  readonly #serve: (exchange: Exchange) => void
  readonly #options: Http1ServerOptions
  readonly #reader: HeadReader
  #pending: Buffer = EMPTY
  #current: ServerExchange | undefined
  #writer: MessageWriter | undefined
  #draining = false
  #over = false
  #closed = false
  #timer: NodeJS.Timeout | undefined
  /** When the time is up, and when the timer next looks whether it is. */
  #deadline = Infinity
  #ringsAt = Infinity

  /** Owns the stream from now on. `serve` is called for each request; what it throws is a defect. */
  constructor(stream: ByteStream, serve: (exchange: Exchange) => void, options: Http1ServerOptions = {}) {
    this.#stream = stream
    this.#serve = serve
    this.#options = options
    this.#reader = new HeadReader(options.maxHeadBytes)
    stream.attach({
      data: chunk => this.#onData(chunk),
      end: () => this.#onEnd(),
      drain: () => this.#writer?.drained(),
      close: error => this.#onClose(error)
    })
    this.#waitForRequest()
    stream.resume()
  }

  /**
   * Takes no further requests; ends with the answer under way. `stay`: where none is, the next one is still taken, as
   * it may be on its way, and its answer says that it is the last.
   */
  drain(idle: 'end' | 'stay' = 'end'): void {
    this.#draining = true
    if (idle === 'end' && this.#current === undefined && this.#reader.empty) this.#end()
  }

  readonly #advance = (): void => {
    while (this.#pending.length > 0 && !this.#over) {
      const current = this.#current
      if (current === undefined) {
        if (!this.#nextHead()) return
        continue
      }
      if (current.body.over) return this.#stream.pause() // the next request waits for this one's answer
      const taken = current.body.take(this.#pending)
      if (taken.kind === 'later') return this.#stream.pause()
      if (taken.kind === 'refused') return void this.#refuse(taken)
      this.#pending = taken.kind === 'end' ? taken.rest : EMPTY
      if (taken.kind === 'end') this.#settle(current)
    }
  }

  #onData(chunk: Buffer): void {
    if (this.#over) return
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk])
    this.#advance()
  }

  #onEnd(): void {
    if (this.#over) return
    this.#current?.body.connectionEnded()
    // An answer that is under way is still wanted: RFC 9112 section 9.6 lets a client close its half.
    if (this.#current === undefined || this.#current.finished) this.#end()
    else this.#draining = true
  }

  #onClose(error: Error | undefined): void {
    this.#closed = true
    this.#finish()
    clearTimeout(this.#timer)
    const current = this.#current
    if (current === undefined || current.finished) return
    const lost = new Error('the client is gone', { cause: error })
    current.body.lose(lost)
    current.gone(lost)
  }

  /** False while the head is not whole, or when it was refused. */
  #nextHead(): boolean {
    const first = this.#reader.empty
    const cut = this.#reader.push(this.#pending)
    this.#pending = EMPTY
    if (cut.kind === 'more') {
      if (first) this.#timeOut(this.#options.headTimeoutMs ?? 60_000)
      return false
    }
    if (cut.kind === 'refused') return this.#refuse(cut)
    const head = readRequestHead(cut.text)
    if (head.kind === 'refused') return this.#refuse(head)
    this.#deadline = Infinity
    this.#pending = cut.rest
    keepEndToEnd(head.headers)
    const { scheme } = this.#options
    this.#current = new ServerExchange(scheme === undefined ? head : { ...head, scheme }, this.#parts)
    this.#serve(this.#current)
    return true
  }

  /** What an exchange needs of its connection. */
  readonly #parts: ConnectionParts = {
    bodyWanted: () => {
      const current = this.#current
      if (current?.expectsContinue === true) {
        current.expectsContinue = false
        if (!current.answered) this.#stream.write(leave)
      }
      this.#stream.resume()
      this.#advance()
    },
    bodyCancelled: () => {
      this.#stream.resume()
      this.#advance() // what has come of it already may be all
    },
    write: text => void this.#stream.write(Buffer.from(text, 'latin1')),
    respond: (exchange, head, drained) => this.#respond(exchange, head, drained),
    switchProtocols: (exchange, headers) => this.#switch(exchange, headers)
  }

  #respond(exchange: ServerExchange, response: ResponseHead, drained: () => void): BodySink {
    const { head } = exchange
    const framing = framingFor(head, response)
    const stays = head.keepAlive && !this.#draining && framing.kind !== 'until close'
    const headers = headersFor(head, response, { framing, stays })
    const finished = (whole: boolean): void => {
      exchange.finished = true
      this.#writer = undefined
      if (!whole || !stays) this.#end()
      else this.#settle(exchange)
    }
    const text = responseHeadText(response.status, headers)
    return (this.#writer = new MessageWriter(this.#stream, text, framing, { drained, finished }))
  }

  #switch(exchange: ServerExchange, headers: HeaderList): ByteStream {
    const all = headers.copy()
    all.set('connection', 'upgrade')
    all.set('upgrade', exchange.head.upgrade ?? '')
    this.#stream.write(Buffer.from(responseHeadText(101, all), 'latin1'))
    exchange.finished = true
    this.#finish()
    clearTimeout(this.#timer)
    this.#stream.pause()
    return withFirst(this.#stream, this.#pending)
  }

  /** Goes on to the next request once both halves of this one are over. */
  #settle(exchange: ServerExchange): void {
    if (!exchange.finished || this.#current !== exchange || this.#over) return
    if (!exchange.body.over) {
      // Answered early: what is still to come of the request would have to be read for nothing.
      exchange.body.cancel()
      return this.#end()
    }
    this.#current = undefined
    if (this.#draining) return this.#end()
    this.#waitForRequest()
    this.#stream.resume()
    // Not from within the answer that has just ended: a crowd of pipelined requests would be a deep stack.
    if (this.#pending.length > 0) setImmediate(this.#advance)
  }

  /** Always false: there is no next head. */
  #refuse(refusal: Refusal): false {
    this.#options.onRefused?.(refusal)
    if (this.#current?.answered === true) {
      this.#stream.destroy()
      return false
    }
    const text = `${refusal.reason}\n`
    const headers = HeaderList.of('content-type', 'text/plain', 'content-length', String(text.length))
    headers.set('connection', 'close')
    this.#stream.write(Buffer.from(responseHeadText(refusal.status, headers) + text, 'latin1'))
    this.#end()
    return false
  }

  #finish(): void {
    if (this.#over) return
    this.#over = true
    this.#options.onOver?.()
  }

  /** Closes our half, and reads a little of what is under way, so that no reset overtakes the answer. */
  #end(): void {
    if (this.#over) return
    this.#finish()
    const stream = this.#stream
    stream.end()
    let left = lingerBytes
    stream.attach({
      data: chunk => {
        left -= chunk.length
        if (left < 0) stream.destroy()
      },
      end: () => stream.close(),
      drain: () => undefined,
      close: error => this.#onClose(error)
    })
    stream.resume()
    clearTimeout(this.#timer)
    if (this.#closed) return
    this.#timer = setTimeout(() => stream.destroy(), lingerMs)
    this.#timer.unref()
  }

  #waitForRequest(): void {
    this.#timeOut(this.#options.idleTimeoutMs ?? 3_600_000)
  }

  /** Most requests come long before their time is up: the timer is set anew only when it must ring earlier. */
  #timeOut(ms: number): void {
    this.#deadline = performance.now() + ms
    if (this.#ringsAt > this.#deadline) this.#ringIn(ms)
  }

  #ringIn(ms: number): void {
    clearTimeout(this.#timer)
    this.#ringsAt = performance.now() + ms
    this.#timer = setTimeout(() => {
      this.#ringsAt = Infinity
      const left = this.#deadline - performance.now()
      if (this.#deadline === Infinity) return
      if (left > 0) this.#ringIn(left)
      else if (this.#reader.empty) this.#end()
      else this.#stream.destroy()
    }, ms)
    this.#timer.unref()
  }
}

interface ConnectionParts {
  readonly bodyWanted: () => void
  readonly bodyCancelled: () => void
  readonly write: (text: string) => void
  readonly respond: (exchange: ServerExchange, head: ResponseHead, drained: () => void) => BodySink
  readonly switchProtocols: (exchange: ServerExchange, headers: HeaderList) => ByteStream
}

class ServerExchange implements Exchange {
  readonly head: Http1RequestHead
  readonly body: IncomingBody
  readonly #parts: ConnectionParts
  #onGone: ((reason: Error) => void) | undefined
  #gone: Error | undefined
  /** Until leave is given. */
  expectsContinue: boolean
  answered = false
  /** The answer is handed to the connection. */
  finished = false

  constructor(head: Http1RequestHead, parts: ConnectionParts) {
    this.head = head
    this.#parts = parts
    this.expectsContinue = head.expectsContinue
    this.body = new IncomingBody(head.framing, parts.bodyWanted, parts.bodyCancelled)
  }

  onGone(listener: (reason: Error) => void): void {
    this.#onGone = listener
    if (this.#gone !== undefined) listener(this.#gone)
  }

  gone(reason: Error): void {
    this.#gone = reason
    this.#onGone?.(reason)
  }

  inform(status: number, headers: HeaderList): void {
    if (this.head.version !== 'HTTP/1.0' && !this.answered)
      this.#parts.write(responseHeadText(status, headers))
  }

  respond(head: ResponseHead, onDrain: () => void = noop): BodySink {
    this.#answer()
    return this.#parts.respond(this, head, onDrain)
  }

  switchProtocols(headers: HeaderList): ByteStream {
    this.#answer()
    return this.#parts.switchProtocols(this, headers)
  }

  #answer(): void {
    if (this.answered) throw new Error('the request is answered already')
    this.answered = true
  }
}

const noop = (): void => undefined

/** What an {@link Exchange} has: the rest is in its head, or ours to answer. */
function keepEndToEnd(headers: HeaderList): void {
  removeHopByHop(headers)
  headers.remove('host')
  headers.remove('expect')
}

function mayHaveBody({ method }: Http1RequestHead, status: number): boolean {
  return status >= 200 && status !== 204 && status !== 304 && !(method === 'CONNECT' && status < 300)
}

function framingFor(head: Http1RequestHead, { status, framing }: ResponseHead): Framing {
  if (head.method === 'HEAD' || !mayHaveBody(head, status)) return { kind: 'none' }
  if (framing.kind === 'length' || framing.kind === 'none') return framing
  return head.version === 'HTTP/1.0' ? { kind: 'until close' } : { kind: 'chunked' }
}

/** With what this hop adds; most answers have their length already, and nothing is copied. */
function headersFor(
  head: Http1RequestHead,
  { status, headers, framing }: ResponseHead,
  sent: { readonly framing: Framing; readonly stays: boolean }
): HeaderList {
  const hop = !sent.stays ? 'close' : head.version === 'HTTP/1.0' ? 'keep-alive' : undefined
  const length = framing.kind === 'length' ? String(framing.bytes) : undefined
  if (hop === undefined && length !== undefined && headers.get('content-length') === length) return headers
  const all = headers.copy()
  if (sent.framing.kind === 'chunked') all.set('transfer-encoding', 'chunked')
  else if (length !== undefined) all.set('content-length', length)
  else if (framing.kind === 'none' && mayHaveBody(head, status) && !all.has('content-length'))
    all.set('content-length', '0')
  if (hop !== undefined) all.set('connection', hop)
  return all
}
