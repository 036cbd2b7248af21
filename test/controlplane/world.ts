/** A cluster from YAML, for tables: what is not said has the value that an API server gives it. */
import { Cluster } from '../../controlplane/cluster/cluster.ts'
import type { Kind, MeshObject } from '../../controlplane/cluster/objects.ts'
import { readObject } from '../../controlplane/read/object.ts'
import { defaultWaypointSettings, type MeshSettings } from '../../controlplane/cluster/settings.ts'
import { ipFromBytes } from '../../shared/net/address.ts'
import { parseAllYaml } from '../../shared/kube/yaml.ts'

export const settings: MeshSettings = {
  clusterId: 'Kubernetes',
  systemNamespace: 'istio-system',
  rootNamespace: 'istio-system',
  trustDomain: 'cluster.local',
  domain: 'cluster.local',
  revision: 'default',
  discoverySelectors: [],
  serviceEntryVisibility: [],
  ruleExportTo: ['*'],
  virtualServiceExportTo: ['*'],
  forWaypoints: defaultWaypointSettings,
  providerHosts: new Set(),
  allowWaypoints: true,
  sendDryRun: false
}

/** The waypoint `wp` of namespace shop, with one pod; more objects may follow. */
export const waypoint = `kind: Gateway
metadata: {name: wp}
spec: {gatewayClassName: c}
status: {addresses: [{type: Hostname, value: wp.shop.svc.cluster.local}]}
---
kind: Pod
metadata: {name: wp-1, labels: {gateway.networking.k8s.io/gateway-name: wp}}
spec: {serviceAccountName: wp}
status: {phase: Running, podIPs: [{ip: 10.0.1.1}]}
---
`

interface Raw {
  readonly kind: Kind
  readonly metadata: Readonly<Record<string, unknown>>
  readonly spec?: Readonly<Record<string, unknown>>
}

/** Objects as the control plane keeps them; throws on one that cannot be read. */
export function objects(yaml: string): readonly MeshObject[] {
  return parseAllYaml(yaml).map(({ value }) => object(value))
}

export function object(value: unknown): MeshObject {
  const raw = value as Raw
  const namespaced = !['Namespace', 'Node', 'GatewayClass'].includes(raw.kind)
  const metadata = { ...(namespaced ? { namespace: 'shop' } : {}), ...raw.metadata }
  const read = readObject(raw.kind, { ...raw, metadata })
  if (read.kind === 'problem') throw new Error(read.message)
  return read.object
}

export function world(yaml: string, changed: Partial<MeshSettings> = {}): Cluster {
  const cluster = new Cluster({ ...settings, ...changed })
  for (const each of objects(yaml)) cluster.put(each)
  return cluster
}

/** Addresses as text, so that tables can be read. */
export function shown(value: unknown): unknown {
  if (value instanceof Uint8Array) return ipFromBytes(value) ?? Buffer.from(value).toString('hex')
  if (Array.isArray(value)) return value.map(shown)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, shown(each)]))
}
