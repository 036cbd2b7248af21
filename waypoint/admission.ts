/**
 * Who may ask what: authorizers first, then tokens, then policies, before any route is looked at, so that a refusal
 * tells nothing of routes. Source: the order of Istio's waypoints (CUSTOM, JWT authentication, then AUDIT, DENY and
 * ALLOW).
 */
import type { Service } from '../shared/mesh/model.ts'
import { askWhom, authorize, noPolicies, type Asking, type PolicySet } from './authorization/evaluate.ts'
import type { RequestFacts } from './authorization/facts.ts'
import { ask, type Asked } from './external-authorization/ask.ts'
import { changeRequest, changeResponse } from './external-authorization/changes.ts'
import { withEditedAnswer } from './http/edited-answer.ts'
import type { Exchange, RequestHead } from './http/exchange.ts'
import { pathOf } from './http/target.ts'
import { authenticate, type AuthResult } from './jwt/authenticate.ts'
import type { Claims } from './jwt/claims.ts'
import type { JwtRule } from './jwt/jwt-rule.ts'
import { applyChanges } from './jwt/request-changes.ts'
import type { LocalReply } from './local-reply.ts'
import type { Arrival, Waypoint } from './waypoint.ts'

export type Admission =
  | {
      readonly kind: 'admitted'
      /** As it is passed on. */
      readonly target: string
      /** With what an authorizer adds to the answer. */
      readonly exchange: Exchange
      /** Of its token, where one was asked for. */
      readonly claims: Claims | undefined
    }
  | { readonly kind: 'refused'; readonly reply: LocalReply }
  /** The client, while somebody was asked. */
  | { readonly kind: 'gone' }

/** At once, unless somebody is to be asked. Changes the headers of the request as authorizers and rules for tokens say. */
export function admit(
  waypoint: Waypoint,
  arrival: Arrival,
  exchange: Exchange,
  target: string
): Admission | Promise<Admission> {
  const { head } = exchange
  const policies = policiesOf(waypoint, arrival)
  const tokenRules = waypoint.jwtPolicies.rulesFor(serviceOf(arrival))
  if (policies === noPolicies && tokenRules.length === 0)
    return { kind: 'admitted', target, exchange, claims: undefined }
  const facts = requestFacts(arrival, head, target)
  const asking = askWhom(policies, facts, waypoint.settings.current.providers)
  if (asking === undefined)
    return admitByToken(waypoint, arrival, exchange, { target, policies, tokenRules, facts })
  if (asking.kind === 'refused') return denied(asking.policyId)

  const gone = new AbortController()
  exchange.onGone(reason => gone.abort(reason))
  const asked = askAuthorizer(waypoint, arrival, asking, { head: { ...head, target }, signal: gone.signal })
  if (asking.dryRun) return admitByToken(waypoint, arrival, exchange, { target, policies, tokenRules, facts })
  return asked.then(answer => {
    if (gone.signal.aborted) return { kind: 'gone' }
    if (answer.kind === 'refused') return { kind: 'refused', reply: answer.reply }
    const { changes } = answer
    const changed = changeRequest(changes, head.headers, target)
    const edited =
      changes.response.length === 0
        ? exchange
        : withEditedAnswer(exchange, headers => changeResponse(changes, headers))
    const changedFacts = requestFacts(arrival, head, changed)
    return admitByToken(waypoint, arrival, edited, {
      target: changed,
      policies,
      tokenRules,
      facts: changedFacts
    })
  })
}

interface Admitting {
  readonly target: string
  readonly policies: PolicySet
  readonly tokenRules: readonly JwtRule[]
  /** Without what a token tells. */
  readonly facts: RequestFacts
}

function admitByToken(
  waypoint: Waypoint,
  arrival: Arrival,
  exchange: Exchange,
  { target, policies, tokenRules, facts }: Admitting
): Admission | Promise<Admission> {
  const { head } = exchange
  const decide = (found: AuthResult | undefined): Admission => {
    if (found?.kind === 'refused') return found
    const kept = found === undefined ? target : applyChanges(found.changes, head.headers, target)
    const claims = found?.kind === 'valid' ? found.claims : undefined
    const verdict = authorize(
      policies,
      found === undefined ? facts : requestFacts(arrival, head, kept, claims)
    )
    for (const policy of verdict.audit) {
      const fields = { policy, 'src.identity': arrival.peer, authority: arrival.authority, path: kept }
      waypoint.log.info('audit', fields)
    }
    for (const { action, result, policyId } of verdict.dryRun) {
      waypoint.log.debug('dry run', { action, result, policy: policyId, 'src.identity': arrival.peer })
    }
    return verdict.allowed ? { kind: 'admitted', target: kept, exchange, claims } : denied(verdict.policyId)
  }
  if (tokenRules.length === 0) return decide(undefined)
  const found = authenticate(tokenRules, { ...head, target }, waypoint.keys, Date.now())
  return found instanceof Promise ? found.then(decide) : decide(found)
}

/** Undefined: it may pass. Of a connection that is carried as it is only its ends are known. */
export async function refusalOfConnection(waypoint: Waypoint, arrival: Arrival): Promise<string | undefined> {
  const facts = connectionFacts(arrival)
  const policies = policiesOf(waypoint, arrival)
  const asking = askWhom(policies, facts, waypoint.settings.current.providers)
  if (asking?.kind === 'refused') return deniedBy(asking.policyId)
  if (asking !== undefined) {
    const asked = askAuthorizer(waypoint, arrival, asking, { head: undefined, signal: waypoint.ending })
    const answer = asking.dryRun ? undefined : await asked
    if (answer?.kind === 'refused') return answer.reply.details
  }
  const verdict = authorize(policies, facts)
  return verdict.allowed ? undefined : deniedBy(verdict.policyId)
}

interface AskedAbout {
  /** In the form in which it is forwarded; undefined for a connection. */
  readonly head: RequestHead | undefined
  readonly signal: AbortSignal
}

async function askAuthorizer(
  { authorizers, log }: Waypoint,
  { peer, client, destination, addressed }: Arrival,
  { provider, policyId, dryRun }: Extract<Asking, { kind: 'ask' }>,
  { head, signal }: AskedAbout
): Promise<Asked> {
  const address = addressed.kind === 'address' ? addressed.address.ip : addressed.hostname
  const subject = {
    ...{ peer, client, destination: { address, port: destination.port } },
    ...{ receivedMs: Date.now(), http: head }
  }
  const answer = await ask(provider, subject, authorizers, signal)
  const fields = { provider: provider.name, policy: policyId, 'src.identity': peer }
  if (answer.failure !== undefined && !signal.aborted) {
    log.warn('an authorizer could not be asked', { ...fields, result: answer.kind, error: answer.failure })
  } else if (dryRun) log.debug('dry run', { action: 'CUSTOM', result: answer.kind, ...fields })
  return answer
}

function denied(policyId: string): Admission {
  const reply = { status: 403, body: 'RBAC: access denied', flag: '-', details: deniedBy(policyId) }
  return { kind: 'refused', reply }
}

function deniedBy(policyId: string): string {
  return `rbac_access_denied_matched_policy[${policyId}]`
}

function serviceOf({ destination }: Arrival): Service | undefined {
  return destination.kind === 'service' ? destination.service : undefined
}

function policiesOf(waypoint: Waypoint, arrival: Arrival): PolicySet {
  return waypoint.policies.policiesFor(serviceOf(arrival))
}

/** `target`: path and query in their form. */
export function requestFacts(
  arrival: Arrival,
  { method, authority, headers }: RequestHead,
  target: string,
  claims?: Claims
): RequestFacts {
  return {
    ...connectionFacts(arrival),
    http: { method, path: pathOf(target), authority, headers, claims }
  }
}

function connectionFacts({ peer, client, destination, addressed }: Arrival): RequestFacts {
  const ip = addressed.kind === 'address' ? addressed.address.ip : undefined
  const { port } = destination
  const serverName = destination.kind === 'workload' ? undefined : destination.serverName
  const sni = serverName === '' ? undefined : serverName
  return { peer, clientIp: client.ip, destination: { ip, port }, sni }
}
