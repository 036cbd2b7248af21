import t from 'tap'
import { DesiredState } from '../../../controlplane/desired/desired-state.ts'
import type { ClusterView } from '../../../controlplane/cluster/cluster.ts'
import type { Unit } from '../../../controlplane/desired/affected.ts'
import { keyOf, type MeshObject } from '../../../controlplane/cluster/objects.ts'
import { assignedAddresses } from '../../../controlplane/translate/gateway-address.ts'
import { gatewayReport } from '../../../controlplane/translate/gateway-report.ts'
import { tables, type Changes, type Snapshot } from '../../../controlplane/desired/snapshot.ts'
import { generator, randomGatewayObject, randomObject, randomRuledObject } from './random-objects.ts'
import { objects, settings } from '../world.ts'

const shop = `
kind: Namespace
metadata: {name: istio-system}
---
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/zone: z1}}
---
kind: Pod
metadata: {name: a, labels: {app: web}}
spec: {nodeName: n1}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}], conditions: [{type: Ready, status: "True"}]}
---
kind: Pod
metadata: {name: b, labels: {app: db}}
spec: {nodeName: n1}
status: {phase: Running, podIPs: [{ip: 10.0.0.2}], conditions: [{type: Ready, status: "True"}]}
---
kind: Service
metadata: {name: web}
spec: {clusterIPs: [10.96.0.1], selector: {app: web}, ports: [{port: 80}]}
---
kind: AuthorizationPolicy
metadata: {name: p}
spec: {selector: {matchLabels: {app: web}}}
`

function started(yaml: string): DesiredState {
  const desired = new DesiredState(settings)
  for (const object of objects(yaml)) desired.put(object)
  desired.refresh()
  return desired
}

function change(desired: DesiredState, yaml: string): Changes {
  for (const object of objects(yaml)) desired.put(object)
  return desired.refresh()
}

const names = (changes: Changes): unknown => ({
  changed: [...changes.address.changed, ...changes.authorization.changed].toSorted(),
  removed: [...changes.address.removed, ...changes.authorization.removed].toSorted()
})

const podUid = (name: string): string => `Kubernetes//Pod/shop/${name}`

t.test('a change sends just what is different', async t => {
  const desired = started(shop)
  const podA = shop.split('---\n')[2] ?? ''
  t.strictSame(
    names(change(desired, podA.replace('"True"', '"False"'))),
    { changed: [podUid('a')], removed: [] },
    'one pod, one resource'
  )
  t.strictSame(
    names(change(desired, podA.replace('"True"', '"False"'))),
    { changed: [], removed: [] },
    'no news is no push'
  )
  t.strictSame(
    names(
      change(
        desired,
        'kind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/zone: z1, heartbeat: "1"}}\n'
      )
    ),
    { changed: [], removed: [] },
    'a label that nobody reads is no news'
  )
  t.strictSame(
    names(change(desired, 'kind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/zone: z2}}\n')),
    { changed: [podUid('a'), podUid('b')], removed: [] },
    'a zone is news for the pods of the node'
  )
  t.strictSame(
    names(
      change(
        desired,
        'kind: Service\nmetadata: {name: web}\nspec: {clusterIPs: [10.96.0.1], selector: {app: db}, ports: [{port: 80}]}\n'
      )
    ),
    { changed: [podUid('a'), podUid('b')], removed: [] },
    'another selector moves pods, and the service itself is as it was'
  )
  desired.delete('AuthorizationPolicy', 'shop/p')
  t.strictSame(
    names(desired.refresh()),
    { changed: [podUid('a')], removed: ['shop/p'] },
    'a policy that is gone'
  )
  desired.delete('Pod', 'shop/b')
  t.strictSame(names(desired.refresh()), { changed: [], removed: [podUid('b')] })
  t.strictSame(
    names(
      change(
        desired,
        'kind: Namespace\nmetadata: {name: istio-system, labels: {topology.istio.io/network: far}}\n'
      )
    ),
    { changed: [podUid('a'), 'shop/web.shop.svc.cluster.local'], removed: [] },
    'the network of the mesh is in all addresses'
  )
})

t.test('one pod takes the address of another in one step', async t => {
  const desired = started(shop)
  desired.delete('Pod', 'shop/b')
  const changes = change(desired, 'kind: Pod\nmetadata: {name: c}\nstatus: {podIPs: [{ip: 10.0.0.2}]}\n')
  t.strictSame(names(changes), { changed: [podUid('c')], removed: [podUid('b')] })
  t.strictSame([...desired.snapshot.atAddress('/10.0.0.2')], [podUid('c')])
})

t.test('objects of another revision are not ours', async t => {
  const entry = (label: string): string =>
    `kind: ServiceEntry\nmetadata: {name: e, labels: {${label}}}\nspec: {hosts: [h], resolution: DNS}\n`
  const desired = started(entry('istio.io/rev: default'))
  t.equal(desired.snapshot.table('address').size, 2)
  t.strictSame(names(change(desired, entry('istio.io/rev: canary'))), {
    changed: [],
    removed: ['Kubernetes/networking.istio.io/ServiceEntry/shop/e/h', 'shop/h']
  })
})

t.test('an object that cannot be translated keeps what it gave, and holds nothing up', async t => {
  const desired = started(shop)
  const [pod] = objects(shop).filter(({ kind, meta }) => kind === 'Pod' && meta.name === 'a')
  if (pod?.kind !== 'Pod') throw new Error('no pod')
  desired.put({ ...pod, ips: undefined } as never)
  for (const other of objects('kind: ServiceEntry\nmetadata: {name: e}\nspec: {hosts: [h]}\n'))
    desired.put(other)
  const faults: string[] = []
  const changes = desired.refresh(undefined, unit => faults.push(`${unit.kind} ${unit.key}`))
  t.strictSame(faults, ['Pod shop/a'])
  t.strictSame(names(changes), { changed: ['shop/h'], removed: [] })
  t.ok(desired.snapshot.table('address').has(podUid('a')))
})

t.test('namespaces that are not discovered are not there', async t => {
  const desired = started(`${shop}---\nkind: Namespace\nmetadata: {name: shop, labels: {mesh: in}}\n`)
  const select = (value: string): object => ({
    ...settings,
    discoverySelectors: [{ matchLabels: { mesh: value } }]
  })
  desired.configure({ ...settings, ...select('out') })
  desired.refresh()
  t.strictSame([desired.snapshot.table('address').size, desired.snapshot.table('authorization').size], [0, 0])
  t.strictSame(
    names(change(desired, 'kind: Namespace\nmetadata: {name: shop, labels: {mesh: out}}\n')),
    {
      changed: [podUid('a'), podUid('b'), 'shop/p', 'shop/web.shop.svc.cluster.local'].toSorted(),
      removed: []
    },
    'they come as soon as their labels say so'
  )
})

const gatewayAt = (address: string): string =>
  `kind: Gateway\nmetadata: {name: wp}\nspec: {gatewayClassName: c}\nstatus: {addresses: [${address}]}\n---\n`

t.test('a policy with targets follows all that decides who enforces it', async t => {
  const ready = gatewayAt('{type: Hostname, value: wp.shop.svc.cluster.local}')
  const namespace = (labels: string): string =>
    `kind: Namespace\nmetadata: {name: shop, labels: {${labels}}}\n---\n`
  const policy = (target: string, where: string): string =>
    `kind: AuthorizationPolicy\nmetadata: {name: p, namespace: ${where}}\nspec: {targetRefs: [${target}]}\n---\n`
  const web = 'kind: Service\nmetadata: {name: web}\nspec: {}\n---\n'
  const use = namespace('istio.io/use-waypoint: wp')
  const gatewayClass = (controller: string): string =>
    `kind: GatewayClass\nmetadata: {name: c}\nspec: {controllerName: ${controller}}\n---\n`
  const ours = gatewayClass('underpass.dev/waypoint-controller')
  const toService = policy('{kind: Service, name: web}', 'shop')
  const toGateway = policy('{kind: Gateway, name: wp}', 'shop')
  const toClass = policy('{kind: GatewayClass, name: c}', 'istio-system')
  const rows = [
    { what: 'the service', before: ready + use + toService, later: web },
    { what: 'its namespace', before: ready + web + toService, later: use },
    { what: 'the waypoint of the service', before: gatewayAt('') + use + web + toService, later: ready },
    { what: 'the gateway', before: toGateway, later: ready },
    { what: 'the address of the gateway', before: gatewayAt('') + toGateway, later: ready },
    { what: 'the class', before: ready + toClass, later: ours },
    { what: 'the controller of the class', before: ready + gatewayClass('x') + toClass, later: ours },
    { what: 'a gateway of the class', before: ours + toClass, later: ready }
  ]
  for (const { what, before, later } of rows) {
    const desired = started(before)
    const enforced = (): readonly string[] =>
      [...desired.snapshot.table('AuthorizationPolicy').values()].flatMap(({ waypoints }) => waypoints)
    t.strictSame(enforced(), [], `without ${what}`)
    change(desired, later)
    t.strictSame(enforced(), ['shop/wp.shop.svc.cluster.local'], what)
  }
})

t.test('a VirtualService follows all that decides whom it is for and where it leads', async t => {
  const service = (name: string, namespace: string, more = ''): string =>
    `kind: Service\nmetadata: {name: ${name}, namespace: ${namespace}, labels: {${more}}}\nspec: {selector: {app: x}, ports: [{port: 80}]}\n---\n`
  const web = service('web', 'shop', 'istio.io/use-waypoint: wp')
  const entry = (host: string): string =>
    `kind: ServiceEntry\nmetadata: {name: e}\nspec: {hosts: [${host}], resolution: STATIC, ports: [{number: 80, name: p}]}\n---\n`
  const virtualService = (host: string, to: string, more = ''): string =>
    `kind: VirtualService\nmetadata: {name: v}\nspec: {hosts: [${host}], http: [{route: [{destination: {host: ${to}}}]}]${more}}\n---\n`
  const db = 'db.other.svc.cluster.local'
  const namespaces = (label: string): string =>
    `kind: Namespace\nmetadata: {name: other, labels: {mesh: in}}\n---\nkind: Namespace\nmetadata: {name: shop, labels: {mesh: ${label}}}\n---\n`
  // What is known of db shows as its waypoints, and as the label of its pod that a rule asks for.
  const base = `${namespaces('in')}${gatewayAt('{type: Hostname, value: wp.shop.svc.cluster.local}')}${service('db', 'other')}kind: Pod
metadata: {name: x, namespace: other, labels: {app: x, version: v1}}
status: {podIPs: [{ip: 10.0.0.1}]}
---
kind: DestinationRule
metadata: {name: r, namespace: other}
spec: {host: db, subsets: [{name: s, labels: {version: v1}}]}
---
`
  const rows = [
    { what: 'its hosts', before: web + virtualService('gone', db), later: virtualService('web', db) },
    {
      what: 'where it leads',
      before: web + virtualService('web', 'gone'),
      later: virtualService('web', db)
    },
    {
      what: 'the port there',
      before: web + virtualService('web', `${db}, port: {number: 81}`),
      later: virtualService('web', `${db}, port: {number: 80}`)
    },
    {
      what: 'exportTo',
      before: web + virtualService('web', db, ', exportTo: [other]'),
      later: virtualService('web', db)
    },
    {
      what: 'gateways',
      before: web + virtualService('web', db, ', gateways: [g]'),
      later: virtualService('web', db)
    },
    { what: 'its service', before: virtualService('web', db), later: web },
    {
      what: 'the waypoint of its service',
      before: service('web', 'shop') + virtualService('web', db),
      later: web
    },
    {
      what: 'who has the host where it leads',
      before: web + entry(db) + virtualService('web', db),
      later: entry('elsewhere')
    },
    {
      what: 'the waypoint',
      before: gatewayAt('') + web + virtualService('web', db),
      later: gatewayAt('{type: Hostname, value: wp.shop.svc.cluster.local}')
    },
    {
      what: 'whether its namespace is in the mesh',
      before: namespaces('out') + web + virtualService('web', db),
      later: namespaces('in')
    }
  ]
  const state = (yaml: string): DesiredState => {
    const desired = new DesiredState({ ...settings, discoverySelectors: [{ matchLabels: { mesh: 'in' } }] })
    for (const object of objects(yaml)) desired.put(object)
    desired.refresh()
    return desired
  }
  for (const { what, before, later } of rows) {
    const desired = state(base + before)
    const known = (): unknown => desired.snapshot.table('address').get(`other/${db}`)?.waypoints
    t.strictSame(known(), [], `without ${what}`)
    change(desired, later)
    t.strictSame(known(), ['shop/wp.shop.svc.cluster.local'], what)
    t.strictSame(
      versions(desired.snapshot),
      versions(state(base + before + later).snapshot),
      'and all the rest'
    )
  }
})

t.test('the version is the content, so a restart changes nothing', async t => {
  t.strictSame(versions(started(shop).snapshot), versions(started(shop).snapshot))
})

/**
 * Whatever happens in whatever order, translating only what is affected gives the same as translating
 * everything. Seeds are printed; UNDERPASS_SEED runs one again.
 */
for (const randomYaml of [randomObject, randomRuledObject, randomGatewayObject]) {
  t.test('only what is affected is translated, and nothing is missed', async t => {
    const first = Number(process.env['UNDERPASS_SEED'] ?? Date.now() % 1_000_000)
    for (let seed = first; seed < first + 20; seed += 1) {
      const random = generator(seed)
      const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T
      const desired = new DesiredState(settings)
      const held = new Map<string, MeshObject>()
      /** What the status of a Gateway was to say when it was last looked at. */
      const reports = new Map<string, unknown>()
      const see = ({ kind, key }: Unit): void => {
        if (kind === 'Gateway') reports.set(key, reportOf(desired.view, key))
      }
      for (let step = 0; step < 120; step += 1) {
        const [object] = objects(randomYaml(pick, random))
        if (object === undefined) continue
        const { namespace, name } = object.meta
        const key = namespace === '' ? name : `${namespace}/${name}`
        if (random() < 0.25) {
          desired.delete(object.kind, key)
          held.delete(`${object.kind} ${key}`)
        } else {
          desired.put(object)
          held.set(`${object.kind} ${key}`, object)
        }
        if (random() < 0.3) desired.refresh(see)
      }
      desired.refresh(see)
      const fresh = new DesiredState(settings)
      fresh.outdateAll()
      for (const object of held.values()) fresh.put(object)
      fresh.refresh()
      const [incremental, whole] = [versions(desired.snapshot), versions(fresh.snapshot)]
      if (JSON.stringify(incremental) !== JSON.stringify(whole))
        t.strictSame(incremental, whole, `seed ${seed}`)
      else t.pass(`seed ${seed}: ${Object.keys(whole).length} resources`)
      t.strictSame(lookups(desired.snapshot), lookups(fresh.snapshot), 'and they are found by the same names')
      for (const { meta } of desired.view.all('Gateway')) {
        const [seen, now] = [reports.get(keyOf(meta)), reportOf(desired.view, keyOf(meta))]
        if (JSON.stringify(seen) !== JSON.stringify(now)) t.strictSame(seen, now, `status, seed ${seed}`)
      }
    }
  })
}

function reportOf(view: ClusterView, key: string): unknown {
  const gateway = view.get('Gateway', key)
  if (gateway === undefined) return undefined
  const assigned = assignedAddresses(view, gateway, 60_000)
  return gatewayReport(view, gateway, { kind: 'available', hostname: 'h' }, assigned)
}

function versions(snapshot: Snapshot): Record<string, string> {
  const all = tables.flatMap(table => [...snapshot.table(table).values()])
  return Object.fromEntries(
    all
      .map(
        ({ kind, name, version, waypoints }) =>
          [`${kind} ${name}`, [version, ...waypoints].join(' ')] as const
      )
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
  )
}

function lookups(snapshot: Snapshot): unknown {
  const found: Record<string, readonly string[]> = {}
  for (const { addresses, name, services, node } of snapshot.table('address').values()) {
    for (const address of addresses) found[address] = [...snapshot.atAddress(address)].toSorted()
    for (const service of services) found[service] = [...snapshot.workloadsOfService(service)].toSorted()
    if (node !== '') found[node] = [...snapshot.workloadsOnNode(node)].toSorted()
    found[name] ??= []
  }
  return Object.fromEntries(Object.entries(found).toSorted(([a], [b]) => (a < b ? -1 : 1)))
}
