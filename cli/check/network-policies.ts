/** Which network policies keep the mesh from enrolled pods. Source: Kubernetes, NetworkPolicy. */
import { matches } from '../../shared/kube/label-selector.ts'
import { cidrContains, ip, parseCidr } from '../../shared/net/address.ts'
import type { Pod } from '../../shared/kube/core-api.ts'
import type { NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort } from '../../shared/kube/networking-api.ts'
import { finding, type Finding } from './findings.ts'

/** Where all traffic between enrolled pods comes. */
const hbonePort = 15008
/** The source of health checks on their way to enrolled pods. */
const probeSource = ip('169.254.7.127')

interface Rule {
  readonly ports: readonly NetworkPolicyPort[] | undefined
  readonly peers: readonly NetworkPolicyPeer[] | undefined
}

/** `pods` are enrolled; with Cilium, policies also decide about health checks. */
export function findBlockingPolicies(
  policies: readonly NetworkPolicy[],
  pods: readonly Pod[],
  { cilium }: { readonly cilium: boolean }
): readonly Finding[] {
  const found = pods.flatMap(pod => {
    const selecting = policies.filter(policy => selects(policy, pod))
    return [...ingressFindings(selecting, pod, cilium), ...egressFindings(selecting)]
  })
  // replicas of one workload have the same policies
  return [...new Map(found.map(one => [`${one.id} ${one.object}`, one])).values()]
}

function ingressFindings(selecting: readonly NetworkPolicy[], pod: Pod, cilium: boolean): Finding[] {
  const relevant = selecting.filter(isAbout('Ingress'))
  if (relevant.length === 0) return []
  const rules = relevant.flatMap(({ spec }) =>
    (spec?.ingress ?? []).map((rule): Rule => ({ ports: rule.ports, peers: rule.from }))
  )
  const object = namesOf(relevant)
  const found: Finding[] = []
  if (rules.length === 0) found.push(finding('UP0012', object, `nothing may reach ${workloadOf(pod)}`))
  else if (!rules.some(allowsHbone)) {
    found.push(finding('UP0011', object, `port ${hbonePort} of ${workloadOf(pod)} is closed`))
  }
  if (cilium && hasProbes(pod) && !rules.some(({ peers }) => allowsProbes(peers))) {
    found.push(finding('UP0014', object, `health checks of ${workloadOf(pod)} come from ${probeSource}`))
  }
  return found
}

function egressFindings(selecting: readonly NetworkPolicy[]): Finding[] {
  const relevant = selecting.filter(isAbout('Egress'))
  const rules = relevant.flatMap(({ spec }) =>
    (spec?.egress ?? []).map((rule): Rule => ({ ports: rule.ports, peers: rule.to }))
  )
  // what may only ask DNS is not meant to open connections
  const beyondDns = rules.filter(({ ports }) => ports === undefined || ports.some(({ port }) => port !== 53))
  if (beyondDns.length === 0 || beyondDns.some(allowsHbone)) return []
  return [finding('UP0013', namesOf(relevant), `connections to port ${hbonePort} are not let out`)]
}

function selects({ metadata, spec }: NetworkPolicy, pod: Pod): boolean {
  return (
    metadata.namespace === pod.metadata.namespace &&
    matches(spec?.podSelector ?? {}, pod.metadata.labels ?? {})
  )
}

/** Without policy types a policy is about ingress, and about egress if it has such rules. */
const isAbout =
  (direction: 'Ingress' | 'Egress') =>
  ({ spec }: NetworkPolicy): boolean =>
    spec?.policyTypes?.includes(direction) ?? (direction === 'Ingress' || spec?.egress !== undefined)

function allowsHbone({ ports }: Rule): boolean {
  if (ports === undefined || ports.length === 0) return true
  return ports.some(({ protocol = 'TCP', port, endPort }) => {
    if (protocol !== 'TCP') return false
    if (port === undefined) return true
    return typeof port === 'number' && port <= hbonePort && hbonePort <= (endPort ?? port)
  })
}

function allowsProbes(peers: readonly NetworkPolicyPeer[] | undefined): boolean {
  if (peers === undefined || peers.length === 0) return true
  return peers.some(({ ipBlock }) => {
    const block = parseCidr(ipBlock?.cidr ?? '')
    if (block === undefined || !cidrContains(block, probeSource)) return false
    return !(ipBlock?.except ?? []).some(text => {
      const except = parseCidr(text)
      return except !== undefined && cidrContains(except, probeSource)
    })
  })
}

function hasProbes({ spec }: Pod): boolean {
  return (spec?.containers ?? []).some(container =>
    ['readinessProbe', 'livenessProbe', 'startupProbe'].some(probe => probe in container)
  )
}

function namesOf(policies: readonly NetworkPolicy[]): string {
  const [first] = policies
  const names = policies.map(({ metadata }) => metadata.name).toSorted()
  return `networkpolicy ${first?.metadata.namespace}/${names.join(',')}`
}

/** Replicas have one name, so that one finding covers them. */
function workloadOf({ metadata }: Pod): string {
  const owner = metadata.ownerReferences?.find(({ controller }) => controller === true)
  return owner === undefined ? `pod ${metadata.name}` : `the pods of ${owner.kind} ${owner.name}`
}
