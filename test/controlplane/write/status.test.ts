import t from 'tap'
import { authorizationPolicies } from '../../../shared/kube/istio-api.ts'
import type { KubeObject } from '../../../shared/kube/object.ts'
import { KubeError } from '../../../shared/kube/errors.ts'
import { StatusWorld } from './status-world.ts'

const policy = (spec: string, more = ''): string =>
  `apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop, generation: 3}\nspec: ${spec}\n${more}`
const bound = `apiVersion: v1
kind: Service
metadata: {name: s, namespace: shop, labels: {istio.io/use-waypoint: wp}}
spec: {}
`
const gateway = (status: string): string =>
  `apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: wp, namespace: shop}\nspec: {gatewayClassName: c}\nstatus: {addresses: [${status}]}\n`

t.test('a policy says whether it is enforced as written', async t => {
  const world = new StatusWorld(t)
  world.writer.lead(true)
  world.apply(policy('{}'))
  t.strictSame(await world.conditions('AuthorizationPolicy shop/p'), [
    {
      type: 'ZtunnelAccepted',
      status: 'True',
      reason: 'Accepted',
      message: 'attached to ztunnel',
      lastTransitionTime: '2026-01-01T00:00:00Z',
      observedGeneration: 3
    }
  ])
  world.now += 60_000
  world.apply(policy('{rules: [{to: [{operation: {methods: [GET]}}]}]}'))
  t.match(await world.conditions('AuthorizationPolicy shop/p'), [
    {
      status: 'False',
      reason: 'UnsupportedValue',
      message: /spec\.rules\[0\]\.to\[0\]\.operation\.methods/,
      lastTransitionTime: '2026-01-01T00:01:00Z'
    }
  ])
})

t.test('a waypoint that comes and goes is told to those who name it', async t => {
  const world = new StatusWorld(t)
  world.writer.lead(true)
  world.apply(bound)
  t.match(await world.conditions('Service shop/s'), [
    { type: 'istio.io/WaypointBound', status: 'False', reason: 'WaypointIsNotReady' }
  ])
  world.apply(gateway('{type: Hostname, value: wp.shop.svc.cluster.local}'))
  t.match(await world.conditions('Service shop/s'), [
    { status: 'True', reason: 'WaypointAccepted', message: /shop\/wp/ }
  ])
  world.apply(bound.replace('istio.io/use-waypoint: wp', 'x: y'))
  t.strictSame(await world.conditions('Service shop/s'), [], 'who names none has no condition')
})

t.test('a RateLimitPolicy says for which of its targets it is carried out', async t => {
  const limits = (targets: string): string =>
    `apiVersion: ratelimits.underpass.dev/v1alpha1\nkind: RateLimitPolicy\nmetadata: {name: p, namespace: shop}\nspec: {targetRefs: [${targets}], limits: [{requests: 1, per: 1s}]}\n`
  const world = new StatusWorld(t)
  world.writer.lead(true)
  world.apply(limits('{kind: Service, name: s}'))
  t.match(await world.conditions('RateLimitPolicy shop/p'), [
    {
      type: 'WaypointAccepted',
      status: 'False',
      reason: 'TargetNotFound',
      message: 'Service shop/s was not found'
    }
  ])
  world.apply(bound)
  world.apply(gateway('{type: Hostname, value: wp.shop.svc.cluster.local}'))
  t.match(await world.conditions('RateLimitPolicy shop/p'), [{ status: 'True', reason: 'Accepted' }])
  world.apply(limits('{kind: Service, name: s}, {kind: Service, name: gone}'))
  t.match(await world.conditions('RateLimitPolicy shop/p'), [
    {
      status: 'True',
      reason: 'PartiallyInvalid',
      message: /bound to shop\/wp; Service shop\/gone was not found/
    }
  ])
})

t.test('an entry that needs a waypoint says so while it has none', async t => {
  const entry = (resolution: string, more: string): string =>
    `apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: shop, ${more}}\nspec: {hosts: ["*.example.com"], resolution: ${resolution}, ports: [{number: 443, name: tls, protocol: TLS}]}\n`
  const missing = async (world: StatusWorld): Promise<string | undefined> => {
    const conditions = await world.conditions('ServiceEntry shop/e')
    const found = conditions.find(({ type }) => type === 'istio.io/WaypointMissing')
    return found && `${found.status} ${found.reason}`
  }
  const world = new StatusWorld(t)
  world.writer.lead(true)
  world.apply(entry('DYNAMIC_DNS', ''))
  t.equal(await missing(world), 'True NoWaypointForWildcardService')
  world.apply(gateway('{type: Hostname, value: wp.shop.svc.cluster.local}'))
  world.apply(entry('DYNAMIC_DNS', 'labels: {istio.io/use-waypoint: wp}'))
  t.equal(await missing(world), undefined, 'with one it says nothing')
  const race = 'annotations: {istio.io/connect-strategy: RACE_FIRST_TCP_CONNECT}'
  world.apply(entry('DNS', race))
  t.equal(await missing(world), 'True NoWaypointForRacingConnectStrategy')
  world.apply(entry('STATIC', race))
  t.equal(await missing(world), undefined, 'addresses need no names')
})

t.test('conditions of others stay, and what is right is not written again', async t => {
  const world = new StatusWorld(t)
  world.writer.lead(true)
  const mine = '{type: ZtunnelAccepted, status: "True", reason: Accepted, message: attached to ztunnel}'
  const other = '{type: Other, status: "True"}'
  world.apply(policy('{}', `status: {conditions: [${other}, ${mine}]}\n`))
  t.equal((await world.conditions('AuthorizationPolicy shop/p')).length, 2)
  t.strictSame(world.kube.writes, [])
  world.apply(policy('{action: AUDIT}', `status: {conditions: [${other}, ${mine}]}\n`))
  t.match(await world.conditions('AuthorizationPolicy shop/p'), [
    { type: 'Other' },
    { type: 'ZtunnelAccepted', status: 'False' }
  ])
  t.strictSame(world.kube.writes, ['patch AuthorizationPolicy shop/p/status'])
})

t.test('what cannot be read is told with the field, until it can', async t => {
  const world = new StatusWorld(t)
  world.writer.lead(true)
  world.kube.put(authorizationPolicies, {
    apiVersion: 'x',
    kind: 'AuthorizationPolicy',
    metadata: { namespace: 'shop', name: 'p' }
  })
  world.writer.broken('AuthorizationPolicy', 'shop/p', 'spec.rules: expected a list, found "x"')
  t.match(await world.conditions('AuthorizationPolicy shop/p'), [
    { type: 'ZtunnelAccepted', status: 'False', reason: 'Invalid', message: /spec\.rules/ }
  ])
  world.apply(policy('{}'))
  t.match(await world.conditions('AuthorizationPolicy shop/p'), [{ status: 'True' }])
})

t.test('only the leader writes, and starts with what it finds', async t => {
  const world = new StatusWorld(t)
  world.apply(policy('{}') + '---\n' + bound)
  t.strictSame(await world.conditions('Service shop/s'), [])
  world.writer.lead(true)
  t.match(await world.conditions('Service shop/s'), [{ reason: 'WaypointIsNotReady' }])
  t.match(await world.conditions('AuthorizationPolicy shop/p'), [{ status: 'True' }])
  world.writer.lead(false)
  world.apply(policy('{action: AUDIT}'))
  t.strictSame(await world.conditions('AuthorizationPolicy shop/p'), [])
})

t.test('a status that somebody else writes meanwhile is read again', async t => {
  const world = new StatusWorld(t)
  world.writer.lead(true)
  world.kube.beforeWrite = () => {
    world.kube.beforeWrite = () => undefined
    const found = world.kube.objects.get('AuthorizationPolicy shop/p')
    if (found === undefined) throw new Error('no policy')
    world.kube.put(authorizationPolicies, {
      ...found,
      status: { conditions: [{ type: 'Other', status: 'True' }] }
    } as KubeObject)
  }
  world.apply(policy('{}'))
  t.match(await world.conditions('AuthorizationPolicy shop/p'), [
    { type: 'Other' },
    { type: 'ZtunnelAccepted' }
  ])
})

t.test('a policy with targets says which waypoints enforce it', async t => {
  const world = new StatusWorld(t)
  world.writer.lead(true)
  const targets = (list: string): string => policy(`{targetRefs: [${list}]}`)
  const condition = async (): Promise<unknown> => (await world.conditions('AuthorizationPolicy shop/p'))[0]
  world.apply(targets('{kind: Service, name: s}'))
  t.match(await condition(), { type: 'WaypointAccepted', status: 'False', reason: 'TargetNotFound' })
  world.apply(bound)
  t.match(await condition(), { status: 'False', reason: 'AncestorNotBound' })
  world.apply(gateway('{type: Hostname, value: wp.shop.svc.cluster.local}'))
  t.match(await condition(), { status: 'True', reason: 'Accepted', message: 'bound to shop/wp' })
  world.apply(targets('{kind: Gateway, name: wp}, {kind: Gateway, name: missing}'))
  t.match(await condition(), { status: 'True', reason: 'PartiallyInvalid', message: /shop\/missing/ })
  world.apply(targets('{kind: GatewayClass, name: c}'))
  t.match(await condition(), { status: 'False', reason: 'Invalid', message: /root namespace/ })
  world.apply(targets('{kind: Pod, name: x}'))
  t.match(await condition(), { status: 'False', reason: 'Invalid', message: /Pod/ })
  world.apply(policy('{}'))
  t.match(await world.conditions('AuthorizationPolicy shop/p'), [{ type: 'ZtunnelAccepted', status: 'True' }])
})

t.test('a permission that is missing is told once', async t => {
  const world = new StatusWorld(t)
  world.writer.lead(true)
  world.kube.beforeWrite = () => {
    throw new KubeError(
      403,
      { reason: 'Forbidden', message: 'no' },
      'patch services/status in namespace shop'
    )
  }
  world.apply(bound)
  world.apply(bound.replace('name: s,', 'name: other,'))
  t.strictSame(await world.conditions('Service shop/s'), [])
  t.equal(world.lines.length, 1, world.lines.join('; '))
  t.match(world.lines[0], /warn .*permission.*patch services\/status/)
})
