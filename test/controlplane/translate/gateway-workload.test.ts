/** What runs a gateway, and which addresses it has. */
import t from 'tap'
import type { GatewayObject } from '../../../controlplane/cluster/objects.ts'
import { assignedAddresses } from '../../../controlplane/translate/gateway-address.ts'
import { gatewayWorkload } from '../../../controlplane/translate/gateway-workload.ts'
import { labelledGateway, type ProxyWorkload } from '../../../controlplane/translate/proxy-workload.ts'
import { waypointWorkload } from '../../../controlplane/translate/waypoint-workload.ts'
import { gateway, secret } from '../gateway-world.ts'
import { settings, world } from '../world.ts'

const http = '{name: http, port: 80, protocol: HTTP}'
const image = 'registry/underpass:1'

function made(yaml: string): ProxyWorkload {
  const view = world(yaml)
  const [object] = [...view.all('Gateway')]
  if (object === undefined) throw new Error('no Gateway')
  return gatewayWorkload(view, object, { ...settings, image })
}

t.test('a gateway: its name, its role, its ports', async t => {
  const { serviceAccount, deployment, service } = made(
    secret('pair') +
      gateway('edge', [
        http,
        '{name: named, port: 80, protocol: HTTP, hostname: a.b}',
        '{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: gone}]}}',
        '{name: tls, port: 8443, protocol: TLS, tls: {mode: Passthrough}}',
        '{name: odd, port: 9, protocol: ODD}'
      ])
  )
  for (const { metadata } of [serviceAccount, deployment, service]) {
    t.match(metadata, {
      namespace: 'shop',
      name: 'edge-underpass',
      labels: {
        'gateway.networking.k8s.io/gateway-name': 'edge',
        'gateway.networking.k8s.io/gateway-class-name': 'underpass',
        'gateway.istio.io/managed': 'istio.io-gateway-controller'
      },
      ownerReferences: [{ kind: 'Gateway', name: 'edge', uid: 'uid-edge' }]
    })
  }
  t.match(service.spec, {
    type: 'LoadBalancer',
    selector: { 'gateway.networking.k8s.io/gateway-name': 'edge' }
  })
  t.strictSame(
    service.spec?.ports?.map(({ name, port }) => `${name} ${port}`),
    ['status-port 15021', 'http-80 80', 'https-443 443', 'tls-8443 8443'],
    'those of listeners that are taken, each once'
  )
  const { spec, metadata } = deployment.spec.template ?? {}
  t.match(metadata?.labels, { 'istio.io/dataplane-mode': 'none', 'sidecar.istio.io/inject': 'false' })
  t.match(spec, {
    serviceAccountName: 'edge-underpass',
    securityContext: {
      runAsUser: 1337,
      sysctls: [{ name: 'net.ipv4.ip_unprivileged_port_start', value: '0' }]
    }
  })
  const env = Object.fromEntries(spec?.containers?.[0]?.env?.map(({ name, value }) => [name, value]) ?? [])
  t.match(env, {
    UNDERPASS_ROLE: 'gateway',
    UNDERPASS_GATEWAY: 'edge',
    UNDERPASS_GATEWAY_CLASS: 'underpass',
    XDS_ADDRESS: 'https://istiod.istio-system.svc:15012'
  })
})

t.test('what infrastructure says is on all of it, and cannot take the place of what finds it', async t => {
  const more =
    'infrastructure: {labels: {team: a, gateway.networking.k8s.io/gateway-name: x}, annotations: {note: b}}'
  const { serviceAccount, deployment, service } = made(gateway('edge', [http], { more }))
  const pod = deployment.spec.template?.metadata
  for (const metadata of [serviceAccount.metadata, deployment.metadata, service.metadata, pod]) {
    t.match(metadata?.labels, { team: 'a', 'gateway.networking.k8s.io/gateway-name': 'edge' })
    t.match(metadata?.annotations, { note: 'b' })
  }
})

t.test('the kind of its Service', async t => {
  for (const [annotation, type] of [
    ['ClusterIP', 'ClusterIP'],
    ['NodePort', 'NodePort'],
    ['Odd', 'LoadBalancer']
  ]) {
    const metadata = `annotations: {networking.istio.io/service-type: ${annotation}}`
    t.equal(made(gateway('edge', [http], { metadata })).service.spec?.type, type)
  }
  const { service } = made(gateway('edge', [http], { more: 'addresses: [{value: 192.0.2.7}]' }))
  t.match(service.spec, { loadBalancerIP: '192.0.2.7' })
})

t.test('names that are too long are shortened, and still tell Gateways apart', async t => {
  const long = (end: string): string => `gw-${'a'.repeat(249)}${end}`
  const [one, other] = ['x', 'y'].map(end => made(gateway(long(end), [http])))
  for (const workload of [one, other]) {
    const { name, labels } = workload?.service.metadata ?? { name: '' }
    t.ok(name.length <= 63)
    t.match(name, /^[a-z][-a-z0-9]*[a-z0-9]$/)
    t.ok((labels?.['gateway.networking.k8s.io/gateway-name'] ?? '').length <= 63)
  }
  t.not(one?.service.metadata.name, other?.service.metadata.name)
  const dotted = made(gateway('a.b', [http])).service.metadata
  t.match(dotted.name, /^a-b-underpass-[0-9a-f]{8}$/, 'a Service has no dots in its name')
  const view = world(gateway(long('x'), [http]) + gateway('edge', [http]))
  const label = one?.service.metadata.labels?.['gateway.networking.k8s.io/gateway-name'] ?? ''
  t.equal(labelledGateway(view, 'shop', label), `shop/${long('x')}`, 'its pods are found to be its')
  t.equal(labelledGateway(view, 'shop', 'edge'), 'shop/edge')
})

t.test('a waypoint is what it was: a Service of its own name, in the cluster', async t => {
  const view = world(
    gateway('wp', ['{name: mesh, port: 15008, protocol: HBONE}'], { className: 'underpass-waypoint' })
  )
  const [object] = [...view.all('Gateway')] as [GatewayObject]
  const { service, deployment } = waypointWorkload(object, { ...settings, image })
  t.match(service, {
    metadata: { name: 'wp', labels: { 'gateway.istio.io/managed': 'istio.io-mesh-controller' } },
    spec: { type: 'ClusterIP', ports: [{ port: 15021 }, { port: 15008 }] }
  })
  t.notMatch(JSON.stringify(deployment), /UNDERPASS_ROLE|sysctls/)
})

t.test('its addresses are those of its Service', async t => {
  const service = (status: string): string =>
    `kind: Service
metadata: {name: edge-underpass, creationTimestamp: "1970-01-01T00:00:01Z", labels: {gateway.networking.k8s.io/gateway-name: edge}}
spec: {clusterIPs: [10.96.0.9], ports: [{port: 80}]}
status: ${status}
---
`
  const given = '{loadBalancer: {ingress: [{ip: 192.0.2.1}, {hostname: lb.example.com}]}}'
  const inside = [{ type: 'IPAddress', value: '10.96.0.9' }]
  const clusterIp = 'annotations: {networking.istio.io/service-type: ClusterIP}'
  const rows: readonly { readonly name: string; yaml: string; now?: number; wanted: object }[] = [
    {
      name: 'before there is one',
      yaml: gateway('edge', [http]),
      wanted: { kind: 'pending', problem: { reason: 'AddressNotAssigned' }, againMs: undefined }
    },
    {
      name: 'what its load balancer gave it',
      yaml: gateway('edge', [http]) + service(given),
      wanted: {
        kind: 'assigned',
        addresses: [
          { type: 'IPAddress', value: '192.0.2.1' },
          { type: 'Hostname', value: 'lb.example.com' }
        ]
      }
    },
    {
      name: 'a load balancer has its time',
      yaml: gateway('edge', [http]) + service('{}'),
      now: 4_000,
      wanted: { kind: 'pending', problem: { reason: 'AddressNotAssigned' }, againMs: 7_000 }
    },
    {
      name: 'then it is for the cluster',
      yaml: gateway('edge', [http]) + service('{}'),
      now: 11_000,
      wanted: { kind: 'assigned', addresses: inside, message: /no load balancer/ }
    },
    {
      name: 'unless others have addresses: a slow load balancer is waited for',
      yaml:
        gateway('edge', [http]) +
        service('{}') +
        service(given).replace('edge-underpass', 'other').replaceAll('gateway-name: edge', 'gateway-name: x'),
      now: 60_000,
      wanted: { kind: 'pending', problem: { reason: 'AddressNotAssigned' }, againMs: undefined }
    },
    {
      name: 'a Service of the cluster needs no waiting',
      yaml: gateway('edge', [http], { metadata: clusterIp }) + service('{}'),
      now: 1_000,
      wanted: { kind: 'assigned', addresses: inside }
    },
    {
      name: 'an address that was asked for and given is the only one',
      yaml: gateway('edge', [http], { more: 'addresses: [{value: 192.0.2.1}]' }) + service(given),
      wanted: { kind: 'assigned', addresses: [{ type: 'IPAddress', value: '192.0.2.1' }] }
    },
    {
      name: 'one that was asked for and not given',
      yaml: gateway('edge', [http], { more: 'addresses: [{value: 192.0.2.8}]' }) + service(given),
      wanted: { kind: 'pending', problem: { reason: 'AddressNotUsable', message: /192\.0\.2\.8/ } }
    }
  ]
  for (const { name, yaml, now = 60_000, wanted } of rows) {
    const view = world(yaml)
    const [object] = [...view.all('Gateway')] as [GatewayObject]
    t.match(assignedAddresses(view, object, now), wanted, name)
  }
})
