/** What the operator decided about the mesh as a whole; changes of the mesh configuration make a new value. */
import type { LabelSelector } from '../../shared/kube/object.ts'

export type Visibility = 'PUBLIC' | 'NAMESPACE' | 'NONE'

export const pathNormalizations = [
  'DEFAULT',
  'NONE',
  'BASE',
  'MERGE_SLASHES',
  'DECODE_AND_MERGE_SLASHES'
] as const

export interface WaypointSettings {
  /** Other names of the trust domain, which policies may use. */
  readonly trustDomainAliases: readonly string[]
  readonly pathNormalization: (typeof pathNormalizations)[number]
  /** As they are written: whoever uses one says what is wrong with it. */
  readonly extensionProviders: readonly Readonly<Record<string, unknown>>[]
  /** Where requests are logged; absent: as each waypoint's environment has it. */
  readonly accessLogFile?: string
  readonly accessLogEncoding?: 'JSON'
  /** Of them, who gets the traces of services for which nothing is said. */
  readonly defaultProviders?: { readonly tracing: readonly string[] }
  /** In percent. */
  readonly defaultConfig?: { readonly tracing: { readonly sampling: number } }
}

export const defaultWaypointSettings: WaypointSettings = {
  trustDomainAliases: [],
  pathNormalization: 'DEFAULT',
  extensionProviders: []
}

export interface MeshSettings {
  /** Part of every workload's uid; must equal the agents' ISTIO_META_CLUSTER_ID. */
  readonly clusterId: string
  /** Where the control plane runs; its namespace carries the network label. */
  readonly systemNamespace: string
  /** Where policies apply to the whole mesh. */
  readonly rootNamespace: string
  readonly trustDomain: string
  /** DNS domain of the cluster, such as `cluster.local`. */
  readonly domain: string
  /** `istio.io/rev` of the objects that are ours; objects without the label always are. */
  readonly revision: string
  /** Namespaces to read; empty = all. A namespace that matches one of them is read. */
  readonly discoverySelectors: readonly LabelSelector[]
  /** The first whose selector matches the namespace decides; else PUBLIC. */
  readonly serviceEntryVisibility: readonly {
    readonly selector: LabelSelector
    readonly visibility: Visibility
  }[]
  /** Namespaces that see a DestinationRule which does not say so: `*` is all of them, `.` its own. */
  readonly ruleExportTo: readonly string[]
  /** The same for a VirtualService. */
  readonly virtualServiceExportTo: readonly string[]
  /** What waypoints have to know of the mesh configuration. */
  readonly forWaypoints: WaypointSettings
  /** Hostnames of the services that its extension providers name. */
  readonly providerHosts: ReadonlySet<string>
  /** Workloads that some ALLOW policy protects also accept their own waypoint. */
  readonly allowWaypoints: boolean
  /** Policies in dry run are sent, marked so; an old ztunnel that does not know the mark would enforce them. */
  readonly sendDryRun: boolean
}
