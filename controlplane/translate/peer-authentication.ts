/**
 * PeerAuthentications as DENY authorizations: ztunnel knows no mutual TLS modes, only policies. The effective
 * mode of a workload is that of its own policy, else its namespace's, else the mesh's; the oldest wins among
 * equals. DISABLE counts as PERMISSIVE, because the tunnel is never left out.
 * Source: Istio's published PeerAuthentication reference and `architecture/ambient/peer-authentication.md`.
 */
import type { ClusterView } from '../cluster/cluster.ts'
import { byAge, type Labels, type PeerAuthenticationObject, type TlsMode } from '../cluster/objects.ts'
import type { AuthorizationMessage, MatchMessage, RuleMessage } from './messages.ts'
import { policySelector } from './policy.ts'
import { selects } from './selector.ts'

/** `_` cannot be in a Kubernetes name, so no user's policy has this name. */
export const staticStrictName = 'istio_converted_static_strict'

const unauthenticated: MatchMessage = { notPrincipals: [{ presence: {} }] }

/** Refuses whatever comes without a peer identity; sent while there is any PeerAuthentication. */
export function staticStrict(rootNamespace: string): AuthorizationMessage {
  return {
    name: staticStrictName,
    namespace: rootNamespace,
    scope: 'WORKLOAD_SELECTOR',
    action: 'DENY',
    rules: [{ clauses: [{ matches: [unauthenticated] }] }]
  }
}

export function convertedName(policy: PeerAuthenticationObject): string {
  return `converted_peer_authentication_${policy.meta.name}`
}

/** Names of the policies that give a workload its effective mode. */
export function peerAuthenticationPolicies(
  view: ClusterView,
  namespace: string,
  labels: Labels
): readonly string[] {
  const own = effectivePolicy(view, namespace, labels)
  const { strict, rules } = convert(own?.mode ?? 'UNSET', own?.ports ?? [], parentMode(view, namespace))
  if (own !== undefined && rules.length > 0) return [`${namespace}/${convertedName(own)}`]
  return strict ? [`${view.settings.rootNamespace}/${staticStrictName}`] : []
}

/** The authorization for a policy's ports; undefined when its ports change nothing. */
export function translatePeerAuthentication(
  view: ClusterView,
  policy: PeerAuthenticationObject
): AuthorizationMessage | undefined {
  const { namespace } = policy.meta
  if (!isWorkloadPolicy(view, policy)) return undefined
  const { rules } = convert(policy.mode, policy.ports, parentMode(view, namespace))
  if (rules.length === 0) return undefined
  return { name: convertedName(policy), namespace, scope: 'WORKLOAD_SELECTOR', action: 'DENY', rules }
}

function isWorkloadPolicy(view: ClusterView, policy: PeerAuthenticationObject): boolean {
  return policySelector(policy) !== undefined && policy.meta.namespace !== view.settings.rootNamespace
}

function effectivePolicy(
  view: ClusterView,
  namespace: string,
  labels: Labels
): PeerAuthenticationObject | undefined {
  return oldest(
    [...view.inNamespace('PeerAuthentication', namespace)].filter(
      policy => isWorkloadPolicy(view, policy) && selects(policy.selector ?? {}, labels)
    )
  )
}

/** What a workload's policy inherits when it says UNSET. */
export function parentMode(view: ClusterView, namespace: string): TlsMode {
  const { rootNamespace } = view.settings
  const own = namespace === rootNamespace ? undefined : withoutSelector(view, namespace)
  const mode = own?.mode ?? 'UNSET'
  return mode === 'UNSET' ? (withoutSelector(view, rootNamespace)?.mode ?? 'UNSET') : mode
}

function withoutSelector(view: ClusterView, namespace: string): PeerAuthenticationObject | undefined {
  return oldest(
    [...view.inNamespace('PeerAuthentication', namespace)].filter(
      policy => policySelector(policy) === undefined
    )
  )
}

function oldest(policies: readonly PeerAuthenticationObject[]): PeerAuthenticationObject | undefined {
  return policies.length < 2 ? policies[0] : policies.toSorted(byAge)[0]
}

/**
 * With a STRICT parent: one rule that refuses what has no identity on every port but the exempt ones.
 * With a PERMISSIVE one: a rule for each STRICT port. No rules when the ports say what the parent says.
 */
function convert(
  mode: TlsMode,
  ports: PeerAuthenticationObject['ports'],
  parent: TlsMode
): { readonly strict: boolean; readonly rules: readonly RuleMessage[] } {
  const strict = (mode === 'UNSET' ? parent : mode) === 'STRICT'
  const sorted = ports.toSorted((a, b) => a.port - b.port)
  if (strict) {
    const exempt = sorted.filter(({ mode }) => mode === 'PERMISSIVE' || mode === 'DISABLE')
    if (exempt.length === 0) return { strict, rules: [] }
    const clauses = exempt.map(({ port }) => ({ matches: [{ notDestinationPorts: [port] }] }))
    return { strict, rules: [{ clauses: [{ matches: [unauthenticated] }, ...clauses] }] }
  }
  const closed = sorted.filter(({ mode }) => mode === 'STRICT')
  const rules = closed.map(({ port }) => ({
    clauses: [{ matches: [{ ...unauthenticated, destinationPorts: [port] }] }]
  }))
  return { strict, rules }
}
