/** A mesh of many workloads and services as Workload API messages, alike to what a busy cluster's control plane sends. */

/** Pods of a node, and of a service, as clusters of this size have them. */
const PER_NODE = 50
const NAMESPACES = 100

export interface LargeMesh {
  readonly workloads: number
  readonly services: number
}

/** Resources for `test-control-plane.ts`: each workload is in one service, services in a hundred namespaces. */
export function largeMesh({ workloads, services }: LargeMesh): Record<string, object> {
  const found: Record<string, object> = {}
  for (let index = 0; index < services; index++) {
    const hostname = hostnameOf(index)
    found[`${namespaceOf(index)}/${hostname}`] = { service: service(index, hostname) }
  }
  for (let index = 0; index < workloads; index++) {
    const workload = largeMeshWorkload(index, services)
    found[workload.uid] = { workload }
  }
  return found
}

/** `revision` tells two versions of the same workload apart. */
export function largeMeshWorkload(
  index: number,
  services: number,
  revision = 'v1'
): { readonly uid: string } & Record<string, unknown> {
  const of = index % services
  const namespace = namespaceOf(of)
  const deployment = `app-${of}`
  const name = `${deployment}-${((index * 2_654_435_761) % 2 ** 32).toString(36)}-${index.toString(36)}`
  return {
    uid: `Kubernetes//Pod/${namespace}/${name}`,
    name,
    namespace,
    serviceAccount: deployment,
    addresses: [Buffer.from([10, 128 + (index >> 16), (index >> 8) & 255, index & 255])],
    tunnelProtocol: 1,
    node: `node-${Math.floor(index / PER_NODE)}`,
    clusterId: 'Kubernetes',
    workloadName: deployment,
    canonicalName: deployment,
    canonicalRevision: revision,
    locality: { region: 'region-1', zone: `zone-${Math.floor(index / PER_NODE) % 3}` },
    services: { [`${namespace}/${hostnameOf(of)}`]: { ports: [{ servicePort: 80, targetPort: 8080 }] } }
  }
}

function service(index: number, hostname: string): object {
  return {
    name: `app-${index}`,
    namespace: namespaceOf(index),
    hostname,
    canonical: true,
    addresses: [{ address: Buffer.from([10, 112 + (index >> 16), (index >> 8) & 255, index & 255]) }],
    ports: [{ servicePort: 80, targetPort: 8080 }]
  }
}

function namespaceOf(service: number): string {
  return `team-${service % NAMESPACES}`
}

function hostnameOf(service: number): string {
  return `app-${service}.${namespaceOf(service)}.svc.cluster.local`
}
