/** What the proxies of a gateway hear over xDS, and what nobody else does. */
import t from 'tap'
import { addressType } from '../../../controlplane/desired/snapshot.ts'
import { decodeConfigResource } from '../../../shared/xds/config-resource.ts'
import { gateway, keyPair, secret } from '../gateway-world.ts'
import type { DeltaClient } from './delta-client.ts'
import { next, ServedWorld } from './served-world.ts'

const gatewayType = 'gateway.networking.k8s.io/v1/Gateway'
const secretType = 'core/v1/Secret'
const httpType = 'gateway.networking.k8s.io/v1/HTTPRoute'
const tlsType = 'gateway.networking.k8s.io/v1/TLSRoute'

const http = '{name: http, port: 80, protocol: HTTP}'
const https = (name: string): string =>
  `{name: https, port: 443, protocol: HTTPS, hostname: a.example, tls: {certificateRefs: [{name: ${name}}]}}`
const podOf = (gateway: string): string =>
  `kind: Pod
metadata: {name: ${gateway}-1, labels: {gateway.networking.k8s.io/gateway-name: ${gateway}}}
spec: {serviceAccountName: ${gateway}-underpass}
status: {phase: Running, podIPs: [{ip: 10.0.1.${gateway.length}}]}
---
`
const service = (name: string, labels = ''): string =>
  `kind: Service
metadata: {name: ${name}, labels: {${labels}}}
spec: {clusterIPs: [10.96.0.${name.length}], selector: {app: ${name}}, ports: [{port: 80}]}
---
kind: Pod
metadata: {name: ${name}-pod, labels: {app: ${name}}}
status: {phase: Running, podIPs: [{ip: 10.0.2.${name.length}}]}
---
`
const route = (name: string, parent: string, backend: string, kind = 'HTTPRoute'): string =>
  `kind: ${kind}
metadata: {name: ${name}}
spec: {parentRefs: [{name: ${parent}}], rules: [{backendRefs: [{name: ${backend}, port: 80}]}]}
---
`
const heard = (type: string, names: readonly string[], removed: readonly string[] = []): unknown => ({
  type,
  names: names.map(name => `shop/${name}`).toSorted(),
  removed: removed.map(name => `shop/${name}`).toSorted()
})

function subscribe(client: DeltaClient, gateway: string, typeUrl: string, as = 'router'): void {
  client.send({ typeUrl, node: { id: `${as}~10.0.1.1~${gateway}-1.shop~shop.svc.cluster.local` } })
}

t.test('a gateway hears of its own listeners, as they come, change and go', async t => {
  const world = await new ServedWorld(t, 1).start(
    gateway('edge', [http, '{name: odd, port: 9, protocol: ODD}']) + gateway('other', [http]) + podOf('edge')
  )
  const client = world.client()
  subscribe(client, 'edge', gatewayType)
  const first = await client.next()
  if (first !== undefined) client.ack(first)
  t.strictSame(
    first?.resources.map(({ name }) => name),
    ['shop/edge']
  )
  t.strictSame(decodeConfigResource(first?.resources[0]?.resource.value ?? Buffer.of()).spec, {
    listeners: [{ name: 'http', port: 80, protocol: 'HTTP', hostname: '' }]
  })
  world.apply(gateway('edge', [http, https('pair')]))
  world.apply(gateway('other', []))
  world.apply(secret('pair'))
  const changed = await client.next()
  if (changed !== undefined) client.ack(changed)
  t.match(decodeConfigResource(changed?.resources[0]?.resource.value ?? Buffer.of()).spec, {
    listeners: [
      { name: 'http' },
      { name: 'https', tls: { mode: 'Terminate', certificateRefs: [{ namespace: 'shop', name: 'pair' }] } }
    ]
  })
  world.desired.delete('Gateway', 'shop/edge')
  world.push()
  t.strictSame(await next(client), heard('Gateway', [], ['edge']))
})

t.test(
  'a certificate goes to the gateways that show it, to them alone, and for as long as they do',
  async t => {
    const pair = keyPair()
    const shop = secret('pair', pair) + gateway('other', [http]) + podOf('other')
    const world = await new ServedWorld(t, 1).start(
      shop + gateway('edge', [https('pair')]) + podOf('edge') + secret('unused')
    )
    const client = world.client()
    subscribe(client, 'edge', secretType)
    const first = await client.next()
    if (first !== undefined) client.ack(first)
    t.strictSame(
      first?.resources.map(({ name }) => name),
      ['shop/pair']
    )
    t.strictSame(decodeConfigResource(first?.resources[0]?.resource.value ?? Buffer.of()).spec, {
      'tls.crt': pair.certificate,
      'tls.key': pair.key
    })
    const other = world.client()
    subscribe(other, 'other', secretType)
    t.strictSame(await next(other), heard('Secret', []))
    const asking = world.client()
    asking.send({
      typeUrl: secretType,
      node: { id: 'router~10.0.1.1~other-1.shop~shop.svc.cluster.local' },
      resourceNamesSubscribe: ['shop/pair']
    })
    t.strictSame(await next(asking), heard('Secret', []), 'not even who knows its name')
    world.apply(
      podOf('edge')
        .replace('name: edge-1', 'name: guest')
        .replace('edge-underpass', 'guest')
        .replace('10.0.1', '10.0.3')
    )
    const guest = world.client()
    guest.send({ typeUrl: secretType, node: { id: 'router~10.0.3.4~guest.shop~shop.svc.cluster.local' } })
    t.strictSame(await next(guest), heard('Secret', []), 'nor who has its label, but not its account')
    const ztunnel = world.client()
    ztunnel.send({ typeUrl: secretType, node: { id: 'ztunnel~10.0.1.1~edge-1.shop~shop.svc.cluster.local' } })
    t.strictSame(await next(ztunnel), heard('Secret', []))

    world.apply(secret('pair'))
    t.strictSame(await next(client), heard('Secret', ['pair']), 'a new one')
    world.apply(secret('pair', { certificate: 'broken', key: 'broken' }))
    t.strictSame(await next(client), heard('Secret', [], ['pair']), 'one that is of no use')
    world.apply(secret('pair'))
    t.strictSame(await next(client), heard('Secret', ['pair']))
    world.apply(gateway('edge', [http]))
    t.strictSame(await next(client), heard('Secret', [], ['pair']), 'that nobody shows any more')
    world.apply(gateway('edge', [https('pair')]))
    t.strictSame(await next(client), heard('Secret', ['pair']))
    world.desired.delete('Secret', 'shop/pair')
    world.push()
    t.strictSame(await next(client), heard('Secret', [], ['pair']), 'that is gone')
    t.notMatch(world.lines.join('\n'), /PRIVATE KEY/, 'nothing of it is logged')
  }
)

t.test('leave for a certificate comes and goes', async t => {
  const grant = `kind: ReferenceGrant
metadata: {name: lend, namespace: vault}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: shop}]
  to: [{group: "", kind: Secret}]
---
`
  const listener = https('pair').replace('{name: pair}', '{namespace: vault, name: pair}')
  const world = await new ServedWorld(t, 1).start(
    secret('pair', keyPair(), 'vault') + gateway('edge', [listener]) + podOf('edge')
  )
  const client = world.client()
  subscribe(client, 'edge', secretType)
  t.strictSame(await next(client), heard('Secret', []))
  world.apply(grant)
  t.strictSame(await next(client), { type: 'Secret', names: ['vault/pair'], removed: [] })
  world.desired.delete('ReferenceGrant', 'vault/lend')
  world.push()
  t.strictSame(await next(client), { type: 'Secret', names: [], removed: ['vault/pair'] })
})

t.test('a gateway hears of its routes, of what they lead to, and of waypoints', async t => {
  const waypoint =
    'kind: Gateway\nmetadata: {name: wp}\nspec: {gatewayClassName: underpass-waypoint}\nstatus: {addresses: [{type: Hostname, value: wp.shop.svc.cluster.local}]}\n---\n'
  const world = await new ServedWorld(t, 1).start(
    gateway('edge', [http]) +
      podOf('edge') +
      waypoint +
      service('wp', 'gateway.networking.k8s.io/gateway-name: wp') +
      service('web') +
      service('elsewhere') +
      route('mine', 'edge', 'web') +
      route('theirs', 'other', 'elsewhere')
  )
  const client = world.client()
  subscribe(client, 'edge', httpType, 'waypoint')
  t.strictSame(
    await next(client),
    heard('HTTPRoute', ['mine']),
    'its Gateway says what it is, not its own name'
  )
  client.send({ typeUrl: addressType })
  const names = (service: string): readonly string[] => [
    `shop/${service}.shop.svc.cluster.local`,
    `Kubernetes//Pod/shop/${service}-pod`
  ]
  const addresses = (names: readonly string[], removed: readonly string[] = []): unknown => ({
    type: 'Address',
    names: names.toSorted(),
    removed: removed.toSorted()
  })
  t.strictSame(await next(client), addresses([...names('web'), ...names('wp')]))
  world.apply(route('mine', 'edge', 'elsewhere'))
  t.strictSame(await next(client), heard('HTTPRoute', ['mine']))
  t.strictSame(await next(client), addresses(names('elsewhere'), names('web')))
  world.apply(gateway('edge', [http.replace('}', ', hostname: a.example}')]))
  t.strictSame(await next(client), heard('HTTPRoute', ['mine']), 'a listener that changed')
  world.apply(gateway('edge', [http.replace('}', ', allowedRoutes: {namespaces: {from: None}}}')]))
  t.strictSame(await next(client), addresses([], names('elsewhere')), 'one that takes it no more')
  t.strictSame(await next(client), heard('HTTPRoute', [], ['mine']))
})

t.test('TLSRoutes have a type of their own', async t => {
  const passed = '{name: tls, port: 443, protocol: TLS, tls: {mode: Passthrough}}'
  const world = await new ServedWorld(t, 1).start(
    gateway('edge', [passed]) + podOf('edge') + service('web') + route('mine', 'edge', 'web', 'TLSRoute')
  )
  const client = world.client()
  subscribe(client, 'edge', tlsType)
  t.strictSame(await next(client), heard('TLSRoute', ['mine']))
})

t.test('a newer proxy need not wait for what is not served', async t => {
  const world = await new ServedWorld(t, 1).start(gateway('edge', [http]) + podOf('edge'))
  const client = world.client()
  subscribe(client, 'edge', 'gateway.networking.k8s.io/v9/NewRoute')
  t.strictSame(await next(client), heard('NewRoute', []))
  client.send({ typeUrl: gatewayType })
  t.strictSame(await next(client), heard('Gateway', ['edge']), 'and gets what is')
})

t.test('policies for a gateway, and the mesh configuration, are sent to it', async t => {
  const policy = `kind: AuthorizationPolicy
metadata: {name: deny}
spec: {action: DENY, targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}], rules: [{}]}
---
`
  const world = await new ServedWorld(t, 1).start(gateway('edge', [http]) + podOf('edge') + policy)
  const client = world.client()
  subscribe(client, 'edge', 'security.istio.io/v1/AuthorizationPolicy')
  t.strictSame(await next(client), heard('AuthorizationPolicy', ['deny']))
  world.apply(`kind: GatewayClass
metadata: {name: underpass}
spec: {controllerName: underpass.dev/gateway-controller}
---
kind: AuthorizationPolicy
metadata: {name: all, namespace: istio-system}
spec: {action: DENY, targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: underpass}], rules: [{}]}
`)
  t.match(await next(client), { names: ['istio-system/all'] }, 'one for its class, too')
  const mesh = world.client()
  subscribe(mesh, 'edge', 'mesh.istio.io/v1alpha1/MeshConfig')
  t.match(await next(mesh), { names: ['istio-system/mesh'] })
})
