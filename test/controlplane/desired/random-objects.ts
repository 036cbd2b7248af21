/** Random histories for tests, from a seed. */
import { keyPair, secret } from '../gateway-world.ts'

/** Mulberry32. */
export function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

/** YAML of one object; few names and labels, so that objects meet. */
export function randomObject(pick: <T>(list: readonly T[]) => T, random: () => number): string {
  const namespace = pick(['shop', 'other', 'istio-system'])
  const name = pick(['a', 'b', 'c'])
  const app = pick(['web', 'db'])
  const year = pick([2019, 2020, 2021])
  const waypoint = pick([
    '',
    '',
    'istio.io/use-waypoint: a',
    'istio.io/use-waypoint: b',
    'istio.io/use-waypoint: none'
  ])
  const from = pick(['', 'istio.io/use-waypoint-namespace: other'])
  const canary = pick(['', '', 'istio.io/use-waypoint-canary: c'])
  const labels = [`app: ${app}`, waypoint, from, canary].filter(Boolean).join(', ')
  const meta = `metadata: {name: ${name}, namespace: ${namespace}, uid: ${name}, creationTimestamp: "${year}-01-01T00:00:00Z", labels: {${labels}}}`
  const selector = `selector: {matchLabels: {app: ${app}}}`
  const host = pick(['h1', 'h2', 'a.shop.svc.cluster.local'])
  const ip = `10.0.0.${1 + Math.floor(random() * 6)}`
  const service = `namespace: ${pick(['shop', 'other'])}, name: ${pick(['a', 'b'])}`
  const reference = pick([
    `{${service}, port: 80}`,
    `{group: networking.istio.io, kind: Hostname, name: ${host}, port: ${pick([80, 81])}}`
  ])
  const route = `${meta}\nspec: {parentRefs: [{group: "", kind: Service, ${service}${pick(['', ', port: 80'])}}], rules: [{backendRefs: [${reference}]}]}\n`
  const target = pick([
    `{kind: Service, name: ${pick(['a', 'b'])}}`,
    `{kind: Gateway, name: ${pick(['a', 'b'])}}`,
    `{kind: GatewayClass, name: ${pick(['a', 'b'])}}`,
    `{kind: ServiceEntry, name: ${pick(['a', 'b'])}}`
  ])
  switch (
    pick([
      'Namespace',
      'Node',
      'Pod',
      'Pod',
      'Pod',
      'Service',
      'Service',
      'EndpointSlice',
      'ServiceEntry',
      'ServiceEntry',
      'WorkloadEntry',
      'Gateway',
      'GatewayClass',
      'AuthorizationPolicy',
      'PeerAuthentication',
      'RequestAuthentication',
      'RateLimitPolicy',
      'Telemetry',
      'HTTPRoute',
      'HTTPRoute',
      'GRPCRoute',
      'ReferenceGrant'
    ])
  ) {
    case 'Namespace':
      return `kind: Namespace\nmetadata: {name: ${namespace}, labels: {${[waypoint, from, canary, pick(['', 'topology.istio.io/network: far'])].filter(Boolean).join(', ')}}, annotations: {${pick(['', 'networking.istio.io/traffic-distribution: PreferClose'])}}}\n`
    case 'Node':
      return `kind: Node\nmetadata: {name: ${name}, labels: {topology.kubernetes.io/zone: ${pick(['z1', 'z2'])}}}\n`
    case 'Pod':
      return `kind: Pod\n${meta.replace('labels: {', `labels: {${pick(['', '', 'gateway.networking.k8s.io/gateway-name: a, '])}`)}\nspec: {nodeName: ${pick(['a', 'b'])}, serviceAccountName: ${pick(['x', 'y'])}, containers: [{name: c, ports: [{name: web, containerPort: ${pick([80, 81])}}]}]}\nstatus: {phase: ${pick(['Running', 'Running', 'Succeeded'])}, podIPs: [{ip: ${ip}}], conditions: [{type: Ready, status: "${pick(['True', 'False'])}"}]}\n`
    case 'Service':
      return `kind: Service\n${meta}\nspec: {type: ${pick(['ClusterIP', 'ClusterIP', 'ExternalName'])}, clusterIPs: [${ip}], ${pick(['', `selector: {app: ${app}}, `])}ports: [{name: p, port: 80, targetPort: ${pick(['web', '8080'])}}]}\n`
    case 'EndpointSlice':
      return `kind: EndpointSlice\nmetadata: {name: ${name}, namespace: ${namespace}, labels: {kubernetes.io/service-name: ${pick(['a', 'b'])}}}\naddressType: IPv4\nports: [{name: p, port: 8080, protocol: TCP}]\nendpoints: [{addresses: [${ip}]}, {addresses: [10.0.0.1], targetRef: {kind: Pod, namespace: ${namespace}, name: ${pick(['a', 'b'])}, uid: ${pick(['a', 'b'])}}}]\n`
    case 'ServiceEntry':
      return `kind: ServiceEntry\n${meta}\nspec: {hosts: [${host}], resolution: ${pick(['DNS', 'STATIC', 'NONE'])}, ports: [{number: 80, name: web}], ${pick(['', `workloadSelector: {labels: {app: ${app}}}, `, `endpoints: [{address: ${ip}, labels: {app: ${app}}}]`])}}\n`
    case 'WorkloadEntry':
      return `kind: WorkloadEntry\n${meta}\nspec: {address: ${ip}, ports: {web: 8888}}\n`
    case 'Gateway':
      return `kind: Gateway\nmetadata: {name: ${name}, namespace: ${namespace}, labels: {${pick(['', 'istio.io/waypoint-for: all', 'istio.io/waypoint-for: workload'])}}, annotations: {${pick(['', 'ambient.istio.io/waypoint-inbound-binding: PROXY'])}}}\nspec: {gatewayClassName: ${pick(['a', 'b'])}, listeners: [{name: m, port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: ${pick(['All', 'Same'])}}}}]}\nstatus: {addresses: [${pick(['', '{type: IPAddress, value: 10.9.9.9}'])}]}\n`
    case 'GatewayClass':
      return `kind: GatewayClass\nmetadata: {name: ${name}, labels: {${pick(['', 'istio.io/waypoint-for: all'])}}, annotations: {${pick(['', 'ambient.istio.io/waypoint-inbound-binding: PROXY/15088'])}}}\nspec: {controllerName: ${pick(['x', 'istio.io/mesh-controller'])}}\n`
    case 'AuthorizationPolicy':
      return `kind: AuthorizationPolicy\n${meta}\nspec: {${pick(['', `${selector}, `, `targetRefs: [${target}], `])}action: ${pick(['ALLOW', 'DENY', 'AUDIT'])}, rules: [{to: [{operation: {ports: ["80"]}}]}]}\n`
    case 'RequestAuthentication':
      return `kind: RequestAuthentication\n${meta}\nspec: {${pick([selector, `targetRefs: [${target}]`])}}\n`
    case 'Telemetry':
      return `kind: Telemetry\n${meta}\nspec: {${pick(['', selector, `targetRefs: [${target}]`])}}\n`
    case 'RateLimitPolicy':
      return `kind: RateLimitPolicy\n${meta}\nspec: {targetRefs: [${target}]}\n`
    case 'HTTPRoute':
      return `kind: HTTPRoute\n${route}`
    case 'GRPCRoute':
      return `kind: GRPCRoute\n${route}`
    case 'ReferenceGrant':
      return `kind: ReferenceGrant\n${meta}\nspec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: ${pick(['shop', 'other'])}}], to: [{group: "", kind: Service${pick(['', ', name: a'])}}]}\n`
    default:
      return `kind: PeerAuthentication\n${meta}\nspec: {${pick(['', `${selector}, `])}mtls: {mode: ${pick(['STRICT', 'PERMISSIVE', 'UNSET'])}}, portLevelMtls: {${pick(['', '80: {mode: STRICT}', '80: {mode: PERMISSIVE}'])}}}\n`
  }
}

/** Where rules for services matter: waypoints that are ready, what goes through them, and what their routes lead to. */
export function randomRuledObject(pick: <T>(list: readonly T[]) => T): string {
  const namespace = pick(['shop', 'other', 'istio-system'])
  const service = (): string => `namespace: ${pick(['shop', 'other'])}, name: ${pick(['a', 'b'])}`
  const named = `${service()}, creationTimestamp: "${pick([2019, 2020])}-01-01T00:00:00Z"`
  const through = pick([
    'istio.io/use-waypoint: wp',
    'istio.io/use-waypoint: wp, istio.io/use-waypoint-namespace: other',
    'istio.io/use-waypoint: none',
    ''
  ])
  const anyHost = (): string =>
    pick(['a', 'b', 'a.shop.svc.cluster.local', 'h1.example', '*.shop.svc.cluster.local', '*'])
  const app = pick(['web', 'db'])
  const labels = `labels: {app: ${app}, team: ${pick(['x', 'y'])}}`
  switch (
    pick([
      'Gateway',
      'Service',
      'Pod',
      'Pod',
      'DestinationRule',
      'DestinationRule',
      'VirtualService',
      'VirtualService',
      'ServiceEntry',
      'HTTPRoute',
      'ReferenceGrant',
      'BackendTLSPolicy',
      'BackendTLSPolicy',
      'ConfigMap',
      'Namespace'
    ])
  ) {
    case 'BackendTLSPolicy': {
      const target = pick([
        `kind: Service, name: ${pick(['a', 'b'])}`,
        `kind: Service, name: a, sectionName: ${pick(['web', 'none'])}`,
        `group: networking.istio.io, kind: ServiceEntry, name: ${pick(['a', 'b'])}`
      ])
      const trusted = pick([
        'wellKnownCACertificates: System',
        'caCertificateRefs: [{kind: ConfigMap, name: ca}]'
      ])
      return `kind: BackendTLSPolicy\nmetadata: {name: ${pick(['t', 'u'])}, namespace: ${namespace}, creationTimestamp: "${pick([2019, 2020])}-01-01T00:00:00Z"}\nspec: {targetRefs: [{${target}}], validation: {hostname: h, ${trusted}}}\n`
    }
    case 'ConfigMap':
      return `kind: ConfigMap\nmetadata: {name: ca, namespace: ${namespace}}\ndata: {${pick(['', 'ca.crt: none', `ca.crt: ${JSON.stringify(pairs[0]?.certificate)}`])}}\n`
    case 'Gateway':
      return `kind: Gateway\nmetadata: {name: wp, namespace: ${namespace}}\nspec: {gatewayClassName: c, listeners: [{name: m, port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: ${pick(['All', 'All', 'Same'])}}}}]}\nstatus: {addresses: [${pick(['', `{type: Hostname, value: wp.${namespace}}`, '{type: IPAddress, value: 10.9.9.9}'])}]}\n`
    case 'Service':
      return `kind: Service\nmetadata: {${named}, labels: {${through}}}\nspec: {selector: {app: ${app}}, ports: [{name: web, port: 80}]}\n`
    case 'Pod':
      return `kind: Pod\nmetadata: {${named}, ${labels}}\nstatus: {phase: Running, podIPs: [{ip: 10.0.0.1}]}\n`
    case 'ServiceEntry':
      return `kind: ServiceEntry\nmetadata: {${named}, labels: {${through}}}\nspec: {hosts: [${pick(['h1.example', 'a.shop.svc.cluster.local'])}], resolution: STATIC, ports: [{number: 80, name: web}], endpoints: [{address: 10.0.0.7, ${labels}}]}\n`
    case 'HTTPRoute':
      return `kind: HTTPRoute\nmetadata: {${named}}\nspec: {parentRefs: [{group: "", kind: Service, ${service()}}], rules: [{backendRefs: [{${service()}, port: 80}]}]}\n`
    case 'ReferenceGrant':
      return `kind: ReferenceGrant\nmetadata: {${named}}\nspec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: ${pick(['shop', 'other'])}}], to: [{group: "", kind: Service}]}\n`
    case 'Namespace':
      return `kind: Namespace\nmetadata: {name: ${namespace}, labels: {${through}}}\n`
    case 'VirtualService': {
      const exported = pick(['', '', 'exportTo: [.], ', 'exportTo: [other], '])
      const gateways = pick(['', '', '', 'gateways: [g], '])
      const to = (): string =>
        `{host: ${pick(['a', 'b', 'a.shop.svc.cluster.local', 'b.other.svc.cluster.local', 'h1.example'])}${pick(['', ', port: {number: 80}', ', port: {number: 81}'])}}`
      const route = `route: [{destination: ${to()}}], mirror: ${to()}`
      return `kind: VirtualService\nmetadata: {name: ${pick(['r', 's'])}, namespace: ${namespace}}\nspec: {${exported}${gateways}hosts: ["${anyHost()}"${pick(['', ', h1.example'])}], http: [{${route}}]}\n`
    }
    default: {
      const asks = pick([
        '',
        'subsets: [{name: s, labels: {app: web}}], ',
        'subsets: [{name: s, labels: {team: x}}], '
      ])
      const exported = pick(['', '', 'exportTo: [.], ', 'exportTo: [other], ', 'workloadSelector: {}, '])
      const settings = pick([
        '',
        ...[1, 2, 3].map(most => `trafficPolicy: {connectionPool: {tcp: {maxConnections: ${most}}}}, `)
      ])
      return `kind: DestinationRule\nmetadata: {name: ${pick(['r', 's'])}, namespace: ${namespace}}\nspec: {${asks}${exported}${settings}host: "${anyHost()}"}\n`
    }
  }
}

/** Where gateways matter: their listeners, certificates, routes, and the Services of their own. */
export function randomGatewayObject(pick: <T>(list: readonly T[]) => T): string {
  const namespace = pick(['shop', 'other'])
  const other = pick(['shop', 'other'])
  const name = pick(['a', 'b'])
  const meta = `metadata: {name: ${name}, namespace: ${namespace}, creationTimestamp: "${pick([2019, 2020])}-01-01T00:00:00Z"}`
  const hostname = (): string => pick(['', '', 'a.example', '"*.example"'])
  switch (
    pick([
      'Gateway',
      'Gateway',
      'GatewayClass',
      'Secret',
      'HTTPRoute',
      'HTTPRoute',
      'TLSRoute',
      'ConfigMap',
      'ReferenceGrant',
      'Namespace',
      'Service',
      'Pod'
    ])
  ) {
    case 'Gateway': {
      const certificate = `tls: {certificateRefs: [{namespace: ${other}, name: ${pick(['a', 'b'])}}]}`
      const allowed = `allowedRoutes: {namespaces: ${pick(['{from: Same}', '{from: All}', '{from: Selector, selector: {matchLabels: {team: x}}}'])}}`
      const listeners = [
        `{name: http, port: 80, protocol: HTTP, hostname: ${hostname() || '""'}, ${allowed}}`,
        `{name: https, port: ${pick([443, 80])}, protocol: HTTPS, ${certificate}, ${allowed}}`,
        `{name: tls, port: 8443, protocol: TLS, tls: {mode: Passthrough}, ${allowed}}`
      ].filter(() => pick([true, true, false]))
      const address = pick(['', `{type: Hostname, value: a.${namespace}.svc.cluster.local}`])
      const className = pick(['underpass', 'underpass', 'underpass-waypoint', 'custom'])
      const shown = pick([
        '',
        `tls: {backend: {clientCertificateRef: {namespace: ${other}, name: ${pick(['a', 'b'])}}}}, `,
        `tls: {frontend: {default: {validation: {caCertificateRefs: [{group: "", kind: ConfigMap, namespace: ${other}, name: ${pick(['a', 'b'])}}]}}}}, `
      ])
      return `kind: Gateway\n${meta}\nspec: {gatewayClassName: ${className}, ${shown}listeners: [${listeners.join(', ')}]}\nstatus: {addresses: [${address}]}\n`
    }
    case 'GatewayClass': {
      const controller = pick([
        'underpass.dev/gateway-controller',
        'underpass.dev/waypoint-controller',
        'x.y/z'
      ])
      return `kind: GatewayClass\nmetadata: {name: ${pick(['custom', 'custom', 'underpass'])}}\nspec: {controllerName: ${controller}}\n`
    }
    case 'Secret':
      return secret(name, pick(pairs), namespace)
    case 'ConfigMap':
      return `kind: ConfigMap\n${meta}\ndata: {ca.crt: ${JSON.stringify(pick(pairs).certificate)}}\n`
    case 'HTTPRoute':
    case 'TLSRoute': {
      const kind = pick(['HTTPRoute', 'HTTPRoute', 'GRPCRoute', 'TLSRoute'])
      const parent = pick([
        `{namespace: ${other}, name: ${pick(['a', 'b'])}}`,
        `{namespace: ${other}, name: ${pick(['a', 'b'])}, sectionName: http}`
      ])
      return `kind: ${kind}\n${meta}\nspec: {parentRefs: [${parent}], hostnames: [${hostname()}], rules: [{backendRefs: [{namespace: ${pick(['shop', 'other'])}, name: a, port: 80}]}]}\n`
    }
    case 'ReferenceGrant': {
      const from = pick(['Gateway', 'HTTPRoute'])
      const to = from === 'Gateway' ? pick(['Secret', 'ConfigMap']) : 'Service'
      return `kind: ReferenceGrant\n${meta}\nspec: {from: [{group: gateway.networking.k8s.io, kind: ${from}, namespace: ${other}}], to: [{group: "", kind: ${to}${pick(['', ', name: a'])}}]}\n`
    }
    case 'Namespace':
      return `kind: Namespace\nmetadata: {name: ${namespace}, labels: {${pick(['', 'team: x'])}}}\n`
    case 'Service': {
      const ingress = pick(['', '{ip: 192.0.2.1}'])
      const label = pick(['', 'gateway.networking.k8s.io/gateway-name: a'])
      return `kind: Service\nmetadata: {name: ${pick(['a', 'a-underpass'])}, namespace: ${namespace}, labels: {${label}}}\nspec: {clusterIPs: [${pick(['10.96.0.1', '10.96.0.2'])}], selector: {app: a}, ports: [{port: 80}]}\nstatus: {loadBalancer: {ingress: [${ingress}]}}\n`
    }
    default:
      return `kind: Pod\nmetadata: {name: a, namespace: ${namespace}, labels: {app: a, gateway.networking.k8s.io/gateway-name: ${pick(['a', 'b'])}}}\nspec: {serviceAccountName: ${pick(['a', 'b'])}}\nstatus: {phase: Running, podIPs: [{ip: 10.0.0.9}]}\n`
  }
}

const pairs = [keyPair(), { certificate: 'none', key: 'none' }]
