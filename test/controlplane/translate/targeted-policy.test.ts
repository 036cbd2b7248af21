import t from 'tap'
import { recipientName } from '../../../controlplane/desired/snapshot.ts'
import { targetedPolicy } from '../../../controlplane/translate/targeted-policy.ts'
import { world } from '../world.ts'

const gateway = (name: string, namespace: string, className = 'mesh'): string =>
  `kind: Gateway\nmetadata: {name: ${name}, namespace: ${namespace}}\nspec: {gatewayClassName: ${className}, listeners: [{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: All}}}]}\nstatus: {addresses: [{type: Hostname, value: ${name}.${namespace}.svc.cluster.local}]}\n---\n`
const cluster = `${gateway('wp', 'shop')}${gateway('far', 'other')}${gateway('edge', 'shop', 'ingress')}kind: GatewayClass
metadata: {name: mesh}
spec: {controllerName: underpass.dev/waypoint-controller}
---
kind: GatewayClass
metadata: {name: ingress}
spec: {controllerName: example.com/ingress}
---
kind: Service
metadata: {name: web, labels: {istio.io/use-waypoint: wp}}
spec: {ports: [{port: 80}]}
---
kind: Service
metadata: {name: remote, labels: {istio.io/use-waypoint: far, istio.io/use-waypoint-namespace: other, istio.io/use-waypoint-canary: wp}}
spec: {ports: [{port: 80}]}
---
kind: Service
metadata: {name: free}
spec: {ports: [{port: 80}]}
---
kind: Service
metadata: {name: theirs, namespace: other, labels: {istio.io/use-waypoint: far}}
spec: {ports: [{port: 80}]}
---
kind: ServiceEntry
metadata: {name: api, labels: {istio.io/use-waypoint: wp}}
spec: {hosts: [api.example], resolution: DNS}
---
`

const wp = 'shop/wp.shop.svc.cluster.local'
const far = 'other/far.other.svc.cluster.local'

t.test('a policy goes to the waypoints of its targets', async t => {
  const rows = [
    { targets: '{kind: Service, name: web}', waypoints: [wp] },
    { targets: '{kind: Service, name: remote}', waypoints: [far, wp] },
    { targets: '{group: networking.istio.io, kind: ServiceEntry, name: api}', waypoints: [wp] },
    { targets: '{group: gateway.networking.k8s.io, kind: Gateway, name: wp}', waypoints: [wp] },
    { targets: '{kind: Service, name: web}, {kind: Service, name: free}', waypoints: [wp] },
    { targets: '{kind: Service, name: free}', waypoints: undefined },
    { targets: '{kind: Service, name: gone}', waypoints: undefined },
    { targets: '{kind: Service, name: theirs, namespace: other}', waypoints: undefined },
    { targets: '{kind: Gateway, name: far, namespace: other}', waypoints: undefined },
    { targets: '{kind: GatewayClass, name: mesh}', waypoints: undefined },
    { targets: '{kind: GatewayClass, name: mesh}', namespace: 'istio-system', waypoints: [wp, far] },
    { targets: '{kind: GatewayClass, name: ingress}', namespace: 'istio-system', waypoints: undefined }
  ]
  for (const { targets, namespace = 'shop', waypoints } of rows) {
    for (const kind of ['AuthorizationPolicy', 'RequestAuthentication', 'RateLimitPolicy'] as const) {
      const metadata = `metadata: {name: p, namespace: ${namespace}}`
      const view = world(`${cluster}kind: ${kind}\n${metadata}\nspec: {targetRefs: [${targets}]}\n`)
      const policy = view.get(kind, `${namespace}/p`)
      const sent = policy === undefined ? undefined : targetedPolicy(view, policy)
      t.strictSame(sent?.waypoints.map(recipientName), waypoints, `${kind} of ${namespace} for ${targets}`)
    }
  }
})

t.test('its spec is sent as it is written, with the mark of a dry run', async t => {
  const spec =
    '{targetRefs: [{kind: Service, name: web}], action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]}'
  const metadata = 'metadata: {name: p, annotations: {istio.io/dry-run: "true", other: x}}'
  const view = world(`${cluster}kind: AuthorizationPolicy\n${metadata}\nspec: ${spec}\n`)
  const policy = view.get('AuthorizationPolicy', 'shop/p')
  t.strictSame(policy === undefined ? undefined : targetedPolicy(view, policy)?.message, {
    namespace: 'shop',
    name: 'p',
    createdMs: 0,
    annotations: { 'istio.io/dry-run': 'true' },
    spec: {
      targetRefs: [{ kind: 'Service', name: 'web' }],
      action: 'DENY',
      rules: [{ to: [{ operation: { methods: ['GET'] } }] }]
    }
  })
})
