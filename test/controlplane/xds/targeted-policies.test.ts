import t from 'tap'
import { addressType, authorizationType } from '../../../controlplane/desired/snapshot.ts'
import { waypoint } from '../world.ts'
import { next, ServedWorld, waypointNode as node } from './served-world.ts'

const authorization = 'security.istio.io/v1/AuthorizationPolicy'
const rateLimits = 'ratelimits.underpass.dev/v1alpha1/RateLimitPolicy'
const authentication = 'security.istio.io/v1/RequestAuthentication'

const service = (labels = 'istio.io/use-waypoint: wp'): string =>
  `kind: Service\nmetadata: {name: web, labels: {${labels}}}\nspec: {clusterIPs: [10.96.0.1], ports: [{port: 80}]}\n---\n`
const policy = (kind: string, spec: string): string =>
  `kind: ${kind}\nmetadata: {name: p}\nspec: {${spec}targetRefs: [{kind: Service, name: web}]}\n---\n`

const host = 'shop/web.shop.svc.cluster.local'
const heard = (type: string, names: readonly string[], removed: readonly string[] = []): unknown => ({
  type,
  names,
  removed
})

t.test('a policy with targets is for their waypoint, not for ztunnels', async t => {
  const world = await new ServedWorld(t, 1).start(
    waypoint + service() + policy('AuthorizationPolicy', '') + policy('RequestAuthentication', '')
  )
  const client = world.client()
  client.send({ typeUrl: authorization, node })
  t.strictSame(await next(client), heard('AuthorizationPolicy', ['shop/p']))
  client.send({ typeUrl: authentication, node })
  t.strictSame(await next(client), heard('RequestAuthentication', ['shop/p']))
  world.apply(policy('AuthorizationPolicy', 'action: DENY, '))
  t.strictSame(await next(client), heard('AuthorizationPolicy', ['shop/p']), 'a change')
  world.desired.delete('RequestAuthentication', 'shop/p')
  world.push()
  t.strictSame(await next(client), heard('RequestAuthentication', [], ['shop/p']))
  world.apply('kind: AuthorizationPolicy\nmetadata: {name: p}\nspec: {selector: {matchLabels: {a: b}}}\n')
  t.strictSame(
    await next(client),
    heard('AuthorizationPolicy', [], ['shop/p']),
    'without targets it is for ztunnels'
  )
  const ztunnel = world.client()
  ztunnel.subscribe(authorizationType)
  const { names } = (await next(ztunnel)) as { names: readonly string[] }
  t.ok(names.includes('shop/p'), 'and they get it')
  ztunnel.subscribe(authorization)
  t.strictSame(await next(ztunnel), heard('AuthorizationPolicy', []))
})

t.test('a RateLimitPolicy is for the waypoints of its targets, and leaves them with these', async t => {
  const world = await new ServedWorld(t, 1).start(
    waypoint + service() + policy('RateLimitPolicy', 'limits: [{requests: 1, per: 1s}], ')
  )
  const client = world.client()
  client.send({ typeUrl: rateLimits, node })
  t.strictSame(await next(client), heard('RateLimitPolicy', ['shop/p']))
  world.apply(policy('RateLimitPolicy', 'limits: [{requests: 2, per: 1s}], '))
  t.strictSame(await next(client), heard('RateLimitPolicy', ['shop/p']), 'a change')
  world.apply(service(''))
  t.strictSame(await next(client), heard('RateLimitPolicy', [], ['shop/p']))
  const ztunnel = world.client()
  ztunnel.subscribe(rateLimits)
  t.strictSame(await next(ztunnel), heard('RateLimitPolicy', []), 'and none for ztunnels')
})

t.test('a service comes to a waypoint after its policies, and leaves before them', async t => {
  const world = await new ServedWorld(t, 1).start(waypoint + service('') + policy('AuthorizationPolicy', ''))
  const client = world.client()
  client.send({ typeUrl: authorization, node })
  t.strictSame(await next(client), heard('AuthorizationPolicy', []))
  client.send({ typeUrl: addressType, node })
  t.strictSame(await next(client), heard('Address', []))
  world.apply(service())
  t.strictSame(await next(client), heard('AuthorizationPolicy', ['shop/p']))
  t.strictSame(await next(client), heard('Address', [host]))
  world.apply(service(''))
  t.strictSame(await next(client), heard('Address', [], [host]))
  t.strictSame(await next(client), heard('AuthorizationPolicy', [], ['shop/p']))
})

t.test('a Telemetry without targets is for the waypoints of its namespace and of its services', async t => {
  const telemetry = 'telemetry.istio.io/v1/Telemetry'
  const of = (percentage: number): string =>
    `kind: Telemetry\nmetadata: {name: p}\nspec: {tracing: [{randomSamplingPercentage: ${percentage}}]}\n---\n`
  const world = await new ServedWorld(t, 1).start(waypoint + service() + of(1))
  const client = world.client()
  client.send({ typeUrl: telemetry, node })
  t.strictSame(await next(client), heard('Telemetry', ['shop/p']))
  world.apply(of(2))
  t.strictSame(await next(client), heard('Telemetry', ['shop/p']), 'a change')
  world.desired.delete('Telemetry', 'shop/p')
  world.push()
  t.strictSame(await next(client), heard('Telemetry', [], ['shop/p']))
  const ztunnel = world.client()
  ztunnel.subscribe(telemetry)
  t.strictSame(await next(ztunnel), heard('Telemetry', []), 'and none for ztunnels')
})
