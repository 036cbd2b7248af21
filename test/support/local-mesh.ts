/** The local configuration of two workloads on the nodes of `two-nodes.ts`: `client` on a, `server` on b. */
import { stringifyYaml } from '../../shared/kube/yaml.ts'
import type { TestNode } from './two-nodes.ts'

export const CLIENT = 'default/client/client'
export const SERVER = 'shop/server/server'
export const CLIENT_IDENTITY = 'spiffe://cluster.local/ns/default/sa/client'
export const SERVER_IDENTITY = 'spiffe://cluster.local/ns/shop/sa/server'
export const SERVER_HOST = 'server.shop.svc.cluster.local'
export const VIP = '10.96.0.10'
export const VIP6 = 'fd96::10'

/** Service port 80 leads here. */
export const SERVER_PORT = 8080

export interface LocalMeshWishes {
  readonly policies?: readonly object[]
  /** Merged into the workloads. */
  readonly client?: object
  readonly server?: object
  /** Merged into the service. */
  readonly service?: object
  readonly workloads?: readonly object[]
  readonly services?: readonly object[]
}

/** As YAML, with port numbers as numbers: Istio's reader takes no others. */
export function localMesh({ a, b }: { a: TestNode; b: TestNode }, wishes: LocalMeshWishes = {}): string {
  return stringifyYaml(
    portsAsNumbers({
      workloads: [
        { ...workload('client', 'default', a), services: {}, ...wishes.client },
        {
          ...workload('server', 'shop', b),
          services: { [`shop/${SERVER_HOST}`]: { 80: SERVER_PORT } },
          ...wishes.server
        },
        ...(wishes.workloads ?? [])
      ],
      services: [
        {
          name: 'server',
          namespace: 'shop',
          hostname: SERVER_HOST,
          vips: [`/${VIP}`, `/${VIP6}`],
          ports: { 80: SERVER_PORT },
          canonical: true,
          ...wishes.service
        },
        ...(wishes.services ?? [])
      ],
      policies: wishes.policies ?? []
    })
  )
}

function portsAsNumbers(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(portsAsNumbers)
  if (typeof value !== 'object' || value === null) return value
  return new Map(
    Object.entries(value).map(([key, part]) => [/^\d+$/.test(key) ? Number(key) : key, portsAsNumbers(part)])
  )
}

export function workload(name: string, namespace: string, node: TestNode): object {
  return {
    uid: `Kubernetes//Pod/${namespace}/${name}`,
    name,
    namespace,
    serviceAccount: name,
    trustDomain: 'cluster.local',
    workloadIps: [node.v4, node.v6],
    protocol: 'HBONE',
    node: node.name,
    network: '',
    clusterId: 'Kubernetes',
    workloadName: `${name}-deployment`,
    workloadType: 'deployment',
    canonicalName: `${name}-app`,
    canonicalRevision: 'v1'
  }
}

/** A policy of the server's namespace with one rule of one match. */
export function localPolicy(
  name: string,
  action: 'Allow' | 'Deny',
  match: object,
  more: object = {}
): object {
  return { name, namespace: 'shop', scope: 'Namespace', action, rules: [[[match]]], dryRun: false, ...more }
}
