import t from 'tap'
import { addressType } from '../../../controlplane/desired/snapshot.ts'
import { configResourceType, decodeConfigResource } from '../../../shared/xds/config-resource.ts'
import { object, objects } from '../world.ts'
import type { DeltaClient } from './delta-client.ts'
import { next, ServedWorld } from './served-world.ts'

const httpType = 'gateway.networking.k8s.io/v1/HTTPRoute'
const grpcType = 'gateway.networking.k8s.io/v1/GRPCRoute'

const waypoint = (
  name: string,
  address = `{type: Hostname, value: ${name}.shop.svc.cluster.local}`
): string =>
  `kind: Gateway
metadata: {name: ${name}}
spec: {gatewayClassName: c}
status: {addresses: [${address}]}
---
kind: Pod
metadata: {name: ${name}-1, labels: {gateway.networking.k8s.io/gateway-name: ${name}}}
spec: {serviceAccountName: ${name}}
status: {phase: Running, podIPs: [{ip: 10.0.1.${name.length}}]}
---
`
const pod = (name: string, address: string, ready = true): string =>
  `kind: Pod\nmetadata: {name: ${name}, labels: {app: ${name}}}\nspec: {nodeName: n1}\nstatus: {phase: Running, podIPs: [{ip: ${address}}], conditions: [{type: Ready, status: "${ready ? 'True' : 'False'}"}]}\n---\n`
const service = (name: string, waypoint = ''): string =>
  `kind: Service\nmetadata: {name: ${name}, labels: {${waypoint === '' ? '' : `istio.io/use-waypoint: ${waypoint}`}}}\nspec: {clusterIPs: [10.96.0.${name.length}], selector: {app: ${name}}, ports: [{port: 80}]}\n---\n`
const route = (name: string, parent: string, backend: string, kind = 'HTTPRoute'): string =>
  `kind: ${kind}\nmetadata: {name: ${name}}\nspec: {parentRefs: [{group: "", kind: Service, name: ${parent}}], rules: [{backendRefs: [{name: ${backend}, port: 80}]}]}\n---\n`

const host = (name: string): string => `shop/${name}.shop.svc.cluster.local`
const uid = (name: string): string => `Kubernetes//Pod/shop/${name}`
const addresses = (names: readonly string[], removed: readonly string[] = []): unknown => ({
  type: 'Address',
  names: names.toSorted(),
  removed: removed.toSorted()
})
const routes = (names: readonly string[], removed: readonly string[] = [], type = 'HTTPRoute'): unknown => ({
  type,
  names: names.map(name => `shop/${name}`).toSorted(),
  removed: removed.map(name => `shop/${name}`).toSorted()
})

const shop =
  waypoint('wp') +
  waypoint('other') +
  service('web', 'wp') +
  service('canary') +
  service('elsewhere', 'other')

function subscribe(client: DeltaClient, waypoint: string, typeUrl: string, more: object = {}): void {
  client.send({
    typeUrl,
    node: { id: `waypoint~10.0.1.1~${waypoint}-1.shop~shop.svc.cluster.local` },
    ...more
  })
}

t.test('a waypoint hears of the routes of its own services: when they come, change and go', async t => {
  const world = await new ServedWorld(t, 1).start(
    shop +
      route('mine', 'web', 'web') +
      route('theirs', 'elsewhere', 'elsewhere') +
      route('nobodys', 'canary', 'web')
  )
  const client = world.client()
  subscribe(client, 'wp', httpType)
  const first = await client.next()
  if (first !== undefined) client.ack(first)
  t.strictSame(
    first?.resources.map(({ name, resource }) => [name, resource.type_url]),
    [['shop/mine', configResourceType]]
  )
  t.match(decodeConfigResource(first?.resources[0]?.resource.value ?? Buffer.of()), {
    namespace: 'shop',
    name: 'mine',
    spec: {
      parentRefs: [{ name: 'web' }],
      rules: [{ backendRefs: [{ hostname: 'web.shop.svc.cluster.local' }] }]
    }
  })
  world.apply(route('theirs', 'elsewhere', 'web'))
  world.apply(route('mine', 'web', 'canary'))
  t.strictSame(await next(client), routes(['mine']), 'a change')
  world.apply(route('theirs', 'web', 'web'))
  t.strictSame(await next(client), routes(['theirs']), 'one that came over')
  world.apply(route('mine', 'elsewhere', 'web'))
  t.strictSame(await next(client), routes([], ['mine']), 'one that left')
  world.desired.delete('HTTPRoute', 'shop/theirs')
  world.push()
  t.strictSame(await next(client), routes([], ['theirs']), 'one that is gone')
  world.apply(service('canary', 'wp'))
  t.strictSame(
    await next(client),
    routes(['nobodys']),
    'a service that the waypoint takes over, with its route'
  )
  world.apply(service('canary', 'other'))
  t.strictSame(await next(client), routes([], ['nobodys']), 'and gives away')
})

t.test('a waypoint that gets its address after it has connected gets its routes then', async t => {
  const world = await new ServedWorld(t, 1).start(
    waypoint('wp', '') + service('web', 'wp') + route('mine', 'web', 'web')
  )
  const client = world.client()
  subscribe(client, 'wp', httpType)
  t.strictSame(await next(client), routes([]))
  world.apply(waypoint('wp'))
  t.strictSame(await next(client), routes(['mine']))
})

t.test('a waypoint whose pod is known only after it has connected gets its routes then', async t => {
  const [gateway = '', pod = ''] = waypoint('wp').split('---\n')
  const world = await new ServedWorld(t, 1).start(
    `${gateway}---\n${service('web', 'wp')}${route('mine', 'web', 'web')}`
  )
  const client = world.client()
  subscribe(client, 'wp', httpType)
  t.strictSame(await next(client), routes([]))
  world.apply(pod)
  t.strictSame(await next(client), routes(['mine']))
  world.desired.delete('Pod', 'shop/wp-1')
  world.apply(route('other', 'web', 'web'))
  t.strictSame(await next(client), routes(['other']), 'and goes on while it drains')
})

t.test('who comes back is told what it missed', async t => {
  const world = await new ServedWorld(t, 1).start(shop + route('a', 'web', 'web') + route('b', 'web', 'web'))
  const version = world.desired.snapshot.table('HTTPRoute').get('shop/a')?.version ?? ''
  const client = world.client()
  const initialResourceVersions = { 'shop/a': version, 'shop/b': 'old', 'shop/gone': 'x' }
  subscribe(client, 'wp', httpType, { initialResourceVersions })
  t.strictSame(await next(client), routes(['b']))
  t.strictSame(await next(client), routes([], ['gone']), 'what is gone comes last')
})

t.test('each kind is a type of its own', async t => {
  const world = await new ServedWorld(t, 1).start(
    shop + route('same', 'web', 'web') + route('same', 'web', 'canary', 'GRPCRoute')
  )
  const client = world.client()
  subscribe(client, 'wp', grpcType)
  t.strictSame(await next(client), routes(['same'], [], 'GRPCRoute'))
  subscribe(client, 'wp', httpType)
  t.strictSame(await next(client), routes(['same']))
  world.desired.delete('GRPCRoute', 'shop/same')
  world.push()
  t.strictSame(await next(client), routes([], ['same'], 'GRPCRoute'))
})

t.test('a route brings the services that it leads to, with their workloads', async t => {
  const world = await new ServedWorld(t, 1).start(shop + pod('web', '10.0.0.1') + pod('canary', '10.0.0.2'))
  const client = world.client()
  subscribe(client, 'wp', addressType)
  t.strictSame(await next(client), addresses([host('web'), uid('web')]))
  world.apply(route('r', 'web', 'canary'))
  t.strictSame(await next(client), addresses([host('canary'), uid('canary')]))
  world.apply(pod('canary', '10.0.0.2', false))
  t.strictSame(await next(client), addresses([uid('canary')]), 'a change of one pod is one resource')
  world.apply(route('r', 'web', 'elsewhere'))
  t.strictSame(
    await next(client),
    addresses([host('elsewhere')], [host('canary'), uid('canary')]),
    'another backend comes, and the former goes'
  )
  world.apply(route('r', 'web', 'web'))
  t.strictSame(await next(client), addresses([], [host('elsewhere')]))
  const mirror = `filters: [{type: RequestMirror, requestMirror: {backendRef: {name: canary, port: 80}}}], backendRefs`
  world.apply(route('r', 'web', 'web').replace('backendRefs', mirror))
  t.strictSame(await next(client), addresses([host('canary'), uid('canary')]), 'the target of a mirror too')
})

t.test('others hear nothing of it: no routes, and no addresses again', async t => {
  const world = await new ServedWorld(t, 1).start(shop + pod('canary', '10.0.0.2') + route('r', 'web', 'web'))
  const ztunnel = world.client()
  ztunnel.subscribe(addressType)
  await next(ztunnel)
  ztunnel.subscribe(httpType)
  t.strictSame(await next(ztunnel), routes([]), 'a ztunnel that asks')
  ztunnel.send({ typeUrl: httpType, resourceNamesSubscribe: ['shop/r', '*'] })
  t.strictSame(await next(ztunnel), routes([]), 'by name, and for all')
  t.strictSame(await next(ztunnel), routes([], ['r']))
  const named = world.client()
  named.subscribe(httpType, {
    resourceNamesSubscribe: ['shop/r'],
    initialResourceVersions: { 'shop/r': 'x' }
  })
  t.strictSame(await next(named), routes([]))
  t.strictSame(await next(named), routes([], ['r']))
  const other = world.client()
  subscribe(other, 'other', httpType, { resourceNamesSubscribe: ['*', 'shop/r'] })
  t.strictSame(await next(other), routes([]), 'another waypoint')
  world.apply(route('r', 'web', 'canary'))
  world.apply(pod('last', '10.0.0.9'))
  t.strictSame(await next(ztunnel), addresses([uid('last')]), 'a backend does not change by being one')
})

t.test('an account that is not that of the pod gets no routes', async t => {
  const world = await new ServedWorld(t, 1).start(shop + route('r', 'web', 'web'))
  const answer = async (serviceAccount: string): Promise<unknown> => {
    world.caller = { namespace: 'shop', serviceAccount, podName: '', podUid: '' }
    const client = world.client()
    subscribe(client, 'wp', httpType)
    return next(client)
  }
  t.strictSame(await answer('thief'), routes([]))
  t.strictSame(await answer('wp'), routes(['r']))
})

t.test('among 1,000 routes the change of a pod sends one resource, that of a route one', async t => {
  const world = await new ServedWorld(t, 1).start(shop + pod('canary', '10.0.0.2'))
  for (let index = 0; index < 1000; index += 1) {
    const parentRefs = [{ group: '', kind: 'Service', name: 'web' }]
    const backendRefs = [{ name: 'canary', port: 80 }]
    const match = { path: { value: `/${index}` } }
    world.desired.put(
      object({
        kind: 'HTTPRoute',
        metadata: { name: `r${index}` },
        spec: { parentRefs, rules: [{ matches: [match], backendRefs }] }
      })
    )
  }
  const started = performance.now()
  world.push()
  t.comment(`translated in ${(performance.now() - started).toFixed(0)} ms`)
  const client = world.client()
  subscribe(client, 'wp', httpType)
  const heard = (await next(client)) as { names: readonly string[] }
  t.equal(heard.names.length, 1000)
  subscribe(client, 'wp', addressType)
  t.strictSame(await next(client), addresses([host('web'), host('canary'), uid('canary')]))
  const units: string[] = []
  for (const each of objects(pod('canary', '10.0.0.2', false))) world.desired.put(each)
  world.xds.push(world.desired.refresh(unit => units.push(unit.kind)))
  t.strictSame(units, ['Pod'], 'no route is translated for it')
  t.strictSame(await next(client), addresses([uid('canary')]))
  world.apply(route('r7', 'web', 'web'))
  t.strictSame(await next(client), routes(['r7']))
})
