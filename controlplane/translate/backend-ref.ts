/**
 * Whether a route may send requests where it wants to. Source: Gateway API v1 (`BackendObjectReference`,
 * `ReferenceGrant`); Istio's published kind `Hostname`.
 */
import type { ClusterView, HostOwner } from '../cluster/cluster.ts'
import type { BackendReference, ParentReference, RouteObject } from '../cluster/objects.ts'
import { canonicalOwner, hostOwner } from './hostname.ts'
import { isGranted } from './reference-grant.ts'

export type BackendResolution =
  | { readonly kind: 'resolved'; readonly hostname: string; readonly namespace: string }
  | {
      readonly kind: 'unresolved'
      readonly reason: 'RefNotPermitted' | 'InvalidKind' | 'BackendNotFound'
      /** With the field. */
      readonly message: string
    }

export function resolveBackend(
  view: ClusterView,
  route: Pick<RouteObject, 'kind' | 'meta' | 'parents'>,
  reference: BackendReference
): BackendResolution {
  const { field, group, kind, namespace, name } = reference
  const key = `${namespace}/${name}`
  if (group === '' && kind === 'Service') {
    // Without leave not even its existence is told.
    if (!permitted(view, route, namespace, name)) return notPermitted(route, field, key)
    const service = view.get('Service', key)
    if (service === undefined || !view.discovers(namespace)) {
      return unresolved('BackendNotFound', field, `Service ${key} was not found`)
    }
    if (service.external) {
      const message = `Service ${key} is an ExternalName; declare a ServiceEntry and name its host by kind Hostname`
      return unresolved('BackendNotFound', field, message)
    }
    return withPort(reference, service, `${name}.${namespace}.svc.${view.settings.domain}`)
  }
  if (group === 'networking.istio.io' && kind === 'Hostname') {
    const owner = hostOwner(view, route.meta.namespace, name) ?? canonicalOwner(view, name)
    if (owner === undefined) return unresolved('BackendNotFound', field, `nothing declares host ${name}`)
    const { meta } = owner
    // By another name it is the same Service. A ServiceEntry that is visible here was meant to be used.
    if (owner.kind === 'Service' && !permitted(view, route, meta.namespace, meta.name)) {
      return notPermitted(route, field, `${meta.namespace}/${meta.name}`)
    }
    return withPort(reference, owner, name)
  }
  const shown = group === '' ? kind : `${group}/${kind}`
  return unresolved(
    'InvalidKind',
    field,
    `kind ${shown} is not supported; use Service, or Hostname of networking.istio.io`
  )
}

function withPort({ field, port }: BackendReference, owner: HostOwner, hostname: string): BackendResolution {
  if (owner.ports.some(each => each.port === port)) {
    return { kind: 'resolved', hostname, namespace: owner.meta.namespace }
  }
  const ports = owner.ports.map(({ port }) => port).join(', ')
  const wanted = port === undefined ? 'a port is missing' : `${hostname} has no TCP port ${port}`
  return unresolved('BackendNotFound', field, `${wanted}; it has ${ports === '' ? 'none' : ports}`)
}

function permitted(
  view: ClusterView,
  { kind, meta, parents }: Pick<RouteObject, 'kind' | 'meta' | 'parents'>,
  namespace: string,
  name: string
): boolean {
  if (namespace === meta.namespace) return true
  // A consumer's route may leave its clients where they wanted to go anyway; those of another parent it may not lead there.
  const isThis = (each: ParentReference): boolean =>
    each.kind === 'Service' && each.namespace === namespace && each.name === name
  if (parents.every(isThis)) return true
  return isGranted(view, { kind, namespace: meta.namespace }, { kind: 'Service', namespace, name })
}

function notPermitted(
  { kind, meta }: Pick<RouteObject, 'kind' | 'meta'>,
  field: string,
  key: string
): BackendResolution {
  const message = `Service ${key} is of another namespace, where no ReferenceGrant admits ${kind}s of ${meta.namespace}`
  return unresolved('RefNotPermitted', field, message)
}

function unresolved(
  reason: Extract<BackendResolution, { kind: 'unresolved' }>['reason'],
  field: string,
  message: string
): BackendResolution {
  return { kind: 'unresolved', reason, message: `${field}: ${message}` }
}
