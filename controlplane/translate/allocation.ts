/** Which hosts of a ServiceEntry get addresses from the mesh. Source: Istio's published address allocation. */
import type { Labels, ServiceEntryObject } from '../cluster/objects.ts'

export function optsOutOfAllocation(labels: Labels): boolean {
  return labels['networking.istio.io/enable-autoallocate-ip']?.toLowerCase() === 'false'
}

/** Hosts that need an address of their own: the entry has none, and its hosts are resolved by the mesh. */
export function hostsToAllocate(entry: ServiceEntryObject): readonly string[] {
  if (entry.addresses.length > 0 || entry.resolution === 'NONE' || optsOutOfAllocation(entry.meta.labels)) {
    return []
  }
  // A wildcard stands for many names; only names that are resolved one by one can share an address.
  return [...new Set(entry.hosts)].filter(host => !host.startsWith('*') || entry.resolution === 'DYNAMIC_DNS')
}
