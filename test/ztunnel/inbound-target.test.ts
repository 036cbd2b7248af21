/** Which application a CONNECT request reaches: the inbound steps, row by row, against the real mesh store. */
import t from 'tap'
import { parseAuthority } from '../../shared/hbone/connect.ts'
import type { Service, Workload } from '../../shared/mesh/model.ts'
import { readLocalConfig } from '../../shared/mesh/local-config.ts'
import { MeshStore } from '../../shared/mesh/store.ts'
import { ip } from '../../shared/net/address.ts'
import { findInboundTarget, intendedService, type InboundTarget } from '../../ztunnel/inbound-target.ts'

const podIp = '10.0.0.2'
const here = { ip: ip(podIp), port: 15_008 }

const config = readLocalConfig(`
workloads:
- {uid: u/server, name: server, namespace: shop, workloadIps: [${podIp}], protocol: HBONE, services: {shop/cart.shop.svc: {80: 8080, 81: 8081}, shop/other.shop.svc: {90: 9090}}}
- {uid: u/other, name: other, namespace: shop, workloadIps: [10.0.0.9], services: {}}
- {uid: u/behind, name: behind, namespace: shop, workloadIps: [10.0.0.7], services: {}, waypoint: {destination: /${podIp}, hboneMtlsPort: 15008}}
- {uid: u/elsewhere, name: elsewhere, namespace: shop, workloadIps: [10.0.0.8], services: {}, waypoint: {destination: /10.0.0.9, hboneMtlsPort: 15008}}
services:
- {name: cart, namespace: shop, hostname: cart.shop.svc, vips: [/10.96.0.1], ports: {80: 8080, 81: 0, 82: 0, 83: 15001}}
- {name: other, namespace: shop, hostname: other.shop.svc, vips: [/10.96.0.2], ports: {90: 9090}}
- {name: guarded, namespace: shop, hostname: guarded.shop.svc, vips: [/10.96.0.3], ports: {80: 80}, waypoint: {destination: shop/cart.shop.svc, hboneMtlsPort: 15008}}
- {name: canary, namespace: shop, hostname: canary.shop.svc, vips: [/10.96.0.4], ports: {80: 80}, weightedWaypoints: [{destination: {destination: /10.0.0.9, hboneMtlsPort: 15008}, weight: 9}, {destination: {destination: shop/cart.shop.svc, hboneMtlsPort: 15008}, weight: 1}]}
- {name: headless, namespace: shop, hostname: headless.shop.svc, vips: [], ports: {80: 8080}}
`)

const store = new MeshStore()
store.apply([
  ...config.services.map(service => ({ kind: 'service', service }) as const),
  ...config.workloads.map(workload => ({ kind: 'workload', workload }) as const)
])
const server = store.view().workloadByUid('u/server') as Workload

interface Situation {
  readonly name: string
  readonly authority: string
  readonly forwardedHost?: string
  readonly workload?: Partial<Workload>
  readonly expect: Partial<InboundTarget> | Record<string, unknown>
}

const target = (port: number): object => ({ kind: 'target', target: { ip: podIp, port } })
const situations: readonly Situation[] = [
  { name: 'the pod’s own address', authority: `${podIp}:8080`, expect: target(8080) },
  { name: 'any port of it', authority: `${podIp}:1234`, expect: target(1234) },
  {
    name: 'another pod’s address is no way in',
    authority: '10.0.0.9:8080',
    expect: { kind: 'refused', code: 'AUTHORITY_MISMATCH', message: `ip mismatch: ${podIp} != 10.0.0.9` }
  },
  {
    name: 'nor is an address that nobody knows',
    authority: '8.8.8.8:53',
    expect: { kind: 'refused', code: 'AUTHORITY_MISMATCH' }
  },
  {
    name: 'nor a service of this pod by its VIP',
    authority: '10.96.0.1:80',
    expect: { kind: 'refused', code: 'AUTHORITY_MISMATCH' }
  },
  {
    name: 'a workload whose waypoint is this pod: only the port counts',
    authority: '10.0.0.7:7777',
    expect: target(7777)
  },
  {
    name: 'a service whose waypoint is a service of this pod',
    authority: '10.96.0.3:80',
    expect: target(80)
  },
  {
    name: 'a service that sends a share of its connections to this pod as waypoint',
    authority: '10.96.0.4:80',
    expect: target(80)
  },
  {
    name: 'a workload whose waypoint is somebody else',
    authority: '10.0.0.8:80',
    expect: { kind: 'refused', code: 'AUTHORITY_MISMATCH' }
  },
  {
    name: 'a pod with an application tunnel takes any address',
    authority: '8.8.8.8:80',
    workload: { applicationTunnel: { protocol: 'NONE', port: 0 } },
    expect: target(80)
  },
  {
    name: 'the tunnel’s port wins',
    authority: `${podIp}:80`,
    workload: { applicationTunnel: { protocol: 'NONE', port: 15_088 } },
    expect: target(15_088)
  },
  {
    name: 'a PROXY tunnel names the address that was asked for',
    authority: '10.96.0.9:80',
    workload: { applicationTunnel: { protocol: 'PROXY', port: 15_088 } },
    expect: { ...target(15_088), proxyDestination: { ip: '10.96.0.9', port: 80 } }
  },
  {
    name: 'a PROXY tunnel by host name: the service’s VIP',
    authority: 'cart.shop.svc:80',
    workload: { applicationTunnel: { protocol: 'PROXY', port: 15_088 } },
    expect: { proxyDestination: { ip: '10.96.0.1', port: 80 } }
  },
  {
    name: 'a PROXY tunnel to a service without VIP',
    authority: 'headless.shop.svc:80',
    workload: { applicationTunnel: { protocol: 'PROXY', port: 15_088 } },
    expect: { kind: 'refused', code: 'SERVICE_WITHOUT_ADDRESS' }
  },
  {
    name: 'a host name: the endpoint’s own port',
    authority: 'cart.shop.svc:81',
    expect: { ...target(8081), service: { name: 'cart' } }
  },
  { name: 'a host name: else the service’s port', authority: 'headless.shop.svc:80', expect: target(8080) },
  {
    name: 'a host name whose port nobody knows',
    authority: 'cart.shop.svc:82',
    expect: {
      kind: 'refused',
      code: 'PORT_UNKNOWN',
      message: 'requested service cart.shop.svc:82 found, but cannot resolve port'
    }
  },
  {
    name: 'a host name that nobody knows',
    authority: 'nothing.shop.svc:80',
    expect: {
      kind: 'refused',
      code: 'SERVICE_UNKNOWN',
      message: 'no service or workload for hostname: nothing.shop.svc'
    }
  },
  { name: 'our own port', authority: `${podIp}:15001`, expect: { kind: 'refused', code: 'RECURSIVE_CALL' } },
  {
    name: 'our own port behind a host name',
    authority: 'cart.shop.svc:83',
    expect: { kind: 'refused', code: 'RECURSIVE_CALL' }
  }
]

for (const { name, authority, forwardedHost, workload, expect } of situations) {
  t.test(name, async t => {
    const parsed = parseAuthority(authority)
    if (parsed === undefined) throw new Error(`no authority: ${authority}`)
    const found = findInboundTarget(store.view(), {
      authority: parsed,
      local: here,
      workload: { ...server, ...workload },
      network: '',
      forwardedHost,
      isIllegalPort: port => [15_001, 15_006, 15_008].includes(port)
    })
    t.match(found, expect)
  })
}

t.test(
  'the service that was meant: the one that the client names, else the first with that port',
  async t => {
    const meant = (forwarded: string | undefined, port: number): Service['name'] | undefined =>
      intendedService(store.view(), server, forwarded, port)?.name
    t.equal(meant('other.shop.svc', 8080), 'other')
    t.equal(meant(undefined, 8080), 'cart')
    t.equal(meant(undefined, 8081), 'cart')
    t.equal(meant(undefined, 9090), 'other')
    t.equal(meant('guarded.shop.svc', 9090), 'other', 'a name that is not of this pod does not count')
    t.equal(meant(undefined, 1), undefined)
  }
)
