/** Services of the mesh configuration that count requests for all waypoints (`underpassRateLimit` of an extension provider). */
import { Fields, Problems } from '../../shared/mesh/yaml-fields.ts'
import { parseDuration } from '../../shared/runtime/env.ts'
import { providersByName, readService, type MeshService } from '../extension-provider.ts'

export type RateLimitProvider = RateLimitService | InvalidRateLimitProvider

/** Speaks Envoy's protocol of rate limit services. */
export interface RateLimitService {
  readonly kind: 'envoyRls'
  readonly name: string
  readonly service: MeshService
  /** Under which it keeps what is ours. */
  readonly domain: string
  readonly timeoutMs: number
}

/** Requests that it should count are those of a provider that cannot be asked. */
export interface InvalidRateLimitProvider {
  readonly kind: 'invalid'
  readonly name: string
  readonly reason: string
}

/** Source: Envoy's default of its rate limit filter. */
const defaultTimeout = '20ms'
const maxTimeoutMs = 10_000

/** `written`: `extensionProviders` of the mesh configuration, whatever it is; providers of other kinds are not ours. */
export function readRateLimitProviders(written: readonly unknown[]): ReadonlyMap<string, RateLimitProvider> {
  return providersByName(written, readProvider)
}

function readProvider(entry: unknown): RateLimitProvider | undefined {
  if (typeof entry !== 'object' || entry === null || !('underpassRateLimit' in entry)) return undefined
  const { name, underpassRateLimit } = entry as Readonly<Record<string, unknown>>
  if (typeof name !== 'string' || name === '') return undefined
  const problems = new Problems()
  const fields = new Fields(underpassRateLimit, 'underpassRateLimit', problems)
  const kind = fields.choice('protocol', ['envoyRls'])
  const timeout = fields.text('timeout', defaultTimeout)
  const timeoutMs = parseDuration(timeout) ?? 0
  if (timeoutMs === 0 || timeoutMs > maxTimeoutMs) {
    problems.add(`${fields.path}.timeout`, `expected a duration up to 10s, found ${JSON.stringify(timeout)}`)
  }
  const service = readService(fields)
  const domain = fields.text('domain', 'underpass')
  if (domain === '') problems.add(`${fields.path}.domain`, 'is empty')
  fields.end()
  if (problems.found.length > 0) return { kind: 'invalid', name, reason: problems.found.join('; ') }
  return { kind, name, service, domain, timeoutMs }
}
