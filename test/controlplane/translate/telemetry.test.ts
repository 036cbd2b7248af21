/** TM-17: which waypoints and gateways are sent a Telemetry. */
import t from 'tap'
import { recipientName } from '../../../controlplane/desired/snapshot.ts'
import { translateTelemetry } from '../../../controlplane/translate/telemetry.ts'
import { world } from '../world.ts'

const gateway = (name: string, namespace: string): string =>
  `kind: Gateway\nmetadata: {name: ${name}, namespace: ${namespace}}\nspec: {gatewayClassName: mesh, listeners: [{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: All}}}]}\nstatus: {addresses: [{type: Hostname, value: ${name}.${namespace}.svc.cluster.local}]}\n---\n`
const cluster = `${gateway('wp', 'shop')}${gateway('far', 'other')}kind: GatewayClass
metadata: {name: mesh}
spec: {controllerName: underpass.dev/waypoint-controller}
---
kind: Service
metadata: {name: web, labels: {istio.io/use-waypoint: wp}}
spec: {ports: [{port: 80}]}
---
kind: Service
metadata: {name: away, namespace: third, labels: {istio.io/use-waypoint: far, istio.io/use-waypoint-namespace: other}}
spec: {ports: [{port: 80}]}
---
kind: ServiceEntry
metadata: {name: api, namespace: fourth, labels: {istio.io/use-waypoint: wp, istio.io/use-waypoint-namespace: shop}}
spec: {hosts: [api.example], resolution: DNS}
---
`
const wp = 'shop/wp.shop.svc.cluster.local'
const far = 'other/far.other.svc.cluster.local'

const rows: readonly {
  readonly name: string
  readonly namespace: string
  readonly spec?: string
  readonly waypoints: readonly string[]
}[] = [
  { name: 'of the root namespace: all', namespace: 'istio-system', waypoints: [far, wp] },
  { name: 'of a namespace with a waypoint: this', namespace: 'shop', waypoints: [wp] },
  { name: "of a service's namespace: its waypoint elsewhere", namespace: 'third', waypoints: [far] },
  { name: "of a ServiceEntry's namespace: its waypoint elsewhere", namespace: 'fourth', waypoints: [wp] },
  { name: 'of a namespace without: nobody', namespace: 'fifth', waypoints: [] },
  {
    name: 'for the pods of a selector: nobody',
    namespace: 'shop',
    spec: 'selector: {matchLabels: {a: b}}',
    waypoints: []
  },
  {
    name: 'for a service',
    namespace: 'third',
    spec: 'targetRefs: [{kind: Service, name: away}]',
    waypoints: [far]
  },
  {
    name: 'for a Gateway',
    namespace: 'shop',
    spec: 'targetRefs: [{kind: Gateway, name: wp}]',
    waypoints: [wp]
  },
  {
    name: 'for what is not there',
    namespace: 'shop',
    spec: 'targetRefs: [{kind: Service, name: gone}]',
    waypoints: []
  }
]
for (const { name, namespace, spec = '', waypoints } of rows) {
  t.test(name, async t => {
    const written = `{${spec === '' ? '' : `${spec}, `}tracing: [{randomSamplingPercentage: 5}]}`
    const view = world(
      `${cluster}kind: Telemetry\nmetadata: {name: t, namespace: ${namespace}}\nspec: ${written}\n`
    )
    const telemetry = view.get('Telemetry', `${namespace}/t`)
    const sent = telemetry && translateTelemetry(view, telemetry)
    t.strictSame([...new Set((sent?.waypoints ?? []).map(recipientName))].toSorted(), waypoints)
    if (waypoints.length === 0) return
    t.match(sent, {
      kind: 'Telemetry',
      message: { namespace, name: 't', spec: { tracing: [{ randomSamplingPercentage: 5 }] } }
    })
  })
}
