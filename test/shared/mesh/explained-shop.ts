/** A small mesh to explain: two nodes, a shop, policies, a waypoint, and what goes wrong in a mesh. */
import {
  noLabels,
  type Policy,
  type PolicyMatch,
  type PortMap,
  type Service,
  type Workload
} from '../../../shared/mesh/model.ts'
import type { MeshChange } from '../../../shared/mesh/store.ts'
import { ip } from '../../../shared/net/address.ts'

const clusterLocal = (name: string): string => `${name}.shop.svc.cluster.local`
const keyOf = (service: string): string => `shop/${clusterLocal(service)}`
const toWaypoint = (service: string): NonNullable<Service['waypoint']> => ({
  destination: { kind: 'hostname', namespace: 'shop', hostname: clusterLocal(service) },
  hboneMtlsPort: 15008
})

function workload(
  name: string,
  address: string,
  services: readonly string[],
  more: Partial<Workload> = {}
): MeshChange {
  const owner = name.replace(/-\d+$/, '')
  return {
    kind: 'workload',
    workload: {
      uid: `Kubernetes//Pod/shop/${name}`,
      name,
      namespace: 'shop',
      addresses: address === '' ? [] : [ip(address)],
      hostname: '',
      network: '',
      networkMode: 'Standard',
      protocol: 'HBONE',
      nativeTunnel: false,
      trustDomain: 'cluster.local',
      serviceAccount: owner,
      waypoint: undefined,
      networkGateway: undefined,
      applicationTunnel: undefined,
      node: address.startsWith('10.1.1.') ? 'node-1' : 'node-2',
      canonicalName: owner,
      canonicalRevision: 'latest',
      workloadName: owner,
      workloadType: 'deployment',
      clusterId: 'Kubernetes',
      locality: { region: '', zone: '', subzone: '' },
      services: new Map<string, PortMap>(services.map(service => [keyOf(service), portsOf(service)])),
      authorizationPolicies: [],
      status: 'Healthy',
      capacity: 1,
      labels: noLabels,
      ...more
    }
  }
}

function portsOf(service: string): PortMap {
  return service === 'waypoint'
    ? new Map([[15008, 15008]])
    : service === 'db'
      ? new Map([[5432, 5432]])
      : new Map([[80, 8080]])
}

function service(name: string, address: string, more: Partial<Service> = {}): MeshChange {
  return {
    kind: 'service',
    service: {
      name,
      namespace: 'shop',
      hostname: clusterLocal(name),
      vips: address === '' ? [] : [{ network: '', ip: ip(address) }],
      cidrVips: [],
      ports: portsOf(name),
      subjectAltNames: [],
      waypoint: undefined,
      weightedWaypoints: [],
      loadBalancer: undefined,
      ipFamilies: 'IPv4',
      canonical: true,
      visibility: 'Public',
      ingressUsesWaypoint: false,
      traffic: undefined,
      protocols: new Map(),
      ...more
    }
  }
}

const anything: PolicyMatch = {
  namespaces: [],
  notNamespaces: [],
  principals: [],
  notPrincipals: [],
  serviceAccounts: [],
  notServiceAccounts: [],
  sourceIps: [],
  notSourceIps: [],
  destinationIps: [],
  notDestinationIps: [],
  destinationPorts: [],
  notDestinationPorts: []
}

function policy(
  namespace: string,
  name: string,
  action: Policy['action'],
  match: Partial<PolicyMatch>
): MeshChange {
  return {
    kind: 'policy',
    policy: {
      name,
      namespace,
      scope: 'WorkloadSelector',
      action,
      rules: [[[{ ...anything, ...match }]]],
      dryRun: false
    }
  }
}

const clients = { authorizationPolicies: ['shop/cart-clients'] }

export const shop: readonly MeshChange[] = [
  policy('shop', 'cart-clients', 'Allow', {
    principals: [{ kind: 'exact', value: 'cluster.local/ns/shop/sa/web' }]
  }),
  policy('shop', 'no-metrics', 'Deny', { destinationPorts: [9999] }),
  policy('istio-system', 'strict', 'Deny', { notPrincipals: [{ kind: 'presence' }] }),
  service('cart', '10.96.0.10'),
  service('db', '10.96.0.11'),
  service('legacy', '10.96.0.12'),
  service('strict', '10.96.0.13'),
  service('guarded', '10.96.0.14', { waypoint: toWaypoint('waypoint') }),
  service('broken', '10.96.0.15', { waypoint: toWaypoint('missing') }),
  service('idle', '10.96.0.16'),
  service('mixed', '10.96.0.17'),
  service('waypoint', '10.96.0.18'),
  service('spread', '10.96.0.19'),
  service('empty', ''),
  workload('web-1', '10.1.1.5', []),
  workload('other-1', '10.1.1.6', []),
  workload('cart-1', '10.1.2.7', ['cart', 'mixed'], clients),
  workload('cart-2', '10.1.2.8', ['cart'], clients),
  workload('open-1', '10.1.2.9', ['mixed']),
  workload('db-0', '10.1.1.9', ['db'], { authorizationPolicies: ['shop/no-metrics'] }),
  workload('legacy-1', '10.1.2.20', ['legacy'], { protocol: 'TCP' }),
  workload('strict-1', '10.1.2.21', ['strict'], { authorizationPolicies: ['istio-system/strict'] }),
  workload('guarded-1', '10.1.2.22', ['guarded', 'broken']),
  workload('waypoint-1', '10.1.1.30', ['waypoint'], { nativeTunnel: true }),
  workload('spread-1', '10.1.1.40', ['spread']),
  workload('spread-2', '10.1.2.40', ['spread']),
  workload('spread-3', '10.1.3.40', ['spread'], { node: 'node-3' }),
  workload('nowhere-1', '', [])
]
