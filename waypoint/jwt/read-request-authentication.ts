/** RequestAuthentication as the control plane sends it. Source: Istio's published security/v1beta1/request_authentication.proto. */
import { Fields, Problems } from '../../shared/mesh/yaml-fields.ts'
import { parseDuration } from '../../shared/runtime/env.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { ConfigResource } from '../../shared/xds/config-resource.ts'
import { readTargets } from '../policy-target.ts'
import { audienceForm } from './check-token.ts'
import type { ClaimHeader, JwtPolicy, JwtRule, KeyLocation, TokenPlaces } from './jwt-rule.ts'
import { parseKeySet } from './key-set.ts'
import { defaultPlaces } from './token-places.ts'

const maxTimeoutMs = 60_000
const maxListClaims = 64

/**
 * Throws an Error that names every field that is wrong: what is not understood is refused as a whole, since rules without
 * one of their conditions would let more tokens through.
 */
export function readRequestAuthentication(
  { namespace, name, spec }: ConfigResource,
  rootNamespace: string
): JwtPolicy {
  const problems = new Problems()
  const fields = new Fields(spec, 'spec', problems)
  const ignored = new Problems() // the object's status tells of targets that are for nobody
  const targets = readTargets(fields, { namespace, rootNamespace, ignored })
  if (fields.inner('selector') !== undefined) {
    problems.add('spec.selector', 'is for sidecars and gateways; a waypoint needs spec.targetRefs instead')
  } else if (targets.length === 0 && ignored.found.length === 0) {
    problems.add(
      'spec.targetRefs',
      'is required: the Service, ServiceEntry, Gateway or GatewayClass it is for'
    )
  }
  const rules = fields.list('jwtRules', (value, path) =>
    rule(new Fields(value, path, problems), `${namespace}/${name}`)
  )
  fields.end()
  if (problems.found.length > 0) throw new Error(problems.found.join('; '))
  return { namespace, name, targets, rules }
}

function rule(fields: Fields, policy: string): JwtRule {
  const { problems } = fields
  const issuer = fields.text('issuer')
  if (issuer === '') problems.add(`${fields.path}.issuer`, 'must not be empty')
  const listClaims = fields.list('spaceDelimitedClaims', (value, path) => text(value, path, problems))
  if (listClaims.length > maxListClaims) {
    problems.add(`${fields.path}.spaceDelimitedClaims`, `has more than ${maxListClaims} names`)
  }
  const payloadHeader = fields.text('outputPayloadToHeader', '')
  const made: JwtRule = {
    policy,
    issuer,
    audiences: fields
      .list('audiences', (value, path) => text(value, path, problems))
      .map(audience => audienceForm(audience)),
    keys: keyLocation(fields, issuer),
    places: places(fields),
    forward: fields.flag('forwardOriginalToken', false),
    payloadHeader:
      payloadHeader === ''
        ? undefined
        : headerName(payloadHeader, `${fields.path}.outputPayloadToHeader`, problems),
    claimHeaders: fields.list('outputClaimToHeaders', (value, path) =>
      claimHeader(new Fields(value, path, problems))
    ),
    spaceDelimitedClaims: [...new Set(['scope', 'permission', ...listClaims])]
  }
  fields.end()
  return made
}

function keyLocation(fields: Fields, issuer: string): KeyLocation {
  const { path, problems } = fields
  const inline = fields.text('jwks', '')
  const alias = fields.text('jwks_uri', '') // an older spelling of Istio's API
  const url = fields.text('jwksUri', alias)
  const timeout = fields.text('timeout', '5s')
  const timeoutMs = parseDuration(timeout)
  if (timeoutMs === undefined || timeoutMs === 0 || timeoutMs > maxTimeoutMs) {
    problems.add(`${path}.timeout`, `expected a duration up to 60s, found ${JSON.stringify(timeout)}`)
  }
  const remote = { kind: 'remote', timeoutMs: timeoutMs ?? 0 } as const
  if (inline !== '' && url !== '') problems.add(`${path}.jwks`, 'is given together with jwksUri: choose one')
  if (inline !== '') {
    try {
      return { kind: 'inline', keys: parseKeySet(inline, { secrets: true }) }
    } catch (error) {
      problems.add(`${path}.jwks`, `is no set of keys: ${messageOf(error)}`)
    }
  } else if (url !== '') {
    if (!isWebAddress(url))
      problems.add(`${path}.jwksUri`, `${JSON.stringify(url)} is no http or https address`)
  } else if (!isWebAddress(issuer)) {
    problems.add(
      `${path}.jwksUri`,
      `is required where the issuer is no address to ask for its keys; or give jwks`
    )
  }
  if (url !== '') return { ...remote, url, discover: false }
  return { ...remote, url: `${issuer.replace(/\/+$/, '')}/.well-known/openid-configuration`, discover: true }
}

function isWebAddress(url: string): boolean {
  return /^https?:\/\//i.test(url) && URL.canParse(url)
}

function places(fields: Fields): TokenPlaces {
  const { problems } = fields
  const made: TokenPlaces = {
    headers: fields.list('fromHeaders', (value, path) => {
      const entry = new Fields(value, path, problems)
      const name = headerName(entry.text('name'), `${path}.name`, problems)
      const prefix = entry.text('prefix', '')
      entry.end()
      return { name, prefix }
    }),
    params: fields.list('fromParams', (value, path) => text(value, path, problems)),
    cookies: fields.list('fromCookies', (value, path) => text(value, path, problems))
  }
  const none = made.headers.length + made.params.length + made.cookies.length === 0
  return none ? defaultPlaces : made
}

function claimHeader(fields: Fields): ClaimHeader {
  const made = {
    header: headerName(fields.text('header'), `${fields.path}.header`, fields.problems),
    claim: fields.text('claim').split('.')
  }
  if (made.claim.includes(''))
    fields.problems.add(`${fields.path}.claim`, 'expected names with a dot between each two')
  fields.end()
  return made
}

/** Fields that say where a message ends or goes belong to whoever forwards it (RFC 9110 section 7.6). */
const ownHeaders = new Set([
  'host',
  'content-length',
  'transfer-encoding',
  'connection',
  'upgrade',
  'te',
  'trailer'
])

function headerName(name: string, path: string, problems: Problems): string {
  const lower = name.toLowerCase()
  if (!/^[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(lower))
    problems.add(path, `${JSON.stringify(name)} is no header name`)
  if (ownHeaders.has(lower)) problems.add(path, `${lower} is not for tokens and claims`)
  return lower
}

function text(value: unknown, path: string, problems: Problems): string | undefined {
  if (typeof value === 'string' && value !== '') return value
  problems.add(path, 'expected a text that is not empty')
  return undefined
}
