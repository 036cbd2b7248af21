/** Telemetry as the control plane sends it. Source: Istio's published telemetry/v1alpha1/telemetry.proto. */
import { Fields, Problems } from '../../../shared/mesh/yaml-fields.ts'
import type { ConfigResource } from '../../../shared/xds/config-resource.ts'
import { connectionLabels, requestLabels } from '../../families.ts'
import { isToken } from '../../http1/characters.ts'
import { readTargets } from '../../policy-target.ts'
import type { CustomTag } from '../tracing/tracer.ts'
import { readLogFilter } from './log-filter.ts'
import { readTagValue } from './tag-value.ts'
import type {
  LabelChange,
  LoggingPart,
  MetricPart,
  TelemetryPolicy,
  TracingPart
} from './telemetry-policy.ts'

export interface TelemetryContext {
  readonly rootNamespace: string
  /** Of Istio's modes: a waypoint is a server, a gateway a client. */
  readonly mode: 'SERVER' | 'CLIENT'
  /** What `environment` tags tell. */
  readonly environment: (name: string) => string | undefined
}

const requestMetrics = {
  REQUEST_COUNT: 'istio_requests_total',
  REQUEST_DURATION: 'istio_request_duration_milliseconds',
  REQUEST_SIZE: 'istio_request_bytes',
  RESPONSE_SIZE: 'istio_response_bytes'
}
const connectionMetrics = {
  TCP_OPENED_CONNECTIONS: 'istio_tcp_connections_opened_total',
  TCP_CLOSED_CONNECTIONS: 'istio_tcp_connections_closed_total',
  TCP_SENT_BYTES: 'istio_tcp_sent_bytes_total',
  TCP_RECEIVED_BYTES: 'istio_tcp_received_bytes_total'
}
const metricNames: Readonly<Record<string, readonly string[]>> = {
  ...Object.fromEntries(Object.entries(requestMetrics).map(([name, family]) => [name, [family]])),
  ...Object.fromEntries(Object.entries(connectionMetrics).map(([name, family]) => [name, [family]])),
  GRPC_REQUEST_MESSAGES: [], // not counted anyway
  GRPC_RESPONSE_MESSAGES: [],
  ALL_METRICS: [...Object.values(requestMetrics), ...Object.values(connectionMetrics)]
}
const labels = new Set<string>([...requestLabels, ...connectionLabels])

/** Throws an Error that names every field that is wrong. */
export function readTelemetry(
  { namespace, createdMs, spec }: ConfigResource,
  context: TelemetryContext
): TelemetryPolicy {
  const problems = new Problems()
  const unsupported = new Problems()
  const fields = new Fields(spec, 'spec', problems)
  const ignored = new Problems() // the object's status tells of targets that are for nobody
  const targets = readTargets(fields, { namespace, rootNamespace: context.rootNamespace, ignored })
  if (fields.inner('selector') !== undefined)
    problems.add('spec.selector', 'is for pods; use spec.targetRefs')
  const reader = new Reader(context, unsupported)
  const each = <T>(name: string, read: (part: Fields) => T | undefined): readonly T[] =>
    fields.list(name, (value, path) => {
      const part = new Fields(value, path, problems)
      const made = read(part)
      part.end()
      return made
    })
  const logging = each('accessLogging', part => reader.logging(part))
  const tracing = each('tracing', part => reader.tracing(part))
  const metrics = each('metrics', part => reader.metrics(part)).flat()
  fields.end()
  if (problems.found.length > 0) throw new Error(problems.found.join('; '))
  return { namespace, createdMs, targets, logging, tracing, metrics, unsupported: unsupported.found }
}

class Reader {
  readonly #context: TelemetryContext
  readonly #unsupported: Problems

  constructor(context: TelemetryContext, unsupported: Problems) {
    this.#context = context
    this.#unsupported = unsupported
  }

  logging(fields: Fields): LoggingPart | undefined {
    const applies = this.#applies(fields.inner('match'))
    const providers = this.#providers(fields)
    const disabled = fields.optionalFlag('disabled')
    const filter = fields.inner('filter')
    const expression = filter?.text('expression')
    filter?.end()
    for (const name of providers) {
      if (name !== 'envoy') this.#tell(`${fields.path}.providers`, `access log provider ${name}: use envoy`)
    }
    const test = expression === undefined ? undefined : readLogFilter(expression)
    if (expression !== undefined && test === undefined) {
      this.#tell(`${fields.path}.filter`, 'all is logged: only comparisons of response.code are understood')
    }
    if (!applies) return undefined
    const named = providers.length === 0 ? undefined : providers.includes('envoy')
    return { enabled: disabled === undefined ? named : !disabled, filter: test }
  }

  tracing(fields: Fields): TracingPart | undefined {
    const applies = this.#applies(fields.inner('match'))
    const [provider] = this.#providers(fields)
    const sampling = fields.number('randomSamplingPercentage', Number.NaN, 100)
    const reporting = fields.optionalFlag('disableSpanReporting')
    const propagation = fields.optionalFlag('disableContextPropagation')
    fields.flag('useRequestIdForTraceSampling', true) // ids of ours carry no decision
    const part: TracingPart = {
      provider,
      sampling: Number.isNaN(sampling) ? undefined : sampling / 100,
      reports: reporting === undefined ? undefined : !reporting,
      propagates: propagation === undefined ? undefined : !propagation,
      istioTags: fields.optionalFlag('enableIstioTags'),
      customTags: this.#customTags(fields)
    }
    return applies ? part : undefined
  }

  metrics(fields: Fields): readonly MetricPart[] | undefined {
    const providers = this.#providers(fields)
    const others = providers.filter(name => name !== 'prometheus')
    for (const name of others) this.#tell(`${fields.path}.providers`, `metrics for ${name}: use prometheus`)
    fields.text('reportingInterval', '') // counters are brought up to date when they are asked for
    const parts = fields.list('overrides', (value, path) => {
      const override = new Fields(value, path, fields.problems)
      const part = this.#override(override)
      override.end()
      return part
    })
    return providers.length > 0 && others.length === providers.length ? undefined : parts
  }

  #override(fields: Fields): MetricPart | undefined {
    const match = fields.inner('match')
    const custom = match?.text('customMetric', '') ?? ''
    const metric = match?.choice('metric', Object.keys(metricNames), 'ALL_METRICS') ?? 'ALL_METRICS'
    const applies = this.#applies(match)
    const known = custom === '' ? metricNames[metric] : customFamily(custom)
    if (known === undefined) this.#tell(fields.path, `there is no metric ${custom}`)
    const part = {
      families: known ?? [],
      disabled: fields.optionalFlag('disabled'),
      labels: this.#labels(fields)
    }
    return applies ? part : undefined
  }

  #labels(fields: Fields): ReadonlyMap<string, LabelChange> {
    const changes = fields.map(
      'tagOverrides',
      (label, value, path): readonly [string, LabelChange] | undefined => {
        const change = new Fields(value, path, fields.problems)
        const operation = change.choice('operation', ['UPSERT', 'REMOVE'], 'UPSERT')
        const expression = change.text('value', '')
        change.end()
        if (!labels.has(label)) return this.#tell(path, 'only labels that the metric has can be changed')
        if (operation === 'REMOVE') return [label, { kind: 'remove' }]
        const set = readTagValue(expression)
        if (set !== undefined) return [label, { kind: 'set', value: set }]
        return this.#tell(path, `the expression ${JSON.stringify(expression)} is not understood`)
      }
    )
    return new Map(changes)
  }

  #customTags(fields: Fields): readonly CustomTag[] | undefined {
    let found = false
    const tags = fields.map('customTags', (key, value, path): CustomTag | undefined => {
      found = true
      const tag = new Fields(value, path, fields.problems)
      const literal = tag.inner('literal')
      const header = tag.inner('header')
      const environment = tag.inner('environment')
      const made = literal
        ? ({ kind: 'literal', key, value: literal.text('value') } as const)
        : header
          ? this.#headerTag(key, header)
          : environment && this.#environmentTag(key, environment)
      for (const each of [literal, header, environment]) each?.end()
      if (made === undefined) this.#tell(path, 'expected literal, header or environment')
      return made
    })
    return found ? tags : undefined
  }

  #headerTag(key: string, fields: Fields): CustomTag {
    const name = fields.text('name').toLowerCase()
    if (!isToken(name)) fields.problems.add(`${fields.path}.name`, 'expected the name of a header')
    return { kind: 'header', key, name, fallback: fields.text('defaultValue', '') }
  }

  #environmentTag(key: string, fields: Fields): CustomTag {
    const fallback = fields.text('defaultValue', '')
    return { kind: 'literal', key, value: this.#context.environment(fields.text('name')) ?? fallback }
  }

  /** Whether it is for the side on which this proxy stands. */
  #applies(match: Fields | undefined): boolean {
    const mode = match?.choice('mode', ['CLIENT_AND_SERVER', 'CLIENT', 'SERVER'], 'CLIENT_AND_SERVER')
    match?.end()
    return mode === undefined || mode === 'CLIENT_AND_SERVER' || mode === this.#context.mode
  }

  #providers(fields: Fields): readonly string[] {
    return fields.list('providers', (value, path) => {
      const provider = new Fields(value, path, fields.problems)
      const name = provider.text('name')
      provider.end()
      return name
    })
  }

  #tell(path: string, problem: string): undefined {
    this.#unsupported.add(path, problem)
  }
}

function customFamily(name: string): readonly string[] | undefined {
  const all = metricNames['ALL_METRICS'] ?? []
  return all.includes(name) ? [name] : undefined
}
