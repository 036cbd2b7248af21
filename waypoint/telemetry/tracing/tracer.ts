/** Which requests become spans, and what their headers say of that. */
import { randomBytes } from 'node:crypto'
import type { HeaderList } from '../../http/header-list.ts'
import { readTraceContext, writeTraceContext } from './trace-context.ts'

/** What applies to the requests of a service. */
export interface TracingTerms {
  readonly provider: string
  /** From 0 to 1: of requests about which their callers have not decided. */
  readonly sampling: number
  /** False: traces go on, but no spans of ours are sent. */
  readonly reports: boolean
  /** False: headers pass as they came. */
  readonly propagates: boolean
  /** `istio.…` attributes. */
  readonly istioTags: boolean
  readonly customTags: readonly CustomTag[]
}

export type CustomTag =
  | { readonly kind: 'literal'; readonly key: string; readonly value: string }
  | { readonly kind: 'header'; readonly key: string; readonly name: string; readonly fallback: string }

/** Of a request whose spans are wanted. */
export interface Trace {
  readonly terms: TracingTerms
  readonly traceId: string
  readonly spanId: string
  readonly parentId: string
}

/** Undefined: no span is wanted. Says in the headers what was decided. */
export function beginTrace(
  terms: TracingTerms,
  headers: HeaderList,
  random: () => number
): Trace | undefined {
  const caller = readTraceContext(headers)
  if (caller?.sampled === false) return undefined
  const sampled = caller?.sampled ?? random() < terms.sampling
  const spanId = newSpanId()
  const traceId = caller?.traceId || randomBytes(16).toString('hex')
  const parentId = caller?.spanId ?? ''
  if (terms.propagates) writeTraceContext(headers, { traceId, spanId, parentId, sampled })
  return sampled && terms.reports ? { terms, traceId, spanId, parentId } : undefined
}

export function newSpanId(): string {
  return randomBytes(8).toString('hex')
}
