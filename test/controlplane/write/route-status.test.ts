import t from 'tap'
import { httpRoutes, type Route, type RouteParentStatus } from '../../../shared/kube/gateway-api.ts'
import { StatusWorld } from './status-world.ts'

const gateway = `kind: Gateway
metadata: {name: wp, namespace: shop}
spec: {gatewayClassName: underpass-waypoint}
status: {addresses: [{type: Hostname, value: wp.shop.svc.cluster.local}]}
`
const service = (name: string, labels = 'istio.io/use-waypoint: wp'): string =>
  `apiVersion: v1\nkind: Service\nmetadata: {name: ${name}, namespace: shop, labels: {${labels}}}\nspec: {ports: [{port: 80}]}\n`
const grant = `kind: ReferenceGrant
metadata: {name: g, namespace: other}
spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}], to: [{group: "", kind: Service}]}
`
const remote =
  'apiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: other}\nspec: {ports: [{port: 80}]}\n'
const route = (spec: string, { generation = 1, status = '', kind = 'HTTPRoute' } = {}): string =>
  `apiVersion: gateway.networking.k8s.io/v1\nkind: ${kind}\nmetadata: {name: r, namespace: shop, generation: ${generation}}\nspec: ${spec}\n${status}`
const parentRef = { group: '', kind: 'Service', name: 'web' }
const web = 'parentRefs: [{group: "", kind: Service, name: web}]'
const all = (...parts: readonly string[]): string => parts.join('---\n')

/** What the watch brings after the status was written. */
async function settle(world: StatusWorld, key = 'HTTPRoute shop/r'): Promise<readonly RouteParentStatus[]> {
  await world.conditions(key)
  const found: Route | undefined = world.kube.objects.get(key)
  if (found !== undefined) world.seen(found)
  world.refresh()
  await world.conditions(key)
  return found?.status?.parents ?? []
}

const routeWrites = (world: StatusWorld): unknown =>
  world.kube.writes.filter(write => write.includes('Route'))

const summary = (parents: readonly RouteParentStatus[]): unknown =>
  parents.map(({ controllerName, conditions = [] }) => [
    controllerName,
    ...conditions.map(({ type, status, reason }) => `${type} ${status} ${reason}`)
  ])
const ours = 'underpass.dev/waypoint-controller'

t.test('a route says what became of it, once', async t => {
  const world = new StatusWorld(t)
  world.writer.lead(true)
  world.apply(all(gateway, service('web'), route(`{${web}}`, { generation: 4 })))
  t.strictSame(await settle(world), [
    {
      parentRef,
      controllerName: ours,
      conditions: [
        ['Accepted', 'Accepted', 'the route applies to its parent'],
        ['ResolvedRefs', 'ResolvedRefs', 'all backends were found'],
        ['ResolvedWaypoints', 'ResolvedWaypoints', 'enforced by waypoint shop/wp']
      ].map(([type, reason, message]) => ({
        type,
        status: 'True',
        reason,
        message,
        observedGeneration: 4,
        lastTransitionTime: '2026-01-01T00:00:00Z'
      }))
    }
  ])
  t.strictSame(routeWrites(world), ['patch HTTPRoute shop/r/status'], 'what is right is not written again')
})

t.test('a GRPCRoute does too', async t => {
  const world = new StatusWorld(t)
  world.writer.lead(true)
  world.apply(all(gateway, service('web'), route(`{${web}}`, { kind: 'GRPCRoute' })))
  t.match(await settle(world, 'GRPCRoute shop/r'), [{ controllerName: ours, parentRef }])
})

t.test('it follows the generation, and what it depends on', async t => {
  const world = new StatusWorld(t)
  world.writer.lead(true)
  const leading = (generation: number, status = ''): string =>
    route(`{${web}, rules: [{backendRefs: [{namespace: other, name: db, port: 80}]}]}`, {
      generation,
      status
    })
  world.apply(all(gateway, service('web'), remote, grant, leading(1)))
  const [first] = await settle(world)
  t.match(first?.conditions, [{ observedGeneration: 1 }, { status: 'True' }, { status: 'True' }])
  world.now += 60_000
  world.apply(leading(2, `status: {parents: [${JSON.stringify(first)}]}\n`))
  const [second] = await settle(world)
  const times = second?.conditions?.map(({ observedGeneration, lastTransitionTime }) => [
    observedGeneration,
    lastTransitionTime
  ])
  t.strictSame(
    times,
    Array.from({ length: 3 }, () => [2, '2026-01-01T00:00:00Z']),
    'what stays true keeps its time'
  )
  world.desired.delete('ReferenceGrant', 'other/g')
  world.refresh()
  const [third] = await settle(world)
  t.match(third?.conditions?.[1], {
    status: 'False',
    reason: 'RefNotPermitted',
    lastTransitionTime: '2026-01-01T00:01:00Z'
  })
  world.apply(service('web', ''))
  t.match((await settle(world))[0]?.conditions?.[2], { status: 'False', reason: 'MissingUseWaypointLabel' })
  world.desired.delete('Service', 'shop/web')
  world.refresh()
  t.match((await settle(world))[0]?.conditions?.[0], { status: 'False', reason: 'NoMatchingParent' })
})

t.test('entries of others stay, ours without a parent go', async t => {
  const world = new StatusWorld(t)
  world.writer.lead(true)
  const entry = (controllerName: string, name: string): string =>
    `{parentRef: {group: "", kind: Service, name: ${name}}, controllerName: ${controllerName}, conditions: [{type: Accepted, status: "True"}]}`
  const status = `status: {parents: [${entry('istio.io/mesh-controller', 'web')}, ${entry(ours, 'former')}]}\n`
  world.apply(all(gateway, service('web'), route(`{${web}}`, { status })))
  t.match(await settle(world), [
    { controllerName: 'istio.io/mesh-controller', conditions: [{ type: 'Accepted' }] },
    { controllerName: ours, parentRef }
  ])
  world.apply(route('{parentRefs: [{name: gateway}]}', { generation: 2, status }))
  t.match(await settle(world), [{ controllerName: 'istio.io/mesh-controller' }])
  t.equal((await settle(world)).length, 1)
})

t.test('an istiod that comes takes its waypoints over', async t => {
  const world = new StatusWorld(t)
  world.writer.lead(true)
  world.apply(all(gateway.replace('underpass-waypoint', 'istio-waypoint'), service('web'), route(`{${web}}`)))
  t.strictSame(summary(await settle(world)), [
    [
      ours,
      'Accepted True Accepted',
      'ResolvedRefs True ResolvedRefs',
      'ResolvedWaypoints True ResolvedWaypoints'
    ]
  ])
  world.apply(
    'kind: Pod\nmetadata: {name: istiod-1, namespace: istio-system, labels: {app: istiod}}\nstatus: {phase: Running}\n'
  )
  t.strictSame(await settle(world), [])
})

t.test('a decision about an older generation is not written', async t => {
  const world = new StatusWorld(t)
  world.writer.lead(true)
  world.apply(all(gateway, service('web')))
  const [older, newer] = [1, 2].map(generation => route(`{${web}}`, { generation }))
  world.apply(older ?? '')
  world.kube.put(httpRoutes, {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'HTTPRoute',
    metadata: { name: 'r', namespace: 'shop', generation: 2 }
  })
  await world.conditions('HTTPRoute shop/r')
  t.strictSame(routeWrites(world), [])
  world.apply(newer ?? '')
  t.match(await settle(world), [{ conditions: [{ observedGeneration: 2 }] }])
})

t.test('an API server keeps 32 entries, so no more are written', async t => {
  const world = new StatusWorld(t)
  world.writer.lead(true)
  const names = Array.from({ length: 32 }, (_, index) => `s${index}`)
  const parents = names.map(name => `{group: "", kind: Service, name: ${name}}`).join(', ')
  const other = '{parentRef: {name: g}, controllerName: other, conditions: []}'
  world.apply(route(`{parentRefs: [${parents}]}`, { status: `status: {parents: [${other}]}\n` }))
  t.equal((await settle(world)).length, 32)
  t.strictSame(world.kube.writes, ['patch HTTPRoute shop/r/status'])
})
