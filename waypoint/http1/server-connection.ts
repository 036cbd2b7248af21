/**
 * A client's HTTP/1.1 connection: requests are read one at a time, each is answered before the next is looked at
 * (RFC 9112 section 9.3). Bytes stay in the kernel while nobody takes them.
 */
import type { Duplex } from 'node:stream'
import type { Body } from './body.ts'
import type { Framing } from './framing.ts'
import { HeadReader } from './head-reader.ts'
import { HeaderList } from './header-list.ts'
import { IncomingBody } from './incoming-body.ts'
import { MessageWriter } from './message-writer.ts'
import type { Refusal } from './refusal.ts'
import { readRequestHead, type RequestHead } from './request-head.ts'
import { responseHeadText } from './write-head.ts'

export interface Response {
  readonly status: number
  readonly reason: string
  /** End-to-end fields; framing and connection are added. */
  readonly headers: HeaderList
  /** `none`: there is no body, but a length in the headers may tell what it would have been. */
  readonly framing: Framing
}

export interface ServerExchange {
  readonly head: RequestHead
  readonly body: Body
  /** Aborted when the client is gone before its answer ended. */
  readonly signal: AbortSignal
  /** An interim response, such as 103; not to HTTP/1.0. */
  inform(status: number, reason: string, headers: HeaderList): void
  /** Once. `onDrain`: after the writer said that it takes no more for now. */
  respond(response: Response, onDrain?: () => void): MessageWriter
}

export interface ServerConnectionOptions {
  readonly maxHeadBytes?: number
  /** From the first byte of a head to its last. */
  readonly headTimeoutMs?: number
  /** Between requests. */
  readonly idleTimeoutMs?: number
  /** What is said of a message that is not taken, for the log. */
  readonly onRefused?: (refusal: Refusal) => void
}

const EMPTY = Buffer.alloc(0)
/** How much and how long is still read from a client that was answered before its body had come. */
const lingerBytes = 1 << 20
const lingerMs = 2000

interface Current extends ServerExchange {
  readonly body: IncomingBody
  readonly abort: AbortController
  answered: boolean
  finished: boolean
}

export class ServerConnection {
  readonly #socket: Duplex
  readonly #serve: (exchange: ServerExchange) => void
  readonly #options: ServerConnectionOptions
  readonly #reader: HeadReader
  #pending: Buffer = EMPTY
  #current: Current | undefined
  #draining = false
  #over = false
  #timer: NodeJS.Timeout | undefined

  /** Owns the socket from now on. `serve` is called for each request; what it throws is a defect. */
  constructor(
    socket: Duplex,
    serve: (exchange: ServerExchange) => void,
    options: ServerConnectionOptions = {}
  ) {
    this.#socket = socket
    this.#serve = serve
    this.#options = options
    this.#reader = new HeadReader(options.maxHeadBytes)
    this.#waitForRequest()
    socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    socket.on('end', () => this.#onEnd())
    socket.on('error', () => undefined) // `close` follows
    socket.on('close', () => this.#onClose())
  }

  /** Takes no further requests; ends with the answer under way. */
  drain(): void {
    this.#draining = true
    if (this.#current === undefined && this.#reader.empty) this.#end()
  }

  readonly #advance = (): void => {
    while (this.#pending.length > 0 && !this.#over) {
      const current = this.#current
      if (current === undefined) {
        if (!this.#nextHead()) return
        continue
      }
      if (current.body.over) return void this.#socket.pause() // the next request waits for this one's answer
      const taken = current.body.take(this.#pending)
      if (taken.kind === 'later') return void this.#socket.pause()
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
    this.#current?.body.connectionEnded()
    // An answer that is under way is still wanted: RFC 9112 section 9.6 lets a client close its half.
    if (this.#current === undefined || this.#current.finished) this.#end()
    else this.#draining = true
  }

  #onClose(): void {
    this.#over = true
    clearTimeout(this.#timer)
    if (this.#current === undefined || this.#current.finished) return
    const lost = new Error('the client is gone')
    this.#current.body.lose(lost)
    this.#current.abort.abort(lost)
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
    clearTimeout(this.#timer)
    this.#pending = cut.rest
    this.#begin(head)
    return true
  }

  #begin(head: RequestHead): void {
    const socket = this.#socket
    const abort = new AbortController()
    let continued = !head.expectsContinue
    const body = new IncomingBody(head.framing, {
      wanted: () => {
        if (!continued && !exchange.answered) socket.write('HTTP/1.1 100 Continue\r\n\r\n', 'latin1')
        continued = true
        socket.resume()
        this.#advance()
      },
      cancelled: () => socket.resume()
    })
    const exchange: Current = {
      head,
      body,
      signal: abort.signal,
      abort,
      answered: false,
      finished: false,
      inform(status, reason, headers) {
        if (head.version === 'HTTP/1.0' || exchange.answered) return
        socket.write(responseHeadText(status, reason, headers), 'latin1')
      },
      respond: (response, onDrain = () => undefined) => this.#respond(exchange, response, onDrain)
    }
    this.#current = exchange
    this.#serve(exchange)
  }

  #respond(exchange: Current, response: Response, drained: () => void): MessageWriter {
    if (exchange.answered) throw new Error('the request is answered already')
    exchange.answered = true
    const framing = framingFor(exchange.head, response)
    const stays = exchange.head.keepAlive && !this.#draining && framing.kind !== 'until close'
    const headers = headersFor(exchange.head, response, framing)
    if (!stays) headers.set('connection', 'close')
    else if (exchange.head.version === 'HTTP/1.0') headers.set('connection', 'keep-alive')
    this.#socket.write(responseHeadText(response.status, response.reason, headers), 'latin1')
    return new MessageWriter(this.#socket, framing, {
      drained,
      finished: whole => {
        exchange.finished = true
        if (!whole || !stays) this.#end()
        else this.#settle(exchange)
      }
    })
  }

  /** Goes on to the next request once both halves of this one are over. */
  #settle(exchange: Current): void {
    if (!exchange.finished || this.#current !== exchange || this.#over) return
    if (!exchange.body.over) {
      // Answered early: what is still to come of the request would have to be read for nothing.
      exchange.body.cancel()
      return this.#end()
    }
    this.#current = undefined
    if (this.#draining) return this.#end()
    this.#waitForRequest()
    this.#socket.resume()
    // Not from within the answer that has just ended: a crowd of pipelined requests would be a deep stack.
    setImmediate(this.#advance)
  }

  /** Always false: there is no next head. */
  #refuse(refusal: Refusal): false {
    this.#options.onRefused?.(refusal)
    if (this.#current?.answered === true) {
      this.#socket.destroy()
      return false
    }
    const text = `${refusal.reason}\n`
    const headers = HeaderList.of('content-type', 'text/plain', 'content-length', String(text.length))
    headers.set('connection', 'close')
    this.#socket.write(responseHeadText(refusal.status, reasons[refusal.status], headers) + text, 'latin1')
    this.#end()
    return false
  }

  /** Closes our half, and reads a little of what is under way, so that no reset overtakes the answer. */
  #end(): void {
    if (this.#over) return
    this.#over = true
    const socket = this.#socket
    socket.end()
    let left = lingerBytes
    socket.on('data', (chunk: Buffer) => {
      left -= chunk.length
      if (left < 0) socket.destroy()
    })
    socket.on('end', () => socket.destroy())
    socket.resume()
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => socket.destroy(), lingerMs)
    this.#timer.unref()
  }

  #waitForRequest(): void {
    this.#timeOut(this.#options.idleTimeoutMs ?? 3_600_000)
  }

  #timeOut(ms: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => (this.#reader.empty ? this.#end() : this.#socket.destroy()), ms)
    this.#timer.unref()
  }
}

const reasons: Readonly<Record<Refusal['status'], string>> = {
  400: 'Bad Request',
  417: 'Expectation Failed',
  431: 'Request Header Fields Too Large',
  501: 'Not Implemented',
  505: 'HTTP Version Not Supported'
}

function mayHaveBody({ method }: RequestHead, status: number): boolean {
  return status >= 200 && status !== 204 && status !== 304 && !(method === 'CONNECT' && status < 300)
}

function framingFor(head: RequestHead, { status, framing }: Response): Framing {
  if (head.method === 'HEAD' || !mayHaveBody(head, status)) return { kind: 'none' }
  if (framing.kind === 'length' || framing.kind === 'none') return framing
  return head.version === 'HTTP/1.1' ? { kind: 'chunked' } : { kind: 'until close' }
}

function headersFor(head: RequestHead, { status, headers, framing }: Response, sent: Framing): HeaderList {
  const all = headers.copy()
  if (sent.kind === 'chunked') all.set('transfer-encoding', 'chunked')
  else if (framing.kind === 'length') all.set('content-length', String(framing.bytes))
  else if (framing.kind === 'none' && mayHaveBody(head, status) && !all.has('content-length'))
    all.set('content-length', '0')
  return all
}
