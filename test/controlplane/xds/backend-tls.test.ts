/** What a gateway hears of BackendTLSPolicies over xDS, and who hears nothing. */
import t from 'tap'
import { decodeConfigResource } from '../../../shared/xds/config-resource.ts'
import { testAuthority } from '../../support/certificates.ts'
import { configMap, edge, policy, web } from '../backend-tls-world.ts'
import { next, ServedWorld } from './served-world.ts'

const type = 'gateway.networking.k8s.io/v1/BackendTLSPolicy'
const pods = ['edge', 'idle']
  .map(
    name => `kind: Pod
metadata: {name: ${name}-1, labels: {gateway.networking.k8s.io/gateway-name: ${name}}}
spec: {serviceAccountName: ${name}-underpass}
status: {phase: Running, podIPs: [{ip: 10.0.1.${name.length}}]}
---
`
  )
  .join('')
const idle = `kind: Gateway
metadata: {name: idle, namespace: shop}
spec: {gatewayClassName: underpass, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
`
const heard = (names: readonly string[], removed: readonly string[] = []): unknown => ({
  type: 'BackendTLSPolicy',
  names: names.map(name => `shop/${name}`),
  removed: removed.map(name => `shop/${name}`)
})

t.test('a gateway hears of the policies for what it leads to, with their certificates', async t => {
  const world = await new ServedWorld(t, 1).start(
    edge + idle + pods + configMap('ca') + policy('tls', web) + policy('b', web, { year: 2021 })
  )
  const client = world.client()
  const node = (name: string): { readonly id: string } => ({
    id: `router~10.0.1.1~${name}-1.shop~shop.svc.cluster.local`
  })
  client.send({ typeUrl: type, node: node('edge') })
  t.strictSame(await next(client), heard(['tls']), 'not of one in conflict')
  const other = testAuthority('Other Root').pem
  world.apply(configMap('ca', { 'ca.crt': other }))
  const changed = await client.next()
  if (changed !== undefined) client.ack(changed)
  const [resource] = changed?.resources ?? []
  t.match(decodeConfigResource(resource?.resource?.value ?? Buffer.of()), {
    spec: {
      targetRefs: [{ hostname: 'web.shop.svc.cluster.local' }],
      validation: { caCertificates: other }
    }
  })
  world.apply(configMap('unnamed')) // nothing goes out
  world.desired.delete('BackendTLSPolicy', 'shop/tls')
  world.push()
  t.strictSame(await next(client), heard(['b']), 'the next one takes its place')
  t.strictSame(await next(client), heard([], ['tls']), 'once it is there')
  world.desired.delete('ConfigMap', 'shop/ca')
  world.push()
  t.strictSame(await next(client), heard(['b']), 'that it cannot be carried out is told, too')
  world.desired.delete('HTTPRoute', 'shop/r')
  world.push()
  t.strictSame(await next(client), heard([], ['b']), 'what it does not lead to any more')
  const stranger = world.client()
  stranger.send({ typeUrl: type, node: node('idle') })
  t.strictSame(await next(stranger), heard([]))
  const ztunnel = world.client()
  ztunnel.subscribe(type)
  t.strictSame(await next(ztunnel), heard([]))
})
