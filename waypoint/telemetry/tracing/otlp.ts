/** Spans on their way to a collector. Source: the published OTLP, opentelemetry.proto.collector.trace.v1. */
import { message, type Message } from '../../../shared/xds/schema.ts'
import type { Attribute, Span } from './span.ts'

export const exportPath = '/opentelemetry.proto.collector.trace.v1.TraceService/Export'

interface KeyValue {
  readonly key: string
  readonly value: { readonly stringValue: string }
}

interface OtlpSpan {
  readonly traceId: Buffer
  readonly spanId: Buffer
  readonly parentSpanId: Buffer
  readonly traceState: string
  readonly name: string
  readonly kind: number
  /** Nanoseconds since the epoch, which are more than a number holds. */
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
  readonly attributes: readonly KeyValue[]
  readonly status?: { readonly code: number }
}

interface ExportRequest {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly KeyValue[] }
    readonly scopeSpans: readonly {
      readonly scope: { readonly name: string; readonly version: string }
      readonly spans: readonly OtlpSpan[]
    }[]
  }[]
}

interface ExportResponse {
  readonly partialSuccess?: { readonly rejectedSpans?: number; readonly errorMessage?: string }
}

const exportRequest: Message<ExportRequest> = message(
  'opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest'
)
const exportResponse: Message<ExportResponse> = message(
  'opentelemetry.proto.collector.trace.v1.ExportTraceServiceResponse'
)

const kinds = { server: 2, client: 3 }
const statusError = 2

export interface Origin {
  /** Of the resource that the spans come from. */
  readonly attributes: readonly Attribute[]
  readonly version: string
}

export function encodeSpans(spans: readonly Span[], { attributes, version }: Origin): Buffer {
  const scope = { name: 'underpass', version }
  return exportRequest.encode({
    resourceSpans: [
      { resource: { attributes: keyValues(attributes) }, scopeSpans: [{ scope, spans: spans.map(otlpSpan) }] }
    ]
  })
}

/** Spans that the collector would not take, and why. Throws on bytes that are no answer. */
export function readExportAnswer(bytes: Uint8Array): { readonly rejected: number; readonly reason: string } {
  const { rejectedSpans = 0, errorMessage = '' } = exportResponse.decode(bytes).partialSuccess ?? {}
  return { rejected: rejectedSpans, reason: errorMessage }
}

function otlpSpan(span: Span): OtlpSpan {
  const { traceId, spanId, parentId, state, name, kind, startMs, endMs, attributes, failed } = span
  return {
    traceId: Buffer.from(traceId, 'hex'),
    spanId: Buffer.from(spanId, 'hex'),
    parentSpanId: Buffer.from(parentId, 'hex'),
    traceState: state,
    name,
    kind: kinds[kind],
    startTimeUnixNano: nanoseconds(startMs),
    endTimeUnixNano: nanoseconds(endMs),
    attributes: keyValues(attributes),
    ...(failed ? { status: { code: statusError } } : {})
  }
}

function nanoseconds(ms: number): string {
  return String(BigInt(Math.round(ms * 1000)) * 1000n)
}

function keyValues(attributes: readonly Attribute[]): KeyValue[] {
  return attributes.map(([key, stringValue]) => ({ key, value: { stringValue } }))
}
