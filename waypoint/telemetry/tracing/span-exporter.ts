/**
 * Sends spans to collectors: in batches, beside the requests, over the connections that requests use too. What
 * cannot be sent in time is dropped and counted; nobody waits for it.
 */
import { messageOf } from '../../../shared/runtime/errors.ts'
import { sleep } from '../../../shared/runtime/clock.ts'
import type { Logger } from '../../../shared/telemetry/logger.ts'
import type { Metrics } from '../../../shared/telemetry/metrics.ts'
import { senderOf } from '../../external-authorization/send.ts'
import type { families } from '../../families.ts'
import { HeaderList } from '../../http/header-list.ts'
import { sendOwnRequest, type Means } from '../../own-request.ts'
import { encodeSpans, exportPath, readExportAnswer, type Origin } from './otlp.ts'
import type { Span } from './span.ts'
import type { InvalidTraceProvider, TraceProvider } from './trace-providers.ts'

export interface SpanExporterOptions {
  readonly means: Means
  readonly metrics: Metrics<typeof families>
  readonly log: Logger
  readonly origin: () => Origin
  /** As the mesh configuration has it now. */
  readonly providers: () => ReadonlyMap<string, TraceProvider | InvalidTraceProvider>
  readonly signal: AbortSignal
}

const maxQueued = 2048
const maxBatch = 512
/** For how long spans wait for others. */
const gatherMs = 1000
/** Before a batch is sent again. */
const retryAfterMs = [1000, 4000]
const farewellMs = 1000

export class SpanExporter {
  readonly #options: SpanExporterOptions
  /** By the name of their provider. */
  readonly #queues = new Map<string, Queue>()

  constructor(options: SpanExporterOptions) {
    this.#options = options
  }

  add(provider: string, span: Span): void {
    let queue = this.#queues.get(provider)
    if (queue === undefined) this.#queues.set(provider, (queue = new Queue(provider, this.#options)))
    queue.add(span)
  }

  /** Sends what is still there, once, for a short time. */
  async close(): Promise<void> {
    await Promise.all([...this.#queues.values()].map(queue => queue.close()))
  }
}

type SpanOutcome = 'exported' | 'rejected' | 'failed' | 'overflow'

class Queue {
  readonly #provider: string
  readonly #options: SpanExporterOptions
  readonly #spans: Span[] = []
  #timer: NodeJS.Timeout | undefined
  #sending: Promise<void> | undefined
  #failing = false
  #closed = false

  constructor(provider: string, options: SpanExporterOptions) {
    this.#provider = provider
    this.#options = options
  }

  add(span: Span): void {
    if (this.#spans.length >= maxQueued || this.#closed) return this.#count('overflow', 1)
    this.#spans.push(span)
    if (this.#sending !== undefined) return
    if (this.#spans.length >= maxBatch) this.#start()
    else this.#timer ??= setTimeout(() => this.#start(), gatherMs).unref()
  }

  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    if (this.#sending !== undefined) await Promise.race([this.#sending, sleep(farewellMs)])
    const deadline = AbortSignal.timeout(farewellMs)
    for (
      let batch = this.#spans.splice(0, maxBatch);
      batch.length > 0;
      batch = this.#spans.splice(0, maxBatch)
    ) {
      await this.#attempt(batch, deadline).catch(() => this.#count('failed', batch.length))
    }
  }

  #start(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#sending ??= this.#drain().finally(() => {
      this.#sending = undefined
      if (this.#spans.length > 0 && !this.#closed) this.#start()
    })
  }

  async #drain(): Promise<void> {
    while (this.#spans.length > 0 && !this.#closed) await this.#send(this.#spans.splice(0, maxBatch))
  }

  async #send(batch: readonly Span[]): Promise<void> {
    const { signal } = this.#options
    for (const waitMs of [...retryAfterMs, undefined]) {
      try {
        await this.#attempt(batch, signal)
        if (this.#failing) this.#options.log.info('spans are sent again', { provider: this.#provider })
        this.#failing = false
        return
      } catch (error) {
        if (!this.#failing) {
          const fields = { provider: this.#provider, error: messageOf(error) }
          this.#options.log.warn('spans could not be sent; requests go on', fields)
        }
        this.#failing = true
        if (waitMs === undefined || this.#closed || !(await sleep(waitMs, signal))) break
      }
    }
    this.#count('failed', batch.length)
  }

  async #attempt(batch: readonly Span[], signal: AbortSignal): Promise<void> {
    const provider = this.#options.providers().get(this.#provider)
    if (provider === undefined) throw new Error('the mesh configuration defines no such provider any more')
    if (provider.kind === 'invalid') throw new Error(provider.reason)
    const bytes = encodeSpans(batch, this.#options.origin())
    const inTime = AbortSignal.any([signal, AbortSignal.timeout(provider.timeoutMs)])
    const answer = await this.#post(provider, bytes, inTime)
    const { rejected, reason } = readExportAnswer(answer)
    this.#count('exported', batch.length - rejected)
    if (rejected === 0) return
    this.#count('rejected', rejected)
    this.#options.log.warn('a collector refused spans', { provider: this.#provider, rejected, reason })
  }

  async #post(provider: TraceProvider, bytes: Buffer, signal: AbortSignal): Promise<Uint8Array> {
    const { means } = this.#options
    const { service, path, headers, kind } = provider
    if (kind === 'grpc') return senderOf(means).sendGrpc(service, exportPath, bytes, signal)
    const request = {
      protocol: 'http1',
      method: 'POST',
      target: path,
      authority: service.hostname,
      headers: HeaderList.of('content-type', 'application/x-protobuf', ...headers.flat()),
      body: bytes,
      maxBody: 65_536
    } as const
    const { status, body } = await sendOwnRequest(means, service, request, signal)
    if (status < 200 || status > 299) throw new Error(`the collector answered ${status}`)
    return body
  }

  #count(outcome: SpanOutcome, spans: number): void {
    this.#options.metrics.series('underpass_spans_total', this.#provider, outcome).add(spans)
  }
}
