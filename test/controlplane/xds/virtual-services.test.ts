/** What a waypoint hears of VirtualServices, and of the services that they lead to. */
import t from 'tap'
import { addressType } from '../../../controlplane/desired/snapshot.ts'
import { configResourceType, decodeConfigResource } from '../../../shared/xds/config-resource.ts'
import { waypoint } from '../world.ts'
import { next, ServedWorld, waypointNode as node } from './served-world.ts'

const type = 'networking.istio.io/v1/VirtualService'
const ruleType = 'networking.istio.io/v1/DestinationRule'

const otherWaypoint = waypoint.replaceAll('wp', 'ow').replaceAll('10.0.1.1', '10.0.1.2')
const service = (name: string, waypoint = ''): string =>
  `kind: Service\nmetadata: {name: ${name}, labels: {${waypoint === '' ? '' : `istio.io/use-waypoint: ${waypoint}`}}}\nspec: {clusterIPs: [10.96.0.${name.length}], selector: {app: ${name}}, ports: [{port: 80}]}\n---\n`
const pod = (name: string, more = ''): string =>
  `kind: Pod\nmetadata: {name: ${name}, labels: {app: ${name}${more}}}\nspec: {}\nstatus: {phase: Running, podIPs: [{ip: 10.0.0.${name.length}}], conditions: [{type: Ready, status: "True"}]}\n---\n`
const virtualService = (name: string, host: string, to: string, more = ''): string =>
  `kind: VirtualService\nmetadata: {name: ${name}}\nspec: {hosts: [${host}], http: [{route: [{destination: {host: ${to}}}]}]${more}}\n---\n`
const cluster =
  waypoint +
  otherWaypoint +
  service('web', 'wp') +
  service('elsewhere', 'ow') +
  service('canary') +
  pod('canary')

const host = (name: string): string => `shop/${name}.shop.svc.cluster.local`
const uid = (name: string): string => `Kubernetes//Pod/shop/${name}`
const heard = (
  names: readonly string[],
  removed: readonly string[] = [],
  type = 'VirtualService'
): unknown => ({ type, names: names.toSorted(), removed: removed.toSorted() })

t.test('a waypoint gets those for its services: each one, its change, and that it is gone', async t => {
  const world = await new ServedWorld(t, 1).start(
    cluster + virtualService('mine', 'web', 'web') + virtualService('theirs', 'elsewhere', 'elsewhere')
  )
  const client = world.client()
  client.send({ typeUrl: type, node })
  t.strictSame(await next(client), heard(['shop/mine']), 'its own only')
  world.apply(virtualService('theirs', 'elsewhere', 'web'))
  world.apply(virtualService('mine', 'web', 'canary'))
  const changed = await client.next()
  t.equal(changed?.resources.length, 1, 'one changed, one resource')
  const [resource] = changed?.resources ?? []
  t.equal(resource?.resource.type_url, configResourceType)
  t.match(decodeConfigResource(resource?.resource.value ?? Buffer.of()), {
    namespace: 'shop',
    name: 'mine',
    spec: {
      hosts: ['web.shop.svc.cluster.local'],
      http: [
        {
          route: [
            {
              destination: {
                host: 'canary.shop.svc.cluster.local',
                namespace: 'shop',
                port: { number: 80 }
              }
            }
          ]
        }
      ]
    }
  })
  if (changed !== undefined) client.ack(changed)
  world.apply(virtualService('mine', 'web', 'canary', ', gateways: [ingress]'))
  t.strictSame(await next(client), heard([], ['shop/mine']), 'what is for a Gateway only goes')
  world.apply(virtualService('theirs', 'web', 'web'))
  t.strictSame(await next(client), heard(['shop/theirs']), 'one that came over')
  world.apply(service('web', 'ow'))
  t.strictSame(await next(client), heard([], ['shop/theirs']), 'and goes with its service')
  world.apply(service('web', 'wp'))
  t.strictSame(await next(client), heard(['shop/theirs']))
  world.desired.delete('VirtualService', 'shop/theirs')
  world.push()
  t.strictSame(await next(client), heard([], ['shop/theirs']), 'one that is gone')
  const ztunnel = world.client()
  ztunnel.subscribe(type)
  t.strictSame(await next(ztunnel), heard([]), 'a ztunnel gets none')
})

t.test('it brings the services that it leads to, with their workloads and rules', async t => {
  const rule =
    'kind: DestinationRule\nmetadata: {name: r}\nspec: {host: canary, subsets: [{name: s, labels: {version: v1}}]}\n---\n'
  const world = await new ServedWorld(t, 1).start(cluster + pod('canary', ', version: v1') + rule)
  const client = world.client()
  client.send({ typeUrl: ruleType, node })
  t.strictSame(await next(client), heard([], [], 'DestinationRule'))
  client.send({ typeUrl: addressType, node })
  t.strictSame(await next(client), heard([host('web')], [], 'Address'))
  world.apply(virtualService('v', 'web', 'canary'))
  t.strictSame(await next(client), heard(['shop/r'], [], 'DestinationRule'), 'the rule is there first')
  t.strictSame(await next(client), heard([host('canary'), uid('canary')], [], 'Address'))
  world.apply(pod('canary', ', version: v2'))
  t.strictSame(await next(client), heard([uid('canary')], [], 'Address'), 'its labels are followed')
  world.apply(virtualService('v', 'web', 'web'))
  t.strictSame(await next(client), heard([], [host('canary'), uid('canary')], 'Address'))
  t.strictSame(await next(client), heard([], ['shop/r'], 'DestinationRule'))
  world.apply(virtualService('v', 'web', 'late'))
  world.apply(service('late'))
  t.strictSame(await next(client), heard([host('late')], [], 'Address'), 'one that comes later')
})

t.test('a destination that appears or goes is told in the VirtualService', async t => {
  const world = await new ServedWorld(t, 1).start(cluster + virtualService('v', 'web', 'late'))
  const client = world.client()
  const destinationHeard = async (): Promise<unknown> => {
    const response = await client.next()
    if (response === undefined) return client.end
    client.ack(response)
    const [resource] = response.resources
    const { spec } = decodeConfigResource(resource?.resource.value ?? Buffer.of())
    const [http] = spec['http'] as { readonly route: readonly { readonly destination: unknown }[] }[]
    return http?.route[0]?.destination
  }
  const unresolved = { unresolved: 'no Service or ServiceEntry declares host late.shop.svc.cluster.local' }
  client.send({ typeUrl: type, node })
  t.strictSame(await destinationHeard(), unresolved)
  world.apply(service('late'))
  t.strictSame(await destinationHeard(), {
    host: 'late.shop.svc.cluster.local',
    namespace: 'shop',
    port: { number: 80 }
  })
  world.desired.delete('Service', 'shop/late')
  world.push()
  t.strictSame(await destinationHeard(), unresolved)
})
