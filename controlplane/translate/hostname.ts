/**
 * Who may speak for a hostname: in each namespace one Service or ServiceEntry, and over all namespaces one
 * of these is the canonical one, which clients of other namespaces get.
 */
import { covers, hostsOf, type ClusterView, type HostOwner } from '../cluster/cluster.ts'
import { byAge, type ServiceEntryObject } from '../cluster/objects.ts'
import type { Visibility } from '../cluster/settings.ts'
import { matches } from '../../shared/kube/label-selector.ts'

/** A hostname, and who declares it. */
export interface HostedService {
  readonly owner: HostOwner
  readonly hostname: string
}

/** All that declare the hostname, or one under it where it is a wildcard. */
export function* servicesUnder(view: ClusterView, host: string): Generator<HostedService> {
  if (!host.startsWith('*')) {
    for (const owner of view.hostOwners(host)) yield { owner, hostname: host }
    return
  }
  for (const kind of ['Service', 'ServiceEntry'] as const) {
    for (const owner of view.all(kind)) {
      for (const hostname of hostsOf(owner, view.settings.domain)) {
        if (covers(host, hostname)) yield { owner, hostname }
      }
    }
  }
}

/** In one namespace: the Service, else the oldest ServiceEntry that is visible at all. */
export function hostOwner(view: ClusterView, namespace: string, hostname: string): HostOwner | undefined {
  return best(
    [...view.hostOwners(hostname)].filter(owner => owner.meta.namespace === namespace && sent(view, owner))
  )
}

/** The owner that clients of every namespace get; a Service always, a ServiceEntry unless it is for its own namespace only. */
export function canonicalOwner(view: ClusterView, hostname: string): HostOwner | undefined {
  return best(
    [...view.hostOwners(hostname)].filter(
      owner => sent(view, owner) && (owner.kind === 'Service' || visibility(view, owner) === 'PUBLIC')
    )
  )
}

/** As the mesh configuration decides for the namespace of the ServiceEntry. */
export function visibility(view: ClusterView, entry: ServiceEntryObject): Visibility {
  const labels = view.get('Namespace', entry.meta.namespace)?.meta.labels ?? {}
  const rule = view.settings.serviceEntryVisibility.find(({ selector }) => matches(selector, labels))
  return rule?.visibility ?? 'PUBLIC'
}

function sent(view: ClusterView, owner: HostOwner): boolean {
  if (!view.discovers(owner.meta.namespace)) return false
  return owner.kind === 'Service' || visibility(view, owner) !== 'NONE'
}

function best(owners: readonly HostOwner[]): HostOwner | undefined {
  return owners.find(owner => owner.kind === 'Service') ?? owners.toSorted(byAge)[0]
}
