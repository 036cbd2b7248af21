/**
 * External authorizers that the mesh configuration defines. Source: Istio's published mesh/v1alpha1/config.proto,
 * EnvoyExternalAuthorizationHttpProvider and EnvoyExternalAuthorizationGrpcProvider.
 */
import { Fields, Problems } from '../../shared/mesh/yaml-fields.ts'
import { parseDuration } from '../../shared/runtime/env.ts'
import { textPattern } from '../authorization/text-pattern.ts'
import { providersByName, readService, type MeshService } from '../extension-provider.ts'
import { isHeaderText, isTarget, isToken } from '../http1/characters.ts'
import { isOwnHeader } from './changes.ts'

export type Provider = UsableProvider | InvalidProvider
export type UsableProvider = HttpProvider | GrpcProvider

/** Policies that name it refuse what they match. */
export interface InvalidProvider {
  readonly kind: 'invalid'
  readonly name: string
  readonly reason: string
}

export interface GrpcProvider extends Common {
  readonly kind: 'grpc'
}

export interface HttpProvider extends Common {
  readonly kind: 'http'
  /** Stands before the path of the request; empty or with a slash at its beginning. */
  readonly pathPrefix: string
  /** Headers of the request that the check takes along, beside those that it always has. */
  readonly requestHeaders: NameTest
  readonly extraHeaders: readonly (readonly [name: string, value: string])[]
  /** Headers of the authorizer's answer, and where they go. */
  readonly upstreamOnAllow: NameTest
  readonly downstreamOnAllow: NameTest
  /** Undefined: all of them. */
  readonly downstreamOnDeny: NameTest | undefined
}

/** Of a name in lower case. */
export type NameTest = (name: string) => boolean

interface Common {
  readonly name: string
  readonly service: MeshService
  readonly timeoutMs: number
  /** Whether requests pass while it cannot be asked. */
  readonly failOpen: boolean
  /** What they are answered where they do not pass. */
  readonly statusOnError: number
}

const defaultTimeout = '1s'
const maxTimeoutMs = 600_000
const forms = { envoyExtAuthzHttp: readHttp, envoyExtAuthzGrpc: readGrpc } as const

/** `value`: `extensionProviders` of the mesh configuration, whatever it is; providers of other kinds are not ours. */
export function readProviders(value: unknown): ReadonlyMap<string, Provider> {
  return providersByName<Provider>(Array.isArray(value) ? (value as readonly unknown[]) : [], readProvider)
}

/** Undefined for what no policy can name as its authorizer. */
function readProvider(entry: unknown): Provider | undefined {
  if (typeof entry !== 'object' || entry === null) return undefined
  const { name } = entry as Readonly<Record<string, unknown>>
  const kinds = (['envoyExtAuthzHttp', 'envoyExtAuthzGrpc'] as const).filter(kind => kind in entry)
  const [kind] = kinds
  if (typeof name !== 'string' || name === '' || kind === undefined) return undefined

  const problems = new Problems()
  const fields = new Fields(entry, '', problems)
  fields.text('name')
  const inner = fields.inner(kind) ?? new Fields(undefined, kind, problems)
  const provider = forms[kind](inner, name)
  if (kinds.length > 1) problems.add(kind, 'stands beside another kind of provider: choose one')
  else fields.end()
  if (problems.found.length === 0) return provider
  return { kind: 'invalid', name, reason: problems.found.join('; ') }
}

function readGrpc(fields: Fields, name: string): GrpcProvider {
  const common = readCommon(fields, name)
  fields.end()
  return { kind: 'grpc', ...common }
}

function readHttp(fields: Fields, name: string): HttpProvider {
  const common = readCommon(fields, name)
  const pathPrefix = fields.text('pathPrefix', '')
  if (
    pathPrefix !== '' &&
    !(pathPrefix.startsWith('/') && isTarget(pathPrefix) && !pathPrefix.includes('?'))
  ) {
    fields.problems.add(`${fields.path}.pathPrefix`, 'expected a path that begins with a slash')
  }
  const requestHeaders = patterns(fields, 'includeRequestHeadersInCheck')
  const older = patterns(fields, 'includeHeadersInCheck') // an earlier name of the same
  const onDeny = patterns(fields, 'headersToDownstreamOnDeny')
  const made: HttpProvider = {
    kind: 'http',
    ...common,
    pathPrefix,
    requestHeaders: anyOf([...requestHeaders, ...older]),
    extraHeaders: fields.map('includeAdditionalHeadersInCheck', (key, value, path) => {
      const header = key.toLowerCase()
      if (!isToken(header) || isOwnHeader(header)) {
        fields.problems.add(path, 'is no name of a header that a check may be given')
      }
      if (typeof value === 'string' && isHeaderText(value)) return [header, value] as const
      fields.problems.add(path, 'expected text that a header can carry')
      return undefined
    }),
    upstreamOnAllow: anyOf(patterns(fields, 'headersToUpstreamOnAllow')),
    downstreamOnAllow: anyOf(patterns(fields, 'headersToDownstreamOnAllow')),
    downstreamOnDeny: onDeny.length === 0 ? undefined : anyOf(onDeny)
  }
  fields.end()
  return made
}

function readCommon(fields: Fields, name: string): Common {
  const { path, problems } = fields
  const timeout = fields.text('timeout', defaultTimeout)
  const timeoutMs = parseDuration(timeout) ?? 0
  if (timeoutMs === 0 || timeoutMs > maxTimeoutMs) {
    problems.add(`${path}.timeout`, `expected a duration up to 600s, found ${JSON.stringify(timeout)}`)
  }
  const status = fields.text('statusOnError', '403')
  if (!/^[45]\d\d$/.test(status)) {
    problems.add(
      `${path}.statusOnError`,
      `expected a status from 400 to 599 as text, found ${JSON.stringify(status)}`
    )
  }
  if (fields.inner('includeRequestBodyInCheck') !== undefined) {
    problems.add(
      `${path}.includeRequestBodyInCheck`,
      'is not supported: authorizers see no bodies; leave it out'
    )
  }
  fields.flag('clearRouteCache', false) // routes are chosen after authorization anyway
  const service = readService(fields)
  return {
    name,
    service,
    timeoutMs,
    failOpen: fields.flag('failOpen', false),
    statusOnError: Number(status)
  }
}

/** Exact, `x*` and `*x`, without case. */
function patterns(fields: Fields, name: string): readonly NameTest[] {
  return fields.list(name, (value, path) => {
    const text = typeof value === 'string' ? value.toLowerCase() : ''
    if (isToken(text) && /^(?:\*?[^*]+|[^*]+\*)$/.test(text)) return textPattern(text)
    fields.problems.add(path, 'expected the name of a header, with a star at one end perhaps')
    return undefined
  })
}

function anyOf(tests: readonly NameTest[]): NameTest {
  return name => tests.some(test => test(name))
}
