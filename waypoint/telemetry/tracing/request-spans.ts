/** The spans of one request: the waypoint's own, and where they are asked for those of its attempts. */
import type { RequestHead } from '../../http/exchange.ts'
import type { HeaderList } from '../../http/header-list.ts'
import { isFailure, requestAttributes, type Self, type SpanFacts } from './request-span.ts'
import type { Attribute, Span } from './span.ts'
import type { SpanExporter } from './span-exporter.ts'
import { writeTraceContext } from './trace-context.ts'
import type { InvalidTraceProvider, TraceProvider } from './trace-providers.ts'
import { beginTrace, newSpanId, type Trace, type TracingTerms } from './tracer.ts'

export interface TracingOptions {
  readonly exporter: Pick<SpanExporter, 'add'>
  readonly providers: () => ReadonlyMap<string, TraceProvider | InvalidTraceProvider>
  readonly self: () => Self
  readonly random: () => number
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** Whether each attempt at a pod is a span, too. */
  readonly attempts: boolean
}

interface Attempt {
  readonly spanId: string
  readonly startMs: number
  /** Of its answer; 0: none came. */
  status: number
}

export class RequestSpans {
  readonly #options: TracingOptions
  readonly #trace: Trace
  readonly #state: string
  readonly #startMs: number
  #attempts = 0
  #attempt: Attempt | undefined

  /** Undefined: nothing is told of this request. Its headers say what was decided. */
  static begin(
    options: TracingOptions,
    terms: TracingTerms,
    { headers }: RequestHead
  ): RequestSpans | undefined {
    const trace = beginTrace(terms, headers, options.random)
    return trace === undefined ? undefined : new RequestSpans(options, trace, headers)
  }

  private constructor(options: TracingOptions, trace: Trace, headers: HeaderList) {
    this.#options = options
    this.#trace = trace
    this.#state = headers.get('tracestate') ?? ''
    this.#startMs = options.now()
  }

  /** `headers`: that the pod gets; to it the attempt is the caller. */
  attempt(name: string, headers: HeaderList): void {
    const { attempts, now } = this.#options
    if (!attempts) return
    this.#endAttempt(name) // whose answer was not good enough
    this.#attempts += 1
    const { terms, traceId, spanId: parentId } = this.#trace
    const attempt = { spanId: newSpanId(), startMs: now(), status: 0 }
    this.#attempt = attempt
    if (!terms.propagates) return
    writeTraceContext(headers, { traceId, spanId: attempt.spanId, parentId, sampled: true })
  }

  attemptAnswered(status: number): void {
    if (this.#attempt !== undefined) this.#attempt.status = status
  }

  /** The latest attempt came to nothing. */
  attemptFailed(name: string, reason: string): void {
    this.#endAttempt(name, ['upstream_transport_failure_reason', reason])
  }

  /** `name`: in the form by which the traces of a service are found. */
  finish(name: string, facts: Omit<SpanFacts, 'maxTagLength'>): void {
    const { providers, self } = this.#options
    const { terms, spanId, parentId } = this.#trace
    const provider = providers().get(terms.provider)
    if (provider === undefined || provider.kind === 'invalid') return
    const failed = isFailure(facts.line.status, facts.grpcStatus)
    const attributes = requestAttributes(self(), terms, { ...facts, maxTagLength: provider.maxTagLength })
    this.#endAttempt(name, ['upstream_address', facts.line.upstreamHost])
    this.#add({ spanId, parentId, kind: 'server', name, startMs: this.#startMs, failed, attributes })
  }

  #endAttempt(name: string, ...more: readonly Attribute[]): void {
    const attempt = this.#attempt
    if (attempt === undefined) return
    this.#attempt = undefined
    const { spanId, startMs, status } = attempt
    const failed = isFailure(status, '')
    const attributes: Attribute[] = [
      ['component', 'proxy'],
      ['attempt', String(this.#attempts)],
      ['http.status_code', String(status)],
      ...more
    ]
    if (failed) attributes.push(['error', 'true'])
    this.#add({ spanId, parentId: this.#trace.spanId, kind: 'client', name, startMs, failed, attributes })
  }

  #add(span: Omit<Span, 'traceId' | 'state' | 'endMs'>): void {
    const { exporter, now } = this.#options
    const { terms, traceId } = this.#trace
    exporter.add(terms.provider, { ...span, traceId, state: this.#state, endMs: now() })
  }
}
