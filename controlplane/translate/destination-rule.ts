/**
 * DestinationRules for waypoints: the spec as it is written, with the whole hostname; and the labels of workloads that
 * they ask for. A waypoint heeds the rules of its own namespace, of the service's, and of the root namespace, as far as
 * they are exported to it. Source: Istio's published `host` and `exportTo`.
 */
import { isDeepStrictEqual } from 'node:util'
import { hostOfRule, type ClusterView } from '../cluster/cluster.ts'
import type { DestinationRuleObject, Labels } from '../cluster/objects.ts'
import { hostOwner, servicesUnder, type HostedService } from './hostname.ts'
import type { ConfigMessage, Recipient } from './messages.ts'
import { recipientOf } from './recipient.ts'
import { furtherRecipients } from './service-recipients.ts'
import { waypointsOf } from './waypoint.ts'

/** Undefined when no waypoint carries it out. */
export function translateDestinationRule(
  view: ClusterView,
  rule: DestinationRuleObject
): ConfigMessage | undefined {
  const host = hostOfRule(rule, view.settings.domain)
  const waypoints = [...servicesUnder(view, host)].flatMap(service => carriers(view, rule, service))
  const { spec, meta } = rule
  if (spec === undefined || waypoints.length === 0) return undefined
  const { namespace, name, createdMs } = meta
  return {
    kind: 'DestinationRule',
    message: { namespace, name, createdMs, spec: { ...spec, host } },
    waypoints
  }
}

/** Those labels of a workload that the rules for its services ask for, in the order of their keys. */
export function askedLabels(
  view: ClusterView,
  labels: Labels,
  services: readonly HostedService[]
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
  { owner, hostname }: HostedService
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
