/** What a waypoint knows of the mesh configuration: its own environment until the control plane says otherwise. */
import { Fields, Problems } from '../shared/mesh/yaml-fields.ts'
import type { Logger } from '../shared/telemetry/logger.ts'
import type { ConfigResource } from '../shared/xds/config-resource.ts'
import { readProviders, type Provider } from './external-authorization/providers.ts'
import {
  readTraceProviders,
  type InvalidTraceProvider,
  type TraceProvider
} from './telemetry/tracing/trace-providers.ts'
import { readRateLimitProviders, type RateLimitProvider } from './rate-limit/providers.ts'
import { pathNormalizations, type PathNormalization } from './normalize-path.ts'

export interface MeshSettings {
  /** The mesh's own trust domain first, then its aliases. */
  readonly trustDomains: readonly string[]
  readonly pathNormalization: PathNormalization
  /** Authorizers that policies may name. */
  readonly providers: ReadonlyMap<string, Provider>
  /** Undefined: as the waypoint's own environment has it. */
  readonly accessLog: 'all' | undefined
  readonly accessLogEncoding: 'TEXT' | 'JSON'
  /** Collectors of traces. */
  readonly traceProviders: ReadonlyMap<string, TraceProvider | InvalidTraceProvider>
  /** Services that count requests for all waypoints. */
  readonly rateLimitProviders: ReadonlyMap<string, RateLimitProvider>
  /** Of services for which no other is named. */
  readonly defaultTraceProvider: string | undefined
  /** From 0 to 1. */
  readonly traceSampling: number
}

/** Of requests about which nobody else decides. Source: Istio's PILOT_TRACE_SAMPLING. */
export const defaultTraceSampling = 0.01

/** Over `own`. Throws an Error that names every field that is wrong. */
export function readMeshSettings({ spec }: ConfigResource, own: MeshSettings): MeshSettings {
  const problems = new Problems()
  const fields = new Fields(spec, 'spec', problems)
  const form = fields.choice('pathNormalization', ['DEFAULT', ...pathNormalizations], 'DEFAULT')
  const aliases = fields.list('trustDomainAliases', (value, path) => {
    if (typeof value === 'string' && value !== '') return value
    problems.add(path, 'expected the name of a trust domain')
    return undefined
  })
  const written = fields.list('extensionProviders', value => value)
  const providers = readProviders(written)
  const collectors = fields.inner('defaultProviders')?.list('tracing', value => String(value))
  const percentage = fields.inner('defaultConfig')?.inner('tracing')?.number('sampling', Number.NaN, 100)
  const accessLogFile = fields.text('accessLogFile', '')
  const accessLogEncoding = fields.choice('accessLogEncoding', ['TEXT', 'JSON'], own.accessLogEncoding)
  if (problems.found.length > 0) throw new Error(problems.found.join('; '))
  return {
    trustDomains: [...new Set([...own.trustDomains, ...aliases])],
    pathNormalization: form === 'DEFAULT' ? own.pathNormalization : form,
    providers,
    accessLog: accessLogFile === '' ? undefined : 'all', // to standard output, whatever its name
    accessLogEncoding,
    traceProviders: readTraceProviders(written),
    rateLimitProviders: readRateLimitProviders(written),
    defaultTraceProvider: collectors?.[0],
    traceSampling: percentage === undefined || Number.isNaN(percentage) ? own.traceSampling : percentage / 100
  }
}

/** The settings that are in force; they change as a whole. */
export class CurrentSettings {
  readonly #own: MeshSettings
  readonly #log: Logger
  #current: MeshSettings

  constructor(own: MeshSettings, log: Logger) {
    this.#own = own
    this.#log = log
    this.#current = own
  }

  get current(): MeshSettings {
    return this.#current
  }

  put(resource: ConfigResource): void {
    this.#current = readMeshSettings(resource, this.#own)
    for (const provider of this.#current.providers.values()) {
      if (provider.kind !== 'invalid') continue
      const { name, reason } = provider
      this.#log.warn('an extension provider cannot be used: policies that name it refuse', { name, reason })
    }
    for (const provider of this.#current.rateLimitProviders.values()) {
      if (provider.kind !== 'invalid') continue
      const { name, reason } = provider
      this.#log.warn('an extension provider cannot be used: it counts no requests', { name, reason })
    }
    for (const provider of this.#current.traceProviders.values()) {
      if (provider.kind !== 'invalid') continue
      const { name, reason } = provider
      this.#log.warn('an extension provider cannot be used: no traces are sent to it', { name, reason })
    }
  }

  reset(): void {
    this.#current = this.#own
  }
}
