/**
 * DestinationRules for waypoints: the spec as it is written, with the whole hostname; and the labels of workloads that
 * they ask for. A waypoint heeds the rules of its own namespace, of the service's, and of the root namespace, as far as
 * they are exported to it. Source: Istio's published `host` and `exportTo`.
 */
import { isDeepStrictEqual } from 'node:util'
import { covers, hostOfRule, hostsOf, type ClusterView, type HostOwner } from '../cluster/cluster.ts'
import type { DestinationRuleObject, Labels } from '../cluster/objects.ts'
import { hostOwner } from './hostname.ts'
import type { ConfigMessage, Recipient } from './messages.ts'
import { recipientOf } from './recipient.ts'
import { furtherRecipients } from './service-recipients.ts'
import { waypointsOf } from './waypoint.ts'

/** A hostname, and who declares it. */
interface ServiceOfRule {
  readonly owner: HostOwner
  readonly hostname: string
}

/** Undefined when no waypoint carries it out. */
export function translateDestinationRule(
  view: ClusterView,
  rule: DestinationRuleObject
): ConfigMessage | undefined {
  const waypoints = [...servicesOfRule(view, rule)].flatMap(service => carriers(view, rule, service))
  const { spec, meta } = rule
  if (spec === undefined || waypoints.length === 0) return undefined
  const { namespace, name, createdMs } = meta
  const host = hostOfRule(rule, view.settings.domain)
  return {
    kind: 'DestinationRule',
    message: { namespace, name, createdMs, spec: { ...spec, host } },
    waypoints
  }
}

function* servicesOfRule(view: ClusterView, rule: DestinationRuleObject): Generator<ServiceOfRule> {
  const { domain } = view.settings
  const host = hostOfRule(rule, domain)
  if (!host.startsWith('*')) {
    for (const owner of view.hostOwners(host)) yield { owner, hostname: host }
    return
  }
  for (const kind of ['Service', 'ServiceEntry'] as const) {
    for (const owner of view.all(kind)) {
      for (const hostname of hostsOf(owner, domain)) if (covers(host, hostname)) yield { owner, hostname }
    }
  }
}

/** Those labels of a workload that the rules for its services ask for, in the order of their keys. */
export function askedLabels(
  view: ClusterView,
  labels: Labels,
  services: readonly ServiceOfRule[]
): readonly (readonly [key: string, value: string])[] {
  const asked = new Map<string, string>()
  for (const service of services) {
    for (const rule of view.rulesFor(service.hostname)) {
      const found = rule.labelKeys.filter(key => Object.hasOwn(labels, key))
      // Where no waypoint carries the rule out, nobody would look at them.
      if (found.length === 0 || carriers(view, rule, service).length === 0) continue
      for (const key of found) asked.set(key, labels[key] ?? '')
    }
  }
  return [...asked].toSorted(([a], [b]) => (a < b ? -1 : 1))
}

/** Waypoints and gateways that know the service and see the rule. */
function carriers(
  view: ClusterView,
  rule: DestinationRuleObject,
  { owner, hostname }: ServiceOfRule
): readonly Recipient[] {
  const { namespace } = owner.meta
  // Rules for the workloads of a selector are for sidecars.
  if (rule.spec === undefined || !view.discovers(rule.meta.namespace)) return []
  const knowing = [...waypointsOf(view, owner.meta), ...furtherRecipients(view, owner, hostname)]
  if (knowing.length === 0 || hostOwner(view, namespace, hostname) !== owner) return []
  const audience = audienceOf(view, rule, namespace)
  if (audience === 'all') return knowing
  const among = audience.flatMap(namespace =>
    [...view.inNamespace('Gateway', namespace)].flatMap(gateway => recipientOf(view, gateway) ?? [])
  )
  return knowing.filter(address => among.some(each => isDeepStrictEqual(each, address)))
}

/** Namespaces whose waypoints heed a rule for a service of the given one. */
function audienceOf(
  { settings }: ClusterView,
  { exportTo, meta: { namespace } }: DestinationRuleObject,
  serviceNamespace: string
): 'all' | readonly string[] {
  const seeing = (exportTo.length > 0 ? exportTo : settings.ruleExportTo).map(name =>
    name === '.' ? namespace : name
  )
  const isPublic = seeing.includes('*')
  if (namespace === serviceNamespace || namespace === settings.rootNamespace) {
    return isPublic ? 'all' : seeing
  }
  return isPublic || seeing.includes(namespace) ? [namespace] : []
}
