/**
 * The traffic policy for a service with the TLS that its pods speak: that of a BackendTLSPolicy before that of a
 * DestinationRule, whose other parts stay in force. Source: Istio makes a BackendTLSPolicy a rule that is older than all others.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Service } from '../../shared/mesh/model.ts'
import type { DestinationRuleStore } from '../destination-rules/destination-rule-store.ts'
import {
  serverNameOf,
  usualPolicy,
  type BackendTls,
  type ClientCertificate,
  type TrafficPolicy
} from '../traffic-policy.ts'
import type { BackendTlsPolicies } from './backend-tls-policies.ts'
import type { BackendTlsPolicy } from './backend-tls-policy.ts'

export class PoliciesInForce {
  readonly #rules: Pick<DestinationRuleStore, 'policyFor'>
  readonly #tls: Pick<BackendTlsPolicies, 'policyFor'>
  readonly #ownCertificate: () => ClientCertificate | undefined
  /** What a policy became, under its BackendTLSPolicy or for the names of its service. */
  readonly #overridden = new WeakMap<TrafficPolicy, WeakMap<BackendTlsPolicy, TrafficPolicy>>()
  readonly #named = new WeakMap<TrafficPolicy, { readonly names: readonly string[]; made: TrafficPolicy }>()
  /** And with our certificate. */
  readonly #showing = new WeakMap<
    TrafficPolicy,
    { readonly certificate: ClientCertificate; made: TrafficPolicy }
  >()

  /** `ownCertificate`: to show to servers that ask for one; the same object for as long as it is the same. */
  constructor(
    rules: Pick<DestinationRuleStore, 'policyFor'>,
    backendTls: Pick<BackendTlsPolicies, 'policyFor'>,
    ownCertificate: () => ClientCertificate | undefined
  ) {
    this.#ownCertificate = ownCertificate
    this.#rules = rules
    this.#tls = backendTls
  }

  /** The same object as long as what it was made of is the same. Undefined: nobody said anything. */
  policyFor(service: Service, port: number, subset: string | undefined): TrafficPolicy | undefined {
    const policy = this.#verifying(service, port, subset)
    const certificate = policy?.tls === undefined ? undefined : this.#ownCertificate()
    if (policy?.tls === undefined || certificate === undefined) return policy
    const known = this.#showing.get(policy)
    if (known?.certificate === certificate) return known.made
    const made = { ...policy, tls: { ...policy.tls, certificate } }
    this.#showing.set(policy, { certificate, made })
    return made
  }

  #verifying(service: Service, port: number, subset: string | undefined): TrafficPolicy | undefined {
    const rule = this.#rules.policyFor(service, port, subset)
    const own = this.#tls.policyFor(service, port)
    if (own !== undefined) return this.#under(own, rule ?? usualPolicy)
    return rule?.tls === undefined ? rule : this.#withNames(rule, rule.tls, service)
  }

  #under(own: BackendTlsPolicy, policy: TrafficPolicy): TrafficPolicy {
    let made = this.#overridden.get(policy)
    if (made === undefined) this.#overridden.set(policy, (made = new WeakMap()))
    let known = made.get(own)
    if (known === undefined) made.set(own, (known = overridden(policy, own)))
    return known
  }

  /** A policy is of one service only, whose names may change. */
  #withNames(policy: TrafficPolicy, tls: BackendTls, service: Service): TrafficPolicy {
    const { hostname, subjectAltNames } = service
    const known = this.#named.get(policy)
    if (known !== undefined && isDeepStrictEqual(known.names, subjectAltNames)) return known.made
    const serverName = tls.serverName === '' ? hostname : tls.serverName
    const names = tls.names.length > 0 ? tls.names : subjectAltNames.map(serverNameOf)
    const made = { ...policy, tls: { ...tls, serverName, names } }
    this.#named.set(policy, { names: subjectAltNames, made })
    return made
  }
}

function overridden(policy: TrafficPolicy, { asks, name }: BackendTlsPolicy): TrafficPolicy {
  if (!('unresolved' in asks)) return { ...policy, tls: asks }
  const unsupported = [policy.unsupported, `BackendTLSPolicy ${name}: ${asks.unresolved}`]
  return { ...policy, unsupported: unsupported.filter(text => text !== undefined).join('; ') }
}
