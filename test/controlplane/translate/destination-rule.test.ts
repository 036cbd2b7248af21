import t from 'tap'
import { readMeshConfig } from '../../../controlplane/cluster/mesh-config.ts'
import type { DestinationRuleObject } from '../../../controlplane/cluster/objects.ts'
import { recipientName } from '../../../controlplane/desired/snapshot.ts'
import { translateDestinationRule } from '../../../controlplane/translate/destination-rule.ts'
import type { WorkloadMessage } from '../../../controlplane/translate/messages.ts'
import {
  translatePod,
  translateServiceEntryEndpoints,
  translateWorkloadEntry
} from '../../../controlplane/translate/workload.ts'
import { decodeAddress } from '../../../shared/mesh/decode.ts'
import { noLabels } from '../../../shared/mesh/model.ts'
import { message } from '../../../shared/xds/schema.ts'
import { objects, settings, world } from '../world.ts'

const gateway = (namespace: string): string =>
  `kind: Gateway\nmetadata: {name: wp, namespace: ${namespace}}\nspec: {gatewayClassName: c, listeners: [{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: All}}}]}\nstatus: {addresses: [{type: Hostname, value: wp.${namespace}}]}\n---\n`

/** Namespace shop has a waypoint of its own, `mart` goes through that of `edge`, whose routes lead to `db` of `other`. */
const cluster = `${gateway('shop')}${gateway('edge')}kind: Service
metadata: {name: web, labels: {istio.io/use-waypoint: wp}}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
kind: Service
metadata: {name: mart, namespace: mart, labels: {istio.io/use-waypoint: wp, istio.io/use-waypoint-namespace: edge}}
spec: {ports: [{port: 80}]}
---
kind: Service
metadata: {name: db, namespace: other}
spec: {ports: [{port: 80}]}
---
kind: Service
metadata: {name: free}
spec: {selector: {app: free}, ports: [{port: 80}]}
---
kind: HTTPRoute
metadata: {name: r, namespace: mart}
spec: {parentRefs: [{group: "", kind: Service, name: mart}], rules: [{backendRefs: [{namespace: other, name: db, port: 80}]}]}
---
kind: ReferenceGrant
metadata: {name: g, namespace: other}
spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: mart}], to: [{group: "", kind: Service}]}
---
kind: ServiceEntry
metadata: {name: api, labels: {istio.io/use-waypoint: wp}}
spec: {hosts: [api.example], resolution: DNS, endpoints: [{address: 10.9.0.1, labels: {version: v1, app: api}}]}
---
kind: ServiceEntry
metadata: {name: older, creationTimestamp: "2019-01-01T00:00:00Z", labels: {istio.io/use-waypoint: wp}}
spec: {hosts: [taken.example], resolution: DNS}
---
kind: ServiceEntry
metadata: {name: younger, creationTimestamp: "2020-01-01T00:00:00Z"}
spec: {hosts: [taken.example], resolution: DNS}
---
`
const rule = (spec: string, namespace = 'shop'): string =>
  `kind: DestinationRule\nmetadata: {name: r, namespace: ${namespace}, creationTimestamp: "2020-01-01T00:00:00Z"}\nspec: {${spec}}\n---\n`

function ruleOf(yaml: string): DestinationRuleObject {
  const [object] = objects(yaml)
  if (object?.kind !== 'DestinationRule') throw new Error('no rule')
  return object
}

const shop = 'shop/wp.shop'
const edge = 'edge/wp.edge'

t.test('a rule goes to the waypoints that know its service and heed its namespace', async t => {
  const rows = [
    { host: 'web', to: [shop], as: 'web.shop.svc.cluster.local' },
    { host: 'web.shop.svc.cluster.local', to: [shop] },
    { host: 'web', namespace: 'other', to: [], what: 'web of namespace other is not there' },
    { host: 'web.shop', to: [], what: 'what has a dot is a whole name' },
    { host: 'free', to: [], what: 'no waypoint' },
    { host: 'gone', to: [] },
    { host: 'api.example', to: [shop] },
    { host: 'taken.example', to: [shop], what: 'once, by whom the host belongs to' },
    { host: 'mart.mart.svc.cluster.local', namespace: 'mart', to: [edge], what: 'of the service' },
    { host: 'mart.mart.svc.cluster.local', namespace: 'edge', to: [edge], what: 'of the waypoint' },
    { host: 'mart.mart.svc.cluster.local', namespace: 'istio-system', to: [edge], what: 'of all' },
    { host: 'mart.mart.svc.cluster.local', namespace: 'shop', to: [], what: 'of somebody else' },
    { host: 'db', namespace: 'other', to: [edge], what: 'a route leads there' },
    { host: 'db.other.svc.cluster.local', namespace: 'edge', to: [edge] },
    { host: 'db.other.svc.cluster.local', namespace: 'mart', to: [], what: 'of the parent only' },
    { host: '"*.shop.svc.cluster.local"', to: [shop] },
    { host: '"*.svc.cluster.local"', namespace: 'edge', to: [edge], what: 'its waypoints alone' },
    { host: '"*"', namespace: 'istio-system', to: [shop, edge] },
    { host: '"*.example"', to: [shop] },
    { host: '"*.example.com"', to: [] },
    { host: 'web, exportTo: [.]', to: [shop] },
    { host: 'web, exportTo: ["*"]', to: [shop] },
    { host: 'web, exportTo: [edge]', to: [], what: 'for others only' },
    { host: 'mart, exportTo: [.]', namespace: 'mart', to: [], what: 'its waypoint is elsewhere' },
    { host: 'mart, exportTo: [., edge]', namespace: 'mart', to: [edge] },
    { host: '"*", exportTo: [shop]', namespace: 'istio-system', to: [shop] },
    { host: 'mart.mart.svc.cluster.local, exportTo: [.]', namespace: 'edge', to: [edge] },
    { host: 'mart.mart.svc.cluster.local, exportTo: [mart]', namespace: 'edge', to: [] },
    { host: 'web, workloadSelector: {matchLabels: {a: b}}', to: [], what: 'that is for sidecars' }
  ]
  for (const { host, namespace, to, as, what = '' } of rows) {
    const yaml = rule(`host: ${host}, subsets: []`, namespace)
    const sent = translateDestinationRule(world(cluster + yaml), ruleOf(yaml))
    const name = `host: ${host} in ${namespace ?? 'shop'} ${what}`
    t.strictSame(new Set(sent?.waypoints.map(recipientName)), new Set(to), name)
    if (as !== undefined) t.equal(sent?.message.spec['host'], as)
  }
})

t.test('the spec goes as it is written, with the whole host', async t => {
  const yaml = rule('host: web, trafficPolicy: {connectionPool: {http: {maxRetries: 3}}}, exportTo: [.]')
  t.strictSame(translateDestinationRule(world(cluster + yaml), ruleOf(yaml))?.message, {
    namespace: 'shop',
    name: 'r',
    createdMs: Date.parse('2020-01-01T00:00:00Z'),
    spec: {
      host: 'web.shop.svc.cluster.local',
      trafficPolicy: { connectionPool: { http: { maxRetries: 3 } } },
      exportTo: ['.']
    }
  })
})

t.test('who sees a rule that does not say so is for the mesh configuration to say', async t => {
  const yaml = rule('host: mart', 'mart')
  const own = rule('host: web')
  for (const { config, to, toOwn } of [
    { config: '', to: [edge], toOwn: [shop] },
    { config: 'defaultDestinationRuleExportTo: ["*"]', to: [edge], toOwn: [shop] },
    { config: 'defaultDestinationRuleExportTo: ["."]', to: [], toOwn: [shop] }
  ]) {
    const read = readMeshConfig(config, settings)
    if (read.kind === 'problem') throw new Error(read.message)
    const sentTo = (text: string): readonly string[] =>
      translateDestinationRule(world(cluster + text, read.settings), ruleOf(text))?.waypoints.map(
        recipientName
      ) ?? []
    t.strictSame(sentTo(yaml), to, config)
    t.strictSame(sentTo(own), toOwn, config)
  }
})

t.test('a rule asks for the labels that its subsets and its order of failing over name', async t => {
  const priority = (holder: string, labels: string): string =>
    `loadBalancer: {${holder}: {failoverPriority: [${labels}]}}`
  const rows = [
    { spec: '', keys: [] },
    {
      spec: 'subsets: [{name: a, labels: {version: v1, app: x}}, {name: b, labels: {version: v2}}]',
      keys: ['app', 'version']
    },
    {
      spec: `trafficPolicy: {${priority('localityLbSetting', 'topology.kubernetes.io/region, "rack=r1"')}}`,
      keys: ['rack', 'topology.kubernetes.io/region']
    },
    { spec: `trafficPolicy: {${priority('zoneAwareLbSetting', 'rack')}}`, keys: ['rack'] },
    {
      spec: `trafficPolicy: {portLevelSettings: [{port: {number: 80}, ${priority('localityLbSetting', 'rack')}}]}`,
      keys: ['rack']
    },
    {
      spec: `subsets: [{name: a, labels: {v: "1"}, trafficPolicy: {${priority('localityLbSetting', 'rack')}}}]`,
      keys: ['rack', 'v']
    },
    {
      spec: `subsets: [{name: a, trafficPolicy: {portLevelSettings: [{${priority('localityLbSetting', 'rack')}}]}}]`,
      keys: ['rack']
    }
  ]
  for (const { spec, keys } of rows) t.strictSame(ruleOf(rule(`host: web, ${spec}`)).labelKeys, keys, spec)
})

t.test('a rule that cannot be read names the field', async t => {
  const rows = [
    { spec: 'subsets: []', problem: /spec\.host: is missing/ },
    { spec: 'host: 5', problem: /spec\.host: expected text, found 5/ },
    { spec: 'host: web, exportTo: all', problem: /spec\.exportTo: expected a list/ },
    {
      spec: 'host: web, subsets: [{name: a, labels: {version: 2}}]',
      problem: /spec\.subsets\[0\]\.labels\.version: expected text/
    },
    {
      spec: 'host: web, trafficPolicy: {loadBalancer: {localityLbSetting: {failoverPriority: rack}}}',
      problem: /trafficPolicy\.loadBalancer\.localityLbSetting\.failoverPriority: expected a list/
    }
  ]
  for (const { spec, problem } of rows) t.throws(() => objects(rule(spec)), { message: problem }, spec)
})

t.test('a workload has the labels that rules for its services ask for', async t => {
  const pod = `kind: Pod\nmetadata: {name: p, labels: {app: web, version: v1, team: a, empty: ""}}\nspec: {}\nstatus: {podIPs: [{ip: 10.0.0.1}]}\n---\n`
  const asks = (host: string, keys: string, more = ''): string =>
    `host: ${host}, subsets: [{name: s, labels: {${keys}}}]${more}`
  const rows = [
    { rules: [rule(asks('web', 'version: v1'))], labels: { version: 'v1' } },
    { rules: [rule(asks('web', 'version: v9, empty: x, zone: z'))], labels: { empty: '', version: 'v1' } },
    { rules: [rule(asks('"*"', 'team: a'), 'istio-system')], labels: { team: 'a' } },
    {
      rules: [rule(asks('web', 'team: a')), rule(asks('"*"', 'version: a'), 'istio-system')],
      labels: { team: 'a', version: 'v1' }
    },
    { rules: [], labels: {} },
    { rules: [rule('host: web')], labels: {} },
    { rules: [rule(asks('free', 'version: v1'))], labels: {}, what: 'another service' },
    {
      rules: [rule(asks('web.shop.svc.cluster.local', 'version: v1'), 'other')],
      labels: {},
      what: 'no waypoint heeds it'
    },
    { rules: [rule(asks('web', 'version: v1', ', workloadSelector: {}'))], labels: {}, what: 'for sidecars' }
  ]
  for (const { rules, labels, what = '' } of rows) {
    const view = world(cluster + pod + rules.join(''))
    const [object] = view.all('Pod')
    if (object === undefined) throw new Error('no pod')
    t.strictSame(labelsOf(translatePod(view, object)), labels, rules.join('') + what)
  }
})

t.test('so has an endpoint that is no pod', async t => {
  const asking =
    rule('host: api.example, subsets: [{name: s, labels: {version: v1}}]') +
    rule('host: web, subsets: [{name: s, labels: {version: v1}}]').replace('name: r', 'name: s')
  const vms =
    'kind: WorkloadEntry\nmetadata: {name: vm, labels: {app: web}}\nspec: {address: 10.0.0.9, labels: {version: v7}}\n'
  const view = world(cluster + asking + vms)
  const entry = view.get('ServiceEntry', 'shop/api')
  const vm = view.get('WorkloadEntry', 'shop/vm')
  if (entry === undefined || vm === undefined) throw new Error('no entry')
  t.strictSame(translateServiceEntryEndpoints(view, entry).map(labelsOf), [{ version: 'v1' }])
  t.strictSame(labelsOf(translateWorkloadEntry(view, vm)), { version: 'v7' })
})

/** As a client decodes them from the bytes. */
function labelsOf(workload: WorkloadMessage | undefined): unknown {
  const decoded = decodeAddress(message('istio.workload.Address').encode({ workload }))
  if (decoded.kind !== 'workload') throw new Error('no workload')
  const { labels } = decoded.workload
  if (labels.size === 0 && labels !== noLabels) throw new Error('an extension without labels')
  return Object.fromEntries(labels)
}
