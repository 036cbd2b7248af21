/**
 * What would become of an imagined request: the decisions of the real path, one after the other. Nobody is asked, no
 * token is verified and nothing is sent.
 */
import { parseAuthority, type Authority } from '../shared/hbone/connect.ts'
import { parseSpiffeId, spiffeParts, type SpiffeId } from '../shared/identity/spiffe-id.ts'
import { serviceKey } from '../shared/mesh/model.ts'
import { Fields, Problems } from '../shared/mesh/yaml-fields.ts'
import { parseIp, type Ip } from '../shared/net/address.ts'
import { HttpProblem } from '../shared/runtime/admin-http.ts'
import { askWhom, authorize, type Asking, type Verdict } from './authorization/evaluate.ts'
import type { HttpFacts } from './authorization/facts.ts'
import { decideCors, type CorsDecision } from './cors.ts'
import { findDestination } from './destination.ts'
import { HeaderList } from './http/header-list.ts'
import { pathOf, queryOf } from './http/target.ts'
import { isFieldValue, isToken } from './http1/characters.ts'
import { normalizePath } from './normalize-path.ts'
import type { Matched } from './routes/route-table.ts'
import type { Backend, BackendReference, Fault, Mirror, OwnAnswer } from './routes/route.ts'
import { rulesFor } from './way.ts'
import type { Waypoint } from './waypoint.ts'

export interface ImaginedRequest {
  readonly from: SpiffeId
  readonly clientIp: Ip
  /** As the client addresses it. */
  readonly to: Authority
  /** Absent: a connection that is carried as it is. `target`: path and query. */
  readonly http: (Omit<HttpFacts, 'path'> & { readonly target: string }) | undefined
}

export type RequestExplanation =
  | { readonly kind: 'refused'; readonly reason: string }
  | {
      readonly kind: 'explanation'
      /** `depends`: on what an authorizer would say. */
      readonly outcome: 'allowed' | 'refused' | 'depends'
      /** `namespace/hostname` of a service, uid of a pod; and the port. */
      readonly destination: string
      /** Path and query in the form in which they are looked at and forwarded. */
      readonly target: string | undefined
      readonly authorizer: ExplainedAuthorizer | undefined
      /** Rules that would verify a token, if one came along. */
      readonly tokenRules: number
      readonly policies: Verdict
      readonly route: ExplainedRoute
    }

export type ExplainedAuthorizer =
  | { readonly ask: string; readonly policyId: string; readonly dryRun: boolean }
  | { readonly refusedBy: string }

export type ExplainedRoute =
  /** No route applies to the service: its pods are balanced. */
  | { readonly kind: 'none' }
  /** Routes apply, and none of their rules matches: 404. */
  | { readonly kind: 'no match' }
  | {
      readonly kind: 'rule'
      readonly route: string
      readonly rule: string
      readonly unsupported: string | undefined
      /** That are put in on purpose, by chance. */
      readonly fault: Fault | undefined
      /** In place of a backend's. */
      readonly answer: OwnAnswer | undefined
      /** What its policy for other origins makes of the request; undefined: it has none. */
      readonly cors: 'preflight' | 'shared' | 'not shared' | undefined
      readonly backends: readonly string[]
      readonly mirrors: readonly string[]
    }

type State = Pick<
  Waypoint,
  'config' | 'view' | 'settings' | 'routes' | 'virtualServices' | 'policies' | 'jwtPolicies'
>

export function explainRequest(
  state: State,
  { from, clientIp, to, http }: ImaginedRequest
): RequestExplanation {
  const { config, view, settings, policies, jwtPolicies } = state
  const clientNamespace = spiffeParts(from).namespace
  const found = findDestination(view(), to, { ...config, clientNamespace })
  if (found.kind === 'refused') return found
  const { port } = found
  const service = found.kind === 'service' ? found.service : undefined
  const target = http && normalizePath(http.target, settings.current.pathNormalization)
  if (http !== undefined && target === undefined) {
    return { kind: 'refused', reason: 'http.path: has no normal form, the answer would be 400' }
  }
  const [path, query] = [pathOf(target ?? ''), queryOf(target ?? '')]
  const ip = to.kind === 'address' ? to.address.ip : undefined
  const ends = { peer: from, clientIp, destination: { ip, port } }
  const facts = http === undefined ? ends : { ...ends, http: { ...http, path } }
  const set = policies.policiesFor(service)
  const asking = askWhom(set, facts, settings.current.providers)
  const verdict = authorize(set, facts)
  const rules = service && rulesFor(state, service, port, clientNamespace)
  return {
    kind: 'explanation',
    outcome: outcomeOf(asking, verdict),
    destination: `${found.kind === 'service' ? serviceKey(found.service) : found.workload.uid}:${port}`,
    target,
    authorizer: asking === undefined ? undefined : explainedAuthorizer(asking),
    tokenRules: jwtPolicies.rulesFor(service).length,
    policies: verdict,
    route:
      http === undefined || rules === undefined
        ? { kind: 'none' }
        : explainedRoute(rules.find(http, path, query), http)
  }
}

/** Throws an {@link HttpProblem} 400 that names every field that is wrong. */
export function readImaginedRequest(value: unknown): ImaginedRequest {
  const problems = new Problems()
  const fields = new Fields(value, '', problems)
  const made = {
    from: checked(
      fields,
      'from',
      undefined,
      parseSpiffeId,
      'an identity spiffe://<trust domain>/ns/<namespace>/sa/<account>'
    ),
    clientIp: checked(fields, 'clientIp', '0.0.0.0', parseIp, 'an IP address'),
    to: checked(fields, 'to', undefined, parseAuthority, 'an IP address or a hostname with a port'),
    http: readHttp(fields.inner('http'))
  }
  fields.end()
  const { from, clientIp, to, http } = made
  if (problems.found.length > 0 || from === undefined || clientIp === undefined || to === undefined) {
    throw new HttpProblem(400, problems.found.join('; '))
  }
  return { from, clientIp, to, http }
}

function readHttp(fields: Fields | undefined): ImaginedRequest['http'] {
  if (fields === undefined) return undefined
  const headers = new HeaderList()
  const made = {
    method: fields.text('method', 'GET'),
    target: fields.text('path', '/'),
    authority: fields.text('host', ''),
    headers
  }
  fields.map('headers', (name, value, path) => {
    if (isToken(name) && typeof value === 'string' && isFieldValue(value))
      headers.append(name.toLowerCase(), value)
    else fields.problems.add(path, 'expected the text of a header')
    return undefined
  })
  const claims = fields.map('claims', (name, value) => [name, value] as const)
  fields.end()
  return claims.length === 0 ? made : { ...made, claims: Object.fromEntries(claims) }
}

function checked<T>(
  fields: Fields,
  name: string,
  fallback: string | undefined,
  parse: (text: string) => T | undefined,
  expected: string
): T | undefined {
  const text = fields.text(name, fallback)
  const value = text === '' ? undefined : parse(text)
  if (value === undefined) fields.problems.add(name, `expected ${expected}`)
  return value
}

function outcomeOf(asking: Asking | undefined, { allowed }: Verdict): 'allowed' | 'refused' | 'depends' {
  if (asking?.kind === 'refused' || !allowed) return 'refused'
  return asking === undefined || asking.dryRun ? 'allowed' : 'depends'
}

function explainedAuthorizer(asking: Asking): ExplainedAuthorizer {
  if (asking.kind === 'refused') return { refusedBy: asking.policyId }
  const { provider, policyId, dryRun } = asking
  return { ask: provider.name, policyId, dryRun }
}

function explainedRoute(
  found: Matched | undefined,
  { method, headers }: Pick<HttpFacts, 'method' | 'headers'>
): ExplainedRoute {
  if (found === undefined) return { kind: 'no match' }
  const { route, name, fault, filters, backends } = found.rule
  return {
    kind: 'rule',
    route,
    rule: name,
    unsupported: filters.unsupported,
    fault,
    answer: filters.ownAnswer,
    cors: filters.cors && explainedCors(decideCors(filters.cors, method, headers)),
    backends: backends.map(backendText),
    mirrors: filters.mirrors.map(mirrorText)
  }
}

function explainedCors(decision: CorsDecision): 'preflight' | 'shared' | 'not shared' {
  if (decision.kind === 'preflight') return 'preflight'
  return decision.origin === undefined ? 'not shared' : 'shared'
}

function backendText(backend: Backend): string {
  return `${referenceText(backend)}, weight ${backend.weight}`
}

function mirrorText({ backend, share }: Mirror): string {
  return `${referenceText(backend)}, ${Number((share * 100).toFixed(4))} %`
}

function referenceText(reference: BackendReference): string {
  if (reference.kind === 'unresolved') return `unusable: ${reference.reason}`
  const { namespace, hostname, port, subset } = reference
  const place = `${namespace}/${hostname}:${port}`
  return subset === undefined ? place : `${place}, subset ${subset}`
}
