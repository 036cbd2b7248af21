/**
 * A route as waypoints and gateways are told it: its parents and backends explicit and checked, what cannot be reached marked, so
 * that its share of requests fails instead of going elsewhere. Everything else is as its author wrote it.
 */
import { backendsOf, hostsOf, routeTarget, type ClusterView, type HostOwner } from '../cluster/cluster.ts'
import {
  keyOf,
  type BackendReference,
  type JsonObject,
  type RouteFilter,
  type RouteObject,
  type RouteRule
} from '../cluster/objects.ts'
import { resolveBackend } from './backend-ref.ts'
import { gatewayRole } from './gateway-class.ts'
import type { ConfigMessage, Recipient } from './messages.ts'
import type { AttachedListener } from './route-listeners.ts'
import { attachParent, routeRecipients, type Attachment } from './route-parents.ts'
import { supportedRule } from './route-support.ts'

/** Undefined when it applies to nothing. */
export function translateRoute(view: ClusterView, route: RouteObject): ConfigMessage | undefined {
  const attachments = route.parents.map(reference => attachParent(view, route, reference))
  const parentRefs = [...servicesOf(view, attachments), ...gatewaysOf(view, attachments)]
  if (parentRefs.length === 0) return undefined
  const { namespace, name, createdMs } = route.meta
  const rules = route.rules.flatMap(rule => ruleOf(view, route, rule))
  return {
    kind: route.kind,
    message: { namespace, name, createdMs, spec: { parentRefs, rules } },
    waypoints: routeRecipients(view, route)
  }
}

function servicesOf(view: ClusterView, attachments: readonly Attachment[]): readonly JsonObject[] {
  return attachments.flatMap(attachment => {
    if (attachment.kind !== 'attached') return []
    const { owner, port } = attachment
    const { group, kind, namespace, name } = attachment.reference
    return hostsOf(owner, view.settings.domain).map(hostname => ({
      group,
      kind,
      namespace,
      name,
      ...(port === undefined ? {} : { port }),
      hostname
    }))
  })
}

/** Each Gateway of ours once, with all of its listeners that some reference to it means. */
function gatewaysOf(view: ClusterView, attachments: readonly Attachment[]): readonly JsonObject[] {
  const parents = new Map<string, { readonly parent: JsonObject; readonly listeners: AttachedListener[] }>()
  for (const attachment of attachments) {
    if (attachment.kind !== 'at-gateway' || gatewayRole(view, attachment.gateway) !== 'gateway') continue
    const { gateway, reference, listeners } = attachment
    const { group, kind, namespace, name } = reference
    const known = parents.get(keyOf(gateway.meta))?.listeners ?? []
    const news = listeners.filter(listener => !known.some(each => each.name === listener.name))
    parents.set(keyOf(gateway.meta), {
      parent: { group, kind, namespace, name },
      listeners: [...known, ...news]
    })
  }
  return [...parents.values()].map(({ parent, listeners }) => ({ ...parent, listeners }))
}

/** Waypoints and gateways that need this service, though it is not theirs: their routes lead to it. */
export function routedRecipients(
  view: ClusterView,
  owner: HostOwner,
  hostname: string
): readonly Recipient[] {
  const leadsHere = (route: RouteObject, reference: BackendReference): boolean => {
    const found = resolveBackend(view, route, reference)
    return (
      found.kind === 'resolved' && found.hostname === hostname && found.namespace === owner.meta.namespace
    )
  }
  const { kind, meta } = owner
  const targets = [
    routeTarget({ kind, ...meta }),
    routeTarget({ kind: 'Hostname', namespace: '', name: hostname })
  ]
  return targets.flatMap(target =>
    [...view.routesNaming(target)]
      .filter(route =>
        [...backendsOf(route)].some(each => routeTarget(each) === target && leadsHere(route, each))
      )
      .flatMap(route => routeRecipients(view, route))
  )
}

/** None when it matches nothing any more. */
function ruleOf(view: ClusterView, route: RouteObject, rule: RouteRule): readonly JsonObject[] {
  const { fields } = supportedRule(route.kind, rule)
  if (fields === undefined) return []
  const filters = filtersOf(view, route, rule.filters)
  const backendRefs = rule.backends.map(({ reference, weight, filters }) => ({
    ...backendOf(view, route, reference, weight),
    ...filtersOf(view, route, filters)
  }))
  return [{ ...fields, ...filters, ...(backendRefs.length === 0 ? {} : { backendRefs }) }]
}

function filtersOf(view: ClusterView, route: RouteObject, filters: readonly RouteFilter[]): JsonObject {
  if (filters.length === 0) return {}
  return {
    filters: filters.map(({ fields, backend }) => {
      if (backend === undefined) return fields
      const { holder, reference } = backend
      const settings = fields[holder] as JsonObject
      return { ...fields, [holder]: { ...settings, backendRef: backendOf(view, route, reference, 1) } }
    })
  }
}

function backendOf(
  view: ClusterView,
  route: RouteObject,
  reference: BackendReference,
  weight: number
): JsonObject {
  const found = resolveBackend(view, route, reference)
  if (found.kind === 'unresolved') return { weight, unresolved: found.reason }
  const { group, kind, name, port } = reference
  const { namespace, hostname } = found
  return { group, kind, namespace, name, port, weight, hostname }
}
