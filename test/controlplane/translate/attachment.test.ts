import t from 'tap'
import type { MeshSettings } from '../../../controlplane/cluster/settings.ts'
import { allowWaypoint } from '../../../controlplane/translate/attachment.ts'
import { translatePod } from '../../../controlplane/translate/workload.ts'
import { waypoint, world } from '../world.ts'

const pod = `
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {serviceAccountName: web}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}
---
`

function attached(yaml: string, changed: Partial<MeshSettings> = {}): readonly string[] | undefined {
  const view = world(pod + yaml, changed)
  const found = view.get('Pod', 'shop/web')
  return found === undefined ? undefined : (translatePod(view, found)?.authorizationPolicies ?? [])
}

const policy = (name: string, spec: string, namespace = 'shop', annotations = '{}'): string =>
  `kind: AuthorizationPolicy\nmetadata: {name: ${name}, namespace: ${namespace}, annotations: ${annotations}}\nspec: ${spec}\n---\n`
const web = 'selector: {matchLabels: {app: web}}'

t.test('policies that a workload lists', async t => {
  t.strictSame(attached(policy('b', `{${web}}`) + policy('a', `{${web}}`)), ['shop/a', 'shop/b'], 'sorted')
  t.strictSame(
    attached(policy('a', `{${web}}`) + policy('r', `{${web}}`, 'istio-system')),
    ['istio-system/r', 'shop/a'],
    'those of the root namespace too'
  )
  t.strictSame(attached(policy('a', `{${web}}`, 'other')), [], 'not those of other namespaces')
  t.strictSame(
    attached(policy('a', '{}') + policy('m', '{}', 'istio-system')),
    [],
    'not those found by scope'
  )
  t.strictSame(attached(policy('a', '{selector: {matchLabels: {app: db}}}')), [], 'not those for others')
  t.strictSame(attached(policy('a', `{${web}, action: AUDIT}`)), [], 'not one that is not sent')
  t.strictSame(
    attached(policy('a', `{${web}}`, 'shop', '{istio.io/dry-run: "true"}')),
    [],
    'not one in dry run, which is not sent'
  )
  t.strictSame(
    attached(
      `${policy('z', `{${web}}`)}kind: PeerAuthentication\nmetadata: {name: d, namespace: shop}\nspec: {mtls: {mode: STRICT}}\n`
    ),
    ['shop/z', 'istio-system/istio_converted_static_strict'],
    'what PeerAuthentications ask for comes after'
  )
})

t.test('a waypoint reaches the workloads that it serves', async t => {
  const serving = `${waypoint}kind: Service
metadata: {name: web, labels: {istio.io/use-waypoint: wp}}
spec: {selector: {app: web}}
---
`
  const allow = policy('a', `{${web}, rules: [{from: [{source: {namespaces: [x]}}]}]}`)
  const name = 'shop/istio_allow_waypoint_shop_wp'
  t.strictSame(attached(serving + allow), ['shop/a', name], 'under an ALLOW policy')
  t.strictSame(attached(serving + policy('n', '{}')), [name], 'of its namespace too')
  t.strictSame(attached(serving + policy('n', '{}', 'istio-system')), [name], 'of the mesh too')
  t.strictSame(attached(serving), [], 'without one everybody may, and it would shut the others out')
  t.strictSame(attached(serving + policy('n', '{action: DENY}')), [], 'a DENY policy changes nothing')
  t.strictSame(
    attached(serving + allow, { allowWaypoints: false }),
    ['shop/a'],
    'unless the operator says no'
  )
  const view = world(serving)
  const gateway = view.get('Gateway', 'shop/wp')
  t.strictSame(gateway === undefined ? gateway : allowWaypoint(view, gateway), {
    name: 'istio_allow_waypoint_shop_wp',
    namespace: 'shop',
    scope: 'WORKLOAD_SELECTOR',
    rules: [{ clauses: [{ matches: [{ principals: [{ exact: 'cluster.local/ns/shop/sa/wp' }] }] }] }]
  })
  const without = world(serving.replace('gateway.networking.k8s.io/gateway-name: wp', 'x: y'))
  const idle = without.get('Gateway', 'shop/wp')
  t.equal(
    idle === undefined ? idle : allowWaypoint(without, idle),
    undefined,
    'no pods, no principal, no policy'
  )
})
