/**
 * Collectors that the mesh configuration defines. Source: Istio's published mesh/v1alpha1/config.proto,
 * OpenTelemetryTracingProvider.
 */
import { Fields, Problems } from '../../../shared/mesh/yaml-fields.ts'
import { parseDuration } from '../../../shared/runtime/env.ts'
import { readService, type MeshService } from '../../extension-provider.ts'
import { isHeaderText, isTarget, isToken } from '../../http1/characters.ts'

export interface TraceProvider {
  readonly kind: 'grpc' | 'http'
  readonly name: string
  readonly service: MeshService
  /** Of HTTP. */
  readonly path: string
  readonly headers: readonly (readonly [name: string, value: string])[]
  readonly timeoutMs: number
  /** Longer values of `http.url` are cut. */
  readonly maxTagLength: number
}

/** No spans are sent to it. */
export interface InvalidTraceProvider {
  readonly kind: 'invalid'
  readonly name: string
  readonly reason: string
}

const others = ['zipkin', 'datadog', 'skywalking', 'lightstep', 'opencensus', 'stackdriver'] as const
const defaultTagLength = 256

/** `value`: `extensionProviders` of the mesh configuration, whatever it is; providers of other kinds are not ours. */
export function readTraceProviders(
  value: unknown
): ReadonlyMap<string, TraceProvider | InvalidTraceProvider> {
  const found = new Map<string, TraceProvider | InvalidTraceProvider>()
  for (const entry of Array.isArray(value) ? (value as readonly unknown[]) : []) {
    const provider = readProvider(entry)
    if (provider !== undefined) found.set(provider.name, provider)
  }
  return found
}

function readProvider(entry: unknown): TraceProvider | InvalidTraceProvider | undefined {
  if (typeof entry !== 'object' || entry === null) return undefined
  const { name, opentelemetry } = entry as Readonly<Record<string, unknown>>
  if (typeof name !== 'string' || name === '') return undefined
  const other = others.find(kind => kind in entry)
  if (other !== undefined) {
    const reason = `${other} is not supported: use opentelemetry, which its collectors take too`
    return { kind: 'invalid', name, reason }
  }
  if (opentelemetry === undefined) return undefined
  const problems = new Problems()
  const provider = readOpenTelemetry(new Fields(opentelemetry, 'opentelemetry', problems), name)
  return problems.found.length === 0 ? provider : { kind: 'invalid', name, reason: problems.found.join('; ') }
}

function readOpenTelemetry(fields: Fields, name: string): TraceProvider {
  const service = readService(fields)
  const maxTagLength = fields.integer('maxTagLength', 0, 65_536)
  const http = fields.inner('http')
  const grpc = fields.inner('grpc')
  if (http !== undefined && grpc !== undefined)
    fields.problems.add(grpc.path, 'stands beside http: choose one')
  const path = http?.text('path') ?? ''
  if (http !== undefined && !(path.startsWith('/') && isTarget(path))) {
    fields.problems.add(`${http.path}.path`, 'expected a path that begins with a slash')
  }
  const headers =
    http?.list('headers', (value, at) => readHeader(new Fields(value, at, fields.problems))) ?? []
  const timeoutMs = readTimeout(http ?? grpc)
  http?.end()
  grpc?.end()
  fields.inner('resourceDetectors') // of Envoy's process; ours says who it is anyway
  fields.end()
  return {
    kind: http === undefined ? 'grpc' : 'http',
    ...{ name, service, path, headers, timeoutMs },
    maxTagLength: maxTagLength === 0 ? defaultTagLength : maxTagLength
  }
}

function readHeader(fields: Fields): readonly [string, string] | undefined {
  const name = fields.text('name').toLowerCase()
  const value = fields.text('value', '')
  fields.end()
  if (isToken(name) && isHeaderText(value)) return [name, value]
  fields.problems.add(fields.path, 'expected the name of a header, and a value that it can carry')
  return undefined
}

function readTimeout(fields: Fields | undefined): number {
  const text = fields?.text('timeout', '10s') ?? '10s'
  const ms = parseDuration(text) ?? 0
  if (ms > 0 && ms <= 60_000) return ms
  fields?.problems.add(
    `${fields.path}.timeout`,
    `expected a duration up to 60s, found ${JSON.stringify(text)}`
  )
  return 0
}
