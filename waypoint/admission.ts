/**
 * Who may ask what: tokens first, then policies, before any route is looked at, so that a refusal tells nothing of
 * routes. Source: the order of Istio's waypoints (JWT authentication, then AUDIT, DENY and ALLOW).
 */
import { parseAuthority } from '../shared/hbone/connect.ts'
import { askWhom, authorize, type PolicySet } from './authorization/evaluate.ts'
import type { RequestFacts } from './authorization/facts.ts'
import type { Claims } from './authorization/token-attributes.ts'
import type { Provider } from './external-authorization/providers.ts'
import type { RequestHead } from './http/exchange.ts'
import { authenticate, type AuthResult } from './jwt/authenticate.ts'
import { applyChanges } from './jwt/request-changes.ts'
import type { LocalReply } from './local-reply.ts'
import type { Arrival, Waypoint } from './waypoint.ts'

export type Admission =
  /** `target`: without tokens that are not to be passed on. */
  | { readonly kind: 'admitted'; readonly target: string }
  | { readonly kind: 'refused'; readonly reply: LocalReply }

/** At once, unless a token has to be verified. Changes the headers of `head` as the rules for tokens say. */
export function admit(
  waypoint: Waypoint,
  arrival: Arrival,
  head: RequestHead,
  target: string
): Admission | Promise<Admission> {
  const { destination } = arrival
  const service = destination.kind === 'service' ? destination.service : undefined
  const rules = waypoint.jwtPolicies.rulesFor(service)
  const policies = waypoint.policies.policiesFor(service)
  const factsFor = (asked: string, claims: Claims | undefined): RequestFacts => {
    const mark = asked.indexOf('?')
    const path = mark < 0 ? asked : asked.slice(0, mark)
    const { method, authority, headers } = head
    return { ...connectionFacts(arrival), http: { method, path, authority, headers, claims } }
  }
  const refusal = refusalUnasked(policies, factsFor(target, undefined))
  if (refusal !== undefined) return refused(refusal)
  const decide = (found: AuthResult | undefined): Admission => {
    if (found?.kind === 'refused') return found
    const kept = found === undefined ? target : applyChanges(found.changes, head.headers, target)
    const verdict = authorize(policies, factsFor(kept, found?.kind === 'valid' ? found.claims : undefined))
    for (const policy of verdict.audit) {
      const fields = { policy, 'src.identity': arrival.peer, authority: arrival.authority, path: kept }
      waypoint.log.info('audit', fields)
    }
    for (const { action, result, policyId } of verdict.dryRun) {
      waypoint.log.debug('dry run', { action, result, policy: policyId, 'src.identity': arrival.peer })
    }
    return verdict.allowed ? { kind: 'admitted', target: kept } : refused(verdict.policyId)
  }
  if (rules.length === 0) return decide(undefined)
  const found = authenticate(rules, { ...head, target }, waypoint.keys, Date.now())
  return found instanceof Promise ? found.then(decide) : decide(found)
}

/** Undefined: it may pass. Of a connection that is carried as it is only its ends are known. */
export function refusalOfConnection(waypoint: Waypoint, arrival: Arrival): string | undefined {
  const { destination } = arrival
  const service = destination.kind === 'service' ? destination.service : undefined
  const policies = waypoint.policies.policiesFor(service)
  const facts = connectionFacts(arrival)
  const refusal = refusalUnasked(policies, facts)
  if (refusal !== undefined) return deniedBy(refusal)
  const verdict = authorize(policies, facts)
  return verdict.allowed ? undefined : deniedBy(verdict.policyId)
}

const denied = { status: 403, body: 'RBAC: access denied', flag: '-' } as const

function refused(policyId: string): Admission {
  return { kind: 'refused', reply: { ...denied, details: deniedBy(policyId) } }
}

const noProviders: ReadonlyMap<string, Provider> = new Map()

/** Id of the rule that wants an authorizer asked, of which none is known yet. */
function refusalUnasked(policies: PolicySet, facts: RequestFacts): string | undefined {
  const asking = askWhom(policies, facts, noProviders)
  return asking?.kind === 'refused' ? asking.policyId : undefined
}

function deniedBy(policyId: string): string {
  return `rbac_access_denied_matched_policy[${policyId}]`
}

const factsOf = new WeakMap<Arrival, RequestFacts>()

/** The same for every request of a tunnel. */
function connectionFacts(arrival: Arrival): RequestFacts {
  const known = factsOf.get(arrival)
  if (known !== undefined) return known
  const { peer, client, destination } = arrival
  const authority = parseAuthority(arrival.authority)
  const ip = authority?.kind === 'address' ? authority.address.ip : undefined
  const facts: RequestFacts = { peer, clientIp: client.ip, destination: { ip, port: destination.port } }
  factsOf.set(arrival, facts)
  return facts
}
