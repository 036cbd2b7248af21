/** Istio's and the Gateway API's objects, right and wrong, for comparing the store with the real kube-apiserver. */
import type { Manifest } from './manifests.ts'

function istio(
  group: string,
  version: string,
  plural: string,
  kind: string
): (name: string, spec: object) => Manifest {
  return (name, spec) => ({
    name: `${kind}: ${name}`,
    path: `/apis/${group}/${version}/namespaces/{ns}/${plural}`,
    body: { apiVersion: `${group}/${version}`, kind, metadata: { generateName: 'x-' }, spec }
  })
}

const authorizationPolicy = istio('security.istio.io', 'v1', 'authorizationpolicies', 'AuthorizationPolicy')
const peerAuthentication = istio('security.istio.io', 'v1', 'peerauthentications', 'PeerAuthentication')
const serviceEntry = istio('networking.istio.io', 'v1', 'serviceentries', 'ServiceEntry')
const workloadEntry = istio('networking.istio.io', 'v1', 'workloadentries', 'WorkloadEntry')
const destinationRule = istio('networking.istio.io', 'v1', 'destinationrules', 'DestinationRule')
const virtualService = istio('networking.istio.io', 'v1beta1', 'virtualservices', 'VirtualService')
const telemetry = istio('telemetry.istio.io', 'v1', 'telemetries', 'Telemetry')
const envoyFilter = istio('networking.istio.io', 'v1alpha3', 'envoyfilters', 'EnvoyFilter')
const gateway = istio('gateway.networking.k8s.io', 'v1', 'gateways', 'Gateway')
const httpRoute = istio('gateway.networking.k8s.io', 'v1', 'httproutes', 'HTTPRoute')
const grpcRoute = istio('gateway.networking.k8s.io', 'v1', 'grpcroutes', 'GRPCRoute')
const referenceGrant = istio('gateway.networking.k8s.io', 'v1beta1', 'referencegrants', 'ReferenceGrant')

const listener = { name: 'mesh', port: 15008, protocol: 'HBONE' }

export const meshAccepted: readonly Manifest[] = [
  authorizationPolicy('nothing', {}),
  authorizationPolicy('a rule of every kind', {
    action: 'DENY',
    selector: { matchLabels: { app: 'web' } },
    rules: [
      {
        from: [
          {
            source: {
              principals: ['cluster.local/ns/a/sa/b'],
              notNamespaces: ['c'],
              ipBlocks: ['10.0.0.0/8']
            }
          }
        ],
        to: [{ operation: { ports: ['80'], methods: ['GET'], paths: ['/x*'] } }],
        when: [{ key: 'source.ip', notValues: ['10.1.0.1'] }]
      }
    ]
  }),
  authorizationPolicy('targets', { targetRefs: [{ group: '', kind: 'Service', name: 'web' }] }),
  peerAuthentication('strict but for a port', {
    mtls: { mode: 'STRICT' },
    selector: { matchLabels: { a: 'b' } },
    portLevelMtls: { 8080: { mode: 'DISABLE' } }
  }),
  serviceEntry('a host', {
    hosts: ['example.org'],
    ports: [{ number: 443, name: 'https', protocol: 'TLS' }],
    resolution: 'DNS',
    location: 'MESH_EXTERNAL'
  }),
  serviceEntry('endpoints', {
    hosts: ['a.b'],
    addresses: ['10.9.0.1'],
    ports: [{ number: 80, name: 'http' }],
    resolution: 'STATIC',
    endpoints: [{ address: '10.1.0.1', ports: { http: 8080 }, labels: { a: 'b' }, weight: 3 }]
  }),
  workloadEntry('a machine', {
    address: '10.1.0.2',
    labels: { app: 'vm' },
    serviceAccount: 'vm',
    network: 'n',
    locality: 'r/z/s',
    weight: 1,
    ports: { http: 80 }
  }),
  destinationRule('a policy', {
    host: 'web',
    trafficPolicy: {
      loadBalancer: { simple: 'LEAST_REQUEST' },
      connectionPool: { tcp: { maxConnections: 3, connectTimeout: '1s' } },
      outlierDetection: { consecutive5xxErrors: 3, interval: '5m' }
    },
    subsets: [{ name: 'v1', labels: { v: '1' } }]
  }),
  virtualService('routes', {
    hosts: ['web'],
    http: [
      {
        match: [{ uri: { prefix: '/a' } }],
        route: [{ destination: { host: 'web', port: { number: 80 } }, weight: 100 }],
        timeout: '5s',
        retries: { attempts: 3 }
      }
    ]
  }),
  telemetry('logs', { accessLogging: [{ providers: [{ name: 'envoy' }], disabled: false }] }),
  envoyFilter('anything inside', {
    configPatches: [
      { applyTo: 'CLUSTER', patch: { operation: 'MERGE', value: { any: { thing: [1, 'a', null] } } } }
    ]
  }),
  gateway('a waypoint', { gatewayClassName: 'istio-waypoint', listeners: [listener] }),
  gateway('TLS', {
    gatewayClassName: 'istio',
    listeners: [
      {
        name: 'https',
        port: 443,
        protocol: 'HTTPS',
        hostname: '*.example.org',
        tls: { certificateRefs: [{ name: 'cert' }] }
      }
    ]
  }),
  httpRoute('an empty rule', {
    parentRefs: [{ name: 'web', kind: 'Service', group: '', port: 80 }],
    rules: [{}]
  }),
  httpRoute('matches, filters and weights', {
    parentRefs: [{ name: 'gateway' }],
    hostnames: ['a.example.org'],
    rules: [
      {
        matches: [{ headers: [{ name: 'x', value: 'y' }], method: 'GET' }],
        filters: [
          { type: 'RequestHeaderModifier', requestHeaderModifier: { set: [{ name: 'a', value: 'b' }] } }
        ],
        backendRefs: [
          { name: 'v1', port: 80, weight: 9 },
          { name: 'v2', port: 80 }
        ],
        timeouts: { request: '10s' }
      }
    ]
  }),
  grpcRoute('a method', {
    parentRefs: [{ name: 'web', kind: 'Service', group: '' }],
    rules: [
      { matches: [{ method: { service: 'a.B', method: 'C' } }], backendRefs: [{ name: 'b', port: 9000 }] }
    ]
  }),
  referenceGrant('a namespace', {
    from: [{ group: 'gateway.networking.k8s.io', kind: 'HTTPRoute', namespace: 'a' }],
    to: [{ group: '', kind: 'Service' }]
  })
]

/** Refused by the schemas themselves; what only CEL rules refuse is not here. */
export const meshRefused: readonly Manifest[] = [
  authorizationPolicy('an unknown action', { action: 'PERHAPS' }),
  authorizationPolicy('text in place of a list', { rules: 'all' }),
  authorizationPolicy('a condition without key', { rules: [{ when: [{ values: ['x'] }] }] }),
  authorizationPolicy('a number in place of a text', {
    rules: [{ from: [{ source: { principals: [1] } }] }]
  }),
  peerAuthentication('an unknown mode', { mtls: { mode: 'MAYBE' } }),
  serviceEntry('no hosts', { ports: [{ number: 80, name: 'http' }] }),
  serviceEntry('a port without number', { hosts: ['a.b'], ports: [{ name: 'http' }] }),
  serviceEntry('an unknown resolution', { hosts: ['a.b'], resolution: 'GUESS' }),
  workloadEntry('a weight that is negative', { address: '10.1.0.2', weight: -1 }),
  virtualService('a wrong oneOf', {
    hosts: ['a'],
    http: [{ match: [{ uri: { prefix: '/a', exact: '/b' } }], route: [{ destination: { host: 'a' } }] }]
  }),
  destinationRule('no host', { trafficPolicy: {} }),
  gateway('no class', { listeners: [listener] }),
  gateway('no listeners', { gatewayClassName: 'x' }),
  gateway('an empty list of listeners', { gatewayClassName: 'x', listeners: [] }),
  gateway('a port out of range', { gatewayClassName: 'x', listeners: [{ ...listener, port: 70000 }] }),
  gateway('a name that does not match', {
    gatewayClassName: 'x',
    listeners: [{ ...listener, name: 'Not A Name' }]
  }),
  gateway('a host that does not match', {
    gatewayClassName: 'x',
    listeners: [{ ...listener, hostname: 'under_score' }]
  }),
  gateway('two listeners of one name', {
    gatewayClassName: 'x',
    listeners: [listener, { ...listener, port: 15009 }]
  }),
  gateway('too many listeners', {
    gatewayClassName: 'x',
    listeners: Array.from({ length: 65 }, (_, index) => ({ ...listener, name: `l${index}` }))
  }),
  httpRoute('an unknown method', { rules: [{ matches: [{ method: 'FETCH' }] }] }),
  httpRoute('an unknown filter', { rules: [{ filters: [{ type: 'Magic' }] }] }),
  httpRoute('a duration that is none', { rules: [{ timeouts: { request: 'soon' } }] }),
  httpRoute('a weight out of range', {
    rules: [{ backendRefs: [{ name: 'a', port: 80, weight: 1_000_001 }] }]
  }),
  httpRoute('a backend without name', { rules: [{ backendRefs: [{ port: 80 }] }] }),
  referenceGrant('from nobody', { from: [], to: [{ group: '', kind: 'Service' }] })
]
