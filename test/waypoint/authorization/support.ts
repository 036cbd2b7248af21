/** Policies and requests in few words. */
import { spiffeId } from '../../../shared/identity/spiffe-id.ts'
import { ip } from '../../../shared/net/address.ts'
import { askWhom, authorize, policySet, type Verdict } from '../../../waypoint/authorization/evaluate.ts'
import type { HttpFacts, RequestFacts } from '../../../waypoint/authorization/facts.ts'
import type { L7Policy } from '../../../waypoint/authorization/policy.ts'
import { readAuthorizationPolicy, type PolicyMesh } from '../../../waypoint/authorization/read-policy.ts'
import { HeaderList } from '../../../waypoint/http/header-list.ts'

export const mesh: PolicyMesh = { trustDomains: ['cluster.local'], rootNamespace: 'istio-system' }

export type Json = Readonly<Record<string, unknown>>

export interface PolicyText {
  readonly namespace?: string
  readonly name?: string
  readonly annotations?: Readonly<Record<string, string>>
  readonly mesh?: PolicyMesh
}

/** A policy of namespace `shop` for the Service `web`. */
export function policy(spec: Json, more: PolicyText = {}): L7Policy {
  const { namespace = 'shop', name = 'web', annotations = {} } = more
  const targetRefs = [{ group: '', kind: 'Service', name: 'web' }]
  return readAuthorizationPolicy(
    { namespace, name, createdMs: 0, annotations, spec: { targetRefs, ...spec } },
    more.mesh ?? mesh
  )
}

export function peer(trustDomain: string, namespace: string, serviceAccount: string): RequestFacts['peer'] {
  return spiffeId({ trustDomain, namespace, serviceAccount })
}

export const http: HttpFacts = {
  method: 'GET',
  path: '/cart',
  authority: 'web.shop',
  headers: HeaderList.of()
}

export const connection: RequestFacts = {
  peer: peer('cluster.local', 'front', 'site'),
  clientIp: ip('10.1.2.3'),
  destination: { ip: ip('10.96.0.7'), port: 80 }
}

export function request(more: Partial<HttpFacts> = {}): RequestFacts {
  return { ...connection, http: { ...http, ...more } }
}

/** Where nobody can be asked. */
export function decide(policies: readonly L7Policy[], facts: RequestFacts): Verdict {
  const set = policySet(policies)
  const asking = askWhom(set, facts, new Map())
  if (asking?.kind === 'refused') return { allowed: false, policyId: asking.policyId, audit: [], dryRun: [] }
  return authorize(set, facts)
}

/** Whether a rule matches: it is told apart by an ALLOW and by a DENY of it alone, which have to agree. */
export function matches(rule: Json, facts: RequestFacts, more: PolicyText = {}): boolean {
  const [allow, deny] = ['ALLOW', 'DENY'].map(action =>
    decide([policy({ action, rules: [rule] }, more)], facts)
  )
  if (allow?.allowed === deny?.allowed) throw new Error('ALLOW and DENY disagree on whether the rule matches')
  return allow?.allowed === true
}
