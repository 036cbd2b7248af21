/** What a waypoint hears of DestinationRules, and of the labels that they ask for; ztunnels hear of the latter only. */
import t from 'tap'
import { addressType } from '../../../controlplane/desired/snapshot.ts'
import { decodeAddress } from '../../../shared/mesh/decode.ts'
import { configResourceType, decodeConfigResource } from '../../../shared/xds/config-resource.ts'
import type { DeltaClient } from './delta-client.ts'
import { next, ServedWorld } from './served-world.ts'

const type = 'networking.istio.io/v1/DestinationRule'
const node = { id: 'waypoint~10.0.1.1~wp-1.shop~shop.svc.cluster.local' }
const web = 'shop/web.shop.svc.cluster.local'

const waypoint = (namespace: string): string => `kind: Gateway
metadata: {name: wp, namespace: ${namespace}}
spec: {gatewayClassName: c}
status: {addresses: [{type: Hostname, value: wp.${namespace}.svc.cluster.local}]}
---
kind: Pod
metadata: {name: wp-1, namespace: ${namespace}, labels: {gateway.networking.k8s.io/gateway-name: wp}}
spec: {serviceAccountName: wp}
status: {phase: Running, podIPs: [{ip: 10.0.1.1}]}
---
`
const service = (namespace: string): string =>
  `kind: Service\nmetadata: {name: web, namespace: ${namespace}, labels: {istio.io/use-waypoint: wp}}\nspec: {clusterIPs: [10.96.0.1], selector: {app: web}, ports: [{port: 80}]}\n---\n`
const pod = (version: string, name = 'web-1'): string =>
  `kind: Pod\nmetadata: {name: ${name}, labels: {app: web, version: ${version}}}\nspec: {}\nstatus: {phase: Running, podIPs: [{ip: 10.0.0.1}], conditions: [{type: Ready, status: "True"}]}\n---\n`
const rule = (name: string, spec: string, namespace = 'shop'): string =>
  `kind: DestinationRule\nmetadata: {name: ${name}, namespace: ${namespace}}\nspec: {host: web, ${spec}}\n---\n`
const cluster = waypoint('shop') + waypoint('other') + service('shop') + service('other')

const heard = (
  names: readonly string[],
  removed: readonly string[] = [],
  type = 'DestinationRule'
): unknown => ({
  type,
  names,
  removed
})

t.test('a waypoint gets the rules for its services: each one, its change, and that it is gone', async t => {
  const world = await new ServedWorld(t, 1).start(
    `${cluster}${rule('a', '')}${rule('theirs', '', 'other')}${rule('b', 'subsets: []')}`
  )
  const client = world.client()
  client.send({ typeUrl: type, node })
  t.strictSame(await next(client), heard(['shop/a', 'shop/b']), 'its own only')
  world.apply(rule('a', 'subsets: [{name: v1}]'))
  const changed = await client.next()
  const [resource] = changed?.resources ?? []
  t.equal(changed?.resources.length, 1, 'one rule, one resource')
  t.equal(resource?.resource?.type_url, configResourceType)
  t.match(decodeConfigResource(resource?.resource?.value ?? Buffer.of()), {
    namespace: 'shop',
    name: 'a',
    spec: { host: 'web.shop.svc.cluster.local', subsets: [{ name: 'v1' }] }
  })
  if (changed !== undefined) client.ack(changed)
  world.apply(rule('b', 'exportTo: [nobody]'))
  t.strictSame(await next(client), heard([], ['shop/b']), 'what is not for it any more goes')
  world.desired.delete('DestinationRule', 'shop/a')
  world.push()
  t.strictSame(await next(client), heard([], ['shop/a']))
  const ztunnel = world.client()
  ztunnel.subscribe(type)
  t.strictSame(await next(ztunnel), heard([]), 'a ztunnel gets none')
})

t.test('a service comes to a waypoint with the rules for it, and they go with it', async t => {
  const unbound = service('shop').replace('istio.io/use-waypoint: wp', '')
  const world = await new ServedWorld(t, 1).start(waypoint('shop') + unbound + rule('a', ''))
  const client = world.client()
  client.send({ typeUrl: type, node })
  t.strictSame(await next(client), heard([]))
  client.send({ typeUrl: addressType, node })
  t.strictSame(await next(client), heard([], [], 'Address'))
  world.apply(service('shop'))
  t.strictSame(await next(client), heard(['shop/a']), 'the rule is there first')
  t.strictSame(await next(client), heard([web], [], 'Address'))
  world.apply(unbound)
  t.strictSame(await next(client), heard([], [web], 'Address'))
  t.strictSame(await next(client), heard([], ['shop/a']))
})

t.test('labels come with the rule that asks for them, and go with it', async t => {
  const world = await new ServedWorld(t, 1).start(
    waypoint('shop') + service('shop') + pod('v1') + rule('a', '')
  )
  const client = world.client()
  client.send({ typeUrl: addressType, node })
  t.strictSame(await labelsHeard(client), { [uid('web-1')]: {}, [web]: 'a service' })
  world.apply(rule('a', 'subsets: [{name: s, labels: {version: v1}}]'))
  t.strictSame(
    await labelsHeard(client),
    { [uid('web-1')]: { version: 'v1' } },
    'the service itself is as it was'
  )
  world.apply(pod('v2'))
  t.strictSame(await labelsHeard(client), { [uid('web-1')]: { version: 'v2' } })
  world.apply(pod('v3', 'web-2'))
  t.strictSame(await labelsHeard(client), { [uid('web-2')]: { version: 'v3' } }, 'one pod, one resource')
  world.apply(rule('a', 'subsets: [{name: s, labels: {version: v2}}]')) // asks for the same: nothing goes out
  world.desired.delete('DestinationRule', 'shop/a')
  world.push()
  t.strictSame(await labelsHeard(client), { [uid('web-1')]: {}, [uid('web-2')]: {} })
})

const uid = (name: string): string => `Kubernetes//Pod/shop/${name}`

async function labelsHeard(client: DeltaClient): Promise<unknown> {
  const response = await client.next()
  if (response === undefined) return client.end
  client.ack(response)
  return Object.fromEntries(
    response.resources.map(({ name, resource }) => {
      const decoded = decodeAddress(resource?.value ?? Buffer.of())
      return [name, decoded.kind === 'workload' ? Object.fromEntries(decoded.workload.labels) : 'a service']
    })
  )
}
